//! TLS over the guest's own sockets, by `wasi:tls`.

wit_bindgen::generate!({
    path: "wit-tls",
    world: "netwasm:std-probe-tls/interfaces",
    with: {
        "wasi:io/error@0.2.12": wasip2::io::error,
        "wasi:io/poll@0.2.12": wasip2::io::poll,
        "wasi:io/streams@0.2.12": wasip2::io::streams,
    },
    generate_all,
});

use wasi::tls::types::ClientHandshake;
use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp::TcpSocket;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

/// Sends a message to an address in TLS, and returns all that comes back.
pub(crate) fn ask(address: &str, name: &str, message: &str) -> String {
    // The socket outlives its streams.
    let (_socket, input, output) = match connect(address) {
        Ok(connected) => connected,
        Err(error) => return format!("connect: {error:?}"),
    };
    let streams = ClientHandshake::finish(ClientHandshake::new(name, input, output));
    streams.subscribe().block();
    let made = streams.get().expect("it is ready").expect("it is new");
    let (connection, input, output) = match made {
        Ok(made) => made,
        Err(error) => return format!("tls: {}", error.to_debug_string()),
    };
    if let Err(error) = output.blocking_write_and_flush(message.as_bytes()) {
        return format!("write: {error:?}");
    }
    connection.close_output();
    let mut all = Vec::new();
    let answer = loop {
        match input.blocking_read(1 << 14) {
            Ok(some) => all.extend(some),
            Err(StreamError::Closed) => break String::from_utf8_lossy(&all).into_owned(),
            Err(error) => break format!("read: {error:?}"),
        }
    };
    drop((input, output));
    answer
}

fn connect(address: &str) -> Result<(TcpSocket, InputStream, OutputStream), ErrorCode> {
    let (ip, port) = address.split_once(':').expect("a port");
    let mut bytes = ip.split('.').map(|it| it.parse().expect("a byte"));
    let mut byte = || bytes.next().expect("four bytes");
    let address = IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: port.parse().expect("a port"),
        address: (byte(), byte(), byte(), byte()),
    });
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), address)?;
    loop {
        match socket.finish_connect() {
            Ok((input, output)) => return Ok((socket, input, output)),
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            Err(error) => return Err(error),
        }
    }
}
