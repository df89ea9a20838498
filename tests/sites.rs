//! HTTP listeners that several services share, by host and path.

use std::fs;
use std::net::SocketAddr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::{component, configured};
use crate::harness::http2::read;
use crate::harness::{
    Client, Configured, Http2, Peer, Response, Run, Server, TcpPeer, TlsPeer, admin_of, cert,
    directory, eventually, free_port, install, install_as, reload, replaced, scrape, text, write,
};

/// Sends a GET for a host.
fn fetch_of(server: &Server, host: &str, target: &str) -> Response {
    let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    server.connect_http().exchange(head)
}

#[test]
fn services_share_a_listener_by_host_and_path() {
    let port = free_port();
    let (_scratch, file) = configured(&format!(
        "[services.site]\ncomponent = {router}\nhttp = \"127.0.0.1:{port}\"\n\
         route = \"example.org\"\n\
         [services.greeter]\ncomponent = {hello}\nhttp = \"127.0.0.1:{port}\"\n\
         route = [\"example.org/api\", \"*.example.org\"]\n\
         [services.wasi]\ncomponent = {service}\nhttp = \"127.0.0.1:{port}\"\n\
         route = \"/wasi\"\n",
        router = component("router"),
        hello = component("hello"),
        service = component("service-probe")
    ));
    let server = Run::config(&file, 1).start();
    fetch_of(&server, "example.org", "/about").is(200, "<h1>About</h1>");
    fetch_of(&server, "EXAMPLE.ORG:80", "/about").is(200, "<h1>About</h1>");
    for (host, target) in [
        ("example.org", "/api"),
        ("example.org", "/api/about?x"),
        ("www.example.org", "/about"),
    ] {
        let response = fetch_of(&server, host, target);
        assert!(
            response.text().contains("Hello"),
            "{host}{target}: {response:?}"
        );
    }
    for (host, target) in [("a.example", "/"), ("a.example", "/wasix")] {
        let response = fetch_of(&server, host, target);
        assert_eq!(response.status, 404, "{host}{target}: {response:?}");
        assert!(
            response
                .text()
                .contains("no service has this host and path")
        );
    }
    // One connection may have requests for all of them, with bodies and without.
    let mut peer = server.connect_http();
    for _ in 0..3 {
        let post = "POST /api HTTP/1.1\r\nHost: example.org\r\nContent-Length: 5\r\n\r\nhello";
        // It greets, and takes nothing.
        assert_eq!(peer.exchange(post).status, 405);
        let get = "GET /about HTTP/1.1\r\nHost: example.org\r\n\r\n";
        peer.exchange(get).is(200, "<h1>About</h1>");
        let none = "POST /no HTTP/1.1\r\nHost: b.example\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(peer.exchange(none).status, 404);
    }
    drop(peer);
    server.stop();
}

#[test]
fn a_host_that_tls_did_not_name_is_misdirected() {
    let (_scratch, file) = configured(&format!(
        "[services.site]\ncomponent = {router}\nhttps = \"127.0.0.1:0\"\nroute = \"localhost\"\n\
         cert = {cert:?}\nkey = {key:?}\n",
        router = component("router"),
        cert = text(&cert("cert.pem")),
        key = text(&cert("key.pem"))
    ));
    let server = Run::config(&file, 1).start();
    let ask = |host: &str| {
        let mut peer = Client::of("localhost").connect(server.address("https"));
        peer.exchange(format!("GET /about HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    };
    ask("localhost").is(200, "<h1>About</h1>");
    assert_eq!(ask("other.example").status, 421);
    server.stop();
}

/// Two services on one listener of one thread. The second, a file that a test
/// replaces, has the host `other`. Each counts its requests in one instance.
struct Counting {
    settings: Configured,
    port: u16,
}

impl Counting {
    fn new() -> Self {
        let (settings, port) = (Configured::new(), free_port());
        install("probe", &settings.at("other.wasm"));
        Self { settings, port }
    }

    fn settings(&self, routes: &str) -> String {
        let listener = format!("http = \"127.0.0.1:{}\"", self.port);
        format!(
            "admin = \"127.0.0.1:0\"\nworkers = 1\nisolation = \"worker\"\n\
             [services.site]\ncomponent = {probe}\n{listener}\n\
             [services.other]\ncomponent = {place:?}\n{listener}\nroute = {routes}\n",
            probe = component("probe"),
            place = text(&self.settings.at("other.wasm")),
        )
    }

    fn start(&self) -> (Server, SocketAddr) {
        let server = self.settings.start(self.settings("\"other\""), 1);
        let admin = admin_of(&server);
        (server, admin)
    }

    /// Replaces the second service, and reloads.
    fn renew(&self, server: &Server) {
        install_as("probe", &self.settings.at("other.wasm"), 1);
        replaced(&reload(server), "other");
    }
}

/// Asks a service how many requests it has had, with this one.
fn count(peer: &mut TcpPeer, host: &str) -> u32 {
    let response = peer.exchange(format!("GET /count HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert!(!response.closes(), "{response:?}");
    counted(&response)
}

fn counted(response: &Response) -> u32 {
    assert_eq!(response.status, 200, "{response:?}");
    response.text().trim().parse().expect("a count")
}

fn retiring(admin: SocketAddr) -> f64 {
    scrape(admin)["netwasm_generations_retiring"]
}

fn all_have_retired(admin: SocketAddr) {
    let ended = || (retiring(admin) == 0.0).then_some(());
    eventually("the end of the old generation", ended);
}

#[test]
fn a_reload_replaces_a_service_on_the_listener_of_another_that_goes_on() {
    let it = Counting::new();
    let (server, admin) = it.start();
    let mut peer = server.connect_http();
    for both in 1..=2 {
        assert_eq!(count(&mut peer, "site"), both);
        assert_eq!(count(&mut peer, "other"), both);
    }
    it.renew(&server);
    // An idle connection holds nothing of it.
    all_have_retired(admin);
    assert_eq!(count(&mut peer, "site"), 3);
    assert_eq!(count(&mut peer, "other"), 1);
    let mut after = server.connect_http();
    assert_eq!(count(&mut after, "site"), 4);
    assert_eq!(count(&mut after, "other"), 2);
    // Other routes are settings of the second one.
    let content = it.settings("\"another\"");
    replaced(&it.settings.reload(&server, content), "other");
    let mut of_first = 4;
    eventually("the new routes", || match count(&mut peer, "another") {
        1 => Some(()),
        // The first one has all others.
        number => {
            of_first = number;
            None
        }
    });
    assert_eq!(count(&mut peer, "other"), of_first + 1);
    all_have_retired(admin);
    drop((peer, after));
    server.stop();
}

#[test]
fn requests_that_a_reload_finds_under_way_end_with_the_generation_they_began_with() {
    let it = Counting::new();
    let (server, admin) = it.start();
    let mut peer = server.connect_http();
    let mut client = Http2::connect(server.address("http"));
    let ask = |method: &str, target: &str| {
        let uri = format!("http://other{target}");
        let request = http::Request::builder().method(method).uri(uri);
        request.body(()).expect("a request")
    };
    assert_eq!(count(&mut peer, "other"), 1);
    assert_eq!(counted(&client.exchange(ask("GET", "/count"), b"")), 2);
    peer.send(b"POST /count HTTP/1.1\r\nHost: other\r\nContent-Length: 4\r\n\r\n");
    peer.taken();
    let (response, mut body) = client
        .begin(ask("POST", "/count"), false)
        .expect("a stream");
    let deferred = client.begin(ask("GET", "/defer?ms=60000"), true);
    client.settle();
    it.renew(&server);
    // The next one of each is for the new generation, beside those that go on.
    let after = counted(&client.exchange(ask("GET", "/count"), b""));
    assert_eq!(after, 1);
    assert_eq!(count(&mut server.connect_http(), "other"), 2);
    assert_eq!(retiring(admin), 1.0);
    peer.send(b"body");
    let before = counted(&peer.response());
    assert!(before > 2, "{before}");
    body.send_data("body".into(), true).expect("it goes on");
    let before = counted(&client.run(read(response)).expect("a response"));
    assert!(before > 2, "{before}");
    assert_eq!(count(&mut peer, "other"), 3);
    // One is left, which its client gives up, once it is told to send that.
    drop(deferred);
    client.settle();
    all_have_retired(admin);
    assert_eq!(counted(&client.exchange(ask("GET", "/count"), b"")), 4);
    drop((peer, client));
    server.stop();
}

#[test]
fn a_request_that_outlives_its_generation_is_answered_and_its_connection_goes_on() {
    let it = Counting::new();
    let content = "shutdown-timeout = \"100ms\"\n".to_owned() + &it.settings("\"other\"");
    let server = it.settings.start(content, 1);
    let admin = admin_of(&server);
    let mut peer = server.connect_http();
    peer.send(b"GET /defer?ms=60000 HTTP/1.1\r\nHost: other\r\n\r\n");
    eventually("the request", || {
        let known = "netwasm_requests_handled_total{service=\"other\"}";
        (scrape(admin).get(known) == Some(&1.0)).then_some(())
    });
    it.renew(&server);
    assert_eq!(peer.response().status, 500);
    all_have_retired(admin);
    assert_eq!(count(&mut peer, "other"), 1);
    assert_eq!(count(&mut peer, "site"), 1);
    drop(peer);
    server.stop();
}

#[test]
fn a_compressed_file_is_looked_for_beside_the_file_that_a_service_answers() {
    let port = free_port();
    let (one, other) = (directory(), directory());
    write(one.path(), "index.html", "the first one's");
    write(one.path(), "index.html.gz", "the first one's, compressed");
    write(other.path(), "index.html", "the other's");
    let listener = format!("http = \"127.0.0.1:{port}\"");
    let (_scratch, file) = configured(&format!(
        "[services.one]\ncomponent = {site}\n{listener}\ndir = \"{}::/\"\n\
         [services.other]\ncomponent = {site}\n{listener}\ndir = \"{}::/\"\n\
         route = \"other.example\"\n",
        text(one.path()),
        text(other.path()),
        site = component("static"),
    ));
    let server = Run::config(&file, 1).start();
    for (host, coding, body) in [
        ("one.example", Some("gzip"), "the first one's, compressed"),
        ("other.example", None, "the other's"),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip\r\n\r\n");
        let response = server.connect_http().exchange(head).is(200, body);
        assert_eq!(response.header("Content-Encoding"), coding, "{response:?}");
    }
    server.stop();
}

#[test]
fn requests_are_on_the_account_of_the_service_that_answers() {
    let port = free_port();
    let logs = directory();
    let listener = format!("http = \"127.0.0.1:{port}\"");
    let log = |name: &str| format!("access-log = {:?}", text(&logs.path().join(name)));
    let (_scratch, file) = configured(&format!(
        "[services.site]\ncomponent = {router}\n{listener}\n{}\n\
         [services.probe]\ncomponent = {probe}\n{listener}\nroute = \"/probe\"\n{}\n",
        log("site"),
        log("probe"),
        router = component("router"),
        probe = component("hello"),
    ));
    let server = Run::config(&file, 1).start();
    let mut peer = server.connect_http();
    peer.fetch("/about").is(200, "<h1>About</h1>");
    for spelling in ["/probe", "/%70robe/x", "//x/../probe"] {
        let response = peer.fetch(spelling);
        assert!(
            response.text().contains("Hello"),
            "{spelling}: {response:?}"
        );
    }
    drop(peer);
    let log = server.log.clone();
    server.stop();
    let requests = |name: &str| {
        let name = format!("service={name:?}");
        let lines = log.lines();
        let mut ends = lines
            .iter()
            .filter(|line| line.contains("ended ") && line.contains(&name));
        let line = ends.next().unwrap_or_else(|| panic!("{name}: {lines:?}"));
        let count = line.split("requests=").nth(1).expect("a count");
        count.split(' ').next().expect("a number").to_owned()
    };
    assert_eq!(
        (requests("site"), requests("probe")),
        ("1".into(), "3".into())
    );
    let logged = |name: &str| fs::read_to_string(logs.path().join(name)).expect("a log");
    assert!(logged("site").contains("GET /about ") && logged("site").lines().count() == 1);
    assert!(logged("probe").contains("GET /%70robe/x ") && logged("probe").lines().count() == 3);
}

#[test]
fn a_certificate_is_presented_where_its_service_answers() {
    let (port, own) = (free_port(), free_port());
    let (_scratch, file) = configured(&format!(
        "[services.site]\ncomponent = {router}\nhttps = [\"127.0.0.1:{port}\", \
         \"127.0.0.1:{own}\"]\ncert = {site:?}\nkey = {site_key:?}\n\
         [services.other]\ncomponent = {hello}\nhttps = \"127.0.0.1:{port}\"\n\
         route = \"other.example\"\ncert = {other:?}\nkey = {other_key:?}\n",
        router = component("router"),
        hello = component("hello"),
        site = text(&cert("cert.pem")),
        site_key = text(&cert("key.pem")),
        other = text(&cert("other.pem")),
        other_key = text(&cert("other.key")),
    ));
    let server = Run::config(&file, 2).start();
    let shown = |port: u16, name: &'static str| {
        let address = ([127, 0, 0, 1], port).into();
        let mut peer: TlsPeer = Client::of(name).try_connect(address).ok()?;
        let chain = peer.get().conn.peer_certificates().expect("a certificate");
        chain.first().map(|leaf| leaf.clone().into_owned())
    };
    let leaf = |name: &str| CertificateDer::from_pem_file(cert(name)).ok();
    assert_eq!(shown(port, "localhost"), leaf("cert.pem"));
    assert_eq!(shown(port, "other.example"), leaf("other.pem"));
    assert_eq!(shown(own, "localhost"), leaf("cert.pem"));
    assert_eq!(shown(own, "other.example"), None, "it is another service's");
    server.stop();
}

#[test]
fn connections_that_may_use_a_service_leave_room_for_its_own_ones() {
    let port = free_port();
    let (_scratch, file) = configured(&format!(
        "workers = 1\nmax-connections = 4\n\
         [services.site]\ncomponent = {router}\nhttp = \"127.0.0.1:{port}\"\n\
         [services.greeter]\ncomponent = {hello}\n\
         http = [\"127.0.0.1:{port}\", \"127.0.0.1:0\"]\nroute = \"/greet\"\n",
        router = component("router"),
        hello = component("hello"),
    ));
    let server = Run::config(&file, 2).start();
    let shared = ([127, 0, 0, 1], port).into();
    let own = server.listening.iter().find_map(|url| {
        let address = url.strip_prefix("http://")?.parse().ok()?;
        (address != shared).then_some(address)
    });
    let own = own.expect("its own listener");
    // Each has an instance of the service, and keeps it.
    let mut peers = Vec::new();
    for address in [shared, own] {
        for _ in 0..4 {
            let mut peer = Peer::connect(address);
            let response = peer.fetch("/greet");
            assert_eq!(response.status, 200, "{address}: {response:?}");
            peers.push(peer);
        }
    }
    // So do those that wait until one of the others is closed.
    assert_eq!(Peer::connect(shared).fetch("/greet").status, 200);
    drop(peers);
    assert_eq!(server.log.count("no instance"), 0);
    server.stop();
}
