//! Events of bodies: those that the guest sends, and those that it reads.

use netwasm_base::error::ConnectionError;
use netwasm_exchange::answer::Fields;
use netwasm_net::guest::Gone;

use super::{Instance, Party, exported};
use crate::convert::receiving;
use crate::inlets::Reads;
use crate::responses::Responds;

impl Responds for Instance {
    /// Calls the guest's `abandoned` for a response that it has begun, if it
    /// exports that.
    fn abandoned(&self, token: u64) -> Result<(), Gone> {
        self.call("abandoned", Party::Nobody, |store, handlers| {
            store.data_mut().responses.remove(token);
            match &handlers.response {
                Some(response) => response.call_abandoned(store, token),
                None => Ok(()),
            }
        })
    }

    /// Calls the guest's `writable` for a body that it sends.
    fn response_writable(&self, token: u64) -> Result<(), Gone> {
        self.call("writable", Party::Nobody, |store, handlers| {
            exported(handlers.response.as_ref())?.call_writable(store, token)
        })
    }
}

impl Reads for Instance {
    fn body_received(&self, token: u64, data: &[u8]) -> Result<(), Gone> {
        self.call("body-received", Party::Nobody, |store, handlers| {
            exported(handlers.body.as_ref())?.call_body_received(store, token, data)
        })
    }

    fn body_ended(&self, token: u64, trailers: &Fields) -> Result<(), Gone> {
        self.call("body-ended", Party::Nobody, |store, handlers| {
            let body = exported(handlers.body.as_ref())?;
            store.data_mut().inlets.ended(token);
            body.call_body_ended(store, token, trailers)
        })
    }

    fn body_failed(&self, token: u64, reason: &ConnectionError) -> Result<(), Gone> {
        self.call("body-failed", Party::Nobody, |store, handlers| {
            let body = exported(handlers.body.as_ref())?;
            store.data_mut().inlets.ended(token);
            body.call_body_failed(store, token, &receiving(reason))
        })
    }
}
