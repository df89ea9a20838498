//! What one event costs, in nanoseconds, by how many bytes it brings; and one
//! instance, from its making to its end. Without sockets, so that a regression
//! is found where it starts.
//!
//! `cargo bench --bench event`

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use netwasm::bench::Bench;

/// How many times each is measured; the median is printed, and the fastest.
const ROUNDS: usize = 15;

fn main() -> Result<(), String> {
    // `cargo test --benches` wants to know whether it runs at all.
    let measured = std::env::args().any(|arg| arg == "--bench");
    let count = |wanted: u32| if measured { wanted } else { 1 };
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests");
    let bench = Bench::new(&guests.join("echo.wasm"))?;

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
    report("an instance, connection-made, end", count(2_000), || {
        bench.connect().map(drop)
    })
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
