//! A program on WASI 0.3 that does what its arguments say, good or bad: for the
//! test-suite. It prints how each step ended.

use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use wasip3::cli::{environment, stdin, stdout};
use wasip3::exports::cli::run::Guest;
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, TcpSocket,
    UdpSocket,
};

use wasip3::wit_stream;

struct SocketProbe;
wasip3::cli::command::export!(SocketProbe);

impl Guest for SocketProbe {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
        let done = match *words {
            ["bind", address] => tcp(address).and_then(|(socket, at)| socket.bind(at)),
            ["listen", address] => listen(address),
            ["connect", address] => connect(address).await.map(|_| ()),
            ["hoard", address] => hoard(address),
            ["udp-bind", address] => udp(address).and_then(|(socket, at)| socket.bind(at)),
            ["udp-connect", address] => udp(address).and_then(|(socket, at)| socket.connect(at)),
            ["udp-send", address] => udp_send(address).await,
            ["udp-echo", address, size] => udp_echo(address, size).await,
            ["udp-ask", address] => udp_ask(address).await,
            ["udp-answer", address, known] => udp_answer(address, known).await,
            ["resolve", name] => match resolve_addresses(name.to_owned()).await {
                Ok(addresses) => {
                    println!("{} addresses", addresses.len());
                    Ok(())
                }
                Err(error) => {
                    println!("{error:?}");
                    return Err(());
                }
            },
            ["send-file", path, address] => send_file(path, address).await,
            ["send-input", address] => send_input(address).await,
            ["print", address] => print(address).await,
            ["send-after", address] => send_after(address).await,
            ["forward", from, to] => forward(from, to).await,
            ["at-once", address] => at_once(address),
            _ => Err(ErrorCode::NotSupported),
        };
        done.map_err(|error| println!("{error:?}"))
    }
}

fn tcp(address: &str) -> Result<(TcpSocket, IpSocketAddress), ErrorCode> {
    let (family, address) = parse(address)?;
    Ok((TcpSocket::create(family)?, address))
}

fn udp(address: &str) -> Result<(UdpSocket, IpSocketAddress), ErrorCode> {
    let (family, address) = parse(address)?;
    Ok((UdpSocket::create(family)?, address))
}

/// Binds and listens; `unbound` listens without that.
fn listen(address: &str) -> Result<(), ErrorCode> {
    if address == "unbound" {
        TcpSocket::create(IpAddressFamily::Ipv4)?.listen()?;
        return Ok(());
    }
    let (socket, address) = tcp(address)?;
    socket.bind(address)?;
    socket.listen()?;
    Ok(())
}

async fn connect(address: &str) -> Result<TcpSocket, ErrorCode> {
    let (socket, address) = tcp(address)?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Makes sockets until that fails.
fn hoard(address: &str) -> Result<(), ErrorCode> {
    let (family, _) = parse(address)?;
    let mut kept = Vec::new();
    loop {
        kept.push(TcpSocket::create(family)?);
    }
}

async fn udp_send(address: &str) -> Result<(), ErrorCode> {
    let (socket, address) = udp(address)?;
    socket.send(b"datagram".to_vec(), Some(address)).await
}

/// Sends so many bytes to an echo, and says what came back.
async fn udp_echo(address: &str, size: &str) -> Result<(), ErrorCode> {
    let (socket, address) = udp(address)?;
    let size = size.parse().map_err(|_| ErrorCode::InvalidArgument)?;
    let bytes: Vec<u8> = (0..size).map(|index: u32| (index % 251) as u8).collect();
    socket.send(bytes.clone(), Some(address)).await?;
    let (reply, _) = socket.receive().await?;
    let equal = if reply == bytes { "equal" } else { "not equal" };
    println!("{} bytes, {equal}", reply.len());
    Ok(())
}

/// Sends something from a connected socket, and waits for an answer.
async fn udp_ask(address: &str) -> Result<(), ErrorCode> {
    let (socket, address) = udp(address)?;
    socket.connect(address)?;
    socket.send(b"x".to_vec(), None).await?;
    socket.receive().await?;
    Ok(())
}

/// Says to `known` where it is, and answers whoever sends something next.
async fn udp_answer(address: &str, known: &str) -> Result<(), ErrorCode> {
    let (socket, address) = udp(address)?;
    socket.bind(address)?;
    let (_, known) = parse(known)?;
    socket.send(b"here".to_vec(), Some(known)).await?;
    let (data, peer) = socket.receive().await?;
    println!("received {}", String::from_utf8_lossy(&data));
    socket.send(data, Some(peer)).await
}

/// Passes a file of the first directory on, unread.
async fn send_file(path: &str, address: &str) -> Result<(), ErrorCode> {
    let socket = connect(address).await?;
    let directories = preopens::get_directories();
    let (directory, _) = directories.first().ok_or(ErrorCode::NotSupported)?;
    let (open, access) = (OpenFlags::empty(), DescriptorFlags::READ);
    let file = directory.open_at(PathFlags::empty(), path.to_owned(), open, access);
    let file = file.await.map_err(|error| {
        println!("{error:?}");
        ErrorCode::NotSupported
    })?;
    let (content, read) = file.read_via_stream(0);
    let sent = socket.send(content).await;
    println!("read {:?}, sent {sent:?}", read.await);
    Ok(())
}

/// Passes standard input on, unread.
async fn send_input(address: &str) -> Result<(), ErrorCode> {
    let socket = connect(address).await?;
    let (input, read) = stdin::read_via_stream();
    let sent = socket.send(input).await;
    println!("read {:?}, sent {sent:?}", read.await);
    Ok(())
}

/// Receives to the end, however that comes, and then sends.
async fn send_after(address: &str) -> Result<(), ErrorCode> {
    let socket = connect(address).await?;
    println!("connected");
    let (mut data, received) = socket.receive();
    while data.next().await.is_some() {}
    println!("received {:?}", received.await);
    let (mut writer, data) = wit_stream::new();
    let sent = socket.send(data);
    let left = writer.write_all(b"late".to_vec()).await;
    drop(writer);
    println!("{} left, sent {:?}", left.len(), sent.await);
    Ok(())
}

/// Passes what arrives to standard output, unread.
async fn print(address: &str) -> Result<(), ErrorCode> {
    let socket = connect(address).await?;
    let (data, received) = socket.receive();
    let printed = stdout::write_via_stream(data).await;
    println!("printed {printed:?}, received {:?}", received.await);
    Ok(())
}

/// Passes what two connections bring to each other, unread: the first that
/// comes, and one that is made.
async fn forward(from: &str, to: &str) -> Result<(), ErrorCode> {
    let (socket, address) = tcp(from)?;
    socket.bind(address)?;
    let mut clients = socket.listen()?;
    println!("listening on {:?}", socket.get_local_address());
    let client = clients.next().await.ok_or(ErrorCode::ConnectionAborted)?;
    let server = connect(to).await?;
    let (request, requested) = client.receive();
    let (reply, replied) = server.receive();
    let (forwarded, answered) = (server.send(request), client.send(reply));
    println!(
        "request {:?} {:?}, reply {:?} {:?}",
        requested.await,
        forwarded.await,
        replied.await,
        answered.await
    );
    Ok(())
}

/// Does over TCP and UDP what has nothing to wait for.
fn at_once(address: &str) -> Result<(), ErrorCode> {
    let (listener, at) = tcp(address)?;
    listener.bind(at)?;
    let mut clients = listener.listen()?;
    let (socket, _) = tcp(address)?;
    now("connect", socket.connect(listener.get_local_address()?))??;
    let client = now("accept", clients.next())?.ok_or(ErrorCode::ConnectionAborted)?;
    let (mut writer, data) = wit_stream::new();
    let _sent = socket.send(data);
    now("send", writer.write_all(b"by TCP".to_vec()))?;
    let (mut received, _) = client.receive();
    let (_, data) = now("receive", received.read(Vec::with_capacity(100)))?;
    println!("{}", String::from_utf8_lossy(&data));
    drop((writer, received));

    let (server, at) = udp(address)?;
    server.bind(at)?;
    let (client, _) = udp(address)?;
    let at = server.get_local_address()?;
    now("send", client.send(b"by UDP".to_vec(), Some(at)))??;
    let (data, from) = now("receive", server.receive())??;
    println!("{}", String::from_utf8_lossy(&data));
    now("answer", server.send(data, Some(from)))??;
    now("receive", client.receive())??;
    Ok(())
}

/// Returns the outcome of a call that has one at once.
fn now<T>(what: &str, call: impl Future<Output = T>) -> Result<T, ErrorCode> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Ok(outcome),
        Poll::Pending => {
            println!("{what} waits");
            Err(ErrorCode::Timeout)
        }
    }
}

fn parse(address: &str) -> Result<(IpAddressFamily, IpSocketAddress), ErrorCode> {
    match address.parse().map_err(|_| ErrorCode::InvalidArgument)? {
        SocketAddr::V4(v4) => {
            let address = Ipv4SocketAddress {
                port: v4.port(),
                address: v4.ip().octets().into(),
            };
            Ok((IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(address)))
        }
        SocketAddr::V6(v6) => {
            let address = Ipv6SocketAddress {
                port: v6.port(),
                flow_info: v6.flowinfo(),
                address: v6.ip().segments().into(),
                scope_id: v6.scope_id(),
            };
            Ok((IpAddressFamily::Ipv6, IpSocketAddress::Ipv6(address)))
        }
    }
}
