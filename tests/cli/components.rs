//! `inspect`, `compile`, and the cache.

use super::netwasm;
use crate::harness::{Run, directory, guest, text, write};

#[test]
fn inspect_tells_what_a_component_is_and_how_to_run_it() {
    let echo = netwasm(&["inspect", text(&guest("echo"))]);
    assert_eq!(echo.code, Some(0), "{echo:?}");
    for part in [
        "netwasm:net/tcp-handler",
        "netwasm:net/udp-handler",
        "netwasm run",
        "--tcp",
        "--udp",
    ] {
        assert!(echo.stdout.contains(part), "no {part} in {}", echo.stdout);
    }
    let proxy = netwasm(&["inspect", text(&guest("proxy"))]);
    assert!(proxy.stdout.contains("--allow-connect"), "{}", proxy.stdout);
    assert!(
        proxy.stdout.contains("netwasm:net/connector"),
        "{}",
        proxy.stdout
    );
    for (name, flag) in [
        ("fetch", "--allow-connect HOST:PORT"),
        ("pool", "--allow-connect HOST:PORT"),
        ("resolve", "--allow-resolve NAME"),
        ("stream-probe", "--allow-udp HOST:PORT"),
    ] {
        let client = netwasm(&["inspect", text(&guest(name))]);
        for part in ["netwasm:net/client", "run it with", flag] {
            assert!(client.stdout.contains(part), "{}", client.stdout);
        }
    }
    // Only imports that may need a permission have a line of their own.
    let harmless = " that need no permission, of netwasm:net, wasi:cli, wasi:io";
    for told in [&echo, &proxy] {
        assert!(told.stdout.contains(harmless), "{}", told.stdout);
        assert!(!told.stdout.contains("wasi:cli/stdout"), "{}", told.stdout);
    }
    let all = netwasm(&["inspect", "-v", text(&guest("proxy"))]);
    assert!(!all.stdout.contains(harmless), "{}", all.stdout);
    for part in ["netwasm:net/connector", "wasi:cli/stdout"] {
        assert!(all.stdout.contains(part), "no {part} in {}", all.stdout);
    }
    // The fewest flags are advised, and no permission.
    let mut lines = proxy.stdout.lines();
    let advised = lines
        .find(|line| line.starts_with("run it with"))
        .and_then(|_| lines.next());
    let advised = advised.expect("a command").trim();
    assert!(
        advised.starts_with("netwasm run ") && advised.ends_with(" --tcp 8888"),
        "{advised}"
    );
    assert!(!advised.contains("--allow"), "{advised}");
    let scratch = directory();
    let core = write(scratch.path(), "core.wat", "(module)");
    netwasm(&["inspect", text(&core)]).refused(1, &["core.wat", "core module"]);
}

#[test]
fn what_was_made_for_another_host_is_refused_with_advice() {
    let scratch = directory();
    let exports = |name: &str| format!("(instance $i) (export \"{name}\" (instance $i))");
    let needs = |name: &str| {
        let import = format!("(import \"{name}\" (instance (export \"open\" (func))))");
        format!("{import} {}", exports("wasi:http/incoming-handler@0.2.0"))
    };
    for (what, parts) in [
        (
            exports("wasi:http/handler@0.3.0-rc-2026-03-15"),
            ["0.3.0-rc-2026-03-15, which was not released", "rebuild it"],
        ),
        (
            needs("fermyon:spin/sqlite@2.0.0"),
            ["fermyon:spin/sqlite@2.0.0", "without what belongs to Spin"],
        ),
        (
            needs("wasi:messaging/consumer@0.2.0-draft"),
            ["wasi:messaging/consumer@0.2.0-draft", "compose it"],
        ),
        (exports("greet"), ["exports none of", "for another host"]),
    ] {
        let file = write(scratch.path(), "other.wat", format!("(component {what})"));
        Run::component(&file).http().output().refused(1, &parts);
        let told = netwasm(&["inspect", text(&file)]);
        for part in parts {
            assert!(told.stdout.contains(part), "no {part} in {}", told.stdout);
        }
    }
    let fastly = "(module (import \"fastly_http_req\" \"new\" (func)))";
    let file = write(scratch.path(), "fastly.wat", fastly);
    Run::component(&file)
        .http()
        .output()
        .refused(1, &["core module", "fastly_http_req", "wasi:http"]);
}

#[test]
fn what_compile_writes_runs_only_when_trusted() {
    let scratch = directory();
    let compiled = scratch.path().join("echo.cwasm");
    let finished = netwasm(&["compile", text(&guest("echo")), "-o", text(&compiled)]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    Run::component(&compiled)
        .tcp()
        .output()
        .refused(1, &["echo.cwasm", "--allow-compiled"]);
    let server = Run::component(&compiled)
        .tcp()
        .args(["--allow-compiled"])
        .start();
    server.serves_echo();
    server.stop();

    let mut bytes = std::fs::read(&compiled).expect("compiled code");
    bytes.truncate(bytes.len() / 2);
    let half = write(scratch.path(), "half.cwasm", bytes);
    Run::component(&half)
        .tcp()
        .args(["--allow-compiled"])
        .output()
        .refused(1, &["half.cwasm"]);
}

#[test]
fn it_works_without_a_cache_and_where_none_can_be_written() {
    let server = Run::guest("echo").tcp().args(["--no-cache"]).start();
    server.serves_echo();
    let server = Run::guest("echo")
        .tcp()
        .env("XDG_CACHE_HOME", "/proc/nowhere")
        .env("HOME", "/proc/nowhere")
        .start();
    server.serves_echo();
}

#[test]
fn a_cache_that_is_damaged_is_told_of_and_not_run() {
    let scratch = directory();
    let run = || {
        Run::guest("echo")
            .tcp()
            .env("XDG_CACHE_HOME", text(scratch.path()))
            .start()
    };
    run().serves_echo();
    let entries = std::fs::read_dir(scratch.path().join("netwasm/code")).expect("the cache");
    let files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    let [file] = &files[..] else {
        panic!("{files:?} are not one");
    };
    let whole = std::fs::read(file).expect("the code");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    for damaged in [&flipped[..], &whole[..whole.len() / 2], &[]] {
        std::fs::write(file, damaged).expect("it is written");
        let server = run();
        server.serves_echo();
        server
            .log
            .wait_for(&["WARN", "compiling again", text(file)]);
        server.stop();
        assert_eq!(std::fs::read(file).expect("the code").len(), whole.len());
    }
    let server = run();
    server.serves_echo();
    assert_eq!(server.log.count("compiling again"), 0);
}

#[test]
fn a_component_in_text_form_runs() {
    // The text is read, because only its world is refused.
    let scratch = directory();
    let file = write(scratch.path(), "empty.wat", "(component)");
    Run::component(&file)
        .tcp()
        .output()
        .refused(1, &["netwasm:net/tcp-handler"]);
}
