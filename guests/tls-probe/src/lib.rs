//! Sends a message to an address in TLS, by `wasi:tls` and `wasi:sockets` 0.3, and
//! prints what comes back: for tests.
//!
//! ```sh
//! netwasm run guests/tls-probe.wasm --allow-connect 127.0.0.1:443 -- 127.0.0.1:443 localhost hello
//! ```
wit_bindgen::generate!({
    path: "wit",
    world: "netwasm:tls-probe/interfaces",
    generate_all,
});

use std::net::SocketAddrV4;

use wasi::tls::client::Connector;
use wasip3::cli::environment;
use wasip3::exports::cli::run::Guest;
use wasip3::sockets::types::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket,
};

struct TlsProbe;
wasip3::cli::command::export!(TlsProbe);

impl Guest for TlsProbe {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
        let [address, name, message] = *words else {
            println!("three words: ADDRESS NAME MESSAGE");
            return Err(());
        };
        println!("{}", ask(address, name, message).await);
        Ok(())
    }
}

async fn ask(address: &str, name: &str, message: &str) -> String {
    let socket = match connect(address).await {
        Ok(socket) => socket,
        Err(error) => return format!("connect: {error:?}"),
    };
    let (arriving, _received) = socket.receive();
    let connector = Connector::new();
    let (mut writer, message_out) = wit_stream::new();
    let (leaving, _encrypted) = connector.send(message_out);
    let (mut reader, _decrypted) = connector.receive(arriving);
    let _sent = socket.send(leaving);
    if let Err(error) = Connector::connect(connector, name.to_owned()).await {
        return format!("tls: {}", error.to_debug_string());
    }
    let left = writer.write_all(message.as_bytes().to_vec()).await;
    if !left.is_empty() {
        return format!("{} bytes were not taken", left.len());
    }
    drop(writer);
    let mut all = Vec::new();
    while let Some(byte) = reader.next().await {
        all.push(byte);
    }
    String::from_utf8_lossy(&all).into_owned()
}

async fn connect(address: &str) -> Result<TcpSocket, ErrorCode> {
    let address: SocketAddrV4 = address.parse().map_err(|_| ErrorCode::InvalidArgument)?;
    let socket = TcpSocket::create(IpAddressFamily::Ipv4)?;
    let address = IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: address.port(),
        address: address.ip().octets().into(),
    });
    socket.connect(address).await?;
    Ok(socket)
}
