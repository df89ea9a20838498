//! Calls of a guest that decides about responses to forwarded requests.

use netwasm_exchange::forward::Verdict;
use netwasm_net::guest::Gone;

use super::{Instance, Party, exported};
use crate::decisions::verdict;
use crate::forwards::{About, Judges};
use crate::responses::Asker;

impl Judges for Instance {
    fn judge(&self, token: u64, about: About<'_>, asker: &Asker) -> Result<Verdict, Gone> {
        let event = match about {
            About::Response(..) => "responded",
            About::Missing(_) => "failed",
        };
        self.call(event, Party::Nobody, |store, handlers| {
            let guest = exported(handlers.forward.as_ref())?;
            store.data_mut().refresh_files();
            let decided = match about {
                About::Response(status, headers) => {
                    guest.call_responded(&mut *store, token, status, headers)?
                }
                About::Missing(status) => guest.call_failed(&mut *store, token, status)?,
            };
            verdict(store.data_mut(), decided, asker)
        })
    }
}
