//! Does what the first line that it receives says: for the test-suite.
wit_bindgen::generate!({ path: "../../wit", world: "netwasm:net/awaiting", generate_all });

mod client;

use std::future::poll_fn;
use std::hint;
use std::pin::{Pin, pin};
use std::task::Poll;

use exports::netwasm::net::stream_handler::Guest;
use netwasm::net::log::{Level, log};
use netwasm::net::metrics;
use netwasm::net::shared;
use netwasm::net::streams::Connection;
use netwasm::net::types::{Error, ErrorCode as NetCode, SocketOption, TlsRole};
use wasip3::clocks::monotonic_clock;
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wit_bindgen::{StreamReader, StreamWriter};

/// Nanoseconds.
const HOUR: u64 = 3_600_000_000_000;

struct Probe;
export!(Probe);

impl Guest for Probe {
    async fn handle(connection: Connection) {
        let (mut reader, received) = connection.receive();
        let line = line(&mut reader).await;
        if let Some(path) = line.strip_prefix("file ") {
            return send_file(&connection, path).await;
        }
        if let Some(to) = line.strip_prefix("relay ") {
            return client::relay(&connection, reader, to).await;
        }
        // The rest of the stream after that line goes back, unread.
        if line == "rest" {
            let sent = code(connection.send(reader).await);
            let message = format!("received {:?}, sent {sent:?}", code(received.await));
            return log(Level::Info, &message);
        }
        let (mut writer, data) = wit_stream::new();
        let sent = connection.send(data);
        match &*line {
            "info" => {
                let info = connection.info();
                say(&mut writer, &format!("{:?} {:?}", info.peer, info.tls)).await;
            }
            "proxied" => {
                let told = connection.proxied();
                say(&mut writer, &format!("{told:?}")).await;
            }
            // One of each kind of metric.
            "metrics" => {
                let labels = [metrics::Label {
                    name: "kind".into(),
                    value: "a \"b\" \\ c\nd".into(),
                }];
                let counter = metrics::counter("streams", "Streams", &labels);
                let gauge = metrics::gauge("level", "Level", &[]);
                let histogram = metrics::histogram("sizes", "Sizes", &[1.0], &[]);
                metrics::add(counter.expect("a counter"), 1);
                metrics::change(gauge.expect("a gauge"), 0.5);
                metrics::observe(histogram.expect("a histogram"), 2.0);
                say(&mut writer, "ok").await;
            }
            // A token of two, one of each kind of function of a value.
            "shared" => {
                let taken = shared::take(b"stream", 1e-3, 2, 1).expect("a bucket");
                let sum = shared::add(b"streams", 1, None).expect("a counter");
                let version = shared::set(b"value", b"x", None).expect("a version");
                let swapped = shared::compare_and_swap(b"value", Some(version), b"y", None);
                let swapped = swapped.expect("no error").is_some();
                let data = shared::get(b"value").expect("a value").data;
                let touched = shared::touch(b"value", Some(HOUR));
                let removed = shared::remove(b"value", None);
                let text = format!(
                    "{} {sum} {swapped} {} {touched} {removed}",
                    taken.taken,
                    String::from_utf8_lossy(&data)
                );
                say(&mut writer, &text).await;
            }
            "panic" => panic!("as was asked for"),
            "start-tls" => {
                say(&mut writer, "go ahead").await;
                match connection.start_tls(TlsRole::Server, Vec::new()).await {
                    Ok(info) => say(&mut writer, &format!("in {}", info.version)).await,
                    Err(error) => {
                        log(Level::Info, &format!("TLS {:?}", error.code));
                        drop(writer);
                        let (received, sent) = (code(received.await), code(sent.await));
                        return log(Level::Info, &format!("ended {received:?}, {sent:?}"));
                    }
                }
                let again = connection.start_tls(TlsRole::Server, Vec::new()).await;
                say(
                    &mut writer,
                    &format!("{:?}", again.map_err(|it| it.code).err()),
                )
                .await;
            }
            "abort" => {
                say(&mut writer, "whole").await;
                connection.abort();
                let message = format!(
                    "received {:?}, sent {:?}",
                    code(received.await),
                    code(sent.await)
                );
                return log(Level::Info, &message);
            }
            "idle-timeout" => {
                connection.set_idle_timeout(Some(1_000_000_000));
                say(&mut writer, "ok").await;
                let message = format!("received {:?}", code(received.await));
                return log(Level::Info, &message);
            }
            "options" => {
                let set = |value| connection.set_option(value).map_err(|error| error.code);
                let results = [
                    set(SocketOption::NoDelay(false)),
                    set(SocketOption::HopLimit(0)),
                    set(SocketOption::TrafficClass(8)),
                ];
                say(&mut writer, &format!("{results:?}")).await;
            }
            // It exits with success: all that it said is said, or not.
            "exit" => {
                say(&mut writer, "bye").await;
                drop(writer);
                std::process::exit(0);
            }
            "exit-open" => {
                say(&mut writer, "by").await;
                std::process::exit(0);
            }
            "spin" => loop {
                hint::spin_loop();
            },
            "grow" => say(&mut writer, &format!("{}", vec![1_u8; 256 << 20].len())).await,
            "again" => {
                let (mut nothing, again) = connection.receive();
                let (result, _) = nothing.read(Vec::with_capacity(1)).await;
                say(&mut writer, &format!("{result:?} {:?}", code(again.await))).await;
                let (mut more, data) = wit_stream::new();
                let again = connection.send(data);
                let rest = more.write_all(vec![0]).await;
                say(
                    &mut writer,
                    &format!("{} {:?}", rest.len(), code(again.await)),
                )
                .await;
            }
            // Nothing that comes is read, and the connection stands.
            "hold" => {
                say(&mut writer, "ok").await;
                let mut rest = reader.read(Vec::with_capacity(1)).await.1;
                while !rest.is_empty() {
                    rest.clear();
                    rest = reader.read(rest).await.1;
                }
            }
            // Nothing is read, up to the end of the connection.
            "idle" => {
                say(&mut writer, "ok").await;
                let _ = received.await;
                return;
            }
            // Both directions are told how they ended.
            "outcome" => {
                say(&mut writer, "ok").await;
                while reader.next().await.is_some() {}
                let received = code(received.await);
                drop(writer);
                let message = format!("received {received:?}, sent {:?}", code(sent.await));
                log(Level::Info, &message);
                return;
            }
            // A file is read here, to its end.
            _ if line.starts_with("sum ") => {
                let sum = sum(line.trim_start_matches("sum ")).await;
                say(&mut writer, &sum).await;
            }
            // A write that finds no room is given up, and the connection is
            // read on.
            "give-up" => {
                give_up(&mut writer).await;
                let mut count = 0_u64;
                while reader.next().await.is_some() {
                    count += 1;
                }
                let message = format!("{count} after that, received {:?}", code(received.await));
                return log(Level::Info, &message);
            }
            // A read that waits is given up, and begun again.
            "impatient" => {
                impatient(&mut reader).await;
                say(&mut writer, "ok").await;
                let mut rest = reader.read(Vec::with_capacity(64)).await.1;
                while !rest.is_empty() {
                    writer.write_all(rest).await;
                    impatient(&mut reader).await;
                    rest = reader.read(Vec::with_capacity(64)).await.1;
                }
            }
            // Everything is let go of while it is under way.
            "drop-all" => {
                drop((received, sent));
                let mut read = pin!(reader.read(Vec::with_capacity(1)));
                poll_once(read.as_mut()).await;
                drop(connection);
                return;
            }
            "drop-reader" => {
                drop(reader);
                say(&mut writer, &format!("{:?}", code(received.await))).await;
                drop(connection);
                drop(writer);
                let message = format!("sent {:?}", code(sent.await));
                return log(Level::Info, &message);
            }
            "hoard-streams" => {
                let mut kept = Vec::new();
                loop {
                    kept.push(wit_stream::new::<u8>());
                }
            }
            "hoard-waits" => {
                let mut kept = Vec::new();
                loop {
                    let mut wait = Box::pin(monotonic_clock::wait_for(HOUR));
                    poll_once(wait.as_mut()).await;
                    kept.push(wait);
                }
            }
            // It goes on when its connection is long gone.
            "linger" => {
                say(&mut writer, "ok").await;
                drop((writer, reader, connection));
                return monotonic_clock::wait_for(HOUR).await;
            }
            // A task goes on after the return.
            "later" => {
                wit_bindgen::spawn_local(async move {
                    // It waits for a byte first.
                    reader.next().await;
                    say(&mut writer, "later").await;
                });
                return;
            }
            "client" => client::obey(&mut reader, &mut writer).await,
            _ => say(&mut writer, "what?").await,
        }
        drop(writer);
        let _ = sent.await;
    }
}

/// Writes until a write waits, and gives that up.
async fn give_up(writer: &mut StreamWriter<u8>) {
    loop {
        let mut write = pin!(writer.write(vec![0; 1 << 16]));
        if poll_once(write.as_mut()).await.is_none() {
            write.cancel();
            return;
        }
    }
}

/// Reads, and gives that up at once.
async fn impatient(reader: &mut StreamReader<u8>) {
    for _ in 0..3 {
        let mut read = pin!(reader.read(Vec::new()));
        if poll_once(read.as_mut()).await.is_none() {
            read.cancel();
        }
    }
}

/// Polls a future once. Returns its output if it is ready.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// The length of a file of the first directory, and the sum of its bytes,
/// computed at leisure.
async fn sum(path: &str) -> String {
    let file = match open(path).await {
        Ok(file) => file,
        Err(error) => return format!("{error:?}"),
    };
    let (mut content, read) = file.read_via_stream(0);
    let (mut length, mut sum) = (0_u64, 0_u64);
    let mut buffer = Vec::with_capacity(4096);
    loop {
        buffer = content.read(buffer).await.1;
        if buffer.is_empty() {
            return format!("{length} {sum} {:?}", read.await);
        }
        length += buffer.len() as u64;
        sum += buffer.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        buffer.clear();
    }
}

async fn open(path: &str) -> Result<Descriptor, ErrorCode> {
    let directories = preopens::get_directories();
    let (directory, _) = directories.first().ok_or(ErrorCode::NoEntry)?;
    let (open, access) = (OpenFlags::empty(), DescriptorFlags::READ);
    directory
        .open_at(PathFlags::empty(), path.to_owned(), open, access)
        .await
}

/// Passes a file of the first directory on, unread.
async fn send_file(connection: &Connection, path: &str) {
    match open(path).await {
        Ok(file) => {
            let (content, read) = file.read_via_stream(0);
            let sent = code(connection.send(content).await);
            let message = format!("read {:?}, sent {sent:?}", read.await);
            log(Level::Info, &message);
        }
        Err(error) => log(Level::Error, &format!("{error:?}")),
    }
}

async fn line(reader: &mut StreamReader<u8>) -> String {
    let mut line = Vec::new();
    loop {
        match reader.next().await {
            None | Some(b'\n') => return String::from_utf8_lossy(&line).into_owned(),
            Some(byte) => line.push(byte),
        }
    }
}

async fn say(writer: &mut StreamWriter<u8>, text: &str) {
    writer.write_all(format!("{text}\n").into_bytes()).await;
}

/// Returns the code of a connection's error.
fn code(result: Result<(), Error>) -> Result<(), NetCode> {
    result.map_err(|error| error.code)
}
