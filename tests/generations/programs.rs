//! Programs in a run that is reloaded.

use std::fs;

use rustix::process::Signal;

use super::{busy_thread, echo_at, echoes, workers};
use crate::harness::{
    Configured, Peer, Run, eventually, guest, install, install_as, reload, replaced, text,
    until_closed,
};

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
