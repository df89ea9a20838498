//! `run --watch`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;

use super::{building, has_target, project, went_well};
use crate::harness::{Run, START, Server, directory, eventually, guest, text, write};

/// Starts the template of a program with `--watch`.
fn watched(component: &Path) -> Server {
    building(&["run", text(component), "--watch"])
        .args([
            "--allow-listen",
            "127.0.0.1:0",
            "--shutdown-timeout",
            "100ms",
        ])
        .guest_args(&["127.0.0.1:0"])
        .start_command()
}

/// Returns the address that the component printed at its start of this number.
#[track_caller]
fn address(server: &Server, start: usize) -> SocketAddr {
    let line = server.stdout.wait(START, "its address", |lines| {
        let told = lines
            .iter()
            .filter_map(|line| line.strip_prefix("listening on "));
        told.map(str::to_owned).nth(start)
    });
    line.parse().expect("an address")
}

/// Returns the component's answer to a line.
fn answer(address: SocketAddr) -> String {
    let client = TcpStream::connect(address).expect("a connection");
    (&client).write_all(b"Hello\n").expect("it is sent");
    let mut line = String::new();
    BufReader::new(client)
        .read_line(&mut line)
        .expect("an answer");
    line
}

#[track_caller]
fn is_gone(address: SocketAddr) {
    eventually("the component's end", || TcpStream::connect(address).err());
}

#[test]
fn a_change_of_a_source_is_built_and_started_again() {
    if !has_target() {
        return;
    }
    let scratch = directory();
    let project = project(scratch.path(), "loud", &["--program"]);
    let source = project.join("src/main.rs");
    let first = fs::read_to_string(&source).expect("the source");
    let mut server = watched(&project);
    let address_of_first = address(&server, 0);
    assert_eq!(answer(address_of_first), "HELLO\n");

    fs::write(&source, format!("{first}\nnonsense")).expect("it is written");
    server
        .log
        .wait_for_within(START, &["cargo build failed", "the old component goes on"]);
    assert_eq!(answer(address_of_first), "HELLO\n");

    fs::write(
        &source,
        first.replace("line.to_uppercase()", "line.to_lowercase()"),
    )
    .expect("it is written");
    let address_of_second = address(&server, 1);
    assert_eq!(answer(address_of_second), "hello\n");
    is_gone(address_of_first);

    server.signal(Signal::INT);
    server.wait();
    is_gone(address_of_second);
}

#[test]
fn a_change_of_a_source_of_a_server_is_built_and_reloaded() {
    if !has_target() {
        return;
    }
    let scratch = directory();
    let project = project(scratch.path(), "loud", &["--tcp"]);
    let source = project.join("src/lib.rs");
    let first = fs::read_to_string(&source).expect("the source");
    let server = building(&["run", text(&project), "--watch"]).tcp().start();
    let mut before = server.connect();
    before.send(b"one");
    assert_eq!(before.take(3), b"one");

    fs::write(&source, format!("{first}\nnonsense")).expect("it is written");
    let told = ["everything stays as it was", "cargo build failed"];
    server.log.wait_for_within(START, &told);
    server.serves_echo();

    let second = first.replace("write_all(data)", "write_all(data.to_ascii_uppercase())");
    fs::write(&source, second).expect("it is written");
    server.log.wait_for_within(START, &["--watch: reloaded"]);
    eventually("the new component", || {
        let mut peer = server.connect();
        peer.send(b"two");
        (peer.take(3) == b"TWO").then_some(())
    });
    before.send(b"one");
    assert_eq!(before.take(3), b"one");
    drop(before);
    server.stop();
}

#[test]
fn a_log_in_the_directory_of_a_project_is_no_source() {
    let scratch = directory();
    let (tools, project) = (scratch.path().join("bin"), scratch.path().join("site"));
    for path in [&tools, &project] {
        fs::create_dir(path).expect("a directory");
    }
    // In place of the compiler: the source names a component.
    let compiler = "#!/bin/sh\nexec cp \"$GUESTS/$(cat \"$2\").wasm\" \"$3\"\n";
    let compiler = write(&tools, "bash", compiler);
    fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).expect("permissions");
    let before = std::env::var("PATH").expect("a path");
    let guests = guest("hello");
    let guests = guests.parent().expect("a directory");
    write(&project, "netwasm.toml", "source = \"app.py\"\n");
    write(&project, "app.py", "router");
    let log = project.join("a.txt");
    let access_log = project.join("access.txt");
    let server = Run::command(&["run", text(&project), "--watch"])
        .http()
        .args(["--access-log", text(&access_log)])
        .env("PATH", &format!("{}:{before}", text(&tools)))
        .env("GUESTS", text(guests))
        .log_to(fs::File::create(&log).expect("a file"))
        .start();
    let told = |words: &str| {
        let log = fs::read_to_string(&log).expect("the log");
        log.lines().filter(|line| line.contains(words)).count()
    };
    for (number, component) in [(1, "hello"), (2, "router")] {
        server.connect_http().fetch("/");
        eventually("a line in the access log", || {
            let log = fs::read_to_string(&access_log).ok()?;
            (log.lines().count() >= number).then_some(())
        });
        write(&project, "app.py", component);
        eventually("a reload", || {
            (told("--watch: reloaded") >= number).then_some(())
        });
    }
    assert_eq!(told("app.py has changed"), 2);
    assert_eq!(told(".txt has changed"), 0);
    server.stop();
}

#[test]
fn a_change_of_a_component_is_started_again_and_no_orphan_is_left() {
    if !has_target() {
        return;
    }
    let scratch = directory();
    let project = project(scratch.path(), "loud", &["--program"]);
    let built = building(&["build", text(&project)]).output();
    let component = scratch.path().join("loud.wasm");
    fs::copy(went_well(&built).trim_end(), &component).expect("a copy");
    let server = watched(&component);
    let address_of_first = address(&server, 0);
    let bytes = fs::read(&component).expect("the component");
    fs::remove_file(&component).expect("it is there");
    assert_eq!(answer(address_of_first), "HELLO\n");
    fs::write(&component, bytes).expect("it is written");
    let address_of_second = address(&server, 1);
    assert_eq!(answer(address_of_second), "HELLO\n");
    is_gone(address_of_first);
    server.signal(Signal::KILL);
    is_gone(address_of_second);
}

#[test]
fn a_component_that_ends_is_started_again_after_a_change() {
    let scratch = directory();
    let program = |code: u8| {
        format!(
            r#"(component
            (core module $m (func (export "run") (result i32) i32.const {code}))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $program (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $program)))"#
        )
    };
    let file = write(scratch.path(), "program.wat", program(0));
    let mut server = Run::command(&["run", text(&file), "--watch"]).start_command();
    let ended = [
        "the component ended (exit status: 0)",
        "waiting for a change",
    ];
    server.log.wait_for_within(START, &ended);
    write(scratch.path(), "program.wat", program(1) + " ");
    server
        .log
        .wait_for_within(START, &["the component ended (exit status: 1)"]);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(1));
    let told = ["a built-in component does not change"];
    Run::command(&["run", "echo", "--tcp", "0", "--watch"])
        .output()
        .refused(2, &told);
    Run::command(&["run", "/nowhere.wasm", "--tcp", "0", "--watch"])
        .output()
        .refused(1, &["cannot read /nowhere.wasm"]);
}
