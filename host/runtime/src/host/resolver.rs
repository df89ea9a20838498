use std::rc::Rc;

use netwasm_base::error::ConnectionError;

use crate::bindings::netwasm::net::resolver::Host;
use crate::bindings::netwasm::net::types::ErrorCode;
use crate::later;
use crate::state::{Later, State};

impl Host for State {
    fn resolve(&mut self, name: String) -> wasmtime::Result<Result<u64, ErrorCode>> {
        if name.is_empty() {
            return Ok(Err(ErrorCode::InvalidArgument));
        }
        let env = &self.local.env;
        if let Err(denied) = env.net.policy.resolve(&name) {
            env.net.deny(&denied);
            return Ok(Err(ConnectionError::AccessDenied.into()));
        }
        let begun = self.begin(Later::Question, |state, id| {
            later::resolve(
                Rc::clone(&state.local.worker),
                state.instance.clone(),
                id,
                name,
            )
        });
        Ok(begun.map_err(ErrorCode::from))
    }

    fn cancel(&mut self, id: u64) -> wasmtime::Result<()> {
        self.cancel(Later::Question, id);
        Ok(())
    }
}
