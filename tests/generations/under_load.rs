//! Many reloads, one after the other.

use std::time::{Duration, Instant};

use super::echo_at;
use crate::harness::{
    Clients, Configured, Installed, eventually, install, install_as, reload, text, threads,
};

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
