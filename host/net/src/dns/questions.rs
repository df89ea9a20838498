//! The questions that a worker is asking: one for each name, whoever waits for it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use hickory_proto::rr::Name;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::servers::{Found, Servers};
use super::{Addresses, Missing};

/// The questions that a worker is asking servers.
#[derive(Default)]
pub(super) struct Questions(RefCell<HashMap<Name, Weak<Question>>>);

/// A name being asked for, as long as a task waits for it.
struct Question {
    name: Name,
    found: watch::Receiver<Found>,
    /// The asking task; `None` if everything was in the cache.
    asking: Option<AbortHandle>,
    all: Rc<Questions>,
}

impl Questions {
    /// Asks for a name, and passes on the addresses as they arrive.
    pub(super) async fn ask(
        self: &Rc<Self>,
        servers: &Arc<Servers>,
        name: &str,
        asks: &Cell<bool>,
        addresses: &mpsc::UnboundedSender<Addresses>,
    ) -> Result<(), Missing> {
        let mut name = Name::from_ascii(name).map_err(|_| Missing::NoName)?;
        name.set_fqdn(true);
        let question = self.question(servers, name);
        asks.set(asks.get() || question.asking.is_some());
        let mut found = question.found.clone();
        let mut passed_on = [false; 2];
        loop {
            let now = found.borrow_and_update().clone();
            for (answer, passed_on) in now.iter().zip(&mut passed_on) {
                if let Some(Ok(some)) = answer
                    && !*passed_on
                {
                    *passed_on = true;
                    // It fails only if nobody waits any more.
                    let _ = addresses.send(Ok(some.to_vec()));
                }
            }
            if let [Some(one), Some(other)] = now {
                return match (one, other) {
                    (Ok(_), _) | (_, Ok(_)) => Ok(()),
                    // A name that does not exist has addresses of no family.
                    (Err(Missing::NoName), _) | (_, Err(Missing::NoName)) => Err(Missing::NoName),
                    (Err(one), Err(other)) => Err(one.max(other)),
                };
            }
            if found.changed().await.is_err() {
                // The task ended without an answer: by a panic, which was
                // logged.
                return Err(Missing::Failed);
            }
        }
    }

    /// Returns the question if it is being asked already, or asks it.
    fn question(self: &Rc<Self>, servers: &Arc<Servers>, name: Name) -> Rc<Question> {
        let mut questions = self.0.borrow_mut();
        if let Some(question) = questions.get(&name).and_then(Weak::upgrade) {
            return question;
        }
        let known = servers.known(&name);
        let whole = known.iter().all(Option::is_some);
        let (sender, found) = watch::channel(known);
        let asking = (!whole).then(|| {
            let ask = Arc::clone(servers).ask(name.clone(), sender);
            tokio::task::spawn_local(ask).abort_handle()
        });
        let question = Rc::new(Question {
            name: name.clone(),
            found,
            asking,
            all: Rc::clone(self),
        });
        questions.insert(name, Rc::downgrade(&question));
        question
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
        self.all.0.borrow_mut().remove(&self.name);
    }
}
