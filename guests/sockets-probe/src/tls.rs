//! Steps with the TLS engine: `c = tls client NAME`, `s = tls server`,
//! `tls shake c s` and so on. Files with certificates are read from `/certs`.

use std::collections::BTreeMap;
use std::fs;

use crate::bindings::netwasm::net::sockets;
use crate::bindings::netwasm::net::tls_engine::{
    self, ClientCertificates, Failure, Identity, Incoming, Options, Progress,
};
use crate::said::{Said, error, failed};
use crate::{READABLE, await_readiness};

pub(crate) type Session = tls_engine::Session;

/// Longest exchange of flights that a handshake may need.
const FLIGHTS: usize = 20;

pub(crate) fn run(
    sessions: &mut BTreeMap<String, Session>,
    sockets: &BTreeMap<String, u32>,
    name: &str,
    words: &[&str],
) -> Said {
    let session = |name: &str| {
        sessions
            .get(name)
            .ok_or_else(|| format!("there is no {name}"))
    };
    match *words {
        // Options are words: ca=FILE, cert=FILE, key=FILE, alpn=NAME, default,
        // unverified, unnamed, 1.2, 1.3
        ["client", server, ref options @ ..] => {
            let server = (server != "-").then_some(server);
            let verifies = !options.contains(&"unverified");
            let checks_name = verifies && !options.contains(&"unnamed");
            let made = Session::connect(&parse(options)?, server, verifies, checks_name);
            sessions.insert(name.to_owned(), made.map_err(said)?);
            Ok("ok".to_owned())
        }
        ["server"] => {
            sessions.insert(name.to_owned(), Session::accept());
            Ok("ok".to_owned())
        }
        ["answer", server, ref options @ ..] => answer(session(server)?, options),
        ["refuse", server, alert] => {
            let refused = session(server)?.refuse(alert.parse().map_err(error)?);
            refused.map(|()| "ok".to_owned()).map_err(said)
        }
        // Both ends of a handshake, of which the server answers with these
        // options.
        ["shake", client, server, ref options @ ..] => {
            shake(session(client)?, session(server)?, options)
        }
        ["shake-over", client, socket] => {
            let socket = sockets.get(socket).ok_or("there is no such socket")?;
            shake_over(session(client)?, *socket, &[])
        }
        ["serve-over", server, socket, ref options @ ..] => {
            let socket = sockets.get(socket).ok_or("there is no such socket")?;
            shake_over(session(server)?, *socket, options)
        }
        ["read-over", name, socket] => {
            let socket = sockets.get(socket).ok_or("there is no such socket")?;
            read_over(session(name)?, *socket)
        }
        ["flush-over", name, socket] => {
            let socket = sockets.get(socket).ok_or("there is no such socket")?;
            flush_over(session(name)?, *socket).map(|()| "ok".to_owned())
        }
        ["handshake", name] => match session(name)?.handshake().map_err(said)? {
            Progress::Done => Ok("done".to_owned()),
            Progress::WantRead => Ok("want-read".to_owned()),
            Progress::Greeted(hello) => {
                let name = hello.server_name.unwrap_or_default();
                Ok(format!("greeted {name} {}", hello.alpn.join(",")))
            }
        },
        ["write", name, text] => {
            let written = session(name)?.write(text.replace("\\n", "\n").as_bytes());
            written.map(|count| count.to_string()).map_err(said)
        }
        ["fill", name, size] => {
            let data = vec![b'x'; size.parse().map_err(error)?];
            let written = session(name)?.write(&data);
            written.map(|count| count.to_string()).map_err(said)
        }
        ["move", from, to] => {
            let data = session(from)?.take();
            session(to)?.feed(&data);
            Ok(match data.is_empty() {
                true => "nothing".to_owned(),
                false => "some".to_owned(),
            })
        }
        ["feed", name, text] => {
            session(name)?.feed(text.as_bytes());
            Ok("ok".to_owned())
        }
        ["feed-much", name, size] => {
            let data = vec![0x17; size.parse().map_err(error)?];
            session(name)?.feed(&data);
            Ok("ok".to_owned())
        }
        ["feed-end", name] => {
            session(name)?.feed_end();
            Ok("ok".to_owned())
        }
        ["read", name, most] => {
            let read = session(name)?.read(most.parse().map_err(error)?);
            read.map(incoming).map_err(said)
        }
        // Passes what one session has for the network on to another, which reads.
        ["exchange", from, to, most] => {
            let data = session(from)?.take();
            let most = most.parse().map_err(error)?;
            Ok(exchanged(session(to)?.exchange(&data, most)))
        }
        ["encrypt", from, text, to] => {
            let (encrypted, taken) = session(from)?.encrypt(text.as_bytes());
            session(to)?.feed(&encrypted);
            Ok(taken.to_string())
        }
        ["receive-tls", name, socket, most] => {
            let socket = sockets.get(socket).ok_or("there is no such socket")?;
            let most = most.parse().map_err(error)?;
            let received = sockets::receive_tls(*socket, session(name)?, most);
            let received = received.map_err(failed)?;
            Ok(received.map_or_else(|| "end".to_owned(), exchanged))
        }
        ["send-tls", name, socket, text] => {
            let socket = sockets.get(socket).ok_or("there is no such socket")?;
            let sent = sockets::send_tls(*socket, session(name)?, text.as_bytes());
            let (rest, taken) = sent.map_err(failed)?;
            Ok(match rest.len() {
                0 => taken.to_string(),
                left => format!("{taken}, {left} bytes left"),
            })
        }
        ["pending", name] => Ok(session(name)?.pending().to_string()),
        ["close", name] => {
            session(name)?.close();
            Ok("ok".to_owned())
        }
        ["drop", name] => {
            sessions.remove(name);
            Ok("ok".to_owned())
        }
        ["info", name] => {
            let session = session(name)?;
            let (cipher, bits) = session.cipher().unwrap_or_default();
            let version = session.version().unwrap_or_default();
            let alpn = session.alpn().unwrap_or_default();
            let certificates = session.peer_certificates().len();
            let resumed = session.resumed();
            Ok(format!(
                "{version} {cipher} {bits} alpn={alpn} certificates={certificates} \
                 resumed={resumed}"
            ))
        }
        ["export", name, other, length] => {
            let length = length.parse().map_err(error)?;
            let of = |name: &str| {
                let exported = session(name)?.export("EXPORTER-Channel-Binding", None, length);
                exported.map_err(said)
            };
            let (one, other) = (of(name)?, of(other)?);
            Ok(format!("{} bytes, equal {}", one.len(), one == other))
        }
        _ => Err("there is no such step".to_owned()),
    }
}

fn parse(words: &[&str]) -> Result<Options, String> {
    let read = |name: &str| {
        let path = format!("/certs/{name}");
        fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
    };
    let mut options = Options {
        identities: Vec::new(),
        authorities: Vec::new(),
        default_authorities: false,
        versions: (0x0303, 0x0304),
        alpn: Vec::new(),
    };
    for word in words {
        match word.split_once('=') {
            Some(("ca", file)) => options.authorities.extend(der(&read(file)?)?),
            Some(("cert", files)) => {
                let (chain, key) = files.split_once(',').ok_or("cert=CHAIN,KEY")?;
                options.identities.push(Identity {
                    chain: read(chain)?,
                    key: read(key)?,
                    password: None,
                });
            }
            Some(("alpn", name)) => options.alpn.push(name.to_owned()),
            _ => match *word {
                "default" => options.default_authorities = true,
                "1.1" => options.versions = (0x0302, 0x0302),
                "1.2" => options.versions = (0x0303, 0x0303),
                "1.3" => options.versions = (0x0304, 0x0304),
                "unverified" | "unnamed" | "optional" | "required" => {}
                _ => return Err(format!("there is no option {word}")),
            },
        }
    }
    Ok(options)
}

/// Returns the certificates of a file in PEM.
fn der(pem: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut certificates = Vec::new();
    for part in pem.split("-----BEGIN CERTIFICATE-----").skip(1) {
        let (text, _) = part.split_once("-----END").ok_or("no end")?;
        certificates.push(base64(text)?);
    }
    Ok(certificates)
}

fn base64(text: &str) -> Result<Vec<u8>, String> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in text
        .bytes()
        .filter(|it| !it.is_ascii_whitespace() && *it != b'=')
    {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err("no base64".to_owned()),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Ok(bytes)
}

fn answer(server: &Session, options: &[&str]) -> Said {
    let clients = match options {
        _ if options.contains(&"required") => ClientCertificates::Required,
        _ if options.contains(&"optional") => ClientCertificates::Optional,
        _ => ClientCertificates::None,
    };
    let answered = server.answer(&parse(options)?, clients);
    answered.map(|()| "ok".to_owned()).map_err(said)
}

fn shake(client: &Session, server: &Session, options: &[&str]) -> Said {
    for _ in 0..FLIGHTS {
        let progress = client.handshake();
        server.feed(&client.take());
        let done = matches!(
            progress.map_err(|it| format!("client: {}", said(it)))?,
            Progress::Done
        );
        // The client hears of a refusal.
        let refused = |why: String| {
            client.feed(&server.take());
            let heard = client.handshake().map(drop);
            let heard = heard.and_then(|()| client.read(1).map(drop));
            let heard = heard.map_or_else(said, |()| "nothing".to_owned());
            format!("server: {why}; client: {heard}")
        };
        let progress = server.handshake();
        let progress = progress.map_err(|failure| refused(said(failure)));
        match progress? {
            Progress::Greeted(_) => {
                answer(server, options).map_err(refused)?;
            }
            Progress::Done if done => {
                client.feed(&server.take());
                return Ok("done".to_owned());
            }
            _ => {}
        }
        client.feed(&server.take());
    }
    Err("it does not end".to_owned())
}

fn flush_over(session: &Session, socket: u32) -> Result<(), String> {
    let out = session.take();
    let mut rest = out.as_slice();
    while !rest.is_empty() {
        let count = sockets::send(socket, rest).map_err(failed)?;
        rest = rest.get(count as usize..).unwrap_or_default();
    }
    Ok(())
}

/// Moves what has come over a socket to a session.
fn fill_over(session: &Session, socket: u32) -> Result<(), String> {
    await_readiness(socket, READABLE)?;
    let data = sockets::receive(socket, 64 << 10).map_err(failed)?;
    match data.is_empty() {
        true => session.feed_end(),
        false => session.feed(&data),
    }
    Ok(())
}

fn shake_over(session: &Session, socket: u32, options: &[&str]) -> Said {
    loop {
        let progress = session.handshake();
        flush_over(session, socket)?;
        match progress.map_err(said)? {
            Progress::Done => return Ok("done".to_owned()),
            Progress::Greeted(_) => {
                answer(session, options)?;
            }
            Progress::WantRead => fill_over(session, socket)?,
        }
    }
}

fn read_over(session: &Session, socket: u32) -> Said {
    loop {
        match session.read(1 << 20).map_err(said)? {
            Incoming::WantRead => fill_over(session, socket)?,
            other => return Ok(incoming(other)),
        }
    }
}

fn incoming(read: Incoming) -> String {
    match read {
        Incoming::Data(data) if data.len() <= 100 => {
            format!("{:?}", String::from_utf8_lossy(&data))
        }
        Incoming::Data(data) => format!("{} bytes", data.len()),
        Incoming::WantRead => "want-read".to_owned(),
        Incoming::End => "end".to_owned(),
    }
}

fn exchanged((data, more): (Vec<u8>, bool)) -> String {
    let data = incoming(Incoming::Data(data));
    match more {
        true => format!("{data}, more"),
        false => format!("{data}, no more"),
    }
}

fn said(failure: Failure) -> String {
    match failure {
        Failure::Invalid(text) => format!("invalid ({text})"),
        Failure::Certificate((code, text)) => format!("certificate {code} ({text})"),
        Failure::Alert((number, name)) => format!("alert {number} ({name})"),
        Failure::Protocol(text) => format!("protocol ({text})"),
        Failure::Truncated => "truncated".to_owned(),
        Failure::Denied(text) => format!("denied ({text})"),
    }
}
