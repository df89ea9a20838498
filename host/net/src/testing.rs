//! Support for tests of drivers: a worker without listeners, and connections
//! whose other end the test holds. Not for other use.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use netwasm_base::address::Address;
use netwasm_base::config::{ClientRules, DnsConfig, Limits, TlsFiles};
use netwasm_base::policy::Policy;
use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::yield_now;

use crate::clients::Clients;
use crate::env::{Env, Settings};
use crate::permits::Permits;
use crate::places::Places;
use crate::tls::Tls;
use crate::transport::Transport;
use crate::turns::Steps;
use crate::worker::Worker;

/// Number of times that a test lets all other tasks run before it waits for the
/// kernel, which on a busy machine takes its time with TCP.
const MANY: usize = 10_000;

/// Time after which a test gives up waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test as the main task of a worker with these limits. The worker's
/// clock moves only by [`Worker::tick`].
///
/// # Panics
/// Panics if the test does, or if the system gives no runtime.
pub fn in_worker<F: Future<Output = ()>>(limits: Limits, test: impl FnOnce(Rc<Worker>) -> F) {
    let tls = Tls::load(&TlsFiles::default()).expect("no files");
    let counters = Arc::default();
    let env = Env::new(Settings {
        outgoing: Permits::new(limits.max_outgoing, Vec::new()),
        limits,
        guest: "test",
        policy: Policy::default(),
        dns: DnsConfig::default(),
        tls: Arc::new(tls),
        places: Places::new(Permits::new(8, Vec::new()), &counters),
        counters,
        times_guests: true,
        tracer: None,
        steps: Steps::default(),
        proxies: Vec::new(),
        clients: Clients::new(ClientRules::default()),
        upstreams: &[],
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

/// Returns a connection, and its other end, which blocks.
///
/// # Panics
/// Panics if the system gives no sockets.
pub fn connection(worker: &Rc<Worker>) -> (Rc<Transport>, UnixStream) {
    let (here, there) = UnixStream::pair().expect("a pair of sockets");
    here.set_nonblocking(true).expect("O_NONBLOCK");
    let transport = Transport::new(&worker.thread, here.into(), Address::Unix(None), None);
    (transport.expect("it is watched"), there)
}

/// Returns an address that refuses connections as long as the socket is there: it has a
/// port, and does not listen.
///
/// # Panics
/// Panics if there is no free port.
pub fn refusing() -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a port");
    let address = socket.local_addr().expect("an address");
    (address.as_socket().expect("an IP address"), socket)
}

/// Returns the other end of a connection, for async use.
///
/// # Panics
/// Panics if the runtime cannot watch it.
pub fn peer(there: UnixStream) -> tokio::net::UnixStream {
    there.set_nonblocking(true).expect("O_NONBLOCK");
    tokio::net::UnixStream::from_std(there).expect("it is watched")
}

/// Waits for an event that needs no time to pass, only other tasks to run.
///
/// # Panics
/// Panics if the event does not come, however often they run.
pub async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let mut wait = pin!(wait);
    let begun = Instant::now();
    let mut rounds = 0;
    loop {
        let polled = poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await;
        if let Poll::Ready(result) = polled {
            return result;
        }
        yield_now().await;
        rounds += 1;
        if rounds > MANY {
            assert!(
                begun.elapsed() < PATIENCE,
                "in vain a test waited for this: {what}"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Like [`soon`], for a condition.
///
/// # Panics
/// Panics if the condition does not become true.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let holds = poll_fn(|_| match condition() {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    soon(what, holds).await;
}

/// Lets the other tasks do all that they can do by themselves.
pub async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// Lets time pass, tick by tick.
pub async fn pass(worker: &Rc<Worker>, time: Duration) {
    let end = worker.thread.tick_after(time);
    for tick in worker.thread.now() + 1..=end {
        worker.tick(tick);
        yield_now().await;
        yield_now().await;
    }
}
