//! Tests of the turns, within a runtime.

use super::*;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{JoinSet, yield_now};

/// Runs a test as a worker's main task.
fn main_task(test: impl AsyncFnOnce(&Rc<Turns>, &Steps)) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("a runtime");
    let steps = Steps::default();
    let turns = Turns::new(steps.clone());
    runtime.block_on(turns.run(test(&turns, &steps)));
}

#[test]
fn who_used_least_goes_on_first() {
    main_task(async |turns, _| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for used in [30, 10, 20, 10] {
            let (turn, order) = (turns.turn(), Rc::clone(&order));
            turn.used.set(used);
            tasks.spawn_local(async move {
                let waiting = async {
                    turn.yields().await;
                    order.borrow_mut().push(used);
                };
                turn.run(waiting).await;
            });
        }
        tasks.join_all().await;
        assert_eq!(*order.borrow(), [10, 10, 20, 30]);
    });
}

#[test]
fn sockets_are_looked_at_before_a_task_goes_on_that_gave_way() {
    main_task(async |turns, _| {
        let (mut sender, mut receiver) = UnixStream::pair().expect("two sockets");
        let read = Rc::new(Cell::new(false));
        let (noted, turn) = (Rc::clone(&read), turns.turn());
        let mut tasks = JoinSet::new();
        tasks.spawn_local(async move {
            receiver.read_u8().await.expect("a byte");
            noted.set(true);
        });
        // The receiver waits for the byte.
        yield_now().await;
        tasks.spawn_local(async move {
            let sending = async {
                sender.write_u8(1).await.expect("it is sent");
                turn.yields().await;
                assert!(read.get());
            };
            turn.run(sending).await;
        });
        tasks.join_all().await;
    });
}

#[test]
fn after_a_long_call_those_that_only_begin_wait_for_a_look_at_sockets() {
    main_task(async |turns, steps| {
        let (mut sender, mut receiver) = UnixStream::pair().expect("two sockets");
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let noting = Rc::clone(&order);
        tasks.spawn_local(async move {
            receiver.read_u8().await.expect("a byte");
            noting.borrow_mut().push("socket");
        });
        yield_now().await;
        let (turn, steps) = (turns.turn(), steps.clone());
        tasks.spawn_local(async move {
            let calling = async {
                sender.write_u8(1).await.expect("it is sent");
                steps.advance();
            };
            turn.run(calling).await;
        });
        for _ in 0..3 {
            let (turn, noting) = (turns.turn(), Rc::clone(&order));
            tasks.spawn_local(async move {
                turn.run(async { noting.borrow_mut().push("begun") }).await;
            });
        }
        tasks.join_all().await;
        assert_eq!(*order.borrow(), ["socket", "begun", "begun", "begun"]);
    });
}

#[test]
fn a_client_whose_guest_runs_into_the_time_out_begins_further_back() {
    main_task(async |turns, _| {
        let client = IpAddr::from([192, 0, 2, 1]);
        let turn = turns.turn_of(Some(client));
        for _ in 0..2 {
            let call = async { turns.note_time_out() };
            turn.run(call).await;
        }
        assert!(turn.used.get() >= nanoseconds(2 * PENALTY));
        assert!(turns.turn_of(Some(client)).used.get() >= nanoseconds(PENALTY));
        let other = turns.turn_of(Some(IpAddr::from([192, 0, 2, 2])));
        assert_eq!(other.used.get(), turns.floor.get());
        for _ in 0..100 {
            turns.lend(client);
        }
        let most = nanoseconds(MOST_DEBT) + turns.floor.get();
        assert!(turns.turn_of(Some(client)).used.get() <= most);
    });
}

#[test]
fn a_connection_that_waits_is_not_polled_for_other_reasons() {
    main_task(async |turns, _| {
        let polls = Rc::new(Cell::new(0));
        let (turn, counted) = (turns.turn(), Rc::clone(&polls));
        let task = tokio::task::spawn_local(async move {
            let mut first = true;
            let polled = poll_fn(|cx| {
                turn.poll(cx, |cx| {
                    counted.set(counted.get() + 1);
                    if !std::mem::replace(&mut first, false) {
                        return Poll::Ready(());
                    }
                    turn.give_way(cx);
                    // The task is woken all the same.
                    cx.waker().wake_by_ref();
                    Poll::Pending
                })
            });
            polled.await;
        });
        task.await.expect("it ends");
        assert_eq!(polls.get(), 2);
    });
}
