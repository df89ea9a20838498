//! The messages of the first hour: mistakes on the command line, the help, and
//! the lines of the log that tell what a guest did wrong.

use crate::harness::{
    Finished, Peer, Run, directory, eventually, guest, handler, message, text, write,
};

fn netwasm(args: &[&str]) -> Finished {
    Run::command(args).output()
}

/// Checks that a command line is refused as a mistake, with all needles.
#[track_caller]
fn mistaken(line: &str, needles: &[&str]) {
    let args: Vec<&str> = line.split(' ').collect();
    netwasm(&args).refused(2, needles);
}

#[test]
fn a_misspelt_flag_names_the_one_that_was_meant() {
    mistaken(
        "run echo --tpc 8888",
        &["a similar argument exists: '--tcp'"],
    );
    mistaken(
        "run echo --tpc=8888",
        &["a similar argument exists: '--tcp'"],
    );
    mistaken(
        "run --tpc",
        &["'--tcp'", "Usage: netwasm run [OPTIONS] <COMPONENT>"],
    );
    mistaken("run echo --tcp 0 --worker 2", &["'--workers'"]);
    mistaken("inspect echo --max-memroy 5", &["'--max-memory'"]);
    mistaken("compile echo --ouptut a", &["'--output'"]);
    // Before the command.
    mistaken("--tpc 8888 echo", &["netwasm run echo --tcp"]);
    mistaken("--http 8888", &["netwasm run COMPONENT --http"]);
    // Of another command.
    mistaken(
        "inspect echo --tcp 8888",
        &["--tcp is a flag of `netwasm run`"],
    );
}

#[test]
fn a_component_that_is_missing_says_what_makes_one() {
    mistaken("run", &["Usage: netwasm run [OPTIONS] <COMPONENT>"]);
    mistaken("run echo --tcp localhost", &["write localhost:8888"]);
    netwasm(&["run", "nofile.wasm"]).refused(1, &["cannot read nofile.wasm", "`netwasm new`"]);
    netwasm(&["run", "./nowhere/echo.wasm"]).refused(1, &["`netwasm run echo`"]);
    let scratch = directory();
    write(scratch.path(), "Cargo.toml", "");
    let source = write(scratch.path(), "lib.rs", "");
    let told = format!("`netwasm run {}`", text(scratch.path()));
    netwasm(&["run", text(&source)]).refused(1, &["is a source", &told]);
}

#[test]
fn a_file_server_without_files_is_told_of() {
    let server = Run::command(&["run", "static"]).http().start();
    server
        .log
        .wait_for(&["static has no directory", "--dir .::/"]);
    server.stop();
}

#[test]
fn a_misspelt_command_names_the_one_that_was_meant() {
    mistaken("rnu echo", &["'run'"]);
    mistaken("isnpect echo", &["'inspect'"]);
    mistaken("hlep", &["'help'"]);
    mistaken("nonsense", &["unrecognized subcommand 'nonsense'"]);
    mistaken("help nonsense", &["no topic or command 'nonsense'"]);
    mistaken("run ecko --tcp 0", &["Did you mean echo?", "stream-echo"]);
}

#[test]
fn a_component_in_the_place_of_a_command_is_told_how_to_run() {
    mistaken("echo --tcp 8888", &["write `netwasm run echo --tcp 8888`"]);
    mistaken(
        "my.wasm --http 80",
        &["write `netwasm run my.wasm --http 80`"],
    );
    mistaken("./a/my.wat", &["write `netwasm run ./a/my.wat`"]);
    let args = ["my.wasm", "--env", "A=two words"];
    netwasm(&args).refused(2, &["netwasm run my.wasm --env 'A=two words'"]);
}

#[test]
fn an_ipv6_address_without_brackets_is_written_with_them() {
    mistaken("run echo --tcp ::1:8888", &["write [::1]:8888"]);
    mistaken("run echo --udp ::1", &["write [::1]:8888"]);
}

#[test]
fn a_flag_of_other_servers_is_explained() {
    for flag in ["--listen", "--port", "--bind", "-p"] {
        let line = format!("run echo {flag} 8888");
        let needles = [flag, "--tcp", "--tls", "--udp", "--http", "--https"];
        mistaken(&line, &needles);
    }
    mistaken("run echo 8888", &["'8888'", "--tcp PORT", "follow `--`"]);
}

#[test]
fn help_and_version_are_commands_too() {
    for (command, flag) in [
        (&["help"][..], &["--help"][..]),
        (&["help", "run"], &["run", "--help"]),
        (&["help", "inspect"], &["inspect", "--help"]),
        (&["version"], &["--version"]),
    ] {
        let (command, flag) = (netwasm(command), netwasm(flag));
        assert_eq!(command.code, Some(0), "{command:?}");
        assert_eq!(command.stdout, flag.stdout);
        assert_eq!(command.stderr, "");
    }
    // The guest's own.
    mistaken("run echo -- help", &["nothing to listen on"]);
    mistaken(
        "run router",
        &["nothing to listen on: give --http or --https with PORT"],
    );
}

#[test]
fn the_modes_of_isolation_have_a_line_each() {
    let help = netwasm(&["help", "run"]).stdout;
    let wrong = netwasm(&["run", "echo", "--tcp", "0", "--isolation", "thread"]);
    assert_eq!(wrong.code, Some(2));
    for told in [help, wrong.stderr] {
        for mode in ["request", "connection", "worker"] {
            let begins = |line: &&str| line.trim_start().starts_with(&format!("{mode} "));
            assert!(
                told.lines().any(|line| begins(&line)),
                "no {mode} in {told}"
            );
        }
    }
}

#[test]
fn the_help_has_the_built_in_components_and_the_exit_codes() {
    for command in [&["help"][..], &["help", "run"]] {
        let help = netwasm(command).stdout;
        for line in [
            "  echo           Sends back what it receives, over TCP and UDP",
            "  socket-echo    An echo server on wasi:sockets",
            "Exit codes:",
            "  2  the arguments cannot be used",
        ] {
            assert!(help.contains(line), "no {line} in {help}");
        }
    }
}

#[test]
fn a_look_up_that_is_denied_names_the_flag_for_connecting_first() {
    let finished = Run::guest("resolve").guest_args(&["example.org"]).output();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let told = "--allow-connect example.org:PORT allows that and connecting; \
                --allow-resolve example.org allows the look-up alone";
    assert!(finished.stderr.contains(told), "{finished:?}");
}

#[test]
fn a_trap_names_the_peer_and_where_in_the_guest_it_was() {
    let scratch = directory();
    let file = handler(scratch.path(), "unreachable");
    for isolation in ["connection", "worker"] {
        let server = Run::component(&file)
            .tcp()
            .args(["--isolation", isolation])
            .start();
        let mut peer = server.connect();
        let address = peer.get().local_addr().expect("its address");
        peer.send(b"!");
        peer.lost();
        let line = server.log.wait_for(&["the guest trapped"]);
        for part in [
            format!("peer={address}"),
            "frames=\"misbehave\"".into(),
            "event=\"data-received\"".into(),
            "unreachable".into(),
        ] {
            assert!(line.contains(&part), "no {part} in {line}");
        }
        let tells_of_others =
            line.contains("connections=1") && line.contains("(--isolation worker)");
        assert_eq!(tells_of_others, isolation == "worker", "{line}");
    }
}

/// A handler of `wasi:http`, which runs in the async engine, that never answers.
const LOOPS: &str = r#"(component
    (import "wasi:http/types@0.2.0" (instance $types
        (export "incoming-request" (type $request (sub resource)))
        (export "response-outparam" (type $out (sub resource)))))
    (alias export $types "incoming-request" (type $request))
    (alias export $types "response-outparam" (type $out))
    (core module $m
        (func $count (loop (br 0)))
        (func (export "handle") (param i32 i32) (call $count)))
    (core instance $i (instantiate $m))
    (func $handle (param "request" (own $request)) (param "response-out" (own $out))
        (canon lift (core func $i "handle")))
    (instance $handler (export "handle" (func $handle)))
    (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;

#[test]
fn a_handler_that_is_stopped_shows_where_it_was() {
    let scratch = directory();
    let limit = ["--event-timeout", "50ms"];
    let file = handler(scratch.path(), "(loop (br 0))");
    let server = Run::component(&file).tcp().args(limit).start();
    let mut peer = server.connect();
    peer.send(b"!");
    peer.lost();
    let stopped = "it took longer than 50ms (--event-timeout)";
    server
        .log
        .wait_for(&["the guest trapped", stopped, "frames=\"misbehave\""]);
    let file = write(scratch.path(), "loops.wat", LOOPS);
    let server = Run::component(&file).http().args(limit).start();
    assert_eq!(server.connect_http().fetch("/").status, 504);
    server
        .log
        .wait_for(&["the guest trapped", stopped, "frames=\"count\""]);
}

#[test]
fn a_trap_of_an_async_guest_names_the_peer() {
    let server = Run::guest("stream-probe").tcp().start();
    let mut peer = server.connect();
    let address = peer.get().local_addr().expect("its address");
    peer.say("panic");
    peer.lost();
    let peer = format!("peer={address}");
    let line = server.log.wait_for(&["the guest trapped", &peer]);
    assert!(line.contains("panic=\"") && line.contains("src/"), "{line}");
    // An event guest that awaits traps at another event than the connection's.
    let server = Run::guest("library-probe").tcp().start();
    let mut peer = server.connect();
    let address = peer.get().local_addr().expect("its address");
    peer.say("panic");
    peer.lost();
    server
        .log
        .wait_for(&["the guest trapped", "woken", &format!("peer={address}")]);
    for probe in ["probe", "service-probe", "proxy-probe"] {
        let server = Run::guest(probe).http().start();
        let mut peer = Peer::connect(server.address("http"));
        let address = peer.get().local_addr().expect("its address");
        assert_eq!(peer.fetch("/trap").status, 500);
        let peer = format!("peer={address}");
        let request = "request=\"GET /trap\"";
        server.log.wait_for(&["the guest trapped", &peer, request]);
    }
}

#[test]
fn a_trap_names_the_requests_that_waited_in_the_instance() {
    for (probe, slow) in [("probe", "/defer?ms=never"), ("service-probe", "/never")] {
        let shared = ["--isolation", "worker", "--workers", "1"];
        let server = Run::guest(probe).http().args(shared).start();
        let mut waiting = server.connect_http();
        let address = waiting.get().local_addr().expect("its address");
        waiting.send(message("GET", slow, &[]).as_bytes());
        let mut client = server.connect_http();
        let mut asked = 0;
        eventually("the slow request is in the instance", || {
            asked += 1;
            let count = client.fetch("/count").text().parse::<u64>();
            (count.expect("a number") > asked).then_some(())
        });
        assert_eq!(client.fetch("/trap").status, 500);
        let line = server.log.wait_for(&["the guest trapped", "GET /trap"]);
        let told = format!("waiting=\"GET {slow} from {address}");
        assert!(line.contains(&told), "no {told} in {line}");
    }
}

#[test]
fn the_log_tells_where_a_guest_listens() {
    let (server, address) = Run::socket_echo();
    let told = format!("the guest listens on tcp://{address}");
    server.log.wait_for(&[&told, "socket-echo"]);
    // Of the standard library, on WASI 0.2.
    let server = Run::guest("command-probe")
        .args(["--allow-listen", "127.0.0.1:0"])
        .guest_args(&["listen", "127.0.0.1:0"])
        .start_command();
    let told = format!("the guest listens on tcp://{}", server.own_listener());
    server.log.wait_for(&[&told, "command-probe"]);
}

/// Returns a program that takes long to compile, and longer by the product of
/// its numbers: each of so many nested loops may change each of so many
/// variables.
fn slow_to_compile(loops: usize, variables: usize) -> String {
    let locals = "i64 ".repeat(variables + 1);
    let changes: String = (0..variables)
        .map(|it| {
            format!(
                "(local.set {it} (i64.add (local.get {it}) (local.get {})))",
                it + 1
            )
        })
        .collect();
    let begin = "(loop ".repeat(loops);
    let end = "(br_if 0 (i64.eqz (local.get 0))))".repeat(loops);
    format!(
        r#"(component
        (core module $m
            (func (local {locals}) {begin} {changes} {end})
            (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $program (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $program)))"#
    )
}

#[test]
fn a_component_that_takes_long_to_compile_says_so_once() {
    let scratch = directory();
    let cache = text(scratch.path()).to_owned();
    let file = write(scratch.path(), "slow.wat", slow_to_compile(80, 1500));
    let run = || Run::component(&file).env("XDG_CACHE_HOME", &cache);
    let first = run().output();
    let told = "for the first time; cached for the next start";
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(first.stderr.matches(told).count(), 1, "{first:?}");
    assert!(
        first.stderr.contains("slow.wat (") && first.stderr.contains(" kB)"),
        "{first:?}"
    );
    let next = run().output();
    assert!(!next.stderr.contains("compiling"), "{next:?}");
    let uncached = run().args(["--no-cache"]).output();
    assert!(uncached.stderr.contains("compiling"), "{uncached:?}");
    assert!(!uncached.stderr.contains("cached for"), "{uncached:?}");
    // Nor are the commands silent that have no log.
    for command in ["inspect", "compile"] {
        let output = text(scratch.path()).to_owned() + "/slow.cwasm";
        let mut args = vec![command, text(&file)];
        if command == "compile" {
            args.extend(["-o", &output]);
        }
        let elsewhere = directory();
        let ran = Run::command(&args).env("XDG_CACHE_HOME", text(elsewhere.path()));
        let ran = ran.output();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stderr.contains("netwasm: compiling "), "{ran:?}");
    }
    // A quick compilation is not worth a word.
    let quick = Run::component(&guest("echo")).tcp().start();
    assert_eq!(quick.log.count("compiling"), 0);
}

#[test]
fn a_signal_ends_a_start_that_takes_long() {
    let scratch = directory();
    let file = write(scratch.path(), "slow.wat", slow_to_compile(300, 5000));
    let mut server = Run::component(&file).args(["--no-cache"]).start_command();
    server.log.wait_for(&["compiling"]);
    server.signal(rustix::process::Signal::INT);
    server.log.wait_for(&["ended before it served"]);
    assert_eq!(
        server.wait().code(),
        Some(1),
        "it is a program, and has not run"
    );
}
