//! A program that does with objects of `wasi:blobstore` what its arguments say,
//! and prints what it sees. A semicolon is between one thing and the next.

use std::env;
use std::process::ExitCode;

use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use self::wasi::blobstore::blobstore::{
    container_exists, copy_object, create_container, delete_container, get_container, move_object,
};
use self::wasi::blobstore::container::Container;
use self::wasi::blobstore::types::{IncomingValue, ObjectId, OutgoingValue};

wit_bindgen::generate!({
    path: "wit",
    world: "blobs",
    with: {
        "wasi:io/error@0.2.12": wasip2::io::error,
        "wasi:io/poll@0.2.12": wasip2::io::poll,
        "wasi:io/streams@0.2.12": wasip2::io::streams,
    },
    generate_all,
});

/// Largest piece of a stream in bytes.
const PIECE: u64 = 32 << 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    for words in words.split(|word| *word == ";") {
        if let Err(error) = run(words) {
            println!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(words: &[&str]) -> Result<(), String> {
    match *words {
        ["put", container, name, text] => put(container, name, |body| {
            body.blocking_write_and_flush(text.as_bytes()).map_err(told)
        })?,
        ["get", container, name, start, last] => {
            let number = |word: &str| word.parse().unwrap_or(u64::MAX);
            let value = get_container(container)?.get_data(name, number(start), number(last))?;
            let size = value.size();
            let bytes = IncomingValue::incoming_value_consume_sync(value)?;
            println!("{size}: {}", String::from_utf8_lossy(&bytes));
        }
        // By streams, where `copy` is the host's.
        ["pipe", container, name, to] => {
            let value = get_container(container)?.get_data(name, 0, u64::MAX)?;
            let from = IncomingValue::incoming_value_consume_async(value)?;
            put(container, to, |body| pipe(&from, body))?;
        }
        // Without `finish`.
        ["abandon", container, name] => {
            let value = OutgoingValue::new_outgoing_value();
            let body = value.outgoing_value_write_body().map_err(|()| "no body")?;
            get_container(container)?.write_data(name, &value)?;
            body.blocking_write_and_flush(b"half").map_err(told)?;
        }
        ["list", container] => {
            let names = get_container(container)?.list_objects()?;
            names.skip_stream_object_names(0)?;
            loop {
                // Less than there are, so that it goes on.
                let (some, is_over) = names.read_stream_object_names(2)?;
                some.iter().for_each(|name| println!("{name}"));
                if is_over {
                    break;
                }
            }
        }
        ["info", container, name] => {
            let of = get_container(container)?;
            let info = of.object_info(name)?;
            let since = of.info()?.created_at;
            println!(
                "{} in {}: {} bytes, {}",
                info.name,
                info.container,
                info.size,
                info.created_at > 0 && since > 0 && of.name()? == container
            );
        }
        ["has", container, name] => println!("{}", get_container(container)?.has_object(name)?),
        ["delete", container, name] => get_container(container)?.delete_object(name)?,
        ["clear", container] => get_container(container)?.clear()?,
        ["copy", from, name, to, new] => copy_object(&id(from, name), &id(to, new))?,
        ["move", from, name, to, new] => move_object(&id(from, name), &id(to, new))?,
        ["create", container] => drop::<Container>(create_container(container)?),
        ["remove", container] => delete_container(container)?,
        ["exists", container] => println!("{}", container_exists(container)?),
        _ => return Err(format!("not understood: {words:?}")),
    }
    Ok(())
}

/// Writes an object by a stream.
fn put(
    container: &str,
    name: &str,
    write: impl FnOnce(&OutputStream) -> Result<(), String>,
) -> Result<(), String> {
    let container = get_container(container)?;
    let value = OutgoingValue::new_outgoing_value();
    let body = value.outgoing_value_write_body().map_err(|()| "no body")?;
    if value.outgoing_value_write_body().is_ok() {
        return Err("a second body".into());
    }
    container.write_data(name, &value)?;
    write(&body)?;
    drop(body);
    OutgoingValue::finish(value)
}

fn pipe(from: &InputStream, to: &OutputStream) -> Result<(), String> {
    loop {
        let bytes = match from.blocking_read(PIECE) {
            Ok(bytes) => bytes,
            Err(StreamError::Closed) => return to.blocking_flush().map_err(told),
            Err(error) => return Err(told(error)),
        };
        // Of 4 KiB at most each.
        for piece in bytes.chunks(4096) {
            to.blocking_write_and_flush(piece).map_err(told)?;
        }
    }
}

fn id(container: &str, object: &str) -> ObjectId {
    ObjectId {
        container: container.into(),
        object: object.into(),
    }
}

fn told(error: StreamError) -> String {
    match error {
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
        StreamError::Closed => "the stream is closed".into(),
    }
}
