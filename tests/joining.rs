//! Services that a reload lets join the listener of another one, or leave it, while
//! that one goes on.

use std::fs;
use std::net::SocketAddr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::component;
use crate::harness::{
    Client, Configured, Http2, Peer, Response, Server, TcpPeer, TlsPeer, admin_of, cert,
    eventually, free_port, scrape, text,
};

/// Sends a request for a host, and returns the response.
fn ask(peer: &mut TcpPeer, host: &str, target: &str) -> Response {
    peer.exchange(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

/// Asks a service how many requests it has had, with this one.
fn count(peer: &mut TcpPeer, host: &str) -> u32 {
    let response = ask(peer, host, "/count");
    assert!(!response.closes(), "{response:?}");
    counted(&response)
}

fn counted(response: &Response) -> u32 {
    assert_eq!(response.status, 200, "{response:?}");
    response.text().trim().parse().expect("a count")
}

fn metric(admin: SocketAddr, name: &str) -> f64 {
    let values = scrape(admin);
    values
        .get(&format!("netwasm_{name}"))
        .copied()
        .unwrap_or(0.0)
}

/// Sends a request that is never answered, and waits until a service has it.
fn occupy(server: &Server, admin: SocketAddr, peer: &mut TcpPeer, service: &str) {
    let handled = format!("requests_handled_total{{service={service:?}}}");
    let before = metric(admin, &handled);
    peer.send(format!("GET /defer?ms=never HTTP/1.1\r\nHost: {service}\r\n\r\n").as_bytes());
    eventually("the request", || {
        (metric(admin, &handled) > before).then_some(())
    });
    assert_eq!(server.log.count("panicked"), 0);
}

/// Asks for the host `other` until a service has such a request.
fn until_answered_by(service: &str, admin: SocketAddr, peer: &mut TcpPeer) {
    let handled = format!("requests_handled_total{{service={service:?}}}");
    eventually("the other service", || {
        let before = metric(admin, &handled);
        count(peer, "other");
        (metric(admin, &handled) > before).then_some(())
    });
}

#[test]
fn a_service_joins_and_leaves_a_listener_whose_own_goes_on() {
    let (settings, port) = (Configured::new(), free_port());
    let service = |name: &str, route: &str| {
        let log = settings.at(name);
        format!(
            "[services.{name}]\ncomponent = {}\nhttp = \"127.0.0.1:{port}\"\n{route}\n\
             access-log = {:?}\naccess-log-format = \"$request_method $host\"\n",
            component("probe"),
            text(&log),
        )
    };
    let process = "admin = \"127.0.0.1:0\"\nworkers = 1\nisolation = \"worker\"\n";
    let site = service("site", "");
    let other = service("other", "route = \"other\"");
    let server = settings.start(format!("{process}{site}"), 1);
    let admin = admin_of(&server);
    let mut peer = server.connect_http();
    let mut client = Http2::connect(server.address("http"));
    let get = |host: &str| {
        let uri = format!("http://{host}/count");
        http::Request::get(uri).body(()).expect("a request")
    };
    assert_eq!(count(&mut peer, "site"), 1);
    assert_eq!(count(&mut peer, "other"), 2, "there is but one service");
    assert_eq!(counted(&client.exchange(get("other"), b"")), 3);
    // Above the one whose listener it is: that stays so all the same.
    let line = settings.reload(&server, format!("{process}{other}{site}"));
    assert!(line.contains("replaced=\"\" added=\"other\""), "{line}");
    until_answered_by("other", admin, &mut peer);
    assert_eq!(count(&mut peer, "other"), 2);
    assert_eq!(counted(&client.exchange(get("other"), b"")), 3);
    let own = count(&mut peer, "site");
    assert!(own > 3, "{own}");
    assert_eq!(counted(&client.exchange(get("site"), b"")), own + 1);
    assert_eq!(metric(admin, "connections_open{service=\"site\"}"), 2.0);
    assert_eq!(metric(admin, "connections_open{service=\"other\"}"), 0.0);
    assert_eq!(metric(admin, "generations_retiring"), 0.0);
    // A request that has begun ends with the one that leaves.
    let (response, mut body) = client
        .begin(
            http::Request::post("http://other/count")
                .body(())
                .expect("a request"),
            false,
        )
        .expect("a stream");
    client.settle();
    let line = settings.reload(&server, format!("{process}{site}"));
    assert!(line.contains("replaced=\"\" removed=\"other\""), "{line}");
    until_answered_by("site", admin, &mut peer);
    body.send_data("body".into(), true).expect("it goes on");
    let before = client.run(crate::harness::http2::read(response));
    assert!(counted(&before.expect("a response")) > 3);
    assert!(counted(&client.exchange(get("other"), b"")) > own);
    eventually("the end of the service", || {
        (metric(admin, "generations_retiring") == 0.0).then_some(())
    });
    assert!(count(&mut peer, "site") > own);
    drop((peer, client));
    server.stop();
    let log = |name: &str| fs::read_to_string(settings.at(name)).expect("a log");
    assert!(log("other").contains("POST other\n") && !log("other").contains("site"));
    assert!(log("site").contains("GET other\n") && !log("site").contains("POST"));
}

#[test]
fn a_certificate_comes_and_goes_with_its_service() {
    let (settings, port) = (Configured::new(), free_port());
    let service = |name: &str, files: [&str; 2], more: &str| {
        format!(
            "[services.{name}]\ncomponent = {}\nhttps = \"127.0.0.1:{port}\"\n\
             cert = {:?}\nkey = {:?}\n{more}\n",
            component("probe"),
            text(&cert(files[0])),
            text(&cert(files[1])),
        )
    };
    let site = service("site", ["cert.pem", "key.pem"], "");
    let route = "route = \"other.example\"";
    let other = service("other", ["other.pem", "other.key"], route);
    let server = settings.start(&site, 1);
    let address = server.address("https");
    let shown = |name: &'static str| {
        let mut peer: TlsPeer = Client::of(name).try_connect(address).ok()?;
        let chain = peer.get().conn.peer_certificates().expect("a certificate");
        chain.first().map(|leaf| leaf.clone().into_owned())
    };
    let leaf = CertificateDer::from_pem_file(cert("other.pem")).ok();
    let mut kept: TlsPeer = Client::of("localhost").connect(address);
    let mut count = || {
        let head = "GET /count HTTP/1.1\r\nHost: localhost\r\n\r\n";
        counted(&kept.exchange(head))
    };
    assert_eq!((count(), shown("other.example")), (1, None));
    let line = settings.reload(&server, format!("{site}{other}"));
    assert!(line.contains("replaced=\"\" added=\"other\""), "{line}");
    assert_eq!((count(), shown("other.example")), (2, leaf));
    let line = settings.reload(&server, &site);
    assert!(line.contains("replaced=\"\" removed=\"other\""), "{line}");
    assert_eq!((count(), shown("other.example")), (3, None));
    drop(kept);
    server.stop();
}

#[test]
fn connections_take_and_free_the_places_of_services_that_join_and_leave() {
    let (settings, port, own) = (Configured::new(), free_port(), free_port());
    let content = |joins: bool| {
        let more = match joins {
            true => format!(", \"127.0.0.1:{port}\""),
            false => String::new(),
        };
        format!(
            "admin = \"127.0.0.1:0\"\nworkers = 1\nmax-connections = 2\n\
             shutdown-timeout = \"5m\"\n\
             [services.site]\ncomponent = {probe}\nhttp = \"127.0.0.1:{port}\"\n\
             [services.other]\ncomponent = {probe}\nhttp = [\"127.0.0.1:{own}\"{more}]\n\
             route = \"other\"\n",
            probe = component("probe"),
        )
    };
    let server = settings.start(content(false), 2);
    let admin = admin_of(&server);
    let [shared, own] = [port, own].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let mut kept = Peer::connect(shared);
    assert!(!ask(&mut kept, "site", "/count").closes());
    let mut busy = [Peer::connect(own), Peer::connect(own)];
    for peer in &mut busy {
        occupy(&server, admin, peer, "other");
    }
    let line = settings.reload(&server, content(true));
    assert!(line.contains("replaced=\"other\""), "{line}");
    // There is no place for it at the other one.
    server
        .log
        .wait_for(&["connections end, as a service that joins"]);
    assert!(ask(&mut kept, "site", "/count").closes());
    drop(kept);
    let mut waiting = Peer::connect(shared);
    waiting.send(b"GET /count HTTP/1.1\r\nHost: other\r\n\r\n");
    server.log.wait_for(&["--max-connections is reached"]);
    let [first, second] = busy;
    drop(first);
    assert_eq!(waiting.response().status, 200);
    // It has a place of each service, and is not idle.
    occupy(&server, admin, &mut waiting, "site");
    let mut third = Peer::connect(own);
    third.send(b"GET /count HTTP/1.1\r\nHost: other\r\n\r\n");
    server.log.wait_for_count("--max-connections is reached", 2);
    let line = settings.reload(&server, content(false));
    assert!(line.contains("replaced=\"other\""), "{line}");
    assert_eq!(third.response().status, 200);
    drop((waiting, second, third));
    server.stop();
}
