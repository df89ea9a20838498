//! Fetches URLs, all at once, and prints the status of each: `-- URL...`
//!
//! The host opens the connections and the TLS sessions. The HTTP is here: a
//! request that asks for the end of the connection after the response, which is
//! read to its end so that one that was cut short shows.
wit_bindgen::generate!({ path: "../../wit", world: "netwasm:net/stream-client", generate_all });

mod url;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use netwasm::net::client::connect;
use netwasm::net::streams::Connection;
use netwasm::net::types::{ConnectOptions, Endpoint, Error, TlsOptions};
use url::Url;
use wasip3::cli::environment;
use wasip3::exports::cli::run::Guest;
use wit_bindgen::StreamReader;

/// The longest head of a response, bytes.
const LONGEST_HEAD: usize = 32 << 10;

struct Fetch;
wasip3::cli::command::export!(Fetch);

impl Guest for Fetch {
    async fn run() -> Result<(), ()> {
        let urls = environment::get_arguments().split_off(1);
        if urls.is_empty() {
            eprintln!("usage: fetch URL...");
            return Err(());
        }
        let mut fetching: FuturesUnordered<_> = urls.iter().map(|url| fetch(url)).collect();
        let mut failed = false;
        // As they come.
        while let Some((host, result)) = fetching.next().await {
            match result {
                Ok(status) => println!("{host}: {status}"),
                Err(reason) => {
                    println!("{host}: failed: {reason}");
                    failed = true;
                }
            }
        }
        if failed { Err(()) } else { Ok(()) }
    }
}

/// The host's name, and the status line of what it answers.
async fn fetch(url: &str) -> (&str, Result<String, String>) {
    match Url::parse(url) {
        Some(parsed) => (parsed.host, get(&parsed).await),
        None => (url, Err("it is not an http:// or https:// URL".into())),
    }
}

async fn get(url: &Url<'_>) -> Result<String, String> {
    let endpoint = Endpoint::Name((url.host.into(), url.port));
    let options = ConnectOptions {
        tls: url.is_encrypted.then(|| TlsOptions {
            server_name: None,
            alpn: vec!["http/1.1".into()],
            authority: None,
            identity: None,
        }),
        timeout: None,
        local_address: None,
    };
    let connected = connect(endpoint, options).await;
    exchange(&connected.map_err(|error| error.text)?, url).await
}

async fn exchange(connection: &Connection, url: &Url<'_>) -> Result<String, String> {
    let (mut writer, data) = wit_stream::new();
    let sent = connection.send(data);
    let (mut reader, received) = connection.receive();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: netwasm-fetch\r\nConnection: close\r\n\r\n",
        url.path, url.authority,
    );
    if !writer.write_all(request.into_bytes()).await.is_empty() {
        let error = sent.await.err();
        return Err(error.map_or_else(|| "it takes no request".into(), explain));
    }
    let (head, rest) = read_head(&mut reader).await;
    let Some(status) = head
        .lines()
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
    else {
        // Why did it end?
        drop(reader);
        return Err(match received.await {
            Err(error) => explain(error),
            Ok(()) => "it answers something else than HTTP".into(),
        });
    };
    match content_length(&head) {
        // All of it is there, however the connection ends.
        Some(length) if read_body(&mut reader, rest, length).await >= length => {}
        Some(_) => {
            let why = received
                .await
                .map_or_else(explain, |()| "the end of the connection".into());
            return Err(format!("{status}, cut short: {why}"));
        }
        None => {
            read_body(&mut reader, rest, u64::MAX).await;
            if let Err(error) = received.await {
                return Err(format!("{status}, cut short: {}", explain(error)));
            }
        }
    }
    Ok(status.to_owned())
}

/// The head of a response, and how many bytes came after it.
async fn read_head(reader: &mut StreamReader<u8>) -> (String, u64) {
    const END: &[u8] = b"\r\n\r\n";
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST_HEAD {
        let (_, chunk) = reader.read(Vec::with_capacity(4096)).await;
        if chunk.is_empty() {
            break;
        }
        bytes.extend(chunk);
        if let Some(end) = bytes.windows(END.len()).position(|window| window == END) {
            let rest = bytes.len() - end - END.len();
            bytes.truncate(end);
            return (String::from_utf8_lossy(&bytes).into_owned(), rest as u64);
        }
    }
    (String::new(), 0)
}

/// Reads so much of the body, or to its end; `count` bytes are there already.
async fn read_body(reader: &mut StreamReader<u8>, mut count: u64, length: u64) -> u64 {
    let mut buffer = Vec::with_capacity(64 << 10);
    while count < length {
        buffer.clear();
        (_, buffer) = reader.read(buffer).await;
        if buffer.is_empty() {
            break;
        }
        count += buffer.len() as u64;
    }
    count
}

fn content_length(head: &str) -> Option<u64> {
    head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_it = name.eq_ignore_ascii_case("content-length");
        is_it.then(|| value.trim().parse().ok())?
    })
}

fn explain(error: Error) -> String {
    error.text
}
