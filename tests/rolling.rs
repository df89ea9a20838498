//! HAProxy before several processes on one host, by the file of `host/deploy`: each
//! process is replaced, and no client notices.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;

use crate::harness::{
    Clients, Configured, Http2, Peer, Run, Server, eventually, free_port, guest, http2, message,
    repository, skipped, text, unix_address,
};

/// The servers, by their names in the file.
const NAMES: [&str; 3] = ["one", "two", "three"];

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A process, and what starts the next one in its place.
struct Place {
    settings: Configured,
    server: Server,
    http: u16,
    probes: u16,
}

impl Place {
    fn new() -> Self {
        let settings = Configured::new();
        let (http, probes) = (free_port(), free_port());
        let content = format!(
            "admin = {:?}\nprobes = \"127.0.0.1:{probes}\"\nworkers = 1\nshutdown-delay = \"1h\"\n\
             [services.site]\ncomponent = {:?}\nhttp = \"127.0.0.1:{http}\"\n",
            unix_address(&settings.at("admin")),
            text(&guest("router")),
        );
        let server = settings.start(content, 1);
        Self {
            settings,
            server,
            http,
            probes,
        }
    }

    fn next(&self, flags: &[&str]) -> Server {
        Run::config(&self.settings.file(), 1).args(flags).start()
    }
}

/// HAProxy, with the file of `host/deploy`.
struct Haproxy {
    child: Child,
    stats: PathBuf,
}

impl Haproxy {
    /// Starts it. `None` if the machine has none.
    fn start(scratch: &Path, http: SocketAddr, streams: SocketAddr, to: &[Place]) -> Option<Self> {
        let stats = scratch.join("stats");
        let mut command = Command::new("haproxy");
        command
            .args(["-db", "-f"])
            .arg(repository().join("host/deploy/haproxy/haproxy.cfg"))
            .env("STATS", &stats)
            .env("WEB", http.to_string())
            .env("WEB_HTTP2", streams.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        for (name, place) in NAMES.iter().zip(to) {
            let name = name.to_uppercase();
            command.env(format!("{name}_PROBES"), place.probes.to_string());
            command.env(name, local(place.http).to_string());
        }
        let Ok(child) = command.spawn() else {
            skipped("there is no haproxy: Debian's package of that name has it");
            return None;
        };
        let haproxy = Self { child, stats };
        eventually("haproxy listens", || TcpStream::connect(streams).ok());
        for name in NAMES {
            haproxy.wait_for(name, "UP");
        }
        Some(haproxy)
    }

    /// Waits for a server's state, by its checks.
    fn wait_for(&self, server: &str, state: &str) {
        eventually(&format!("{server} is {state}"), || {
            let mut stats = UnixStream::connect(&self.stats).ok()?;
            stats.write_all(b"show stat\n").ok()?;
            let mut table = String::new();
            stats.read_to_string(&mut table).ok()?;
            let line = format!("netwasm,{server},");
            let line = table.lines().find(|it| it.starts_with(&line))?;
            line.contains(&format!(",{state},")).then_some(())
        });
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts clients that never get another answer than the page, nor lose a
/// connection.
fn clients(http: SocketAddr, streams: SocketAddr) -> Clients {
    let mut clients = Clients::new();
    for _ in 0..3 {
        clients.start(move |goes_on| {
            let mut peer = Peer::connect(http);
            while goes_on() {
                peer.fetch("/about").is(200, "<h1>About</h1>");
            }
        });
    }
    clients.start(move |goes_on| {
        let head = message("GET", "/about", &["Connection: close"]);
        Peer::connect(http).exchange(head).is(200, "<h1>About</h1>");
        goes_on();
    });
    clients.start(move |goes_on| {
        let mut peer = Http2::connect(streams);
        while goes_on() {
            let response = peer.try_exchange(http2::ask("GET", "/about"), b"");
            response.expect("an answer").is(200, "<h1>About</h1>");
        }
    });
    clients
}

#[test]
fn no_client_notices_that_all_processes_behind_haproxy_are_replaced() {
    let mut places: Vec<_> = NAMES.iter().map(|_| Place::new()).collect();
    let (http, streams) = (local(free_port()), local(free_port()));
    let scratch = places[0].settings.directory.path().to_owned();
    let Some(haproxy) = Haproxy::start(&scratch, http, streams, &places) else {
        return;
    };
    let clients = clients(http, streams);
    clients.wait_for(100);
    let mut before = Vec::new();
    for place in &mut places {
        let next = place.next(&["--takeover"]);
        next.log
            .wait_for(&["--takeover: the other run no longer accepts"]);
        before.push(std::mem::replace(&mut place.server, next));
        clients.wait_for(100);
    }
    // Another machine's kernel needs an end and a start.
    let place = &mut places[0];
    place.server.signal(Signal::TERM);
    haproxy.wait_for("one", "DOWN");
    let noticed = Instant::now();
    // It serves all the same.
    let mut straight = Peer::connect(local(place.http));
    straight.fetch("/about").is(200, "<h1>About</h1>");
    clients.wait_for(100);
    place.server.terminate_again(noticed);
    assert_eq!(place.server.wait().code(), Some(0));
    place.server = place.next(&[]);
    haproxy.wait_for("one", "UP");
    clients.wait_for(100);
    clients.stop();
    // With it go the connections that it keeps.
    drop(haproxy);
    for mut server in before {
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(server.log.count("panicked"), 0);
    }
}
