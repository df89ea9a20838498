use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};

use netwasm_base::config::TopicsServer;

use super::*;
use crate::dial::Dialing;

/// Reaches no server.
#[derive(Debug)]
struct Nowhere;

impl Dial for Nowhere {
    fn dial(&self, _: &str, _: u16, _: bool) -> Dialing {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        Box::pin(ready(Err(refused)))
    }
}

/// A user that panics when it is told of a loss for the first time.
struct Panicking {
    calls: AtomicUsize,
    told: Sender<u64>,
}

impl User for Panicking {
    fn received(&self, _: &str, _: u8, _: &[u8]) {}

    fn sent(&self, _: u64) {}

    fn lost(&self, count: u64) {
        assert!(self.calls.fetch_add(1, Ordering::Relaxed) > 0, "for a test");
        // Nobody may listen at the end.
        let _ = self.told.send(count);
    }

    fn joined_again(&self) {}
}

#[test]
fn a_panic_of_the_thread_does_not_end_it() {
    let TopicsServer(url) = "redis://localhost".parse().expect("a URL");
    let (told, calls) = mpsc::channel();
    let user = Panicking {
        calls: AtomicUsize::new(0),
        told,
    };
    let dial: Arc<dyn Dial> = Arc::new(Nowhere);
    let channels = Channels::open(&url, &dial, String::new(), 1024, user).expect("a thread");
    // The thread tells of each connection that it loses.
    for _ in 0..3 {
        let told = calls.recv_timeout(Duration::from_secs(20));
        assert_eq!(told.expect("the thread goes on"), 0);
    }
    channels.publish(&"a".into(), 0, b"b");
    let lost = calls.iter().find(|count| *count > 0);
    assert_eq!(lost, Some(1));
}
