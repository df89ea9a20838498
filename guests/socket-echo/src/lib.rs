//! An echo server on `wasi:sockets`, which runs on any WASI 0.3 host:
//! `-- ADDRESS:PORT`.

use std::net::SocketAddr;

use wasip3::cli::environment;
use wasip3::exports::cli::run::Guest;
use wasip3::sockets::types::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, TcpSocket,
};

/// Clients that the kernel keeps waiting until they are accepted.
const BACKLOG: u64 = 128;

struct SocketEcho;
wasip3::cli::command::export!(SocketEcho);

impl Guest for SocketEcho {
    async fn run() -> Result<(), ()> {
        let argument = environment::get_arguments().into_iter().nth(1);
        let Some(address) = argument.and_then(|text| text.parse().ok()) else {
            return fail("usage: socket-echo ADDRESS:PORT");
        };
        match serve(address).await {
            Ok(()) => Ok(()),
            Err(error) => fail(&format!("cannot listen on {address}: {}", words(&error))),
        }
    }
}

/// Says what stands in the way of listening.
fn words(error: &ErrorCode) -> String {
    match error {
        ErrorCode::AccessDenied => "the command line does not allow it".into(),
        ErrorCode::AddressInUse => "another program listens there".into(),
        ErrorCode::AddressNotBindable => "this machine does not have that address".into(),
        other => format!("{other:?}"),
    }
}

async fn serve(address: SocketAddr) -> Result<(), ErrorCode> {
    let listener = TcpSocket::create(family(address))?;
    // `bind` sets SO_REUSEADDR: the port is free again at once after a restart.
    listener.bind(to_wasi(address))?;
    listener.set_listen_backlog_size(BACKLOG)?;
    let mut clients = listener.listen()?;
    println!("listening on {}", to_std(listener.get_local_address()?));
    while let Some(client) = clients.next().await {
        wit_bindgen::spawn_local(echo(client));
    }
    Ok(())
}

/// Passes what the client sends back to it, until it ends its stream.
async fn echo(client: TcpSocket) {
    let (data, received) = client.receive();
    let _ = client.send(data).await;
    let _ = received.await;
}

fn family(address: SocketAddr) -> IpAddressFamily {
    match address {
        SocketAddr::V4(_) => IpAddressFamily::Ipv4,
        SocketAddr::V6(_) => IpAddressFamily::Ipv6,
    }
}

fn to_wasi(address: SocketAddr) -> IpSocketAddress {
    match address {
        SocketAddr::V4(v4) => IpSocketAddress::Ipv4(Ipv4SocketAddress {
            port: v4.port(),
            address: v4.ip().octets().into(),
        }),
        SocketAddr::V6(v6) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port: v6.port(),
            flow_info: v6.flowinfo(),
            address: v6.ip().segments().into(),
            scope_id: v6.scope_id(),
        }),
    }
}

fn to_std(address: IpSocketAddress) -> SocketAddr {
    match address {
        IpSocketAddress::Ipv4(v4) => (<[u8; 4]>::from(v4.address), v4.port).into(),
        IpSocketAddress::Ipv6(v6) => (<[u16; 8]>::from(v6.address), v6.port).into(),
    }
}

fn fail(message: &str) -> Result<(), ()> {
    eprintln!("{message}");
    Err(())
}
