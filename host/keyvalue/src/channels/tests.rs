use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};

use netwasm_base::config::TopicsServer;
use tokio::net::TcpStream;

use super::*;
use crate::secure::Securing;

/// No TLS.
#[derive(Debug)]
struct Plain;

impl Secure for Plain {
    fn secure(&self, _: &str, _: TcpStream) -> Securing {
        unreachable!("the URL is none of TLS")
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
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address");
    let url = format!("redis://{address}").parse();
    let TopicsServer(url) = url.expect("a URL");
    // A server that goes away at once.
    drop(server);
    let (told, calls) = mpsc::channel();
    let user = Panicking {
        calls: AtomicUsize::new(0),
        told,
    };
    let secure: Arc<dyn Secure> = Arc::new(Plain);
    let channels = Channels::open(&url, &secure, String::new(), 1024, user).expect("a thread");
    // The thread tells of each connection that it loses.
    for _ in 0..3 {
        let told = calls.recv_timeout(Duration::from_secs(20));
        assert_eq!(told.expect("the thread goes on"), 0);
    }
    channels.publish(&"a".into(), 0, b"b");
    let lost = calls.iter().find(|count| *count > 0);
    assert_eq!(lost, Some(1));
}
