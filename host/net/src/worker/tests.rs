//! Tests of a worker.

use std::future::poll_fn;
use std::io::Read;
use std::os::unix::net::UnixStream;

use netwasm_base::config::Limits;

use super::*;
use crate::permits::Permits;
use crate::testing::{connection, in_worker};

#[test]
fn a_connection_that_was_to_leave_stays_if_the_join_is_undone() {
    in_worker(Limits::default(), async |worker: Rc<Worker>| {
        let places = |permits| Places::new(permits, &worker.env().counters);
        let (owner, member) = (Permits::new(5, Vec::new()), Permits::new(2, Vec::new()));
        let alone = || places(Permits::joined(&owner, [].into_iter()));
        let joined = places(Permits::joined(&owner, [&member].into_iter()));
        let before = alone();
        let connections = [(); 3].map(|()| {
            let (here, there) = UnixStream::pair().expect("a pair of sockets");
            let (address, permit) = (Address::Unix(None), before.free());
            let transport = Transport::new(&worker.thread, here.into(), address, permit);
            let transport = transport.expect("it is watched");
            (worker.register(&transport), transport, there)
        });
        let leaving = || {
            let leaving = connections.iter().filter(|it| it.1.is_leaving());
            leaving.count()
        };
        let present = PresentPlaces::new(before);
        worker.replace_places(&present, &joined);
        assert_eq!(leaving(), 1, "the member has two");
        // Another one has as few, and those that stay have its places.
        let other = Permits::new(2, Vec::new());
        let joined = places(Permits::joined(&owner, [&other].into_iter()));
        let last = || connections.last().is_some_and(|it| it.1.is_leaving());
        worker.replace_places(&present, &joined);
        assert_eq!((leaving(), last()), (1, true));
        worker.replace_places(&present, &alone());
        assert_eq!(leaving(), 0);
        assert!(member.try_take().is_some() && worker.leaving.borrow().is_empty());
    });
}

#[test]
fn a_connection_that_has_left_keeps_no_memory() {
    in_worker(Limits::default(), async |worker: Rc<Worker>| {
        let places = Places::new(Permits::new(1, Vec::new()), &worker.env().counters);
        let present = PresentPlaces::new(places);
        let (transport, _peer) = connection(&worker);
        worker.lets_leave(&present, &transport);
        worker.tick(worker.thread.now() + 1);
        assert_eq!(worker.leaving.borrow().len(), 1, "it may stay yet");
        drop(transport);
        worker.tick(worker.thread.now() + 1);
        assert_eq!(worker.leaving.borrow().capacity(), 0);
    });
}

#[test]
fn a_driver_that_panics_leaves_nothing_behind() {
    in_worker(Limits::default(), async |worker: Rc<Worker>| {
        let (one, mut client) = connection(&worker);
        let (other, _upstream) = connection(&worker);
        one.relay(&other).expect("a relay");
        other.relay(&one).expect("a relay");
        worker.drive(&one, poll_fn(|_| panic!("as it was told")));
        worker.drive(&other, std::future::pending());
        while worker.transports.borrow().len() > 1 {
            tokio::task::yield_now().await;
        }
        // Its descriptor is closed, and the other end is told.
        assert_eq!(client.read(&mut [0]).expect("an end"), 0);
        assert!(other.has_failed());
        let left = Rc::downgrade(&one);
        drop(one);
        other.release();
        assert_eq!(left.strong_count(), 0);
        assert_eq!(worker.env().counters.connections_lost.get(), 1);
    });
}

#[test]
fn the_worker_adds_little_to_the_task_of_a_driver() {
    // `netwasm_http::h1` tests the size of a driver, and says what for.
    assert_eq!(size_of::<Driving<()>>(), 32);
}

#[test]
fn an_idle_connection_is_of_small_blocks() {
    // The sizes are those of the allocator's blocks. Two counts go with each value.
    let sizes = [
        (size_of::<Transport>() + 16, 448),
        (size_of::<Turn>() + 16, 112),
    ];
    for (size, most) in sizes {
        assert!(size <= most, "{size} of {most}");
    }
}
