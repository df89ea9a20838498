//! Opens what the test-suite tells it: connections, pools and datagram sockets,
//! by events. It is no example: the other guests are.
//!
//! ```sh
//! netwasm run guests/dial-probe.wasm --tcp 8888 --allow-connect '127.0.0.1:*'
//! printf 'pool 127.0.0.1 7 2\nget 1 0\nsend 1 hello\n' | nc localhost 8888
//! ```
//!
//! A client sends commands, one a line, and gets an answer for each, and a line
//! for each event. TOKEN is a number that it chooses for what it opens; an
//! address is IP:PORT. A failure is `error: NAME`, or `TOKEN error: NAME` in an
//! event, with a name of WIT's `error-code` in kebab case.
//!
//! | command | answer, and events that follow |
//! | --- | --- |
//! | `connect TOKEN HOST PORT [AUTHORITY [IDENTITY]]` | `ok`; `TOKEN connected`. With an authority, in TLS; `-` is none |
//! | `pool HOST PORT SIZE` | the pool's number |
//! | `get TOKEN POOL [MS]` | `ok`; `TOKEN connected` |
//! | `put TOKEN`, `close TOKEN` | `ok`; after `close`, `TOKEN lost` |
//! | `close-pool POOL` | `ok` |
//! | `counts POOL` | `IN-USE IDLE WAITING OPENED REUSED EXPIRED` |
//! | `send TOKEN TEXT` | `ok`; what comes back, `TOKEN data TEXT` |
//! | `option TOKEN NAME VALUE` | `ok`; for a connection or a datagram socket |
//! | `bind TOKEN ADDRESS` | the local address |
//! | `udp TOKEN HOST PORT` | `ok`; `TOKEN bound LOCAL PEER` |
//! | `udp-send TOKEN TEXT` | `ok`; `TOKEN datagram PEER TEXT`, `TOKEN refused NAME` |
//! | `udp-send-to TOKEN ADDRESS TEXT` | the same |
//! | `last-words TOKEN TEXT` | `ok`; sent by a connected socket when the client has left |
//! | `udp-close TOKEN` | `ok`; `TOKEN closed` |
//! | `cancel TOKEN` | `ok` |
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package netwasm:dial-probe;
        world dial-probe {
            include netwasm:net/tcp-server@0.2.0;
            include netwasm:net/pooling@0.2.0;
            include netwasm:net/datagram-connecting@0.2.0;
        }
    ",
    world: "netwasm:dial-probe/dial-probe",
    generate_all,
});

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use exports::netwasm::net::{connect_handler, datagram_connect_handler, tcp_handler, udp_handler};
use netwasm::net::types::{
    ConnectOptions, ConnectionId, Endpoint, Error, IpSocketAddress, Ipv4SocketAddress,
    Ipv6SocketAddress, KeepAlive, PoolId, PoolOptions, SocketId, SocketOption, TlsInfo, TlsOptions,
};
use netwasm::net::{connector, datagram_connector, datagrams, pools, transports};

/// The token of the client's own connection.
const CLIENT: u64 = u64::MAX;

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

#[derive(Default)]
struct State {
    client: Option<ConnectionId>,
    received: Vec<u8>,
    connections: HashMap<u64, ConnectionId>,
    sockets: HashMap<u64, SocketId>,
    /// A socket, and what to send by it when the client has left.
    last_words: Option<(u64, String)>,
}

struct Probe;
export!(Probe);

impl tcp_handler::Guest for Probe {
    fn connection_made(connection: ConnectionId) -> u64 {
        STATE.with_borrow_mut(|state| state.client = Some(connection));
        CLIENT
    }

    fn data_received(token: u64, data: Vec<u8>) {
        if token != CLIENT {
            say(&format!("{token} data {}", String::from_utf8_lossy(&data)));
            return;
        }
        let lines = STATE.with_borrow_mut(|state| {
            state.received.extend(data);
            let end = state.received.iter().rposition(|&byte| byte == b'\n');
            let lines: Vec<u8> = state
                .received
                .drain(..end.map_or(0, |end| end + 1))
                .collect();
            String::from_utf8(lines).expect("commands are text")
        });
        for line in lines.lines() {
            let answer = execute(line).unwrap_or_else(|error| format!("error: {}", name(&error)));
            say(&answer);
        }
    }

    fn eof_received(_: u64) -> bool {
        false
    }

    fn writable(_: u64) {}

    fn tls_started(_: u64, _: TlsInfo) {}

    fn connection_lost(token: u64, reason: Option<Error>) {
        if token == CLIENT {
            let State {
                connections,
                sockets,
                last_words,
                ..
            } = STATE.take();
            connections.into_values().for_each(transports::close);
            if let Some((token, text)) = last_words {
                // The instance ends with this event.
                let _ = datagrams::send(sockets[&token], text.as_bytes());
            }
        } else {
            STATE.with_borrow_mut(|state| state.connections.remove(&token));
            match reason {
                None => say(&format!("{token} lost")),
                Some(reason) => say(&format!("{token} lost {}", name(&reason))),
            }
        }
    }
}

impl connect_handler::Guest for Probe {
    fn connected(token: u64, outcome: Result<ConnectionId, Error>) {
        match outcome {
            Ok(connection) => {
                STATE.with_borrow_mut(|state| state.connections.insert(token, connection));
                say(&format!("{token} connected"));
            }
            Err(error) => say(&format!("{token} error: {}", name(&error))),
        }
    }
}

impl udp_handler::Guest for Probe {
    fn connection_made(_: SocketId) -> u64 {
        unreachable!("there is no listener for datagrams")
    }

    fn datagram_received(token: u64, data: Vec<u8>, peer: IpSocketAddress) {
        let text = String::from_utf8_lossy(&data);
        say(&format!("{token} datagram {} {text}", print(&peer)));
    }

    fn error_received(token: u64, error: Error, _: Option<IpSocketAddress>) {
        say(&format!("{token} refused {}", name(&error)));
    }

    fn connection_lost(token: u64, _: Option<Error>) {
        STATE.with_borrow_mut(|state| state.sockets.remove(&token));
        say(&format!("{token} closed"));
    }
}

impl datagram_connect_handler::Guest for Probe {
    fn connected(token: u64, outcome: Result<SocketId, Error>) {
        match outcome {
            Ok(socket) => {
                STATE.with_borrow_mut(|state| state.sockets.insert(token, socket));
                let local = datagrams::local_address(socket).expect("it is open");
                let peer = datagrams::remote_address(socket).expect("it is connected");
                say(&format!("{token} bound {} {}", print(&local), print(&peer)));
            }
            Err(error) => say(&format!("{token} error: {}", name(&error))),
        }
    }
}

/// Writes a line to the client.
fn say(line: &str) {
    if let Some(client) = STATE.with_borrow(|state| state.client) {
        transports::write(client, format!("{line}\n").as_bytes());
    }
}

fn execute(line: &str) -> Result<String, Error> {
    let words: Vec<&str> = line.splitn(6, ' ').collect();
    let number = |place: usize| words[place].parse::<u64>().expect("a number");
    let port = |place: usize| words[place].parse::<u16>().expect("a port");
    let rest = |place: usize| line.splitn(place + 1, ' ').nth(place).unwrap_or_default();
    match words[0] {
        "connect" => {
            let named = |place: usize| {
                let word = words.get(place).copied().filter(|word| *word != "-");
                word.map(str::to_owned)
            };
            let tls = words.get(4).map(|_| TlsOptions {
                server_name: None,
                alpn: Vec::new(),
                authority: named(4),
                identity: named(5),
            });
            let to = Endpoint::Name((words[2].to_owned(), port(3)));
            connector::connect(number(1), &to, &connect_options(tls))?;
        }
        "pool" => {
            let to = Endpoint::Name((words[1].to_owned(), port(2)));
            let options = PoolOptions {
                size: u32::try_from(number(3)).expect("a size"),
                connect: connect_options(None),
                idle_timeout: None,
                max_age: None,
            };
            return pools::open(&to, &options).map(|pool| pool.number.to_string());
        }
        "get" => {
            let timeout = words.get(3).map(|_| number(3) * 1_000_000);
            pools::get(number(1), pool(number(2)), timeout)?;
        }
        "put" => {
            let connection = STATE.with_borrow_mut(|state| state.connections.remove(&number(1)));
            pools::put(connection.unwrap_or(ConnectionId { number: number(1) }));
        }
        "close" => transports::close(connection(number(1))),
        "close-pool" => pools::close(pool(number(1))),
        "counts" => {
            let counts = pools::counts(pool(number(1)));
            return Ok(format!(
                "{} {} {} {} {} {}",
                counts.in_use,
                counts.idle,
                counts.waiting,
                counts.opened,
                counts.reused,
                counts.expired
            ));
        }
        "send" => {
            transports::write(connection(number(1)), rest(2).as_bytes());
        }
        "option" => {
            let option = option(words[2], number(3));
            match STATE.with_borrow(|state| state.sockets.get(&number(1)).copied()) {
                Some(socket) => datagrams::set_option(socket, option)?,
                None => transports::set_option(connection(number(1)), option)?,
            }
        }
        "bind" => {
            let socket = datagram_connector::bind(number(1), parse(words[2]))?;
            STATE.with_borrow_mut(|state| state.sockets.insert(number(1), socket));
            let local = datagrams::local_address(socket).expect("it is open");
            return Ok(print(&local));
        }
        "udp" => datagram_connector::connect(number(1), words[2], port(3))?,
        "udp-send" => datagrams::send(socket(number(1)), rest(2).as_bytes())?,
        "last-words" => {
            let last = (number(1), rest(2).to_owned());
            STATE.with_borrow_mut(|state| state.last_words = Some(last));
        }
        "udp-send-to" => {
            datagrams::send_to(socket(number(1)), rest(3).as_bytes(), parse(words[2]))?;
        }
        "udp-close" => datagrams::close(socket(number(1))),
        "cancel" => {
            connector::cancel(number(1));
            datagram_connector::cancel(number(1));
        }
        other => panic!("there is no command {other}"),
    }
    Ok("ok".to_owned())
}

fn connect_options(tls: Option<TlsOptions>) -> ConnectOptions {
    ConnectOptions {
        tls,
        timeout: None,
        local_address: None,
    }
}

fn option(name: &str, value: u64) -> SocketOption {
    let size = u32::try_from(value).unwrap_or(u32::MAX);
    let byte = u8::try_from(value).unwrap_or(u8::MAX);
    match name {
        "no-delay" => SocketOption::NoDelay(value != 0),
        "keep-alive" => SocketOption::KeepAlive(Some(KeepAlive {
            idle: value * 1_000_000_000,
            interval: None,
            count: None,
        })),
        "receive-buffer-size" => SocketOption::ReceiveBufferSize(size),
        "send-buffer-size" => SocketOption::SendBufferSize(size),
        "hop-limit" => SocketOption::HopLimit(byte),
        "traffic-class" => SocketOption::TrafficClass(byte),
        other => panic!("there is no option {other}"),
    }
}

fn pool(number: u64) -> PoolId {
    PoolId { number }
}

/// The connection of a token; one that the host never gave if there is none.
fn connection(token: u64) -> ConnectionId {
    let found = STATE.with_borrow(|state| state.connections.get(&token).copied());
    found.unwrap_or(ConnectionId { number: u64::MAX })
}

fn socket(token: u64) -> SocketId {
    let found = STATE.with_borrow(|state| state.sockets.get(&token).copied());
    found.unwrap_or(SocketId { number: u64::MAX })
}

/// An error's name in WIT, with the text where a test looks at that.
fn name(error: &Error) -> String {
    let text = format!("{:?}", error.code);
    let mut name = String::new();
    for letter in text.trim_start_matches("ErrorCode::").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    match name.as_str() {
        "tls" | "other" => format!("{name}: {}", error.text),
        _ => name,
    }
}

fn print(address: &IpSocketAddress) -> String {
    match *address {
        IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }) => {
            let (a, b, c, d) = address;
            SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port).to_string()
        }
        IpSocketAddress::Ipv6(v6) => {
            let (a, b, c, d, e, f, g, h) = v6.address;
            let ip = Ipv6Addr::new(a, b, c, d, e, f, g, h);
            SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id).to_string()
        }
    }
}

fn parse(text: &str) -> IpSocketAddress {
    match text.parse().expect("an address") {
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
