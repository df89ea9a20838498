//! Connects, sends a message, and prints what comes back: `-- HOST PORT MESSAGE`.
//! On `wasi:sockets`, so that it runs on any WASI 0.3 host.

use std::fmt::Debug;

use wasip3::cli::environment;
use wasip3::exports::cli::run::Guest;
use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
    TcpSocket,
};

struct TcpClient;
wasip3::cli::command::export!(TcpClient);

impl Guest for TcpClient {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        let [_, host, port, message] = &*arguments else {
            return fail("usage: tcp-client HOST PORT MESSAGE");
        };
        let Ok(port) = port.parse() else {
            return fail("the port is a number from 1 to 65535");
        };
        let socket = match connect(host, port).await {
            Ok(socket) => socket,
            Err(error) => return fail(&format!("cannot connect to {host}:{port}: {error}")),
        };
        match exchange(&socket, message).await {
            Ok(()) => Ok(()),
            Err(error) => fail(&format!("the connection failed: {}", words(error))),
        }
    }
}

/// Sends the message, and waits for as much to come back.
async fn exchange(socket: &TcpSocket, message: &str) -> Result<(), ErrorCode> {
    println!("Sending: '{message}'");
    let (mut writer, data) = wasip3::wit_stream::new();
    let _sent = socket.send(data);
    let (mut reader, received) = socket.receive();
    writer.write_all(message.as_bytes().to_vec()).await;

    let mut reply = Vec::with_capacity(message.len());
    while reply.len() < message.len() {
        let before = reply.len();
        (_, reply) = reader.read(reply).await;
        if reply.len() == before {
            // It ended early: why, if not in good order?
            drop(writer);
            received.await?;
            break;
        }
    }
    println!("Received: '{}'", String::from_utf8_lossy(&reply));
    Ok(())
}

/// Connects to the first of the host's addresses that answers.
async fn connect(host: &str, port: u16) -> Result<TcpSocket, String> {
    let addresses = resolve_addresses(host.to_owned()).await;
    let addresses = addresses.map_err(words)?;
    let mut failed = "it has no address".to_owned();
    for address in addresses {
        let (family, address) = to_socket_address(address, port);
        let socket = TcpSocket::create(family).map_err(words)?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(error) => failed = words(error),
        }
    }
    Err(failed)
}

fn to_socket_address(address: IpAddress, port: u16) -> (IpAddressFamily, IpSocketAddress) {
    match address {
        IpAddress::Ipv4(address) => (
            IpAddressFamily::Ipv4,
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }),
        ),
        IpAddress::Ipv6(address) => (
            IpAddressFamily::Ipv6,
            IpSocketAddress::Ipv6(Ipv6SocketAddress {
                port,
                flow_info: 0,
                address,
                scope_id: 0,
            }),
        ),
    }
}

/// Puts an error's name in words: `connection refused` for `ConnectionRefused`.
fn words(error: impl Debug) -> String {
    let name = format!("{error:?}");
    let name = name.strip_prefix("ErrorCode::").unwrap_or(&name);
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

fn fail(message: &str) -> Result<(), ()> {
    eprintln!("{message}");
    Err(())
}
