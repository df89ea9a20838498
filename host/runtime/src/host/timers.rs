use netwasm_net::thread::spawn_in_turns;

use crate::bindings::netwasm::net::timers::Host;
use crate::state::State;
use crate::timer;

impl Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(timer::now())
    }

    fn wake_at(&mut self, when: Option<u64>) -> wasmtime::Result<()> {
        let turn = &self.turn;
        self.timer.set(when, &self.instance, |task| {
            spawn_in_turns(turn.clone(), task.run())
        });
        Ok(())
    }
}
