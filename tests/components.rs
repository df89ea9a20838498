//! Tests of components that are larger than a hello, or made from other
//! languages: the features they may use, and the messages where this host
//! cannot run them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::harness::{
    DEADLINE, Finished, Http2, Run, Server, directory, handler, handler_that_has,
    handler_with_sockets, text, write,
};

/// Returns a program whose module has `definitions` and is instantiated
/// `copies` times. Its `run` returns the value of `result`, an i32 that is 0
/// for success.
fn program(copies: usize, definitions: &str, result: &str) -> String {
    let copy = "(core instance (instantiate $m))\n".repeat(copies - 1);
    format!(
        r#"(component
        (core module $m {definitions} (func (export "run") (result i32) {result}))
        {copy}
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $program (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $program)))"#
    )
}

/// Returns a handler of `wasi:http` 0.2 that takes a second and sets no
/// response, which becomes status 500. Besides its own module, it instantiates
/// `module` `copies` times.
fn slow_handler(copies: usize, module: &str) -> String {
    let copies = "(core instance (instantiate $more))\n".repeat(copies);
    format!(
        r#"(component
        (import "wasi:http/types@0.2.0" (instance $types
            (export "incoming-request" (type (sub resource)))
            (export "response-outparam" (type (sub resource)))))
        (alias export $types "incoming-request" (type $request))
        (alias export $types "response-outparam" (type $out))
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $p (sub resource)))
            (export "[method]pollable.block" (func (param "self" (borrow $p))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $outer))
            (export "pollable" (type $p (eq $outer)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core module $m
            (import "" "subscribe" (func $subscribe (param i64) (result i32)))
            (import "" "block" (func $block (param i32)))
            (memory (export "memory") 1)
            (func (export "handle") (param i32 i32)
                (call $block (call $subscribe (i64.const 1000000000)))))
        (core module $more {module})
        {copies}
        (core instance $i (instantiate $m (with "" (instance
            (export "subscribe" (func $subscribe)) (export "block" (func $block))))))
        (func $handle (param "request" (own $request)) (param "response-out" (own $out))
            (canon lift (core func $i "handle")))
        (instance $handler (export "handle" (func $handle)))
        (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    )
}

/// Runs a component in text form, without a listener.
fn run(text: &str) -> Finished {
    let scratch = directory();
    Run::component(&write(scratch.path(), "large.wat", text)).output()
}

/// Checks that a program in text form exits with code 0.
fn goes_well(text: &str) {
    let finished = run(text);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
}

/// Sends a request over each of `connections` connections at once, and checks
/// that all reach the handler, whose missing response becomes status 500.
fn all_reach_the_handler(server: &Server, connections: usize) {
    let mut clients: Vec<TcpStream> = (0..connections)
        .map(|_| {
            let mut client = TcpStream::connect(server.address("http")).expect("a connection");
            client.set_read_timeout(Some(DEADLINE)).expect("a time-out");
            client
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .expect("a request");
            client
        })
        .collect();
    for client in &mut clients {
        let mut response = String::new();
        client.read_to_string(&mut response).expect("a response");
        assert!(response.starts_with("HTTP/1.1 500 "), "{response}");
    }
    assert_eq!(server.log.count("no instance"), 0);
}

#[test]
fn a_program_may_have_many_instances_memories_and_large_tables() {
    goes_well(&program(
        200,
        "(memory 1) (table 10 funcref)",
        "i32.const 0",
    ));
    goes_well(&program(3, "(table 30000 funcref)", "i32.const 0"));
    // A large table may grow as others may.
    let grows = "(i32.eq (table.grow 0 (ref.null func) (i32.const 1000)) (i32.const -1))";
    goes_well(&program(1, "(table 30000 funcref)", grows));
}

#[test]
fn no_request_lacks_an_instance_below_the_limit_of_connections() {
    for (copies, module) in [
        (3, "(memory 1)"),
        (1, "(memory 1) (memory 1) (memory 1) (memory 1) (memory 1)"),
        (79, "(func (export \"f\"))"),
        (20, "(table 10 funcref)"),
        (1, "(table 30000 funcref)"),
        // Collected objects and exceptions need a heap, which is made at once.
        (1, "(table 10 externref)"),
    ] {
        let scratch = directory();
        let file = write(scratch.path(), "large.wat", slow_handler(copies, module));
        let server = Run::component(&file)
            .http()
            .args(["--max-connections", "40", "--workers", "2"])
            .start();
        all_reach_the_handler(&server, 40);
        server.stop();
    }
}

#[test]
fn streams_of_http2_wait_for_an_instance_rather_than_fail() {
    let scratch = directory();
    let file = write(scratch.path(), "large.wat", slow_handler(1, "(memory 1)"));
    for isolation in ["request", "connection", "worker"] {
        let server = Run::component(&file)
            .http()
            .args(["--max-connections", "3", "--workers", "1"])
            .args(["--isolation", isolation])
            .start();
        let mut client = Http2::connect(server.address("http"));
        for response in client.fetch_at_once("/", 6) {
            assert_eq!(response.status, 500);
        }
        assert_eq!(server.log.count("no instance"), 0);
        drop(client);
        server.stop();
    }
}

/// Checks that an echo answers forty connections at once, as many as it may have.
fn serves_forty(guest: &Path, message: &[u8]) {
    let server = Run::component(guest)
        .tcp()
        .args(["--max-connections", "40", "--workers", "2"])
        .start();
    let mut peers: Vec<_> = (0..40).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.echoes(message);
    }
    drop(peers);
    server.stop();
}

#[test]
fn no_connection_of_events_lacks_an_instance_below_the_limit() {
    let scratch = directory();
    let definitions = "(memory 1) (memory 1) (memory 1) (table 30000 funcref)".repeat(2);
    let guest = handler_that_has(scratch.path(), &definitions, "");
    serves_forty(&guest, b"here");
}

#[test]
fn instances_that_trapped_keep_no_room() {
    let scratch = directory();
    let guest = handler(scratch.path(), "unreachable");
    let server = Run::component(&guest)
        .tcp()
        .args(["--max-connections", "40", "--workers", "1"])
        .args(["--isolation", "worker"])
        .start();
    // Other connections stay on each instance that traps, and do not read their
    // end.
    let mut left = Vec::new();
    for _ in 0..12 {
        left.extend((0..2).map(|_| server.connect()));
        let mut peer = server.connect();
        peer.send(b"!");
        peer.lost();
    }
    let mut peer = server.connect();
    peer.echoes(b"here");
}

#[test]
fn more_connections_than_have_room_are_refused_with_what_helps() {
    let scratch = directory();
    let file = write(scratch.path(), "large.wat", slow_handler(9, "(memory 1)"));
    let start = |connections: &str, memory: &str| {
        Run::component(&file)
            .http()
            .args(["--max-connections", connections, "--max-memory", memory])
            .output()
    };
    start("15000", "64MiB").refused(1, &["large.wat", "--max-connections"]);
    start("15000", "4GiB").refused(1, &["--max-connections", "there is room for"]);
    // Without the flag, the limit is the number that fits.
    let server = Run::component(&file)
        .http()
        .args(["--max-memory", "4GiB"])
        .start();
    all_reach_the_handler(&server, 2);
}

#[test]
fn exceptions_collected_objects_and_atomics_work() {
    let throws = "(block $caught (result i32)
        (try_table (result i32) (catch $tag $caught) (throw $tag (i32.const 0))))";
    goes_well(&program(1, "(tag $tag (param i32))", throws));
    let makes = "(struct.get $s 0 (struct.new $s (i32.const 0)))";
    goes_well(&program(1, "(type $s (struct (field i32)))", makes));
    let adds = "(i32.atomic.rmw.add (i32.const 0) (i32.const 1))";
    goes_well(&program(1, "(memory 1)", adds));
}

#[test]
fn every_connection_has_a_heap_of_its_own_for_exceptions() {
    let scratch = directory();
    let definitions = "(tag $tag (param i32))";
    let catches = "(call $write (global.get $transport) (local.get $data)
        (block $caught (result i32)
            (try_table (result i32) (catch $tag $caught) (throw $tag (local.get $length)))))";
    let guest = handler_that_has(scratch.path(), definitions, catches);
    serves_forty(&guest, b"!caught");
}

#[test]
fn collected_objects_are_bounded_by_max_memory() {
    let endless = r"(local $last (ref null $node))
        (loop $more
            (local.set $last (struct.new $node (local.get $last)))
            (br $more))
        (i32.const 0)";
    let text = program(1, "(type $node (struct (field (ref null $node))))", endless);
    let scratch = directory();
    let file = write(scratch.path(), "large.wat", text);
    let finished = Run::component(&file)
        .args(["--max-memory", "2MiB"])
        .output();
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    assert!(finished.stderr.contains("--max-memory"), "{finished:#?}");
}

#[test]
fn features_that_are_refused_are_named_with_what_helps() {
    let scratch = directory();
    let refused = |definitions: &str, result: &str, needles: &[&str]| {
        let text = program(1, definitions, result);
        Run::component(&write(scratch.path(), "large.wat", text))
            .output()
            .refused(1, needles);
    };
    // No tool writes legacy exceptions any more, so a block is turned into one.
    let text = program(1, "", "block nop end i32.const 0");
    let mut binary = wat::parse_str(text).expect("a component");
    let block = binary
        .windows(4)
        .position(|it| it == [0x02, 0x40, 0x01, 0x0b]);
    let block = block.expect("a block");
    binary.splice(block..block + 3, [0x06, 0x40, 0x19]);
    Run::component(&write(scratch.path(), "legacy.wasm", binary))
        .output()
        .refused(1, &["legacy", "-wasm-use-legacy-eh=false"]);
    refused("(memory 1 1 shared)", "i32.const 0", &["share", "-pthread"]);
    refused(
        "(memory 1 (pagesize 1))",
        "i32.const 0",
        &["not enabled", "page size"],
    );
}

#[test]
fn maps_and_labels_of_interfaces_that_tools_write_unasked_are_read() {
    goes_well(
        r#"(component
        (import "wasi:random/insecure-seed@0.2.0" (instance))
        (type $map (map string u32))
        (core module $m (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $program (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $program)))"#,
    );
    // If this host lacks a labelled interface, the message names the label.
    let finished = run(r#"(component
        (import "cache" (implements "acme:store/keys@1.0.0") (instance (export "f" (func))))
        (core module $m (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $program (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $program)))"#);
    finished.refused(1, &["cache", "imports"]);
}

#[test]
fn a_component_that_exports_functions_of_its_own_says_so() {
    for (function, options) in [
        (
            r#"(func $f (param "x" u32) (canon lift (core func $i "f")))"#,
            "",
        ),
        (
            r#"(type $t (func async (param "x" u32)))
            (func $f (type $t) (canon lift (core func $i "f") async (callback (core func $i "c"))))"#,
            "(result i32)",
        ),
    ] {
        let finished = run(&format!(
            r#"(component
            (core module $m
                (func (export "f") (param i32) {options} unreachable)
                (func (export "c") (param i32 i32 i32) (result i32) unreachable))
            (core instance $i (instantiate $m))
            {function}
            (export "add" (func $f)))"#
        ));
        finished.refused(1, &["wasi:cli/run", "exports add"]);
    }
}

/// Returns a program that asks for random bytes, and checks their number.
fn asks_for_random_bytes(count: usize) -> String {
    let pages = count.div_ceil(64 << 10) + 1;
    format!(
        r#"(component
        (import "wasi:random/random@0.2.0" (instance $random
            (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
        (core module $libc
            (memory (export "memory") {pages})
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536))
        (core instance $libc (instantiate $libc))
        (core func $get (canon lower (func $random "get-random-bytes")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (core module $m
            (import "" "memory" (memory 1))
            (import "" "get" (func $get (param i64 i32)))
            (func (export "run") (result i32)
                (call $get (i64.const {count}) (i32.const 0))
                (i32.ne (i32.load (i32.const 4)) (i32.const {count}))))
        (core instance $i (instantiate $m (with "" (instance
            (export "memory" (memory $libc "memory")) (export "get" (func $get))))))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $program (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $program)))"#
    )
}

#[test]
fn many_random_bytes_come_at_once() {
    goes_well(&asks_for_random_bytes(1 << 20));
    goes_well(&asks_for_random_bytes(32 << 20));
    // The host makes no random bytes that a guest has no room for.
    let scratch = directory();
    let file = write(scratch.path(), "large.wat", asks_for_random_bytes(32 << 20));
    let text = std::fs::read_to_string(&file).expect("the text");
    write(
        scratch.path(),
        "large.wat",
        text.replace("33554432", "99999999"),
    );
    let finished = Run::component(&file).output();
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    assert!(finished.stderr.contains("random bytes"), "{finished:#?}");
}

#[test]
fn sockets_of_wasi_may_be_imported_by_a_handler_and_are_denied_at_the_call() {
    let scratch = directory();
    let calls = r#"
        (call $tcp (i32.const 0) (i32.const 2048))
        (call $udp (i32.const 1) (i32.const 2056))
        (call $lookup (call $network) (i32.const 1024) (i32.const 0) (i32.const 2064))
        (call $write (global.get $transport) (i32.const 2048) (i32.const 24))"#;
    let server = Run::component(&handler_with_sockets(scratch.path(), calls))
        .tcp()
        .args(["--allow-connect", "*:*", "--allow-resolve", "*"])
        .start();
    let mut peer = server.connect();
    peer.send(b"!");
    // An error each, and its code: `access-denied`.
    assert_eq!(peer.take(24), [[1, 0, 0, 0, 1, 0, 0, 0]; 3].concat());
    peer.send(b"still here");
    assert_eq!(peer.take(10), b"still here");
    server
        .log
        .wait_for(&["no sockets of its own", "netwasm:net/connector"]);
    drop(peer);
    server.stop();
}

#[test]
fn the_first_argument_is_the_name_of_the_file() {
    // The program exits with the argument's length, because a code is a number.
    let text = r#"(component
        (import "wasi:cli/environment@0.2.0" (instance $cli
            (export "get-arguments" (func (result (list string))))))
        (import "wasi:cli/exit@0.2.0" (instance $exit
            (export "exit-with-code" (func (param "status-code" u8)))))
        (core module $libc
            (memory (export "memory") 1)
            (global $next (mut i32) (i32.const 1024))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                (global.get $next)
                (global.set $next (i32.and (i32.const -8)
                    (i32.add (i32.add (global.get $next) (local.get 3)) (i32.const 7))))))
        (core instance $libc (instantiate $libc))
        (core func $get (canon lower (func $cli "get-arguments")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (core func $leave (canon lower (func $exit "exit-with-code")))
        (core module $m
            (import "" "memory" (memory 1))
            (import "" "get" (func $get (param i32)))
            (import "" "leave" (func $leave (param i32)))
            (func (export "run") (result i32)
                (call $get (i32.const 0))
                (call $leave (i32.load offset=4 (i32.load (i32.const 0))))
                (i32.const 1)))
        (core instance $i (instantiate $m (with "" (instance
            (export "memory" (memory $libc "memory"))
            (export "get" (func $get)) (export "leave" (func $leave))))))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $program (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $program)))"#;
    let scratch = directory();
    let file = write(scratch.path(), "a.long.name.wat", text);
    let finished = Run::component(&file).output();
    let length = "a.long.name.wat".len();
    assert_eq!(finished.code, i32::try_from(length).ok(), "{finished:#?}");
}

/// Returns the number of files below a directory.
fn files(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.path().is_dir() {
            true => files(&entry.path()),
            false => 1,
        })
        .sum()
}

#[test]
fn another_limit_of_memory_does_not_compile_again() {
    let scratch = directory();
    let cache = directory();
    let file = write(
        scratch.path(),
        "large.wat",
        program(1, "(memory 1)", "i32.const 0"),
    );
    let kept = |memory: &str| {
        let finished = Run::component(&file)
            .args(["--max-memory", memory])
            .env("XDG_CACHE_HOME", text(cache.path()))
            .output();
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        files(cache.path())
    };
    let first = kept("64MiB");
    assert!(first > 0, "nothing is kept");
    for memory in ["1MiB", "5MiB", "33MiB"] {
        assert_eq!(kept(memory), first, "{memory}");
    }
    // Larger memories share code for a larger reservation of address space.
    let second = kept("100MiB");
    assert_eq!(kept("1GiB"), second);
}
