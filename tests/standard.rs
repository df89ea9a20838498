//! Standard interfaces beyond WASI 0.2 and 0.3: `wasi:logging`, `wasi:config`,
//! `wasi:keyvalue`.

use std::fs;
use std::thread;

use rustix::process::Signal;

use crate::harness::{
    Configured, DEADLINE, Redis, Run, START, Server, TlsServer, cert, directory, eventually, guest,
    text, within,
};

/// Makes a run of the probe as a handler of HTTP requests, on two workers.
fn probe() -> Run {
    Run::guest("std-probe").http().args(["--workers", "2"])
}

/// Makes such a run with a bucket.
pub(crate) fn with_bucket(bucket: &str) -> Run {
    probe().args(["--keyvalue", bucket])
}

/// Sends words on a new connection, and returns what the probe says.
pub(crate) fn ask(server: &Server, words: &str) -> String {
    let target = format!("/{}", words.replace(' ', "/"));
    let response = server.connect_http().fetch(&target);
    assert_eq!(response.status, 200, "{words}: {response:?}");
    response.text().to_owned()
}

#[track_caller]
pub(crate) fn says(server: &Server, words: &str, answer: &str) {
    assert_eq!(ask(server, words), answer, "{words}");
}

/// Sends words, and checks that the answer has all of these.
#[track_caller]
fn tells(server: &Server, words: &str, needles: &[&str]) {
    let answer = ask(server, words);
    for needle in needles {
        assert!(answer.contains(needle), "{words}: {answer}");
    }
}

#[test]
fn lines_of_wasi_logging_have_their_level_and_context() {
    let server = probe().args(["-v", "--log-format", "json"]).start();
    says(&server, "log warn billing hello", "logged");
    let line = server.log.wait_for(&["hello"]);
    for part in ["\"WARN\"", "\"billing\"", "std-probe"] {
        assert!(line.contains(part), "{line}");
    }
    says(&server, "log debug c d", "logged");
    let line = server.log.wait_for(&["\"d\""]);
    assert!(line.contains("DEBUG"), "{line}");
    server.stop();
}

#[test]
fn configuration_is_what_is_given_and_nothing_else() {
    let server = probe()
        .args(["--config-var", "COLOUR=blue", "--config-var", "SIZE="])
        .start();
    says(&server, "config COLOUR", "Some(\"blue\") Some(\"blue\")");
    says(&server, "config SIZE", "Some(\"\") Some(\"\")");
    says(&server, "config HOME", "None None");
    let all = "[(\"COLOUR\", \"blue\"), (\"SIZE\", \"\")]";
    assert_eq!(ask(&server, "config"), format!("{all} {all}"));
    server.stop();
}

#[test]
fn configuration_of_a_file_may_have_secrets_in_others() {
    let configured = Configured::new();
    fs::write(configured.at("secret"), "s3cret\n").expect("a file");
    let config = |colour: &str| {
        format!(
            "component = {:?}\nhttp = \"127.0.0.1:0\"\n\
             config-var = {{ COLOUR = \"{colour}\", TOKEN = {{ file = {:?} }} }}\n\
             keyvalue = {{ a = \"memory:\" }}\n",
            text(&guest("std-probe")),
            text(&configured.at("secret")),
        )
    };
    let server = configured.start(config("blue"), 1);
    says(&server, "config TOKEN", "Some(\"s3cret\") Some(\"s3cret\")");
    says(&server, "draft a set k v", "set");
    configured.reload(&server, config("red"));
    says(&server, "config COLOUR", "Some(\"red\") Some(\"red\")");
    // Buckets in memory outlive the generation.
    says(&server, "draft a get k", "v");
    server.stop();
}

#[test]
fn a_bucket_is_a_permission() {
    let server = with_bucket("default=memory:").start();
    tells(&server, "draft other get k", &["open", "AccessDenied"]);
    server.log.wait_for(&["other", "--keyvalue other=memory:"]);
    tells(&server, "draft2 other get k", &["AccessDenied"]);
    // Without a name, it is the default one.
    says(&server, "draft2 default set k v", "set");
    says(&server, "draft  get k", "v");
    server.stop();
    let file = guest("std-probe");
    let finished = Run::command(&["inspect", text(&file)]).output();
    for flag in ["--keyvalue NAME=memory:", "--config-var NAME=VALUE"] {
        assert!(finished.stdout.contains(flag), "{finished:#?}");
    }
}

#[test]
fn what_was_made_with_the_sdk_of_spin_runs_as_it_is() {
    let scratch = directory();
    let file = format!("f=file:{}", text(&scratch.path().join("state.redb")));
    let server = with_bucket("default=memory:")
        .args(["--keyvalue", &file, "--config-var", "colour=blue"])
        .start();
    says(&server, "variable colour", "blue");
    tells(&server, "variable size", &["Undefined", "--config-var"]);
    for name in ["default", "f"] {
        for (words, answer) in [
            ("get k", "none"),
            ("set k v", "set"),
            ("get k", "v"),
            ("exists k", "true"),
            ("set l w", "set"),
            ("keys", "k l"),
            ("delete k", "deleted"),
            ("keys", "l"),
        ] {
            says(&server, &format!("spin {name} {words}"), answer);
        }
        // It is the bucket of wasi:keyvalue.
        says(&server, &format!("draft {name} get l"), "w");
    }
    tells(&server, "spin other get k", &["open", "AccessDenied"]);
    server.log.wait_for(&["--keyvalue other=memory:"]);
    server.stop();
}

/// Checks all functions of an empty bucket that is called `a`.
fn check_bucket(server: &Server) {
    for (words, answer) in [
        ("draft a get k", "none"),
        ("draft a exists k", "false"),
        ("draft a set k one", "set"),
        ("draft2 a get k", "one"),
        ("draft a exists k", "true"),
        ("draft a set k ", "set"),
        ("draft a get k", ""),
        ("draft2 a exists k", "true"),
        ("draft2 a delete k", "deleted"),
        ("draft2 a delete k", "deleted"),
        ("draft a exists k", "false"),
        ("draft a increment n 5", "5"),
        ("draft2 a increment n -7", "-2"),
        ("draft2 a get n", "-2"),
        ("draft2 a set n 9", "set"),
        ("draft a increment n 1", "10"),
        ("draft a set-many x=1 y=2 z=3", "set"),
        ("draft a get-many z nothing x", "z=3 none x=1"),
        ("draft2 a get-many z nothing", "z=3 nothing=none"),
        ("draft a get-many", ""),
        ("draft a keys", "n x y z"),
        ("draft2 a keys", "n x y z"),
        ("draft a delete-many x y nothing", "deleted"),
        ("draft a keys", "n z"),
        ("draft2 a swap z 4", "swapped 3"),
        ("draft2 a swap new 1", "swapped none"),
        ("draft2 a swap-late z 5 6", "failed at 5, then true"),
        ("draft2 a get z", "6"),
        ("draft2 a swap-late z - 7", "failed at none, then true"),
        ("draft2 a get z", "7"),
        ("draft a set-sized big 300000", "set"),
        ("draft a get big", "300000 bytes"),
    ] {
        says(server, words, answer);
    }
}

/// Lets clients on four threads count in a bucket that is called `a`: none of
/// their steps is lost.
fn check_counting(server: &Server, steps: usize) {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| ask(server, &format!("draft a count c {steps}")));
            scope.spawn(|| ask(server, &format!("draft2 a count d {steps}")));
        }
    });
    let sum = (4 * steps).to_string();
    says(server, "draft a get c", &sum);
    says(server, "draft a get d", &sum);
}

#[test]
fn a_bucket_in_memory_is_shared_by_workers_and_bounded() {
    let server = with_bucket("a=memory:")
        .args(["--max-keyvalue", "400KiB", "--max-request-line", "16KiB"])
        .start();
    check_bucket(&server);
    check_counting(&server, 100);
    tells(
        &server,
        "draft a set-sized more 200000",
        &["--max-keyvalue"],
    );
    server.log.wait_for(&["--max-keyvalue"]);
    says(&server, "draft a exists more", "false");
    says(&server, "draft a delete big", "deleted");
    says(&server, "draft a set-sized more 200000", "set");
    let long = "k".repeat(9000);
    tells(&server, &format!("draft a get {long}"), &["8 KiB"]);
    server.stop();
}

#[test]
fn a_bucket_in_a_file_is_shared_by_processes_and_outlives_them() {
    let scratch = directory();
    let file = scratch.path().join("state.redb");
    let bucket = format!("a=file:{}", text(&file));
    let server = with_bucket(&bucket).start();
    check_bucket(&server);
    check_counting(&server, 10);
    // As while one takes over from the other.
    let other = with_bucket(&bucket).start();
    says(&other, "draft a get z", "7");
    says(&other, "draft a set z 8", "set");
    says(&server, "draft a get z", "8");
    says(&server, "draft a increment z 1", "9");
    says(&other, "draft a get z", "9");
    server.stop();
    says(&other, "draft a increment z 1", "10");
    other.stop();
    let server = with_bucket(&bucket).start();
    says(&server, "draft a get z", "10");
    says(&server, "draft a get big", "300000 bytes");
    server.stop();
}

#[test]
fn a_file_that_is_no_store_is_refused_by_name() {
    let scratch = directory();
    let file = scratch.path().join("state.redb");
    fs::write(&file, "what is no store, but a text of somebody else").expect("a file");
    let bucket = format!("a=file:{}", text(&file));
    let finished = with_bucket(&bucket).output();
    finished.refused(1, &["the bucket a of --keyvalue", text(&file)]);
    let kept = fs::read_to_string(&file).expect("it is there");
    assert!(kept.starts_with("what is no store"), "{kept}");
}

/// Runs words as a program.
fn program(bucket: &str, words: &[&str]) -> Run {
    let run = Run::guest("std-probe").args(["--keyvalue", bucket]);
    run.guest_args(words)
}

#[test]
fn nothing_that_a_file_acknowledged_is_lost_when_the_process_is_killed() {
    let scratch = directory();
    let bucket = format!("a=file:{}", text(&scratch.path().join("state.redb")));
    let mut next = 0_usize;
    for round in 1..=4 {
        let from = next.to_string();
        let mut writer = program(&bucket, &["draft", "a", "fill", &from]).start_command();
        // It is somewhere within its writes then, another place each time.
        let enough = 13 * round;
        let told = |lines: &[String]| (lines.len() >= enough).then_some(());
        writer.stdout.wait(START, "its writes", told);
        writer.signal(Signal::KILL);
        eventually("its end", || writer.has_ended().then_some(()));
        let told = writer.stdout.text();
        // A line that was cut off by the end is another number.
        let whole = told.lines().zip(next..);
        let whole = whole.take_while(|(line, number)| *line == number.to_string());
        let whole = whole.count();
        next += whole;
        assert!(whole >= enough, "{told}");
        let limit = next.to_string();
        let finished = program(&bucket, &["draft", "a", "gap", &limit]).output();
        assert_eq!(finished.stdout, "none is missing\n", "{finished:#?}");
    }
}

#[test]
fn handlers_of_events_have_buckets_that_need_no_network() {
    let scratch = directory();
    let file = format!("f=file:{}", text(&scratch.path().join("state.redb")));
    let server = Run::guest("std-events")
        .tcp()
        .args(["--keyvalue", "a=memory:", "--keyvalue", &file])
        .args(["--keyvalue", "r=redis://127.0.0.1:1", "--config-var", "A=b"])
        // The disk of a test machine may be slow.
        .args(["--event-timeout", "30s"])
        .start();
    let mut peer = server.connect();
    for name in ["a", "f"] {
        for (words, answer) in [
            ("get k", "none"),
            ("set k v", "set"),
            ("get k", "v"),
            ("increment n 3", "3"),
            ("keys", "k n"),
        ] {
            let words = format!("draft {name} {words}");
            assert_eq!(peer.ask(&words), answer, "{words}");
        }
        let words = format!("draft2 {name} swap k w");
        assert_eq!(peer.ask(&words), "swapped v");
    }
    let answer = peer.ask("draft r get k");
    assert!(answer.contains("cannot wait for a server"), "{answer}");
    assert!(peer.ask("draft x get k").contains("AccessDenied"));
    assert_eq!(peer.ask("config A"), "Some(\"b\") Some(\"b\")");
    assert_eq!(peer.ask("log info c hello"), "logged");
    server.log.wait_for(&["hello"]);
    drop(peer);
    server.stop();
}

#[test]
fn a_bucket_on_a_redis_server_is_shared_by_machines() {
    let scratch = directory();
    let Some(redis) = Redis::start(scratch.path()) else {
        return;
    };
    let server = with_bucket(&redis.bucket("a", "3"))
        .args(["--keyvalue", &redis.bucket("b", "0?prefix=b[1]:")])
        .start();
    check_bucket(&server);
    check_counting(&server, 50);
    // A sum that is out of range leaves the counter as it was.
    says(&server, "draft2 a set n -5", "set");
    tells(&server, "draft a increment n 2", &["range of its type"]);
    says(&server, "draft2 a get n", "-5");
    says(&server, "draft a increment n 7", "2");
    // Another process, as on another machine.
    let other = with_bucket(&redis.bucket("x", "3"))
        .args(["--keyvalue", &redis.bucket("y", "0")])
        .start();
    says(&other, "draft x get z", "7");
    // Of one database, a bucket with a prefix has its own keys alone.
    says(&server, "draft b set k v", "set");
    says(&other, "draft y set other v", "set");
    says(&server, "draft2 b keys", "k");
    says(&other, "draft2 y keys", "b[1]:k other");
    // A value that is no text is an error by name, and no end of the connection.
    tells(&server, "draft a increment big 1", &["redis://127.0.0.1"]);
    says(&server, "draft a get z", "7");
    server.stop();
    other.stop();
}

#[test]
fn a_redis_server_that_is_away_is_told_by_name_and_found_again() {
    let scratch = directory();
    let Some(mut redis) = Redis::start(scratch.path()) else {
        return;
    };
    let port = redis.port;
    let server = with_bucket(&redis.bucket("a", "0")).start();
    says(&server, "draft a set k v", "set");
    redis.child.kill().expect("it is there");
    redis.child.wait().expect("it ends");
    let name = format!("redis://127.0.0.1:{port}/0");
    tells(&server, "draft a get k", &["Other", &name]);
    let log = server.log.wait_for(&[&name, "--keyvalue"]);
    assert!(!log.contains("s3cret"), "{log}");
    let Some(redis) = Redis::again(scratch.path(), port) else {
        // Somebody else has the port now.
        return;
    };
    within(DEADLINE, "the server is found again", || {
        (ask(&server, "draft a get k") == "none").then_some(())
    });
    drop(redis);
    server.stop();
}

#[test]
fn a_wrong_password_is_told_without_it() {
    let scratch = directory();
    let Some(redis) = Redis::start(scratch.path()) else {
        return;
    };
    let bucket = redis.bucket("a", "0").replace("s3cret", "wr0ng");
    let server = with_bucket(&bucket).start();
    let answer = ask(&server, "draft a get k");
    assert!(answer.contains("authentication failed"), "{answer}");
    assert!(!answer.contains("wr0ng"), "{answer}");
    server.stop();
    let printed = Run::command(&["run", "--print-config", text(&guest("std-probe"))])
        .args(["--http", "1", "--keyvalue", &bucket])
        .output();
    assert!(printed.stdout.contains("keyvalue"), "{printed:#?}");
    assert!(!printed.stdout.contains("wr0ng"), "{printed:#?}");
}

#[test]
fn tls_over_a_guests_own_socket_trusts_and_resumes_as_the_hosts_own() {
    use rustls::HandshakeKind::{Full, Resumed};
    let tls = TlsServer::new("cert.pem", "key.pem", &[]);
    let to = tls.address.to_string();
    let server = Run::guest("std-probe")
        .http()
        .args(["--workers", "1", "--allow-connect", &to])
        .args(["--ca", text(&cert("ca.pem"))])
        .start();
    let words = format!("tls {to} localhost hello");
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let answer = thread::scope(|scope| {
            let asked = scope.spawn(|| ask(&server, &words));
            let mut accepted = tls.accept().expect("a session");
            assert_eq!(accepted.take(5), b"hello");
            kinds.extend(accepted.get().conn.handshake_kind());
            accepted.send(b"welcome");
            let stream = accepted.get();
            stream.conn.send_close_notify();
            stream.conn.write_tls(&mut stream.sock).expect("its end");
            asked.join().expect("an answer")
        });
        assert_eq!(answer, "welcome");
    }
    assert_eq!(kinds, [Full, Resumed]);
    let words = format!("tls {to} other.example hello");
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&server, &words));
        assert!(tls.accept().is_err(), "another name");
        asked.join().expect("an answer")
    });
    assert!(answer.starts_with("tls: "), "{answer}");
    // Its sockets decide whom it may reach.
    let answer = ask(&server, "tls 127.0.0.1:1 localhost hello");
    assert!(answer.contains("access-denied"), "{answer}");
    server.log.wait_for(&["--allow-connect 127.0.0.1:1"]);
    server.stop();
}

#[test]
fn tls_of_wasi_0_3_is_the_hosts_own_too() {
    let tls = TlsServer::new("cert.pem", "key.pem", &[]);
    let to = tls.address.to_string();
    let asked = |name: &str| {
        Run::guest("tls-probe")
            .args(["--allow-connect", &to, "--ca", text(&cert("ca.pem"))])
            .guest_args(&[&to, name, "hello"])
    };
    let finished = thread::scope(|scope| {
        let asked = scope.spawn(|| asked("localhost").output());
        let mut accepted = tls.accept().expect("a session");
        assert_eq!(accepted.take(5), b"hello");
        accepted.send(b"welcome");
        let stream = accepted.get();
        stream.conn.send_close_notify();
        stream.conn.write_tls(&mut stream.sock).expect("its end");
        asked.join().expect("an end")
    });
    assert_eq!(finished.stdout, "welcome\n", "{finished:#?}");
    let finished = thread::scope(|scope| {
        let asked = scope.spawn(|| asked("other.example").output());
        assert!(tls.accept().is_err(), "another name");
        asked.join().expect("an end")
    });
    assert!(finished.stdout.starts_with("tls: "), "{finished:#?}");
}
