//! Tests of a start from the cache: what it notices, and what it takes.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::harness::{Run, START, Server, directory, handler_that_has, text, within, write};

/// Time after which a file's stamp tells of each later change.
const SETTLED: Duration = Duration::from_millis(4200);

/// Returns a program in binary form with this much data, whose module does
/// `work` in `run`, which returns an i32 that is 0 for success.
fn program(data: usize, work: &str) -> Vec<u8> {
    let data = "x".repeat(data);
    let text = format!(
        r#"(component
        (core module $m
            (memory 1024) (data (i32.const 0) "{data}")
            (func (export "run") (result i32) {work}))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $program (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $program)))"#
    );
    wat::parse_str(text).expect("a component")
}

/// Returns the number of files in a directory of the cache.
fn kept(cache: &Path, name: &str) -> usize {
    std::fs::read_dir(cache.join("netwasm").join(name)).map_or(0, Iterator::count)
}

#[test]
fn a_component_that_changes_in_place_is_noticed_whatever_its_time_says() {
    let scratch = directory();
    let cache = directory();
    let (good, bad) = (program(8, "i32.const 0"), program(8, "i32.const 1"));
    assert_eq!(good.len(), bad.len());
    let begun = Instant::now();
    let file = write(scratch.path(), "program.wasm", &good);
    let then = SystemTime::now() - Duration::from_secs(100);
    let put_back = || {
        let file = File::options().write(true).open(&file).expect("the file");
        file.set_modified(then).expect("a time");
    };
    put_back();
    let code = || {
        let run = Run::component(&file).env("XDG_CACHE_HOME", text(cache.path()));
        run.output().code
    };
    assert_eq!(code(), Some(0));
    // Too young to be known by its stamp, if the machine is not slow.
    let known = kept(cache.path(), "components");
    let slow = begun.elapsed() > Duration::from_millis(2900);
    assert!(known == 0 || slow, "{known}");
    std::thread::sleep(SETTLED);
    assert_eq!((code(), kept(cache.path(), "components")), (Some(0), 1));
    assert_eq!(code(), Some(0));
    write(scratch.path(), "program.wasm", &bad);
    put_back();
    assert_eq!(code(), Some(1));
    std::thread::sleep(SETTLED);
    assert_eq!([code(), code()], [Some(1), Some(1)]);
    assert_eq!(kept(cache.path(), "components"), 2);
    assert_eq!(kept(cache.path(), "code"), 2);
}

#[test]
fn a_start_from_the_cache_takes_no_memory_for_what_is_not_used() {
    const SIZE: usize = 40 << 20;
    let scratch = directory();
    let cache = directory();
    let start = |file: &Path| {
        let run = Run::component(file).env("XDG_CACHE_HOME", text(cache.path()));
        let server = run.start_command();
        within(START, "the program runs", || runs(&server).then_some(()));
        most_memory(&server)
    };
    let forever = "(loop (br 0)) unreachable";
    let small = write(scratch.path(), "small.wasm", program(8, forever));
    let large = write(scratch.path(), "large.wasm", program(SIZE, forever));
    for file in [&small, &large] {
        start(file);
    }
    std::thread::sleep(SETTLED);
    // The first of these reads the component, the second knows it.
    for known in [false, true] {
        let (few, many) = (start(&small), start(&large));
        let more = many.saturating_sub(few);
        let most = if known { SIZE / 4 } else { 2 * SIZE };
        assert!(
            more < most as u64,
            "{more} bytes more for {SIZE}, known: {known}"
        );
    }
}

/// True if a program has its thread, so that it is loaded.
fn runs(server: &Server) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid()));
    threads.into_iter().flatten().flatten().any(|thread| {
        let name = std::fs::read_to_string(thread.path().join("comm"));
        name.is_ok_and(|name| name.starts_with("worker"))
    })
}

/// Returns the largest resident memory that a process ever had, in bytes.
fn most_memory(server: &Server) -> u64 {
    memory(server, "VmHWM:")
}

/// Returns an amount of memory that the status of a process tells, in bytes.
fn memory(server: &Server, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
    let status = status.expect("its status");
    let line = status.lines().find_map(|it| it.strip_prefix(name));
    let kib = line.and_then(|it| it.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect(name) * 1024
}

#[test]
fn a_start_that_compiles_keeps_no_more_memory_than_a_later_one() {
    const MORE: u64 = 8 << 20;
    let cache = directory();
    let start = || {
        let run = Run::guest("router").http();
        run.env("XDG_CACHE_HOME", text(cache.path())).start()
    };
    let own = |server: &Server| memory(server, "RssAnon:");
    let first = start();
    let most = most_memory(&first);
    let second = start();
    let (later, most_later) = (own(&second), most_memory(&second));
    assert!(most > most_later + MORE, "{most} bytes, then {most_later}");
    within(START, "the compiler's memory is given back", || {
        (own(&first) < later + MORE).then_some(())
    });
}

#[test]
fn a_guest_whose_making_takes_too_long_names_the_flag() {
    let scratch = directory();
    let definitions = "(func $starts (loop (br 0))) (start $starts)";
    let guest = handler_that_has(scratch.path(), definitions, "");
    let run = Run::component(&guest).args(["--tcp", "127.0.0.1:0"]);
    let run = run.args(["--event-timeout", "50ms"]);
    run.output().refused(
        1,
        &["it does not start: it took longer than 50ms (--event-timeout)"],
    );
}
