use std::rc::Rc;

use netwasm_base::error::ConnectionError;

use crate::bindings::netwasm::net::resolver::Host;
use crate::bindings::netwasm::net::types::Error as WitError;
use crate::convert::called;
use crate::later;
use crate::state::{Later, State};

impl Host for State {
    fn resolve(&mut self, token: u64, name: String) -> wasmtime::Result<Result<(), WitError>> {
        if name.is_empty() {
            return Ok(Err(called(ConnectionError::InvalidArgument)));
        }
        let env = &self.local.env;
        if let Err(denied) = env.net.decide(env.net.policy.resolve(&name)) {
            return Ok(Err(called(denied)));
        }
        let begun = self.begin(Later::Question, token, |state| {
            later::resolve(
                Rc::clone(&state.local.worker),
                state.instance.clone(),
                token,
                name,
            )
        });
        Ok(begun.map_err(called))
    }

    fn cancel(&mut self, token: u64) -> wasmtime::Result<()> {
        self.cancel(Later::Question, token);
        Ok(())
    }
}
