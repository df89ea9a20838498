use std::time::Duration;

use crate::bindings::netwasm::net::timers::Host;
use crate::bindings::netwasm::net::types::ErrorCode;
use crate::state::{Later, State};

impl Host for State {
    fn call_later(&mut self, delay: u64) -> wasmtime::Result<Result<u64, ErrorCode>> {
        let begun = self.begin(Later::Timer, |state, id| {
            let instance = state.instance.clone();
            async move {
                tokio::time::sleep(Duration::from_nanos(delay)).await;
                if let Some(instance) = instance.upgrade() {
                    // A trap is already logged.
                    let _ = instance.timer_fired(id);
                }
            }
        });
        Ok(begun.map_err(ErrorCode::from))
    }

    fn cancel(&mut self, id: u64) -> wasmtime::Result<()> {
        self.cancel(Later::Timer, id);
        Ok(())
    }
}
