//! Tests of the pool, over real sockets.

use std::io;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::parked::is_quiet;

impl Keep for TcpStream {
    fn is_alive(&mut self) -> bool {
        is_quiet(self)
    }
}

const LIMITS: PoolLimits = PoolLimits {
    size: 3,
    idle_timeout: Duration::from_secs(60),
    max_age: Duration::from_secs(600),
};

const LONG: Option<Duration> = Some(Duration::from_secs(30));

type TcpPool = Arc<Pool<TcpStream>>;

fn pool(limits: PoolLimits) -> TcpPool {
    let lookout = Lookout::new().expect("a descriptor");
    Pool::new(limits, &Arc::new(lookout), &Arc::default())
}

/// Runs the periodic work.
fn expire(pool: &TcpPool) {
    pool.expire(&pool.lookout.stirred());
}

/// Runs an echo server that closes each connection after so many bytes.
async fn echo(bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                for _ in 0..bytes {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).await?;
                    stream.write_all(&byte).await?;
                }
                io::Result::Ok(())
            });
        }
    });
    address
}

/// A connection with its place.
struct Lease {
    stream: TcpStream,
    place: PoolPlace<TcpStream>,
}

impl Lease {
    fn put(self) {
        self.place.put(self.stream);
    }
}

impl Deref for Lease {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.stream
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

async fn get(pool: &TcpPool, address: SocketAddr) -> Lease {
    let (mut place, kept) = pool.get(LONG).await.expect("a place");
    if let Some(stream) = kept {
        return Lease { stream, place };
    }
    let stream = TcpStream::connect(address).await.expect("a connection");
    place.opened();
    Lease { stream, place }
}

async fn round_trip(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"x").await?;
    stream.read_exact(&mut [0]).await?;
    Ok(())
}

/// Waits until the peers' ends have arrived.
async fn closed_by_peer(pool: &TcpPool) {
    while pool
        .state()
        .idle
        .iter_mut()
        .any(|kept| kept.connection.is_alive())
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_thousand_tasks_share_three_connections() {
    let address = echo(usize::MAX).await;
    let pool = pool(LIMITS);
    let mut tasks = JoinSet::new();
    for _ in 0..1000 {
        let pool = Arc::clone(&pool);
        tasks.spawn(async move {
            let mut lease = get(&pool, address).await;
            round_trip(&mut lease).await.expect("an echo");
            lease.put();
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a task that does not panic");
    }
    let counts = pool.counts();
    assert_eq!((counts.opened, counts.reused), (3, 997));
    assert_eq!((counts.in_use, counts.idle, counts.waiting), (0, 3, 0));
}

#[tokio::test]
async fn a_connection_that_its_peer_closed_is_never_handed_out() {
    // The server closes each after three bytes, at the latest while it is
    // kept.
    let address = echo(3).await;
    let pool = pool(LIMITS);
    for round in 0..30 {
        let mut lease = get(&pool, address).await;
        round_trip(&mut lease).await.expect("an echo");
        lease.put();
        if round % 3 == 2 {
            closed_by_peer(&pool).await;
        }
    }
    let counts = pool.counts();
    assert_eq!((counts.opened, counts.reused), (10, 20));
    assert_eq!((counts.expired, counts.idle), (9, 1));
    while pool.counts().idle > 0 {
        tokio::time::sleep(SETTLED / 10).await;
        expire(&pool);
    }
    assert_eq!(pool.counts().expired, 10);
}

#[tokio::test]
async fn what_was_said_unasked_is_not_read_by_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let pool = pool(LIMITS);
    get(&pool, address).await.put();
    let (mut stream, _) = listener.accept().await.expect("a connection");
    stream
        .write_all(b"for the one before")
        .await
        .expect("it is sent");
    closed_by_peer(&pool).await;
    get(&pool, address).await.put();
    assert_eq!(pool.counts().opened, 2);
}

#[tokio::test]
async fn a_connection_that_is_watched_can_be_used_again() {
    let address = echo(usize::MAX).await;
    let pool = pool(LIMITS);
    for _ in 0..2 {
        let mut lease = get(&pool, address).await;
        round_trip(&mut lease).await.expect("an echo");
        lease.put();
        while pool.state().idle.iter().any(|kept| kept.watched.is_none()) {
            tokio::time::sleep(SETTLED / 10).await;
            expire(&pool);
        }
    }
    let counts = pool.counts();
    assert_eq!((counts.opened, counts.idle, counts.expired), (1, 1, 0));
}

#[tokio::test]
async fn those_who_wait_are_served_in_order() {
    let address = echo(usize::MAX).await;
    let pool = pool(PoolLimits { size: 1, ..LIMITS });
    let first = get(&pool, address).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for number in 0..10 {
        let (served, order) = (Arc::clone(&pool), Arc::clone(&order));
        tasks.spawn(async move {
            let lease = get(&served, address).await;
            order.lock().expect("the order").push(number);
            lease.put();
        });
        // The task waits before the next one starts.
        while pool.counts().waiting <= number {
            tokio::task::yield_now().await;
        }
    }
    first.put();
    tasks.join_all().await;
    assert_eq!(
        *order.lock().expect("the order"),
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    );
    assert_eq!(pool.counts().opened, 1);
}

#[tokio::test]
async fn who_waits_too_long_gets_an_error_and_takes_no_place() {
    let address = echo(usize::MAX).await;
    let pool = pool(PoolLimits { size: 1, ..LIMITS });
    let lease = get(&pool, address).await;
    let result = pool.get(Some(Duration::from_millis(20))).await;
    assert_eq!(result.expect_err("none is free"), PoolError::Timeout);
    assert_eq!(pool.counts().waiting, 0);
    lease.put();
    get(&pool, address).await.put();
}

#[tokio::test]
async fn giving_up_leaves_no_place_taken() {
    let address = echo(usize::MAX).await;
    let pool = pool(PoolLimits { size: 1, ..LIMITS });
    // While connecting.
    drop(pool.get(LONG).await.expect("a place"));
    assert_eq!(pool.counts().in_use, 0);
    // While waiting.
    let lease = get(&pool, address).await;
    let pending = get(&pool, address);
    assert!(
        tokio::time::timeout(Duration::from_millis(10), pending)
            .await
            .is_err()
    );
    assert_eq!(pool.counts().waiting, 0);
    // A connection that is dropped rather than put back is closed.
    drop(lease);
    let counts = pool.counts();
    assert_eq!((counts.in_use, counts.idle), (0, 0));
    get(&pool, address).await.put();
    assert_eq!(pool.counts().opened, 2);
}

#[tokio::test]
async fn neither_the_old_nor_the_long_idle_are_handed_out() {
    let address = echo(usize::MAX).await;
    let brief = Duration::from_millis(300);
    for limits in [
        PoolLimits {
            idle_timeout: brief,
            ..LIMITS
        },
        PoolLimits {
            max_age: brief,
            ..LIMITS
        },
    ] {
        let pool = pool(limits);
        get(&pool, address).await.put();
        tokio::time::sleep(brief).await;
        get(&pool, address).await.put();
        let counts = pool.counts();
        assert_eq!((counts.opened, counts.expired, counts.idle), (2, 1, 1));
        tokio::time::sleep(brief).await;
        expire(&pool);
        assert_eq!(pool.counts().idle, 0);
    }
}

#[tokio::test]
async fn closing_ends_those_who_wait_and_what_is_kept() {
    let address = echo(usize::MAX).await;
    let pool = pool(PoolLimits { size: 2, ..LIMITS });
    let (mut one, other) = (get(&pool, address).await, get(&pool, address).await);
    other.put();
    let other = get(&pool, address).await;
    let waiting = pool.get(LONG);
    let close = async { pool.close() };
    let (result, ()) = tokio::join!(waiting, close);
    assert_eq!(result.expect_err("it is closed"), PoolError::Closed);
    // A connection in use can still be used, and is not kept.
    round_trip(&mut one).await.expect("an echo");
    one.put();
    drop(other);
    assert_eq!(pool.counts().idle, 0);
    let result = pool.get(LONG).await;
    assert_eq!(result.expect_err("it is closed"), PoolError::Closed);
}
