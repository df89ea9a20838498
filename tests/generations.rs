//! The life of a service's generations: what they share, how they end, and what
//! happens if a reload cannot go on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Client, Clients, Configured, Installed, Peer, Run, Server, Strace, cert, eventually, free_port,
    guest, install, install_as, refused, reload, reload_or_not, replaced, text, threads,
    unix_address, until_closed,
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
    let limits = ["--event-timeout", "14s", "--shutdown-timeout", "500ms"];
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
fn the_backlog_of_a_removed_listener_is_accepted_first() {
    let settings = Configured::new();
    let socket = settings.at("lines.sock");
    let content = |more: &str| {
        let component = guest("echo");
        format!(
            "workers = 2\n[services.lines]\ncomponent = {:?}\nmax-connections = 1\n\
             tcp = [\"127.0.0.1:0\"{more}]\n",
            text(&component)
        )
    };
    let unix = unix_address(&socket);
    let all = content(&format!(", \"127.0.0.2:0\", {unix:?}"));
    let server = settings.start(all, 3);
    let removed = server
        .listening
        .iter()
        .find_map(|url| url.strip_prefix("tcp://127.0.0.2"));
    let removed = format!("127.0.0.2{}", removed.expect("a listener"));
    let removed = removed.parse().expect("an address");
    let mut first = server.connect();
    echoes(&mut first);
    // There is no place for them: they wait in the backlogs.
    let mut waiting: Vec<_> = (0..10).map(|_| Peer::connect(removed)).collect();
    let mut local: Vec<_> = (0..10).map(|_| Peer::connect_unix(&socket)).collect();
    server.log.wait_for(&["--max-connections is reached"]);
    settings.reload(&server, content(""));
    server.log.wait_for(&["no longer listening", "127.0.0.2"]);
    server.log.wait_for(&["no longer listening", "lines.sock"]);
    assert!(!socket.exists());
    echoes(&mut first);
    first.finish_and_wait();
    // One after the other, in whichever order.
    std::thread::scope(|scope| {
        for peer in waiting.drain(..) {
            scope.spawn(move || served(peer));
        }
        for peer in local.drain(..) {
            scope.spawn(move || served(peer));
        }
    });
    until_closed(removed);
    server.serves_echo();
    server.stop();
}

/// Checks that a connection is served, and ends it.
fn served(mut peer: Peer<impl std::io::Read + std::io::Write>) {
    echoes(&mut peer);
}

#[test]
fn generations_share_the_places_of_their_service() {
    let it = Installed::new("echo", "lines.wasm");
    let server = it.run().args(["--max-connections", "2"]).tcp().start();
    let mut before = [server.connect(), server.connect()];
    before.iter_mut().for_each(echoes);
    it.renew(&server, 1);
    let mut after = server.connect();
    after.send(b"line\n");
    server.log.wait_for(&["--max-connections is reached"]);
    after.is_held();
    let [one, mut other] = before;
    one.finish_and_wait();
    assert_eq!(after.take(5), b"line\n");
    echoes(&mut other);
    drop((after, other));
    server.stop();
}

#[test]
fn a_reload_waits_for_room() {
    let it = Installed::new("echo", "lines.wasm");
    // Two generations of that size are all that fits.
    let server = it
        .run()
        .args(["--max-memory", "4GiB", "--max-connections", "8000"])
        .tcp()
        .start();
    let mut first = server.connect();
    echoes(&mut first);
    it.renew(&server, 1);
    let mut second = server.connect();
    echoes(&mut second);
    install_as("echo", &it.place(), 2);
    server.signal(Signal::HUP);
    server
        .log
        .wait_for(&["waits until a generation that was replaced has ended"]);
    echoes(&mut first);
    server.serves_echo();
    assert_eq!(server.log.count("SIGHUP: reloaded"), 1);
    first.finish_and_wait();
    server.log.wait_for_count("SIGHUP: reloaded", 2);
    echoes(&mut second);
    server.serves_echo();
    drop(second);
    server.stop();
}

#[test]
fn a_program_that_has_ended_is_not_run_again() {
    let settings = Configured::new();
    let ran = settings.at("ran");
    let content = |text_to_write: &str| {
        let program = guest("command-probe");
        let (program, own) = (text(&program), text(settings.directory.path()));
        let program = format!(
            "[services.program]\ncomponent = {program:?}\ndir = \"{own}::/:rw\"\n\
             args = [\"write\", \"/ran\", {text_to_write:?}]\n"
        );
        echo_at(&guest("echo"), &program)
    };
    let server = settings.start(content("once"), 1);
    eventually("it runs", || {
        (fs::read(&ran).ok()? == b"once").then_some(())
    });
    server.log.wait_for(&["a program has ended"]);
    fs::remove_file(&ran).expect("it is removed");
    replaced(&reload(&server), "");
    replaced(&settings.reload(&server, content("twice")), "");
    server
        .log
        .wait_for(&["program is a program that has ended: a restart runs it again"]);
    server.serves_echo();
    assert!(!ran.exists());
    server.stop();
}

#[test]
fn a_program_that_runs_is_not_run_twice() {
    let settings = Configured::new();
    let program = settings.at("socket-echo.wasm");
    install("socket-echo", &program);
    let content = |more: &str| {
        let program = text(&program);
        let any = "127.0.0.1:0";
        let own = format!(
            "[services.program]\ncomponent = {program:?}\nallow-listen = {any:?}\nargs = [{any:?}]\n"
        );
        echo_at(&guest("echo"), &format!("{own}{more}"))
    };
    let server = settings.start(content(""), 2);
    let own = server.own_listener();
    let mut peer = Peer::connect(own);
    echoes(&mut peer);
    install_as("socket-echo", &program, 1);
    reload(&server);
    server.log.wait_for_count(
        "program is a program that runs: what has changed needs a restart",
        1,
    );
    settings.reload(&server, content("max-outgoing = 7\n"));
    server.log.wait_for_count(
        "program is a program that runs: what has changed needs a restart",
        2,
    );
    echoes(&mut peer);
    echoes(&mut Peer::connect(own));
    // One that is removed is told to end.
    settings.reload(&server, echo_at(&guest("echo"), ""));
    drop(peer);
    until_closed(own);
    server.serves_echo();
    server.stop();
}

#[test]
fn a_service_that_a_reload_adds_to_a_program_has_all_threads() {
    let settings = Configured::new();
    let program = guest("socket-echo");
    let content = |more: &str| {
        let any = "127.0.0.1:0";
        format!(
            "workers = 3\n[services.program]\ncomponent = {:?}\nallow-listen = {any:?}\n\
             args = [{any:?}]\n{more}",
            text(&program)
        )
    };
    settings.write(content(""));
    let server = Run::command(&["run", "--config", text(&settings.file())]).start_command();
    let own = server.own_listener();
    assert_eq!(workers(&server).len(), 1);
    let more = "[services.more]\ncomponent = \"hello\"\nhttp = \"127.0.0.1:0\"\n";
    settings.reload(&server, content(more));
    assert_eq!(workers(&server).len(), 3);
    let line = server.stdout.wait_for(&["listening http://"]);
    let (_, address) = line.split_once("http://").expect("a URL");
    let address = address.parse().expect("an address");
    for _ in 0..20 {
        assert_eq!(Peer::connect(address).fetch("/").status, 200);
    }
    echoes(&mut Peer::connect(own));
    server.stop();
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
fn a_program_that_ends_before_its_reload_has_succeeded_tells_its_code() {
    let settings = Configured::new();
    let content = |programs: u32, sites: u32| {
        let mut text_of_file = format!(
            "workers = 2\n[services.probe]\ncomponent = {:?}\ntcp = \"127.0.0.1:0\"\n\
             event-timeout = \"3s\"\n",
            text(&guest("probe"))
        );
        for number in 0..programs {
            text_of_file += &format!(
                "[services.program{number}]\ncomponent = {:?}\nargs = [\"exit\", \"1\"]\n",
                text(&guest("command-probe"))
            );
        }
        for number in 0..sites {
            text_of_file += &format!(
                "[services.site{number}]\ncomponent = \"hello\"\nhttp = \"127.0.0.1:0\"\n"
            );
        }
        text_of_file
    };
    let mut server = settings.start(content(0, 0), 1);
    // The first thread runs the program while another one is busy.
    let mut reloads = 0;
    loop {
        let (spins, busy) = busy_thread(&server);
        let is_first = busy == "worker-0";
        reloads += 1;
        let programs = u32::from(!is_first);
        settings.reload(&server, content(programs, reloads));
        drop(spins);
        if !is_first {
            break;
        }
    }
    server.log.wait_for(&["a program has ended"]);
    server.signal(Signal::TERM);
    // WASI 0.2 tells success from failure, and no more.
    assert_eq!(server.wait().code(), Some(1));
    assert_eq!(server.log.count("failed") + server.log.count("aborted"), 0);
}

#[test]
fn a_listener_never_leads_to_a_service_that_a_reload_has_undone() {
    let settings = Configured::new();
    let port = free_port();
    let (site, other) = (settings.at("site.wasm"), settings.at("other.wasm"));
    install("router", &site);
    install("hello", &other);
    let server = settings.start(
        format!(
            "workers = 2\n[services.site]\ncomponent = {:?}\nhttp = \"127.0.0.1:{port}\"\n\
             [services.other]\ncomponent = {:?}\nhttp = \"127.0.0.1:{port}\"\n\
             route = \"/about\"\n\
             [services.probe]\ncomponent = {:?}\ntcp = \"127.0.0.1:0\"\n\
             event-timeout = \"4s\"\n",
            text(&site),
            text(&other),
            text(&guest("probe"))
        ),
        2,
    );
    let greets = || {
        let response = server.connect_http().fetch("/about");
        assert!(response.text().contains("Hello"), "{response:?}");
    };
    greets();
    // One thread begins late what is asked of it, all in a row. On the other,
    // the first reload fails.
    let (spins, busy) = busy_thread(&server);
    let free = workers(&server).into_iter().find(|(name, _)| *name != busy);
    let (_, free) = free.expect("another thread");
    let fails = ["-e", "inject=epoll_ctl:error=ENOMEM:when=1"];
    let Some(tracer) = Strace::attach_thread(free, &fails) else {
        return;
    };
    // Of these, only the one that opens the listener watches a socket.
    install("router", &other);
    install_as("router", &site, 2);
    refused(&server, &["site: a worker cannot begin to serve"]);
    drop(tracer);
    install("hello", &other);
    install_as("router", &site, 1);
    server.signal(Signal::HUP);
    drop(spins);
    let line = server.log.wait_for(&["SIGHUP: reloaded"]);
    replaced(&line, "site");
    for _ in 0..40 {
        greets();
    }
    server.stop();
}

#[test]
fn a_rotation_reaches_generations_that_retire() {
    let it = Installed::new("router", "site.wasm");
    let at = |name: &str| it.at(name);
    let server = it
        .run()
        .args(["--access-log", text(&at("log"))])
        .http()
        .start();
    let mut before = server.connect_http();
    before.fetch("/about?first").is(200, "<h1>About</h1>");
    before.send(b"GET /about?late HT");
    it.renew(&server, 1);
    fs::rename(at("log"), at("log.1")).expect("it is renamed");
    server.signal(Signal::USR1);
    server
        .log
        .wait_for(&["SIGUSR1: opening the access log anew"]);
    eventually("the new file", || at("log").exists().then_some(()));
    before.send(b"TP/1.1\r\nHost: a\r\n\r\n");
    before.response().is(200, "<h1>About</h1>");
    server
        .connect_http()
        .fetch("/about?new")
        .is(200, "<h1>About</h1>");
    let lines = |name: &str| fs::read_to_string(at(name)).expect("a log");
    eventually("both lines", || {
        let log = lines("log");
        (log.contains("?late") && log.contains("?new")).then_some(())
    });
    assert!(lines("log.1").contains("?first"), "{}", lines("log.1"));
    server.stop();
}

#[test]
fn a_full_disk_for_the_access_log_is_told_and_serves_on() {
    let settings = Configured::new();
    let content = |more: &str| {
        let component = guest("router");
        let component = text(&component);
        format!("[services.site]\ncomponent = {component:?}\nhttp = \"127.0.0.1:0\"\n{more}")
    };
    let server = settings.start(content(""), 1);
    settings.reload(&server, content("access-log = \"/dev/full\"\n"));
    let fetch = || {
        server
            .connect_http()
            .fetch("/about")
            .is(200, "<h1>About</h1>")
    };
    eventually("the line", || {
        fetch();
        let told = server.log.count("the access log cannot be written");
        (told > 0).then_some(())
    });
    // A log that cannot be opened is a reason to stay.
    settings.write(content("access-log = \"/none/log\"\n"));
    refused(&server, &["/none/log"]);
    fetch();
    assert_eq!(server.log.count("the access log cannot be written"), 1);
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
        .wait_for(&["SIGHUP: the run is ending, so nothing is read anew"]);
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

/// Reloads under load, each time with other components, and checks that no
/// client notices and nothing stays.
fn reloads_under_load(time: Duration, between: Duration) {
    let settings = Configured::new();
    let (site, lines) = (settings.at("site.wasm"), settings.at("lines.wasm"));
    install("router", &site);
    install("echo", &lines);
    let content = format!(
        // So many clients may keep a slow machine from any guest for long.
        "workers = 2\nevent-timeout = \"30s\"\nshutdown-timeout = 0\n\
         [services.site]\ncomponent = {:?}\nhttp = \"127.0.0.1:0\"\n{}",
        text(&site),
        echo_at(&lines, "")
    );
    let server = settings.start(content, 2);
    let at_rest = server.descriptors_at_rest();
    let clients = Clients::of_all_kinds(server.address("http"), server.address("tcp"));
    clients.wait_for(200);
    let threads_before = threads(&server);
    let end = Instant::now() + time;
    let (mut rounds, mut memory) = (0_u32, None);
    while Instant::now() < end {
        let variant = u8::try_from(rounds % 2).expect("a small number");
        install_as("router", &site, 1 - variant);
        if rounds % 2 == 0 {
            install_as(
                "echo",
                &lines,
                u8::try_from(rounds / 2 % 2).expect("a small number"),
            );
        }
        reload(&server);
        rounds += 1;
        if rounds == 10 {
            memory = Some(server.resident());
        }
        std::thread::sleep(between);
    }
    let answers = clients.stop();
    eprintln!("{rounds} reloads, {answers} answers");
    server.wait_for_descriptors(at_rest);
    eventually("no thread too many", || {
        (threads(&server) <= threads_before).then_some(())
    });
    let memory = memory.expect("more than ten reloads");
    eventually("no memory that stays", || {
        (server.resident() < memory + (32 << 20)).then_some(())
    });
    assert_eq!(server.log.count("panicked"), 0);
    server.stop();
}

#[test]
#[ignore = "takes a minute: .ci/long reloads"]
fn a_minute_of_reloads_under_load_is_not_noticed() {
    reloads_under_load(Duration::from_secs(60), Duration::from_millis(300));
}

#[test]
#[ignore = "takes a minute: .ci/long reloads"]
fn a_thousand_reloads_leave_nothing_behind() {
    let it = Installed::new("router", "site.wasm");
    let server = it
        .run()
        .args(["--access-log", text(&it.at("log"))])
        .http()
        .https()
        .start();
    let mut after_some: Option<(usize, usize, u64)> = None;
    for round in 1..=1000_u32 {
        it.renew(&server, u8::try_from(round % 2).expect("a small number"));
        server
            .connect_http()
            .fetch("/about")
            .is(200, "<h1>About</h1>");
        if round == 100 {
            after_some = Some((
                server.settled_descriptors(),
                threads(&server),
                server.resident(),
            ));
        }
    }
    let (descriptors, threads_before, memory) = after_some.expect("a hundred rounds");
    server.wait_for_descriptors(descriptors);
    eventually("no more threads", || {
        (threads(&server) <= threads_before).then_some(())
    });
    let grown = server.resident().saturating_sub(memory);
    eprintln!("{grown} bytes more after 900 reloads");
    assert!(grown < 16 << 20, "{grown} bytes stayed");
    server.stop();
}
