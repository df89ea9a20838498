//! Background work: what goes on after the handler has answered.
//!
//! `wasip3::spawn_local` does this, too. But a component that has it is called once
//! more each time that its handler waits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// A piece of work that has not ended.
enum Slot {
    /// It waits to be woken.
    Waiting(Work),
    /// It is being polled.
    Polled,
    /// It is being polled, and was woken meanwhile.
    Woken,
}

thread_local! {
    /// All work, by number.
    static ALL: RefCell<BTreeMap<u64, Slot>> = const { RefCell::new(BTreeMap::new()) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// Waker of the work of this number. It polls the work at once.
struct Poller(u64);

impl Wake for Poller {
    fn wake(self: Arc<Self>) {
        let number = self.0;
        let waker = Waker::from(self);
        while let Some(mut work) = take(number) {
            let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() {
                ALL.with_borrow_mut(|all| all.remove(&number));
                return;
            }
            let slot = Slot::Waiting(work);
            let before = ALL.with_borrow_mut(|all| all.insert(number, slot));
            if !matches!(before, Some(Slot::Woken)) {
                return;
            }
        }
    }
}

/// Takes work to poll it. If it is being polled, notes that it was woken.
fn take(number: u64) -> Option<Work> {
    ALL.with_borrow_mut(|all| {
        let slot = all.get_mut(&number)?;
        match mem::replace(slot, Slot::Polled) {
            Slot::Waiting(work) => Some(work),
            Slot::Polled | Slot::Woken => {
                *slot = Slot::Woken;
                None
            }
        }
    })
}

/// Begins work. The host keeps the instance until the work has ended.
pub(crate) fn begin(work: impl Future<Output = ()> + 'static) {
    let number = NEXT.get();
    NEXT.set(number + 1);
    let slot = Slot::Waiting(Box::pin(work));
    ALL.with_borrow_mut(|all| all.insert(number, slot));
    Arc::new(Poller(number)).wake();
}
