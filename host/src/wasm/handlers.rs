//! Who answers requests, by who shares an instance: each request has its own,
//! each connection, or all of a worker's share one.

use std::rc::Rc;

use crate::config::Isolation;
use crate::guest::EventGuest as _;
use crate::http::handler::{self, Awaiting, Call, Handler, NoAnswer};
use crate::http::{Answer, Request};
use crate::wasm::concurrent::{self, Own};
use crate::wasm::instance::Instance;
use crate::wasm::local::{Local, LocalGuests};

impl handler::Handlers for LocalGuests {
    fn awaits(&self) -> bool {
        self.0.env.program.requests().is_some()
    }

    fn connection(&self) -> Box<dyn Handler> {
        Box::new(OfConnection {
            local: Rc::clone(&self.0),
            instance: None,
            own: Own::default(),
        })
    }
}

/// What answers the requests of one connection.
#[derive(Debug)]
struct OfConnection {
    local: Rc<Local>,
    /// Made for the first request, and anew after one that trapped. Not the one
    /// that a worker's connections share.
    instance: Option<Rc<Instance>>,
    /// The same of a guest that awaits.
    own: Own,
}

impl OfConnection {
    /// The instance that answers: the connection's, or the worker's.
    fn instance(&mut self) -> Result<Rc<Instance>, NoAnswer> {
        if self.local.env.isolation == Isolation::Worker {
            // It is not kept: an idle connection would keep one that another
            // has had trap, and soon there would be no place for the next.
            return self.local.instance().map_err(NoAnswer::NoGuest);
        }
        match &self.instance {
            Some(instance) if !instance.is_dead() => Ok(Rc::clone(instance)),
            _ => {
                // Its place is free before another is taken.
                self.instance = None;
                let instance = self.local.instance().map_err(NoAnswer::NoGuest)?;
                Ok(Rc::clone(self.instance.insert(instance)))
            }
        }
    }
}

impl Handler for OfConnection {
    fn handle(&mut self, request: Box<Request>) -> (Box<Request>, Result<Answer, NoAnswer>) {
        let instance = match self.instance() {
            Ok(instance) => instance,
            Err(none) => return (request, Err(none)),
        };
        let (request, answer) = instance.handle_request(request);
        let answer = answer.map_err(|_gone| {
            self.instance = None;
            NoAnswer::Gone
        });
        (request, answer)
    }

    fn begin(&mut self, call: Call) -> Rc<dyn Awaiting> {
        concurrent::begin(&self.local, &mut self.own, call)
    }
}

impl Drop for OfConnection {
    fn drop(&mut self) {
        self.own.close();
    }
}
