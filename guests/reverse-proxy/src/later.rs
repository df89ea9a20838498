//! Background work: what goes on after the handler has answered.
//!
//! `wasip3::spawn_local` does this, too. But a component that has it is called once
//! more each time that its handler waits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

type Work = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    /// Work that waits for something, by number.
    static WAITING: RefCell<BTreeMap<u64, Work>> = const { RefCell::new(BTreeMap::new()) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// Waker of the work of this number. It polls the work at once.
struct Poller(u64);

impl Wake for Poller {
    fn wake(self: Arc<Self>) {
        let number = self.0;
        let Some(mut work) = WAITING.with_borrow_mut(|all| all.remove(&number)) else {
            return;
        };
        let waker = Waker::from(self);
        let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            WAITING.with_borrow_mut(|all| all.insert(number, work));
        }
    }
}

/// Begins work. The host keeps the instance until the work has ended.
pub(crate) fn begin(work: impl Future<Output = ()> + 'static) {
    let number = NEXT.get();
    NEXT.set(number + 1);
    WAITING.with_borrow_mut(|all| all.insert(number, Box::pin(work)));
    Arc::new(Poller(number)).wake();
}
