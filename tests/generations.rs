//! The life of a service's generations: what they share, how they end, and what
//! happens if a reload cannot go on.

mod listeners;
mod programs;
mod under_load;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Client, Configured, Installed, Peer, Server, cert, eventually, guest, install, install_as,
    refused, reload, reload_or_not, replaced, text, threads, unix_address,
};

/// Writes a configuration of an echo.
fn echo_at(place: &Path, more: &str) -> String {
    let place = text(place);
    format!("[services.lines]\ncomponent = {place:?}\ntcp = \"127.0.0.1:0\"\n{more}")
}

/// Checks that a connection echoes.
fn echoes(peer: &mut Peer<impl std::io::Read + std::io::Write>) {
    peer.send(b"line\n");
    assert_eq!(peer.take(5), b"line\n");
}

/// Returns the numbers of the threads that serve, by their names.
fn workers(server: &Server) -> BTreeMap<String, u32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("threads");
    let each = tasks.flatten().filter_map(|task| {
        // It may have ended.
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let number = task.file_name().to_str()?.parse().ok()?;
        name.starts_with("worker-")
            .then(|| (name.trim().to_owned(), number))
    });
    each.collect()
}

/// Makes a guest compute for as long as an event may, and returns the name of
/// the thread that it keeps.
fn busy_thread(server: &Server) -> (Peer<std::net::TcpStream>, String) {
    let mut peer = server.connect();
    assert_eq!(peer.ask("size"), "0");
    peer.say("spin");
    let name = eventually("a busy thread", || {
        let ticks = |number: u32| -> Option<u64> {
            let path = format!("/proc/{}/task/{number}/stat", server.pid());
            let stat = fs::read_to_string(path).ok()?;
            stat.rsplit(") ").next()?.split(' ').nth(11)?.parse().ok()
        };
        let before: Vec<_> = workers(server)
            .into_iter()
            .map(|(name, number)| (name, number, ticks(number)))
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        let mut busy = before
            .into_iter()
            .filter(|(_, number, then)| ticks(*number) > then.map(|then| then + 3));
        busy.next().map(|(name, _, _)| name)
    });
    (peer, name)
}

#[test]
fn generations_of_shared_instances_leave_nothing_behind() {
    for (name, http) in [
        ("service-probe", true),
        ("stream-echo", false),
        ("probe", true),
    ] {
        let it = Installed::new(name, "it.wasm");
        let run = it.run().args(["--isolation", "worker", "--workers", "2"]);
        let server = if http { run.http() } else { run.tcp() }.start();
        let use_it = || {
            // On both workers, most likely.
            for _ in 0..8 {
                if http {
                    assert_eq!(server.connect_http().fetch("/count").status, 200);
                } else {
                    echoes(&mut server.connect());
                }
            }
        };
        let round = |variant: u8| {
            replaced(&it.renew(&server, variant % 2), "it");
            use_it();
        };
        use_it();
        for variant in 1..=10 {
            round(variant);
        }
        let (descriptors, threads_before) = (server.settled_descriptors(), threads(&server));
        let memory = server.resident();
        for variant in 11..=60 {
            round(variant);
        }
        server.wait_for_descriptors(descriptors);
        eventually("no more threads", || {
            (threads(&server) <= threads_before).then_some(())
        });
        eventually("the memory of the generations", || {
            (server.resident() < memory + (8 << 20)).then_some(())
        });
        assert_eq!(server.log.count("panicked"), 0);
        server.stop();
    }
}

#[test]
fn a_guest_of_an_ended_generation_does_not_hold_its_thread() {
    let it = Installed::new("probe", "it.wasm");
    // It may compute for longer than anybody waits for its generation.
    let limits = ["--event-timeout", "14s", "--shutdown-timeout", "2s"];
    let server = it.run().args(["--workers", "1"]).args(limits).tcp().start();
    let mut spins = server.connect();
    // It is accepted after that one.
    let mut before = server.connect();
    assert_eq!(before.ask("size"), "0");
    it.renew(&server, 1);
    spins.say("spin");
    server.log.wait_for(&["a worker does not end"]);
    let mut after = server.connect();
    after.is_patient();
    assert_eq!(after.ask("size"), "0");
    drop((before, spins, after));
    server.stop();
}

#[test]
fn what_lacks_descriptors_at_any_step_changes_nothing() {
    let settings = Configured::new();
    let (site, lines) = (settings.at("site.wasm"), settings.at("lines.wasm"));
    install("router", &site);
    install("echo", &lines);
    let content = format!(
        // A slow machine may keep a guest from running for long.
        "workers = 2\nevent-timeout = \"30s\"\n\
         [services.site]\ncomponent = {:?}\nhttp = \"127.0.0.1:0\"\n{}",
        text(&site),
        echo_at(&lines, "")
    );
    let server = settings.start(content, 2);
    let mut kept = server.connect();
    echoes(&mut kept);
    let mut outcomes = [0, 0];
    for more in 0..40 {
        let variant = u8::from(outcomes[1] % 2 == 0);
        install_as("router", &site, variant);
        install_as("echo", &lines, variant);
        server.leave_descriptors(more);
        let done = reload_or_not(&server);
        outcomes[usize::from(done)] += 1;
        server.give_descriptors_back();
        server.serves_echo();
        server
            .connect_http()
            .fetch("/about")
            .is(200, "<h1>About</h1>");
        if !done {
            // It goes on with the generation that it has.
            echoes(&mut kept);
        }
        if outcomes[1] > 1 {
            break;
        }
    }
    assert!(outcomes[0] > 2, "{outcomes:?}");
    assert_eq!(outcomes[1], 2, "{outcomes:?}");
    assert_eq!(server.log.count("panicked"), 0);
    drop(kept);
    server.stop();
}

#[test]
fn certificates_are_renewed_even_if_the_component_is_gone() {
    let it = Installed::new("echo", "lines.wasm");
    let at = |name: &str| it.at(name);
    let use_certificate = |chain: &str, key: &str| {
        fs::copy(cert(chain), at("cert.pem")).expect("a copy");
        fs::copy(cert(key), at("key.pem")).expect("a copy");
    };
    use_certificate("cert.pem", "key.pem");
    let server = it
        .run()
        .listen("--tls", "127.0.0.1:0")
        .args([
            "--cert",
            text(&at("cert.pem")),
            "--key",
            text(&at("key.pem")),
        ])
        .start();
    let tls = server.address("tls");
    let works = |name: &'static str| Client::of(name).try_connect(tls).is_ok();
    assert!(works("localhost") && !works("other.example"));
    for broken in [None, Some(&b"half of"[..])] {
        match broken {
            None => fs::remove_file(at("lines.wasm")).expect("it is removed"),
            Some(bytes) => fs::write(at("lines.wasm"), bytes).expect("a file"),
        }
        let (chain, key, good, bad) = match broken {
            None => ("other.pem", "other.key", "other.example", "localhost"),
            Some(_) => ("cert.pem", "key.pem", "localhost", "other.example"),
        };
        use_certificate(chain, key);
        refused(
            &server,
            &["lines.wasm", "certificates are renewed nevertheless"],
        );
        assert!(works(good) && !works(bad), "{broken:?}");
    }
    // In the middle of a swap, neither fits the other.
    fs::copy(cert("other.pem"), at("cert.pem")).expect("a copy");
    refused(&server, &["the old certificates and authorities stay"]);
    assert!(works("localhost"));
    install("echo", &at("lines.wasm"));
    refused(&server, &["the old certificates and authorities stay"]);
    use_certificate("cert.pem", "key.pem");
    replaced(&reload(&server), "");
    server.stop();
}

#[test]
fn another_time_or_another_service_replaces_none_that_stays() {
    let settings = Configured::new();
    let place = settings.at("lines.wasm");
    install("echo", &place);
    let server = settings.start(echo_at(&place, ""), 1);
    // Those bytes in another file.
    install("echo", &place);
    replaced(&reload(&server), "");
    let touched = fs::File::options()
        .append(true)
        .open(&place)
        .expect("a file");
    touched
        .set_modified(std::time::SystemTime::now() + Duration::from_secs(5))
        .expect("another time");
    replaced(&reload(&server), "");
    let more = "[services.more]\ncomponent = \"hello\"\nhttp = \"127.0.0.1:0\"\n";
    let line = settings.reload(&server, echo_at(&place, more));
    assert!(line.contains("replaced=\"\" added=\"more\""), "{line}");
    let line = settings.reload(&server, echo_at(&place, ""));
    assert!(line.contains("replaced=\"\" removed=\"more\""), "{line}");
    install_as("echo", &place, 1);
    replaced(&reload(&server), "lines");
    server.stop();
}

#[test]
fn settings_that_only_a_restart_changes_are_told() {
    let settings = Configured::new();
    let server = settings.start(echo_at(&guest("echo"), ""), 1);
    let admin = unix_address(&settings.at("admin"));
    let process = format!(
        "workers = 7\nadmin = {admin:?}\nlog-format = \"json\"\nlog-rate = 5\nverbose = 1\n"
    );
    let line = settings.reload(&server, process + &echo_at(&guest("echo"), ""));
    replaced(&line, "");
    for what in [
        "--workers, 7",
        "--admin",
        "--log-format",
        "--log-rate",
        "--verbose",
    ] {
        server
            .log
            .wait_for(&["needs a restart: the present one stays", what]);
    }
    server.serves_echo();
    server.stop();
}

#[test]
fn a_reload_during_the_drain_says_what_it_does() {
    let it = Installed::new("echo", "lines.wasm");
    let mut server = it.run().tcp().start();
    let mut open = server.connect();
    echoes(&mut open);
    server.signal(Signal::TERM);
    server.log.wait_for(&["draining: no new connections"]);
    server.signal(Signal::HUP);
    server
        .log
        .wait_for(&["SIGHUP: the run is ending, so nothing is reloaded"]);
    assert_eq!(server.log.count("SIGUSR1"), 0);
    echoes(&mut open);
    drop(open);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn what_a_retired_generation_had_open_counts_if_the_end_aborts_it() {
    for aborts in [true, false] {
        let it = Installed::new("echo", "lines.wasm");
        let limit = if aborts { "60s" } else { "100ms" };
        let mut server = it.run().args(["--shutdown-timeout", limit]).tcp().start();
        let mut old = server.connect();
        echoes(&mut old);
        it.renew(&server, 1);
        if aborts {
            server.signal(Signal::TERM);
            server.log.wait_for(&["draining: no new connections"]);
            echoes(&mut old);
            // A second one is one that comes at least a second later.
            let since = Instant::now();
            eventually("the abort", || {
                if since.elapsed() > Duration::from_secs(1) {
                    server.signal(Signal::TERM);
                }
                let aborts = server.log.count("aborting what is left");
                (aborts > 0).then_some(())
            });
            assert_eq!(server.wait().code(), Some(1));
        } else {
            // The reload's own limit is no failure of the run.
            server
                .log
                .wait_for(&["the generation that was replaced has ended", "aborted=1"]);
            server.signal(Signal::TERM);
            assert_eq!(server.wait().code(), Some(0));
        }
    }
}
