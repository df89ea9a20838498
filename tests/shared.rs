//! State that the instances of a service share: token buckets and values.

use std::fs;

use crate::harness::{
    Run, Server, TcpPeer, administered, directory, eventually, guest, install_as, message, reload,
    scrape,
};

/// Starts two workers. Each connection has an instance of its own.
fn probe() -> Run {
    Run::guest("probe").tcp().args(["--workers", "2"])
}

/// Sends a command on a new connection, to a new instance.
fn ask(server: &Server, command: &str) -> String {
    server.connect().ask(&format!("shared {command}"))
}

#[track_caller]
fn answers(peer: &mut TcpPeer, command: &str, answer: &str) {
    assert_eq!(peer.ask(&format!("shared {command}")), answer, "{command}");
}

#[test]
fn instances_of_all_workers_take_from_one_bucket() {
    let server = probe().start();
    let mut taken = 0;
    for _ in 0..12 {
        let answer = ask(&server, "take a 0.001 4 1");
        taken += usize::from(answer.starts_with("taken"));
    }
    assert_eq!(taken, 4);
    let answer = ask(&server, "take a 0.001 4 2");
    let wait = answer.strip_prefix("short 0 ");
    let wait: u64 = wait.and_then(|it| it.parse().ok()).expect("a time");
    assert!((1_900_000..=2_000_000).contains(&wait), "{answer}");
    assert_eq!(ask(&server, "take b 0.001 4 4"), "taken 0 4000000");
    // A fast one is soon there again.
    assert_eq!(ask(&server, "take c 100 1 1"), "taken 0 10");
    eventually("a token", || {
        ask(&server, "take c 100 1 1")
            .starts_with("taken")
            .then_some(())
    });
    server.stop();
}

#[test]
fn values_are_seen_and_swapped_by_all_instances() {
    let server = probe().start();
    let mut one = server.connect();
    let mut other = server.connect();
    answers(&mut one, "get a", "none");
    let first = one.ask("shared set a x");
    answers(&mut other, "get a", &format!("{first} x"));
    answers(&mut other, "swap a none y", "none");
    let second = other.ask(&format!("shared swap a {first} y 3600000"));
    assert_ne!(first, second);
    answers(&mut one, &format!("swap a {first} z"), "none");
    answers(&mut one, &format!("remove a {first}"), "false");
    answers(&mut one, "get a", &format!("{second} y"));
    answers(&mut one, "add a 1", "error: invalid-state");
    answers(&mut one, &format!("remove a {second}"), "true");
    answers(&mut other, "get a", "none");
    answers(&mut other, "remove a", "false");
    for sum in 1..=4 {
        assert_eq!(ask(&server, "add n 5"), (5 * sum).to_string());
    }
    answers(&mut one, "add n -21", "-1");
    drop((one, other));
    server.stop();
}

#[test]
fn values_expire_and_others_do_not() {
    let server = probe().start();
    let mut peer = server.connect();
    for value in [
        "brief x 10",
        "kept x 3600000",
        "ever x",
        "touched x 3600000",
        "longer x 60000",
    ] {
        let version = peer.ask(&format!("shared set {value}"));
        assert!(version.parse::<u64>().is_ok(), "{version}");
    }
    answers(&mut peer, "add count 1 10", "1");
    answers(&mut peer, "touch touched 10", "true");
    answers(&mut peer, "touch longer", "true");
    for key in ["brief", "touched", "count"] {
        eventually(key, || {
            (peer.ask(&format!("shared get {key}")) == "none").then_some(())
        });
    }
    answers(&mut peer, "touch brief 9", "false");
    answers(&mut peer, "add count 1 10", "1");
    for key in ["kept", "ever", "longer"] {
        assert!(peer.ask(&format!("shared get {key}")).ends_with(" x"));
    }
    drop(peer);
    server.stop();
}

#[test]
fn the_state_stays_over_a_reload() {
    let scratch = directory();
    let place = scratch.path().join("kept.wasm");
    fs::copy(guest("probe"), &place).expect("a copy");
    let (server, admin) = administered(Run::component(&place).tcp());
    let mut old = server.connect();
    let version = old.ask("shared set session Ann");
    answers(&mut old, "add visits 1", "1");
    assert_eq!(ask(&server, "take a 0.001 2 1"), "taken 1 0");
    install_as("probe", &place, 1);
    reload(&server);
    let mut new = server.connect();
    answers(&mut new, "get session", &format!("{version} Ann"));
    answers(&mut new, "add visits 1", "2");
    for result in ["taken 0 ", "short 0 "] {
        let answer = new.ask("shared take a 0.001 2 1");
        assert!(answer.starts_with(result), "{answer}");
    }
    let told = old.line();
    assert!(told.starts_with("shutting down"), "{told}");
    answers(&mut old, "add visits 1", "3");
    let entries = "netwasm_shared_entries{service=\"kept\",kind=\"value\"}";
    assert_eq!(scrape(admin)[entries], 2.0);
    drop((old, new));
    server.stop();
}

#[test]
fn a_service_has_no_more_than_its_room() {
    let (server, admin) = administered(probe().args(["--max-shared", "64KiB"]));
    let of = |name: &str, kind: &str| {
        let key = format!("netwasm_shared_{name}{{service=\"probe\",kind=\"{kind}\"}}");
        scrape(admin)[&key]
    };
    // Half of it is for values: each takes its data, its key, and 160 bytes.
    let mut peer = server.connect();
    answers(&mut peer, "fill v 100 1000", "28");
    let version = peer.ask("shared set w x");
    assert!(version.parse::<u64>().is_ok(), "{version}");
    let full = 28.0 * (1000.0 + 160.0 + 2.0) + 18.0 + 162.0;
    assert_eq!(of("bytes", "value"), full);
    answers(&mut peer, "fill w 100 1000", "0");
    answers(&mut peer, "length 1 70000", "error: invalid-argument");
    answers(&mut peer, "length 257 1", "error: invalid-argument");
    answers(&mut peer, "length 1 65536", "error: limit-exceeded");
    let version = peer.ask("shared set v0 less");
    assert!(version.parse::<u64>().is_ok(), "{version}");
    server
        .log
        .wait_for(&["fill their half of 65536 bytes", "--max-shared"]);
    assert_eq!(server.log.count("--max-shared"), 1, "it is said once");
    assert_eq!(of("lost_total", "value"), 3.0);

    // The other half is for buckets, of which there is always room for another.
    while peer.ask("shared take busy 0.001 20 1").starts_with("taken") {}
    answers(&mut peer, "flood b 600 0.001 20", "600");
    let busy = peer.ask("shared take busy 0.001 20 1");
    assert!(busy.starts_with("short"), "{busy}");
    assert!(of("bytes", "bucket") <= 32768.0);
    assert!(of("lost_total", "bucket") > 300.0);
    server
        .log
        .wait_for(&["those that are nearly full again are forgotten"]);
    // Values are as they were.
    assert_eq!(of("entries", "value"), 29.0);
    drop(peer);
    server.stop();
}

#[test]
fn rates_that_are_none_are_refused() {
    let server = probe().start();
    let mut peer = server.connect();
    for rate in ["0 1 1", "-1 1 1", "NaN 1 1", "inf 1 1", "1 0 0", "1 5 6"] {
        answers(
            &mut peer,
            &format!("take a {rate}"),
            "error: invalid-argument",
        );
    }
    answers(&mut peer, "take a 1 5 0", "taken 5 0");
    drop(peer);
    server.stop();
}

#[test]
fn async_guests_share_too() {
    let server = Run::guest("stream-probe").tcp().start();
    for (taken, sum) in [(true, 1), (true, 2), (false, 3)] {
        let answer = server.connect().ask("shared");
        assert_eq!(answer, format!("{taken} {sum} true y true true"));
    }
    server.stop();
}

#[test]
fn handlers_in_rust_share_by_the_library() {
    let server = Run::guest("library-probe").tcp().start();
    assert_eq!(server.connect().ask("shared a"), "1 a true");
    assert_eq!(server.connect().ask("shared b"), "2 ab true");
    server.stop();
}

#[test]
fn the_gateway_tells_a_client_that_sends_too_much_when_to_come_again() {
    let run = Run::guest("gateway")
        .http()
        .args(["--upstream", "site=127.0.0.1:1"]);
    let run = run.args(["--workers", "2"]);
    let server = run.guest_args(&["/=site,token,rate:6/m:3", "/free=site,token"]);
    let server = server.args(["--env", "TOKEN=secret"]).start();
    let get = |target: &str| {
        let request = message("GET", target, &["Connection: close"]);
        server.connect_http().exchange(request)
    };
    for _ in 0..3 {
        assert_eq!(get("/").status, 401);
    }
    let answer = get("/");
    assert_eq!(answer.status, 429);
    let after = answer.header("retry-after").and_then(|it| it.parse().ok());
    // One token comes within ten seconds, of which some may have passed.
    assert!(
        after.is_some_and(|it: u64| (1..=10).contains(&it)),
        "{answer:?}"
    );
    assert_eq!(get("/free").status, 401);
    server.stop();
}
