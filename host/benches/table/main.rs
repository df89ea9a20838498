//! Measures how fast netwasm is, next to what people would use instead of it.
//!
//! `cargo bench --bench table` starts netwasm and its peers in turn, pins the
//! server to one core and this process, the load generator, to another, and
//! prints a table. There is no pass or fail.
//!
//! The peers are a tokio program (this executable, run again: see [`native`]),
//! asyncio and uvloop if Python has them, and wasmtime, nginx, HAProxy and Bun if they
//! are installed. A turn is a fresh server, a warm-up, and a measured time. The
//! turns of a round follow each other (A B C, A B C, ...), so that whatever
//! disturbs the machine affects all of them. The table shows medians.
//!
//! The server's CPU time per operation is what counts. Over loopback, with one
//! core each, the load generator often limits the rate, which then says more
//! about it than about the server. A ratio is the peer's CPU time per operation
//! divided by netwasm's: more is better. Next to it stand the smallest and the
//! largest ratio of any one round, which show the noise.
//!
//! The machine should do nothing else. The last line under the table tells how
//! far that was so. If it was not, many short rounds are better than few long
//! ones (`cargo bench --bench table -- --rounds 25 --seconds 0.3`).
//! `host/book/draw TABLE OUT.svg` plots what is printed.
//!
//! `cargo test --benches` runs every work for a moment, to check that it runs.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::native_websocket::Library;
use crate::peers::Service;

mod bun;
mod dns;
mod haproxy;
mod load;
mod measure;
mod native;
mod native_client;
mod native_http;
mod native_websocket;
mod nginx;
mod operated;
mod peers;
mod report;
mod site;
mod work;

/// Measures netwasm and its peers.
#[derive(Parser)]
#[command(name = "table")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Run the tokio program.
    #[command(hide = true)]
    NativePeer {
        /// Service to provide.
        #[arg(value_enum)]
        service: Service,
        /// Read buffer of a connection in bytes.
        #[arg(long, default_value_t = 65_536)]
        buffer: usize,
        /// Address that a proxy or a client connects to, or that of the DNS
        /// server.
        #[arg(long)]
        upstream: Option<SocketAddr>,
    },
    /// Run the tokio program that sends WebSocket messages back.
    #[command(hide = true, name = native_websocket::COMMAND)]
    NativeWebSocket {
        /// Crate of WebSocket.
        #[arg(value_enum)]
        library: Library,
    },
}

#[derive(Args)]
struct Options {
    /// Run only the works whose name contains this; repeatable.
    #[arg(long, value_name = "NAME")]
    filter: Vec<String>,
    /// Number of turns of each server [default: 5].
    #[arg(long)]
    rounds: Option<usize>,
    /// Measured time of a turn, in seconds [default: 1.5].
    #[arg(long)]
    seconds: Option<f64>,
    /// Measure this netwasm in place of the one of this build.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_netwasm"))]
    netwasm: PathBuf,
    /// Also write every single measurement to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the names of the works, and measure nothing.
    #[arg(long)]
    list: bool,
    /// Passed by `cargo bench`, but not by `cargo test --benches`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { command, options } = Arguments::parse();
    match command {
        Some(Command::NativePeer {
            service,
            buffer,
            upstream,
        }) => {
            native::serve(service, buffer, upstream).context("native peer")?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::NativeWebSocket { library }) => {
            native_websocket::serve(library).context(library.name())?;
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    let wanted = |name: &str| {
        options.filter.is_empty()
            || options
                .filter
                .iter()
                .any(|part| name.contains(part.as_str()))
    };
    let works: Vec<_> = work::all()
        .into_iter()
        .filter(|work| wanted(work.name))
        .collect();
    if options.list {
        for work in &works {
            println!("{}", work.name);
        }
        return Ok(ExitCode::SUCCESS);
    }

    let (rounds, seconds) = if options.bench { (5, 1.5) } else { (1, 0.1) };
    let plan = work::Plan {
        rounds: options.rounds.unwrap_or(rounds).max(1),
        time: Duration::try_from_secs_f64(options.seconds.unwrap_or(seconds))?,
        cores: measure::Cores::pick().context("which cores there are")?,
        peers: peers::Peers::find(options.netwasm),
    };
    measure::raise_descriptor_limit().context("raising the limit of descriptors")?;
    plan.cores
        .pin_load()
        .context("pinning the load generator")?;

    let mut results = Vec::new();
    for work in &works {
        results.push(plan.run(work)?);
    }
    report::print(&mut io::stdout().lock(), &plan, &results)?;
    if let Some(path) = &options.json {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        report::write_json(file, &plan, &results)?;
    }
    let failed = results
        .iter()
        .flat_map(|done| &done.outcomes)
        .filter(|one| one.failure.is_some());
    match failed.count() {
        0 => Ok(ExitCode::SUCCESS),
        count => {
            eprintln!("{count} servers failed; the reasons stand above the table");
            Ok(ExitCode::FAILURE)
        }
    }
}
