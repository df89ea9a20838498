//! The service manager: what it is told, and the sockets that it passes.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::Signal;

use crate::harness::{
    Configured, DEADLINE, Log, Peer, Run, START, cache, directory, eventually, free_port, guest,
    skipped, text, unix_address, write,
};

/// Returns a socket that hears what a service tells its manager.
fn manager(directory: &Path) -> (UnixDatagram, String) {
    let path = directory.join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    (socket, text(&path).to_owned())
}

/// Reads all that a manager is told from now on, so that its queue, which may be short,
/// never fills.
fn hear(socket: UnixDatagram) -> mpsc::Receiver<String> {
    let (sender, messages) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(count) = socket.recv(&mut buffer) {
            let message = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    messages
}

fn told(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 1024];
    let count = socket.recv(&mut buffer).expect("a message");
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[test]
fn the_manager_is_told_of_the_start_of_reloads_and_of_the_end() {
    let scratch = directory();
    let (socket, name) = manager(scratch.path());
    let place = scratch.path().join("lines.wasm");
    fs::copy(guest("echo"), &place).expect("a copy");
    let server = Run::component(&place)
        .tcp()
        .env("NOTIFY_SOCKET", &name)
        .start();
    assert_eq!(told(&socket), "READY=1\nSTATUS=serving lines");
    server.signal(Signal::HUP);
    let reloading = told(&socket);
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert!(told(&socket).starts_with("READY=1\n"));
    // A reload that fails ends, too.
    fs::write(&place, "no component").expect("a file");
    server.signal(Signal::HUP);
    assert!(told(&socket).starts_with("RELOADING=1\n"));
    assert!(told(&socket).starts_with("READY=1\n"));
    server.serves_echo();
    server.stop();
    assert_eq!(
        told(&socket),
        "STOPPING=1\nSTATUS=draining: no new connections"
    );
}

#[test]
fn a_process_that_takes_over_is_the_main_one_and_feeds_the_watchdog() {
    let settings = Configured::new();
    let (of_old, of_new) = (settings.at("old"), settings.at("new"));
    for place in [&of_old, &of_new] {
        fs::create_dir(place).expect("a directory");
    }
    let ((of_old, old_name), (of_new, new_name)) = (manager(&of_old), manager(&of_new));
    settings.write(format!(
        "admin = {:?}\n[services.lines]\ncomponent = {:?}\ntcp = \"127.0.0.1:0\"\n",
        unix_address(&settings.at("admin")),
        text(&guest("echo"))
    ));
    let run = |name: &str| {
        Run::config(&settings.file(), 1)
            .env("NOTIFY_SOCKET", name)
            .env("WATCHDOG_USEC", "300000")
    };
    let mut old = run(&old_name).start();
    assert!(told(&of_old).starts_with("READY=1\n"));
    let of_old = hear(of_old);
    let next = run(&new_name)
        // The environment is of another process's start.
        .env("WATCHDOG_PID", &old.pid().to_string())
        .args(["--takeover"])
        .start();
    let is_main = format!("MAINPID={}", next.pid());
    assert_eq!(told(&of_new), is_main);
    assert!(told(&of_new).starts_with("READY=1\n"));
    for _ in 0..3 {
        assert_eq!(told(&of_new), "WATCHDOG=1");
    }
    // A service manager may listen to the main process alone.
    let after = loop {
        let message = of_old.recv_timeout(DEADLINE).expect("a message");
        if message != "WATCHDOG=1" {
            break message;
        }
    };
    assert_eq!(after, is_main);
    assert_eq!(old.wait().code(), Some(0));
    for message in of_old.try_iter() {
        // One may have been on its way.
        assert_eq!(message, "WATCHDOG=1");
    }
    next.serves_echo();
    next.stop();
}

#[test]
fn the_watchdog_is_fed_while_all_threads_live() {
    let scratch = directory();
    let (socket, name) = manager(scratch.path());
    let server = Run::guest("echo")
        .tcp()
        .env("NOTIFY_SOCKET", &name)
        .env("WATCHDOG_USEC", "300000")
        .start();
    assert!(told(&socket).starts_with("READY=1\n"));
    for _ in 0..5 {
        assert_eq!(told(&socket), "WATCHDOG=1");
    }
    server.serves_echo();
    server.stop();
}

/// Starts a program through systemd-socket-activate(1), with sockets of these
/// names, separated by colons, at these ports.
fn activated(names: &str, ports: &[u16], args: &[&str]) -> Option<Child> {
    let tool = "systemd-socket-activate";
    if Command::new(tool).arg("--version").output().is_err() {
        skipped("there is no systemd-socket-activate here");
        return None;
    }
    let listened = ports
        .iter()
        .map(|port| format!("--listen=127.0.0.1:{port}"));
    let child = Command::new(tool)
        .args(listened)
        .arg(format!("--fdname={names}"))
        .arg(format!("--setenv=XDG_CACHE_HOME={}", cache()))
        .args([
            "--setenv=HOME",
            "--setenv=PATH",
            env!("CARGO_BIN_EXE_netwasm"),
            "run",
        ])
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    Some(child.expect("it starts"))
}

#[test]
fn a_socket_of_the_manager_is_listened_on() {
    let port = free_port();
    let router = guest("router");
    let args = [text(&router), "--http", "fd:web", "--workers", "2"];
    let Some(mut child) = activated("web", &[port], &args) else {
        return;
    };
    // The first connection starts the server.
    let stream = eventually("the socket", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let mut first = Peer::accepted(stream);
    first.is_patient();
    first.fetch("/about").is(200, "<h1>About</h1>");
    let address = ([127, 0, 0, 1], port).into();
    for _ in 0..20 {
        Peer::connect(address)
            .fetch("/about")
            .is(200, "<h1>About</h1>");
    }
    child.kill().expect("it runs");
    child.wait().expect("its end");
}

#[test]
fn a_socket_that_no_listener_takes_is_closed_and_told() {
    let (port, other) = (free_port(), free_port());
    let router = guest("router");
    let args = [text(&router), "--http", "fd:web"];
    let Some(mut child) = activated("web:other", &[port, other], &args) else {
        return;
    };
    let log = Log::follow(child.stderr.take().expect("its log"));
    let mut waits = eventually("the socket", || {
        std::net::TcpStream::connect(("127.0.0.1", other)).ok()
    });
    let needles = ["a passed socket is closed", "no listener is fd:other"];
    log.wait_for_within(START, &needles);
    // Its client waits no longer, and another one is refused.
    assert!(!matches!(waits.read(&mut [0]), Ok(1..)));
    assert!(std::net::TcpStream::connect(("127.0.0.1", other)).is_err());
    let address = ([127, 0, 0, 1], port).into();
    Peer::connect(address)
        .fetch("/about")
        .is(200, "<h1>About</h1>");
    child.kill().expect("it runs");
    child.wait().expect("its end");
}

#[test]
fn a_socket_that_was_not_passed_is_told() {
    let run = Run::guest("echo").args(["--tcp", "fd:web"]);
    run.output().refused(
        1,
        &["cannot listen on fd:web: no socket was passed to this process"],
    );
    let scratch = directory();
    let file = write(
        scratch.path(),
        "n.toml",
        format!("component = {:?}\ntcp = \"fd:\"\n", text(&guest("echo"))),
    );
    let check = Run::command(&["check", text(&file)]).output();
    assert!(
        check
            .stdout
            .contains(":2:7: 'tcp': '' is not the name of a passed socket"),
        "{check:?}"
    );
}
