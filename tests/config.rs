//! Configuration files: several services in a process, `netwasm check`, and
//! `--print-config`.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::harness::{Run, UdpPeer, cert, directory, eventually, guest, text, write};

/// Writes a configuration file.
fn configured(content: &str) -> (TempDir, PathBuf) {
    let scratch = directory();
    let file = write(scratch.path(), "netwasm.toml", content);
    (scratch, file)
}

/// Returns the path of a guest as a string of TOML.
fn component(name: &str) -> String {
    format!("{:?}", text(&guest(name)))
}

#[test]
fn services_of_one_process_have_their_own_components_and_listeners() {
    let (_scratch, file) = configured(&format!(
        "workers = 2\n\
         [services.lines]\ncomponent = {}\ntcp = \"127.0.0.1:0\"\nudp = \"127.0.0.1:0\"\n\
         [services.site]\ncomponent = {}\nhttp = \"127.0.0.1:0\"\n",
        component("echo"),
        component("router")
    ));
    let server = Run::config(&file, 3).start();
    for _ in 0..20 {
        server.serves_echo();
        let response = server.connect_http().fetch("/about");
        response.is(200, "<h1>About</h1>");
    }
    let datagrams = UdpPeer::connect(server.address("udp"));
    assert_eq!(datagrams.ask(b"a datagram"), b"a datagram");
    let log = server.log.clone();
    server.stop();
    // Each has its own counts.
    let ends = log
        .lines()
        .into_iter()
        .filter(|line| line.contains("ended "));
    let ends: Vec<_> = ends.collect();
    let of = |name: &str| {
        let mut found = ends.iter().filter(|line| line.contains(name));
        let line = found.next().unwrap_or_else(|| panic!("{name}: {ends:?}"));
        assert_eq!(found.next(), None, "{ends:?}");
        line.clone()
    };
    let (lines, site) = (of("service=\"lines\""), of("service=\"site\""));
    assert!(
        lines.contains("accepted=20") && lines.contains("requests=0"),
        "{lines}"
    );
    assert!(
        site.contains("accepted=20") && site.contains("requests=20"),
        "{site}"
    );
}

#[test]
fn what_one_service_may_do_another_may_not() {
    let peer = Run::guest("echo").tcp().start();
    let port = peer.address("tcp").port();
    let proxy = format!(
        "component = {}\ntcp = \"127.0.0.1:0\"\nargs = \"127.0.0.1:{port}\"\n",
        component("proxy")
    );
    let (_scratch, file) = configured(&format!(
        "[services.may]\n{proxy}allow-connect = \"127.0.0.1:{port}\"\n[services.not]\n{proxy}"
    ));
    let server = Run::config(&file, 2).start();
    let addresses: Vec<_> = server
        .listening
        .iter()
        .map(|url| {
            url.strip_prefix("tcp://")
                .expect("TCP")
                .parse()
                .expect("an address")
        })
        .collect();
    let [may, not] = addresses[..] else {
        panic!("{addresses:?}")
    };
    let mut allowed = crate::harness::Peer::connect(may);
    allowed.send(b"through");
    assert_eq!(allowed.take(7), b"through");
    let mut denied = crate::harness::Peer::connect(not);
    denied.lost();
    let line = server.log.wait_for(&["--allow-connect", "guest=not"]);
    assert!(!line.contains("guest=may"), "{line}");
    drop(allowed);
    server.stop();
    peer.stop();
}

#[test]
fn one_service_that_traps_leaves_the_others_alone() {
    let (_scratch, file) = configured(&format!(
        "[services.bad]\ncomponent = {}\nhttp = \"127.0.0.1:0\"\n\
         [services.good]\ncomponent = {}\ntcp = \"127.0.0.1:0\"\n",
        component("probe"),
        component("echo")
    ));
    let server = Run::config(&file, 2).start();
    let mut before = server.connect();
    before.send(b"before");
    assert_eq!(before.take(6), b"before");
    for _ in 0..5 {
        server.connect_http().fetch("/trap");
    }
    before.send(b"after");
    assert_eq!(before.take(5), b"after");
    drop(before);
    server.serves_echo();
    server.stop();
}

#[test]
fn a_file_that_is_wrong_is_told_with_all_its_mistakes() {
    let (_scratch, file) = configured("component = \"echo\"\ntcp = 1\nworker = 2\nudp = true\n");
    let shown = file.display();
    let run = Run::command(&["run", "--config", text(&file)]).output();
    let mistakes = [
        format!("{shown}:3:1: there is no key 'worker': did you mean 'workers'?"),
        format!("{shown}:4:7: 'udp' is a string or a list of strings"),
    ];
    run.refused(2, &mistakes.each_ref().map(String::as_str));
    let check = Run::command(&["check", text(&file)]).output();
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(
        mistakes.iter().all(|it| check.stdout.contains(it)),
        "{check:?}"
    );
}

#[test]
fn check_reads_the_files_that_a_file_names() {
    let (scratch, file) = configured("");
    let check = || Run::command(&["check", text(&file)]).output();
    let bad = write(scratch.path(), "bad.wasm", "no component");
    fs::write(
        &file,
        format!(
            "[services.a]\ncomponent = \"echo\"\ntls = 1\ncert = {:?}\nkey = \"/nonexistent/k\"\n\
             [services.b]\ncomponent = {:?}\ntcp = 2\ndir = \"/nonexistent/d::/\"\n\
             [services.c]\ncomponent = \"router\"\ntcp = 3\n",
            text(&cert("cert.pem")),
            text(&bad)
        ),
    )
    .expect("a file");
    let found = check();
    assert_eq!(found.code, Some(1), "{found:?}");
    let shown = file.display();
    for line in [
        format!("{shown}:4:1: "),
        format!("{shown}:7:1: {}", bad.display()),
        format!("{shown}:9:1: "),
        format!("{shown}:11:1: router: "),
    ] {
        let has = found.stdout.lines().any(|it| it.starts_with(&line));
        assert!(has, "no {line} in {found:#?}");
    }
    assert_eq!(found.stdout.lines().count(), 4, "{found:#?}");
    fs::write(&file, "component = \"echo\"\ntcp = 1\n").expect("a file");
    let found = check();
    assert_eq!(found.code, Some(0), "{found:?}");
    assert!(
        found.stdout.ends_with(": 1 service, and nothing wrong\n"),
        "{found:?}"
    );
}

#[test]
fn what_a_command_line_means_runs_as_a_file() {
    let printed = Run::guest("echo")
        .args([
            "--tcp",
            "127.0.0.1:0",
            "--max-body",
            "2MiB",
            "--print-config",
        ])
        .output();
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let (_scratch, file) = configured(&printed.stdout);
    let server = Run::config(&file, 1).start();
    server.serves_echo();
    server.stop();
    let schema = Run::command(&["check", "--schema"]).output();
    let schema: serde_json::Value = serde_json::from_str(&schema.stdout).expect("it is JSON");
    assert!(
        schema
            .pointer("/$defs/service/properties/max-body")
            .is_some()
    );
}

/// Sends a GET for a host.
fn fetch_of(server: &crate::harness::Server, host: &str, target: &str) -> crate::harness::Response {
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
        let mut peer = crate::harness::Client::of("localhost").connect(server.address("https"));
        peer.exchange(format!("GET /about HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    };
    ask("localhost").is(200, "<h1>About</h1>");
    assert_eq!(ask("other.example").status, 421);
    server.stop();
}

/// Returns a port that was free a moment ago. Services that share a listener
/// must name one port.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

#[test]
fn reloads_replace_a_service_on_the_listener_of_another() {
    let port = free_port();
    let scratch = directory();
    let place = scratch.path().join("site.wasm");
    let install = |name: &str| {
        let beside = scratch.path().join("beside");
        fs::copy(guest(name), &beside).expect("a copy");
        fs::rename(&beside, &place).expect("it is replaced");
    };
    install("hello");
    let file = write(
        scratch.path(),
        "netwasm.toml",
        format!(
            "[services.site]\ncomponent = {router}\nhttp = \"127.0.0.1:{port}\"\n\
             [services.other]\ncomponent = {place:?}\nhttp = \"127.0.0.1:{port}\"\n\
             route = \"/about\"\n",
            router = component("router"),
            place = text(&place)
        ),
    );
    let server = Run::config(&file, 1).start();
    let mut before = server.connect_http();
    assert!(before.fetch("/about").text().contains("Hello"));
    install("router");
    server.signal(rustix::process::Signal::HUP);
    server.log.wait_for(&["SIGHUP: reloaded"]);
    // For a moment, the old generation may still accept one.
    eventually("the new component", || {
        let response = server.connect_http().fetch("/about");
        (response.text() == "<h1>About</h1>").then_some(())
    });
    // The old connection has one more answer, of the old component.
    let last = before.fetch("/about");
    assert!(last.text().contains("Hello") && last.closes(), "{last:?}");
    before.ends();
    server.stop();
}
