use std::rc::{Rc, Weak};

use crate::bindings::netwasm::net::timers::Host;
use crate::state::State;
use crate::timer;

impl Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(timer::now())
    }

    fn wake_at(&mut self, when: Option<u64>) -> wasmtime::Result<()> {
        let (turn, instance) = (&self.turn, &self.instance);
        let thread = &self.local.worker.thread;
        self.timer.set(when, |alarm| {
            let instance = Weak::clone(instance);
            // A trap is already logged.
            let wake = move || instance.upgrade().is_some_and(|it| it.woken().is_ok());
            thread.spawn_aside(Rc::clone(turn), alarm.run(wake))
        });
        Ok(())
    }
}
