//! Measures the cost of one event in nanoseconds, by its number of bytes; of
//! one instance, from its making to its end; and of one HTTP request. Uses no
//! sockets, so that a regression is found where it starts.
//!
//! `cargo bench --bench event`

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use netwasm::bench::Bench;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Number of measurements of each. The median and the fastest are printed.
const ROUNDS: usize = 15;

/// wrk's request.
const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
/// A browser's request.
const BROWSER: &[u8] = b"GET / HTTP/1.1\r\n\
    Host: localhost:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: none\r\n\
    Priority: u=0, i\r\n\
    \r\n";

/// A handler that runs the marked place, then answers with an empty 200. It
/// does as little as a guest can, so the host is measured. What the host passes
/// is never kept and always lies in the same place.
const HANDLER: &str = r#"
(module
  (import "netwasm:net/http@0.2.0" "[method]request.header"
    (func $header (param $request i32) (param $name i32) (param $length i32) (param $value i32)))
  (import "netwasm:net/http@0.2.0" "[resource-drop]request" (func $drop (param i32)))
  (import "netwasm:net/shared@0.2.0" "take"
    (func $take (param i32 i32 f64 i32 i32 i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "hostaccept")
  ;; `respond` with a response whose status is 200; what follows it stays zero
  (data (i32.const 64) "\00\00\00\00\00\00\00\00\c8")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (i32.const 65536))
  (func (export "netwasm:net/http-handler@0.2.0#handle")
    (param $method i32) (param i32 i32) (param $target i32) (param i32) (param $request i32)
    (result i32)
    ;; BODY
    (call $drop (local.get $request))
    (i32.const 64)))
"#;
const TWO_HEADERS: &str = "
    (call $header (local.get $request) (i32.const 0) (i32.const 4) (i32.const 4096))
    (call $header (local.get $request) (i32.const 4) (i32.const 6) (i32.const 4096))
";
const A_TOKEN: &str = "
    (call $take (i32.const 0) (i32.const 10) (f64.const 1e9) (i32.const 1000000)
      (i32.const 1) (i32.const 4096))
";
/// Number of instances that get events in turn.
const INSTANCES: u32 = 256;

fn main() -> Result<(), String> {
    // `cargo test --benches` only checks that this runs.
    let measured = std::env::args().any(|arg| arg == "--bench");
    let count = |wanted: u32| if measured { wanted } else { 1 };
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests");
    let bench = Bench::new(&guests.join("echo.wasm"), "--tcp")?;

    println!("| event | median | fastest |");
    println!("| --- | ---: | ---: |");
    let connection = bench.connect()?;
    for size in [1, 64, 1 << 10, 4 << 10, 16 << 10, 64 << 10] {
        let data = vec![b'x'; size];
        report(
            &format!("data-received and write, {size} B"),
            count(20_000),
            || connection.data_received(black_box(&data)),
        )?;
    }
    // As many as a busy worker has, so that no instance is in the cache at its
    // turn.
    let connections = (0..INSTANCES)
        .map(|_| bench.connect())
        .collect::<Result<Vec<_>, _>>()?;
    let data = [b'x'; 64];
    let mut turn = connections.iter().cycle();
    report(
        &format!("data-received and write, 64 B, {INSTANCES} instances in turn"),
        count(INSTANCES * 100),
        || {
            turn.next().map_or(Ok(()), |connection| {
                connection.data_received(black_box(&data))
            })
        },
    )?;
    drop(connections);
    report("an instance, connection-made, end", count(2_000), || {
        bench.connect().map(drop)
    })?;

    let bench = Bench::new(&guests.join("router.wasm"), "--http")?;
    for (name, head) in [("small", SMALL), ("a browser's", BROWSER)] {
        let requests = bench.requests(head)?;
        report(&format!("a head parsed, {name}"), count(100_000), || {
            requests.parse(black_box(head))
        })?;
    }
    let router = bench.requests(SMALL)?;
    report("a request, router", count(20_000), || router.handle())?;
    for (name, body) in [
        ("a request, empty answer", ""),
        ("a request, two headers read, empty answer", TWO_HEADERS),
        ("a request, a shared token taken, empty answer", A_TOKEN),
    ] {
        let handler = tempfile::Builder::new().suffix(".wasm").tempfile();
        let handler = handler.map_err(|error| error.to_string())?;
        let component = component(&HANDLER.replace(";; BODY", body));
        let component = component.map_err(|error| error.to_string())?;
        fs::write(handler.path(), component).map_err(|error| error.to_string())?;
        let requests = Bench::new(handler.path(), "--http")?.requests(BROWSER)?;
        report(name, count(20_000), || requests.handle())?;
    }
    Ok(())
}

/// Makes a component that answers requests from a core module in text form.
fn component(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut module = wat::parse_str(text)?;
    let mut resolve = Resolve::default();
    let (netwasm, _) = resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit"))?;
    let world = resolve.select_world(&[netwasm], Some("netwasm:net/http-server@0.2.0"))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().module(&module)?.encode()
}

fn report(
    name: &str,
    count: u32,
    mut work: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    work()?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for _ in 0..count {
            work()?;
        }
        times.push(begun.elapsed().as_nanos() / u128::from(count));
    }
    times.sort_unstable();
    let median = times.get(ROUNDS / 2).copied().unwrap_or_default();
    let fastest = times.first().copied().unwrap_or_default();
    println!("| {name} | {median} ns | {fastest} ns |");
    Ok(())
}
