//! Does what further lines say with `netwasm:net/client`, a reply for each.
//!
//! Where to connect to is `tcp:HOST:PORT`, `tls:HOST:PORT` or `unix:PATH`, and
//! options follow: `timeout=MS`, `local=IP`, `name=NAME`, `alpn=NAME`, and for
//! pools `size=N`, `idle=MS`, `age=MS`. `times N LINE; LINE...` does lines so
//! often, with the last one's reply.

use std::net::{Ipv4Addr, SocketAddrV4};

use futures_util::FutureExt;
use wit_bindgen::{StreamReader, StreamWriter};

use crate::netwasm::net::client::{self, DatagramSocket, Pool};
use crate::netwasm::net::log::{Level, log};
use crate::netwasm::net::streams::Connection;
use crate::netwasm::net::types::{
    ConnectOptions, Endpoint, Error, ErrorCode, IpAddress, IpSocketAddress, Ipv4SocketAddress,
    Operation, PoolOptions, TlsOptions,
};
use crate::{line, say, wit_stream};

/// How often something is begun and given up.
const TIMES: usize = 100;

type Reply = Result<String, Error>;

/// Passes what comes on to another connection, and the other way round, unread.
pub(crate) async fn relay(connection: &Connection, reader: StreamReader<u8>, to: &str) {
    let made = match to.strip_prefix('@') {
        Some(group) => client::connect_upstream_for(group.to_owned(), connection, None).await,
        None => Target::parse(to).connect().await,
    };
    match made {
        Ok(other) => {
            let sent = other.send(reader);
            let (back, received) = other.receive();
            let returned = connection.send(back);
            let outcomes = (sent.await, received.await, returned.await);
            log(Level::Info, &format!("relayed: {outcomes:?}"));
        }
        Err(error) => log(Level::Info, &format!("not relayed: {:?}", error.code)),
    }
}

/// Handles that a session holds.
#[derive(Default)]
struct Held {
    pool: Option<Pool>,
    connection: Option<Open>,
    socket: Option<DatagramSocket>,
}

struct Open {
    connection: Connection,
    streams: Option<(StreamReader<u8>, StreamWriter<u8>)>,
}

pub(crate) async fn obey(reader: &mut StreamReader<u8>, writer: &mut StreamWriter<u8>) {
    let mut held = Held::default();
    loop {
        let line = line(reader).await;
        if line.is_empty() {
            return;
        }
        let reply = match line.strip_prefix("times ") {
            Some(lines) => held.repeat(lines).await,
            None => held.obey(&line).await,
        };
        let reply = reply.unwrap_or_else(|error| format!("{:?}", error.code));
        say(writer, &reply).await;
    }
}

impl Held {
    async fn repeat(&mut self, lines: &str) -> Reply {
        let (times, lines) = lines.split_once(' ').unwrap_or_default();
        let mut reply = Ok(String::new());
        for _ in 0..times.parse().unwrap_or(0) {
            for line in lines.split("; ") {
                reply = self.obey(line).await;
            }
        }
        reply
    }

    async fn obey(&mut self, line: &str) -> Reply {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "resolve" => {
                let addresses = client::resolve(rest.into()).await?;
                return Ok(format!("{addresses:?}"));
            }
            "connect" => {
                let connection = Target::parse(rest).connect().await?;
                self.connection = Some(Open::new(connection));
            }
            "connect-upstream" => {
                let connection = client::connect_upstream(rest.into(), None).await?;
                self.connection = Some(Open::new(connection));
            }
            "info" => {
                let open = self.connection.as_ref().ok_or_else(invalid_state)?;
                let info = open.connection.info();
                let alpn = info.tls.and_then(|tls| tls.alpn).unwrap_or_default();
                return Ok(format!("{:?} {:?} {alpn}", info.local, info.peer));
            }
            "ask" => return self.connection()?.ask(rest).await,
            // Takes what comes for so many bytes, without asking.
            "take" => return self.connection()?.take(rest.parse().unwrap_or(1)).await,
            "end-sending" => {
                self.connection()?.streams();
                let open = self.connection()?;
                if let Some((_, writer)) = open.streams.take() {
                    drop(writer);
                }
            }
            "drop" => self.connection = None,
            "pool" => self.pool = Some(Target::parse(rest).pool()?),
            "get" => {
                let timeout = rest.parse().ok().map(milliseconds);
                let connection = self.pool()?.get(timeout).await?;
                self.connection = Some(Open::new(connection));
            }
            "put" => {
                let open = self.connection.take().ok_or_else(invalid_state)?;
                self.pool()?.put(open.connection);
            }
            "counts" => {
                let counts = self.pool()?.counts();
                return Ok(format!(
                    "in-use {} idle {} waiting {} opened {} reused {} expired {}",
                    counts.in_use,
                    counts.idle,
                    counts.waiting,
                    counts.opened,
                    counts.reused,
                    counts.expired
                ));
            }
            "close" => self.pool()?.close(),
            "bind" => self.socket = Some(DatagramSocket::bind(address(rest))?),
            "socket" => {
                let (host, port) = host_port(rest);
                self.socket = Some(DatagramSocket::connect(host, port).await?);
            }
            "socket-address" => return Ok(text(self.socket()?.local_address()?)),
            "datagram" => self.socket()?.send(rest.as_bytes().to_vec()).await?,
            "long-datagram" => {
                let length = rest.parse().unwrap_or(0);
                self.socket()?.send(vec![b'x'; length]).await?;
            }
            "datagram-to" => {
                let (to, message) = rest.split_once(' ').unwrap_or((rest, ""));
                let message = message.as_bytes().to_vec();
                self.socket()?.send_to(message, address(to)).await?;
            }
            "receive" => {
                let datagram = self.socket()?.receive().await?;
                let data = String::from_utf8_lossy(&datagram.data).into_owned();
                let shown = if data.len() > 100 {
                    data.len().to_string()
                } else {
                    data
                };
                return Ok(format!("{} {shown}", text(datagram.from)));
            }
            "give-up" => return self.give_up(rest).await,
            _ => return Ok("what?".into()),
        }
        Ok("ok".into())
    }

    /// Begins something, and drops it before it is done.
    async fn give_up(&mut self, what: &str) -> Reply {
        let (word, rest) = what.split_once(' ').unwrap_or((what, ""));
        for _ in 0..TIMES {
            let done = match word {
                "resolve" => client::resolve(rest.into()).now_or_never().is_some(),
                "connect" => Target::parse(rest).connect().now_or_never().is_some(),
                "get" => self.pool()?.get(None).now_or_never().is_some(),
                "receive" => self.socket()?.receive().now_or_never().is_some(),
                // In the midst of a read.
                "read" => {
                    let (reader, _) = self.connection()?.streams();
                    reader.read(Vec::with_capacity(1)).now_or_never().is_some()
                }
                _ => return Ok("what?".into()),
            };
            if done {
                return Ok("done at once".into());
            }
        }
        Ok("given up".into())
    }

    fn pool(&self) -> Result<&Pool, Error> {
        self.pool.as_ref().ok_or_else(invalid_state)
    }

    fn connection(&mut self) -> Result<&mut Open, Error> {
        self.connection.as_mut().ok_or_else(invalid_state)
    }

    fn socket(&self) -> Result<&DatagramSocket, Error> {
        self.socket.as_ref().ok_or_else(invalid_state)
    }
}

impl Open {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            streams: None,
        }
    }

    fn streams(&mut self) -> &mut (StreamReader<u8>, StreamWriter<u8>) {
        self.streams.get_or_insert_with(|| {
            let (writer, data) = wit_stream::new();
            let _sent = self.connection.send(data);
            (self.connection.receive().0, writer)
        })
    }

    /// Sends a message, and waits for as much to come back.
    async fn ask(&mut self, message: &str) -> Reply {
        let (_, writer) = self.streams();
        if !writer
            .write_all(message.as_bytes().to_vec())
            .await
            .is_empty()
        {
            return Ok("not taken".into());
        }
        self.take(message.len()).await
    }

    async fn take(&mut self, length: usize) -> Reply {
        let (reader, _) = self.streams();
        let mut reply = Vec::with_capacity(length);
        while reply.len() < length {
            let before = reply.len();
            (_, reply) = reader.read(reply).await;
            if reply.len() == before {
                return Ok("ended".into());
            }
        }
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }
}

/// Where to connect to, and how.
struct Target {
    to: Endpoint,
    connect: ConnectOptions,
    size: u32,
    idle_timeout: Option<u64>,
    max_age: Option<u64>,
}

impl Target {
    fn parse(text: &str) -> Self {
        let mut words = text.split(' ');
        let place = words.next().unwrap_or_default();
        let (kind, place) = place.split_once(':').unwrap_or_default();
        let mut target = Self {
            to: match kind {
                "unix" => Endpoint::Unix(place.into()),
                _ => Endpoint::Name(host_port(place)),
            },
            connect: ConnectOptions {
                tls: (kind == "tls").then(|| TlsOptions {
                    server_name: None,
                    alpn: Vec::new(),
                    authority: None,
                    identity: None,
                }),
                timeout: None,
                local_address: None,
            },
            size: 1,
            idle_timeout: None,
            max_age: None,
        };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let number = value.parse().unwrap_or(0);
            match (name, &mut target.connect.tls) {
                ("timeout", _) => target.connect.timeout = Some(milliseconds(number)),
                ("local", _) => {
                    let ip: Ipv4Addr = value.parse().expect("an address");
                    target.connect.local_address = Some(IpAddress::Ipv4(ip.octets().into()));
                }
                ("name", Some(tls)) => tls.server_name = Some(value.into()),
                ("alpn", Some(tls)) => tls.alpn.push(value.into()),
                ("authority", Some(tls)) => tls.authority = Some(value.into()),
                ("identity", Some(tls)) => tls.identity = Some(value.into()),
                ("size", _) => target.size = u32::try_from(number).expect("a size"),
                ("idle", _) => target.idle_timeout = Some(milliseconds(number)),
                ("age", _) => target.max_age = Some(milliseconds(number)),
                _ => panic!("there is no option {name}"),
            }
        }
        target
    }

    async fn connect(self) -> Result<Connection, Error> {
        client::connect(self.to, self.connect).await
    }

    fn pool(self) -> Result<Pool, Error> {
        let options = PoolOptions {
            size: self.size,
            connect: self.connect,
            idle_timeout: self.idle_timeout,
            max_age: self.max_age,
        };
        Pool::open(&self.to, &options)
    }
}

fn milliseconds(number: u64) -> u64 {
    number * 1_000_000
}

fn host_port(text: &str) -> (String, u16) {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    (host.into(), port.parse().unwrap_or(0))
}

fn address(text: &str) -> IpSocketAddress {
    let address: SocketAddrV4 = text.parse().expect("an address");
    IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: address.port(),
        address: address.ip().octets().into(),
    })
}

fn text(address: IpSocketAddress) -> String {
    match address {
        IpSocketAddress::Ipv4(v4) => {
            let octets: [u8; 4] = v4.address.into();
            SocketAddrV4::new(octets.into(), v4.port).to_string()
        }
        IpSocketAddress::Ipv6(v6) => format!("{v6:?}"),
    }
}

fn invalid_state() -> Error {
    Error {
        code: ErrorCode::InvalidState,
        during: Operation::Call,
        text: "there is none".into(),
    }
}
