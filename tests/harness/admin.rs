//! Runs with an admin interface, and what it shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Peer, Response, Run, Server, message};

/// Starts a run with an admin interface over TCP, and returns its address.
pub(crate) fn administered(run: Run) -> (Server, SocketAddr) {
    let server = run.args(["--admin", "127.0.0.1:0"]).start();
    let address = admin_of(&server);
    (server, address)
}

/// Returns the address of a run's admin interface over TCP.
pub(crate) fn admin_of(server: &Server) -> SocketAddr {
    told(server, "the admin interface listens")
}

/// Returns the address of a run's probes.
pub(crate) fn probes_of(server: &Server) -> SocketAddr {
    told(server, "probes are answered")
}

fn told(server: &Server, what: &str) -> SocketAddr {
    let line = server.log.wait_for(&[what]);
    let (_, url) = line.split_once("http://").expect("a URL");
    let address = url.split(['"', ' ']).next().expect("an address");
    address.parse().expect("an address")
}

pub(crate) fn ask_admin(admin: SocketAddr, path: &str) -> Response {
    let mut peer = Peer::connect(admin);
    let head = message("GET", path, &["Accept: application/openmetrics-text"]);
    peer.exchange(head)
}

/// Reads metrics: the value of each name with its labels. Checks the form of
/// every line (OpenMetrics 1.0).
pub(crate) fn scrape(admin: SocketAddr) -> BTreeMap<String, f64> {
    let response = ok(ask_admin(admin, "/metrics"));
    let media = response.header("Content-Type").expect("a type");
    assert!(media.starts_with("application/openmetrics-text"), "{media}");
    let text = response.text();
    assert!(text.ends_with("\n# EOF"), "{text}");
    let mut values = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            if let (Some("HELP"), Some(name)) = (words.next(), words.next()) {
                family = name.to_owned();
                assert!(name.starts_with("netwasm_"), "{line}");
            }
            continue;
        }
        assert!(line.starts_with(&family), "{line} is not of {family}");
        let (name, value) = line.rsplit_once(' ').expect("a value");
        let value = value.parse().expect("a number");
        assert_eq!(values.insert(name.to_owned(), value), None, "twice: {name}");
    }
    values
}

/// Checks that a request succeeded, and returns the response.
#[track_caller]
pub(crate) fn ok(response: Response) -> Response {
    assert_eq!(response.status, 200, "{response:?}");
    response
}
