//! What tests of drivers need: a worker without listeners, and connections
//! whose other end the test has. Not for other use.

use std::future::poll_fn;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use netwasm_base::address::Address;
use netwasm_base::config::{DnsConfig, Limits, TlsFiles};
use netwasm_base::policy::Policy;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::yield_now;

use crate::env::{Env, Settings};
use crate::tls::Tls;
use crate::transport::Transport;
use crate::worker::Worker;

/// How often a test has all other tasks go on before it gives up waiting.
const MANY: usize = 10_000;

/// Runs a test as the main task of a worker that has these limits. Its clock
/// stands still but for what [`Worker::tick`] says.
///
/// # Panics
/// The test does, or the system gives no runtime.
pub fn in_worker<F: Future<Output = ()>>(limits: Limits, test: impl FnOnce(Rc<Worker>) -> F) {
    let tls = Tls::load(&TlsFiles::default()).expect("no files");
    let env = Env::new(Settings {
        limits,
        guest: "test",
        policy: Policy::default(),
        dns: DnsConfig::default(),
        tls: Arc::new(tls),
        places: 8,
    });
    let env = Arc::new(env.expect("an environment"));
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(async {
        let worker = Worker::new(env);
        let turns = Rc::clone(&worker.thread.turns);
        turns.run(test(worker)).await;
    });
}

/// A connection, and its other end, which blocks.
///
/// # Panics
/// The system gives no sockets.
pub fn connection(worker: &Rc<Worker>) -> (Rc<Transport>, UnixStream) {
    let (here, there) = UnixStream::pair().expect("a pair of sockets");
    here.set_nonblocking(true).expect("O_NONBLOCK");
    let transport = Transport::new(&worker.thread, here.into(), Address::Unix(None), None);
    (transport.expect("it is watched"), there)
}

/// The other end of a connection as a test awaits it.
///
/// # Panics
/// The runtime cannot watch it.
pub fn peer(there: UnixStream) -> tokio::net::UnixStream {
    there.set_nonblocking(true).expect("O_NONBLOCK");
    tokio::net::UnixStream::from_std(there).expect("it is watched")
}

/// Waits for what needs no time, but only the other tasks.
///
/// # Panics
/// It does not come, however often these go on.
pub async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let mut wait = pin!(wait);
    for _ in 0..MANY {
        let polled = poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await;
        if let Poll::Ready(result) = polled {
            return result;
        }
        yield_now().await;
    }
    panic!("in vain a test waited for this: {what}");
}

/// The same for a condition.
///
/// # Panics
/// It does not become true.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let holds = poll_fn(|_| match condition() {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    soon(what, holds).await;
}

/// Has the other tasks do all that they can do by themselves.
pub async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// Has time pass, tick by tick.
pub async fn pass(worker: &Rc<Worker>, time: Duration) {
    let end = worker.thread.tick_after(time);
    for tick in worker.thread.now() + 1..=end {
        worker.tick(tick);
        yield_now().await;
        yield_now().await;
    }
}
