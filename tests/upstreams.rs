//! Groups of servers: their health, their limits, and who gets which server. The
//! servers are in the test's own process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crate::harness::{
    Configured, Dns, DnsReply, Http2Upstream, Run, Server, Upstream, administered, cert, directory,
    eventually, free_port, guest, message, refusing, scrape, text, write,
};

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";

/// A server that notes the heads of its requests, and that may be unwell: then it
/// answers with 503 to `/up`.
struct Noting {
    upstream: Upstream,
    heads: Arc<Mutex<Vec<String>>>,
    unwell: Arc<AtomicBool>,
}

impl Noting {
    fn new() -> Self {
        Self::at("127.0.0.1:0")
    }

    fn at(address: &str) -> Self {
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let unwell = Arc::<AtomicBool>::default();
        let (noted, is_unwell) = (Arc::clone(&heads), Arc::clone(&unwell));
        let upstream = Upstream::at(address, move |mut asker, _| {
            while let Some(head) = asker.head() {
                let asks_up = head.starts_with("GET /up");
                noted.lock().expect("the heads").push(head);
                let unwell = is_unwell.load(Ordering::SeqCst);
                asker.say(if unwell && asks_up { BUSY } else { FINE });
            }
        });
        Self {
            upstream,
            heads,
            unwell,
        }
    }

    fn address(&self) -> String {
        self.upstream.address.to_string()
    }

    /// Returns the targets of the requests so far, and forgets them.
    fn take_targets(&self) -> Vec<String> {
        let heads = self.take_heads();
        let target = |head: String| head.split(' ').nth(1).map(str::to_owned);
        heads.into_iter().filter_map(target).collect()
    }

    fn take_heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().expect("the heads"))
    }

    /// Returns how many of the requests since the last call were for `/x`.
    fn take_count(&self) -> usize {
        let targets = self.take_targets();
        targets.iter().filter(|target| *target == "/x").count()
    }
}

fn group(servers: &[&Noting], settings: &str) -> String {
    let servers: Vec<_> = servers.iter().map(|it| it.address()).collect();
    format!("site={};{settings}", servers.join(","))
}

fn gateway(group: &str) -> Run {
    Run::guest("gateway")
        .http()
        .args(["--upstream", group])
        .guest_args(&["/=site"])
}

/// Sends so many requests, each of which must be answered.
#[track_caller]
fn fetch(server: &Server, count: usize) {
    let mut peer = server.connect_http();
    for _ in 0..count {
        peer.fetch("/x").is(200, "hello");
    }
}

#[test]
fn checks_put_a_server_down_and_up_again() {
    let (one, other) = (Noting::new(), Noting::new());
    let settings = "check=/up;check-interval=20ms;check-timeout=10s;rise=2;fall=2";
    let (server, admin) = administered(gateway(&group(&[&one, &other], settings)));
    let is_up = |it: &Noting| {
        let metrics = scrape(admin);
        let mut of_server = metrics.iter().filter(|(name, _)| {
            name.starts_with("netwasm_upstream_server_up{") && name.contains(&it.address())
        });
        of_server.next().map(|(_, value)| *value)
    };
    fetch(&server, 4);
    assert_eq!((one.take_count(), other.take_count()), (2, 2));
    one.unwell.store(true, Ordering::SeqCst);
    let address = one.address();
    server
        .log
        .wait_for(&["the server is down", &address, "status 503"]);
    assert_eq!((is_up(&one), is_up(&other)), (Some(0.0), Some(1.0)));
    one.take_targets();
    fetch(&server, 4);
    assert_eq!((one.take_count(), other.take_count()), (0, 4));

    other.unwell.store(true, Ordering::SeqCst);
    let address = other.address();
    server.log.wait_for(&["the server is down", &address]);
    assert_eq!(server.connect_http().fetch("/x").status, 503);
    server.log.wait_for(&["all servers of the group are down"]);
    let refused = scrape(admin);
    let mut refused = refused.iter();
    let down = refused.find(|(name, _)| {
        name.starts_with("netwasm_forwards_refused_total{") && name.contains("reason=\"down\"")
    });
    assert_eq!(down.map(|(_, count)| *count), Some(1.0));

    one.unwell.store(false, Ordering::SeqCst);
    server.log.wait_for(&["is up again", &one.address()]);
    fetch(&server, 2);
    assert_eq!(one.take_count(), 2);
    server.stop();
}

#[test]
fn the_checks_of_a_generation_end_with_it() {
    let site = Noting::new();
    let config = Configured::new();
    let content = |path: &str| {
        format!(
            "component = {:?}\nhttp = \"127.0.0.1:0\"\nargs = [\"/=site\"]\nworkers = 2\n\
             upstream = {{ site = \"{};check={path};check-interval=5ms\" }}\n",
            text(&guest("gateway")),
            site.address()
        )
    };
    let server = config.start(content("/old"), 1);
    eventually("a check", || {
        site.take_targets().contains(&"/old".into()).then_some(())
    });
    config.reload(&server, content("/new"));
    let mut all = Vec::new();
    eventually("checks of the new generation alone", || {
        all.extend(site.take_targets());
        let last = all.iter().rev().take(10);
        (all.len() > 20 && last.into_iter().all(|it| it == "/new")).then_some(())
    });
    server.stop();
}

#[test]
fn a_group_that_has_enough_requests_gets_no_more() {
    let (asked, asks) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let goes = Mutex::new(goes);
    let upstream = Upstream::new(move |mut asker, _| {
        while asker.head().is_some() {
            asked.send(()).expect("a test");
            // The test may be over.
            let _ = goes.lock().expect("it").recv();
            asker.say(FINE);
        }
    });
    let limits = "max-connections=1;max-requests=2";
    let run = gateway(&format!("site={};{limits}", upstream.address));
    let (server, admin) = administered(run.args(["--workers", "1"]));
    let [mut one, mut two, mut three] = [(); 3].map(|()| server.connect_http());
    one.send(message("GET", "/1", &[]).as_bytes());
    asks.recv().expect("a request");
    two.send(message("GET", "/2", &[]).as_bytes());
    // It is refused as soon as the second one waits.
    let refused = eventually("a request too many", || {
        // The first two hold what there is. One that comes before the second
        // would wait in its place.
        let under_way = scrape(admin);
        let accepted = under_way
            .iter()
            .find(|(name, _)| name.starts_with("netwasm_requests_handled_total{"));
        (accepted.map(|(_, count)| *count) == Some(2.0)).then(|| three.fetch("/3"))
    });
    assert_eq!(refused.status, 503);
    server.log.wait_for(&["max-requests"]);
    go.send(()).expect("a server");
    one.response().is(200, "hello");
    asks.recv().expect("the second request");
    go.send(()).expect("a server");
    two.response().is(200, "hello");
    go.send(()).expect("a server");
    three.fetch("/3").is(200, "hello");
    drop((one, two, three));
    server.stop();
}

#[test]
fn a_server_that_asks_for_a_pause_is_left_alone() {
    let busy =
        Upstream::answering("HTTP/1.1 503 Busy\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n");
    let fine = Noting::new();
    let group = |settings: &str| format!("site={},{};{settings}", busy.address, fine.address());
    let server = gateway(&group("retry-after=1m")).start();
    let mut peer = server.connect_http();
    let statuses: Vec<_> = (0..10).map(|_| peer.fetch("/x").status).collect();
    assert_eq!(
        statuses.iter().filter(|it| **it == 503).count(),
        1,
        "{statuses:?}"
    );
    let address = busy.address.to_string();
    server.log.wait_for(&[&address, "for 60 s, as it asks"]);
    drop(peer);
    server.stop();
    // Unless the group says so, its word is the client's to heed.
    let server = gateway(&group("")).start();
    let mut peer = server.connect_http();
    let statuses: Vec<_> = (0..10).map(|_| peer.fetch("/x").status).collect();
    assert_eq!(
        statuses.iter().filter(|it| **it == 503).count(),
        5,
        "{statuses:?}"
    );
    drop(peer);
    server.stop();
}

#[test]
fn a_cookie_keeps_a_client_with_its_server_and_is_not_passed_on() {
    let (one, other) = (Noting::new(), Noting::new());
    let scratch = directory();
    let key = write(scratch.path(), "key", "a secret\n");
    let settings = format!("sticky=SRV;sticky-key={}", key.display());
    let group = group(&[&one, &other], &settings);
    let server = gateway(&group).start();
    let mut peer = server.connect_http();
    let cookie = |server: &Server| {
        let response = server.connect_http().fetch("/x").is(200, "hello");
        let cookie = response.header("set-cookie").expect("a cookie").to_owned();
        assert!(
            cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"),
            "{cookie}"
        );
        cookie.split(';').next().expect("a pair").to_owned()
    };
    let own = cookie(&server);
    let counts = || (one.take_count(), other.take_count());
    let first = counts();
    let field = format!("Cookie: a=1; {own}; b=2");
    let asks = message("GET", "/x", &[&field]);
    for _ in 0..5 {
        let response = peer.exchange(&asks).is(200, "hello");
        assert_eq!(response.header("set-cookie"), None);
    }
    let heads = [one.take_heads(), other.take_heads()].concat();
    assert!(
        heads
            .iter()
            .all(|it| it.contains("\r\nCookie: a=1; b=2\r\n")),
        "{heads:?}"
    );
    // The next client has the other's.
    assert_ne!(cookie(&server), own);
    assert_eq!(counts(), (first.1, first.0));
    let alone = message("GET", "/x", &[&format!("Cookie: {own}")]);
    peer.exchange(alone).is(200, "hello");
    let heads = [one.take_heads(), other.take_heads()].concat();
    assert!(heads.iter().all(|it| !it.contains("ookie:")), "{heads:?}");
    let unknown = message("GET", "/x", &["Cookie: SRV=x"]);
    assert!(peer.exchange(unknown).header("set-cookie").is_some());
    drop(peer);
    server.stop();
    // Another process knows it.
    counts();
    let server = gateway(&group).start();
    let mut peer = server.connect_http();
    for _ in 0..4 {
        peer.exchange(&asks).is(200, "hello");
    }
    let (one, other) = counts();
    assert_eq!(
        (one * first.0, other * first.1, one + other),
        (4 * first.0, 4 * first.1, 4)
    );
    drop(peer);
    server.stop();
}

#[test]
fn requests_spread_over_the_addresses_of_a_name_and_follow_it() {
    let port = free_port();
    let one = Noting::at(&format!("127.0.0.1:{port}"));
    let other = Noting::at(&format!("127.0.0.2:{port}"));
    let moved = Arc::<AtomicBool>::default();
    let has_moved = Arc::clone(&moved);
    let dns = Dns::new(move |name, family| match (name, family) {
        ("site.example.", hickory_proto::rr::RecordType::A) => {
            let before = ["127.0.0.1", "127.0.0.2"];
            let now = if has_moved.load(Ordering::SeqCst) {
                &before[1..]
            } else {
                &before
            };
            DnsReply::addresses_for(now, 0)
        }
        _ => DnsReply::NoData,
    });
    let server = gateway(&format!("site=site.example:{port}"))
        .args(["--dns-server", &dns.address.to_string(), "--workers", "1"])
        .start();
    eventually("requests to both", || {
        fetch(&server, 10);
        ((one.take_count(), other.take_count()) == (5, 5)).then_some(())
    });
    // Connections are kept to each.
    assert!(one.upstream.connections() + other.upstream.connections() < 6);
    moved.store(true, Ordering::SeqCst);
    eventually("requests to the new address alone", || {
        fetch(&server, 10);
        ((one.take_count(), other.take_count()) == (0, 10)).then_some(())
    });
    server.stop();
}

/// A server of HTTP/2 with prior knowledge that counts its requests.
struct Counting {
    upstream: Http2Upstream,
    requests: Arc<AtomicUsize>,
}

impl Counting {
    fn at(address: &str) -> Self {
        let requests = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&requests);
        let settings = h2::server::Builder::new();
        let upstream = Http2Upstream::at(address, settings, move |_, mut respond| {
            count.fetch_add(1, Ordering::SeqCst);
            let response = http::Response::new(());
            let mut body = respond.send_response(response, false).expect("open");
            body.send_data("hello".into(), true).expect("room");
            std::future::ready(())
        });
        Self { upstream, requests }
    }

    /// Returns the number of requests since the last call.
    fn take_count(&self) -> usize {
        self.requests.swap(0, Ordering::SeqCst)
    }
}

#[test]
fn requests_by_http2_spread_over_the_addresses_of_a_name_and_follow_it() {
    let port = free_port();
    let one = Counting::at(&format!("127.0.0.1:{port}"));
    let other = Counting::at(&format!("127.0.0.2:{port}"));
    let moved = Arc::<AtomicBool>::default();
    let has_moved = Arc::clone(&moved);
    let dns = Dns::new(move |name, family| match (name, family) {
        ("site.example.", hickory_proto::rr::RecordType::A) => {
            let before = ["127.0.0.1", "127.0.0.2"];
            let gone = usize::from(has_moved.load(Ordering::SeqCst));
            DnsReply::addresses_for(&before[gone..], 0)
        }
        _ => DnsReply::NoData,
    });
    let server = gateway(&format!("site=h2c://site.example:{port}"))
        .args(["--dns-server", &dns.address.to_string(), "--workers", "1"])
        .start();
    eventually("requests to both", || {
        fetch(&server, 10);
        ((one.take_count(), other.take_count()) == (5, 5)).then_some(())
    });
    // One connection to each is enough, besides those before both were known.
    let made = one.upstream.connections() + other.upstream.connections();
    assert!(made < 6, "{made} connections");
    moved.store(true, Ordering::SeqCst);
    eventually("requests to the new address alone", || {
        fetch(&server, 10);
        ((one.take_count(), other.take_count()) == (0, 10)).then_some(())
    });
    server.stop();
}

#[test]
fn a_tcp_guest_connects_to_a_group() {
    let greeting = |text: &'static str| {
        Upstream::new(move |mut asker, _| {
            asker.say(text);
            asker.rest();
        })
    };
    let (one, other) = (greeting("one"), greeting("two"));
    let (gone, _kept) = refusing();
    let group = format!(
        "db={gone},{},{};max-connections=1;max-queue=0;max-fails=1",
        one.address, other.address
    );
    let proxy = |group: &str| {
        let run = Run::guest("proxy").tcp();
        run.args(["--upstream", group]).guest_args(&["@db"]).start()
    };
    let server = proxy(&group);
    let mut clients = [(); 2].map(|()| server.connect());
    let mut greetings = clients.each_mut().map(|client| client.take(3));
    greetings.sort();
    assert_eq!(greetings, [b"one", b"two"]);
    server
        .log
        .wait_for(&["gets no requests", &gone.to_string()]);
    // Both are full, and nobody may wait.
    let mut third = server.connect();
    assert_eq!(third.rest(), b"");
    server.log.wait_for(&["@db", "max-queue"]);
    // A place is free once its connection has ended.
    let [first, second] = clients;
    drop(first);
    eventually("a place", || {
        let greeting = server.connect().read_some(&mut [0; 3]);
        greeting.is_ok_and(|count| count == 3).then_some(())
    });
    drop(second);
    server.stop();

    let server = proxy(&group.replace("db=", "other="));
    assert_eq!(server.connect().rest(), b"");
    server
        .log
        .wait_for(&["'db' is not allowed; --upstream db=HOST:PORT would allow it"]);
    server.stop();
}

#[test]
fn an_async_guest_connects_to_a_group_which_has_its_tls_and_its_places() {
    let echo = Run::guest("echo").tls().start();
    let port = echo.address("tls").port();
    let server = Run::guest("stream-probe")
        .tcp()
        .args(["--workers", "1", "--ca", text(&cert("ca.pem"))])
        .args([
            "--upstream",
            &format!("echo=https://localhost:{port};max-requests=1"),
        ])
        .start();
    let mut clients = [(); 2].map(|()| server.connect());
    for client in &mut clients {
        client.say("client");
    }
    let [one, other] = &mut clients;
    assert_eq!(
        one.ask("connect-upstream nobody"),
        "ErrorCode::AccessDenied"
    );
    assert_eq!(one.ask("connect-upstream echo"), "ok");
    assert_eq!(one.ask("ask hello"), "hello");
    assert_eq!(
        other.ask("connect-upstream echo"),
        "ErrorCode::LimitExceeded"
    );
    assert_eq!(one.ask("drop"), "ok");
    eventually("a place", || {
        (other.ask("connect-upstream echo") == "ok").then_some(())
    });
    drop(clients);
    server.stop();
    echo.stop();
}
