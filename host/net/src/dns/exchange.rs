//! One question to one server, and its answer: RFC 1035.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::DecodeError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::Instant;

use super::{Answer, Missing};

/// Maximum answer by UDP to ask for with EDNS, in bytes. It fits the MTU of
/// IPv6, and so is never fragmented.
const EDNS_PAYLOAD: u16 = 1232;

/// Maximum length of a datagram, in bytes.
const DATAGRAM: usize = 65_535;

/// Maximum of further questions to a server that tells aliases one by one.
const ALIASES: usize = 16;

/// Time to wait for an answer by UDP before the question is sent again, as a
/// packet may be lost.
const RESEND: Duration = Duration::from_secs(1);

/// Length of a message's header in bytes, and the TC flag in its third byte.
const HEADER: usize = 12;
const TRUNCATED: u8 = 0b10;

/// How to ask a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) server: SocketAddr,
    /// True if longer answers by UDP are accepted.
    pub(super) edns: bool,
    /// True if UDP is not used at all.
    pub(super) tcp: bool,
}

/// A server's answer for a name, and the time for which it holds.
pub(super) type Verdict = (Answer, Duration);

/// Reason why a server's answer decides nothing. The next server is asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undecided {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it sent something that is not an answer: {0}")]
    Malformed(#[from] DecodeError),
    #[error("the name cannot be asked for: {0}")]
    Question(#[from] ProtoError),
    #[error("it answered {0}")]
    Code(ResponseCode),
    #[error("it only named other servers")]
    Referral,
    #[error("it told more than {ALIASES} aliases, one by one")]
    Aliases,
}

/// Asks a server for the addresses of one family.
pub(super) async fn ask(way: Way, name: &Name, family: RecordType) -> Result<Verdict, Undecided> {
    let mut owner = name.clone();
    let mut seconds = u32::MAX;
    // A server may tell only some of the aliases, and is asked for the rest.
    for _ in 0..=ALIASES {
        let asked = owner.clone();
        let message = exchange(way, Query::query(asked.clone(), family)).await?;
        match message.metadata.response_code {
            ResponseCode::NoError => {}
            ResponseCode::NXDomain => {
                return Ok((Err(Missing::NoName), negative(&message, seconds)));
            }
            code => return Err(Undecided::Code(code)),
        }
        let mut targets: HashMap<_, _> = message.answers.iter().filter_map(alias).collect();
        while let Some((target, ttl)) = targets.remove(&owner) {
            seconds = seconds.min(ttl);
            owner = target.clone();
        }
        let records = message.answers.iter();
        let of_owner = records.filter(|it| it.name == owner && it.record_type() == family);
        let mut addresses = Vec::new();
        for record in of_owner {
            addresses.extend(record.data.ip_addr());
            seconds = seconds.min(record.ttl);
        }
        if !addresses.is_empty() {
            let answer = Ok(Arc::from(addresses));
            return Ok((answer, Duration::from_secs(seconds.into())));
        }
        if is_referral(&message) {
            return Err(Undecided::Referral);
        }
        if soa(&message).is_some() || owner == asked {
            return Ok((Err(Missing::NoAddress), negative(&message, seconds)));
        }
    }
    Err(Undecided::Aliases)
}

fn alias(record: &Record) -> Option<(&Name, (&Name, u32))> {
    match &record.data {
        RData::CNAME(target) => Some((&record.name, (&target.0, record.ttl))),
        _ => None,
    }
}

/// Returns the time for which a negative answer holds: RFC 2308, section 5.
fn negative(message: &Message, seconds: u32) -> Duration {
    let seconds = soa(message).map_or(0, |soa| soa.min(seconds));
    Duration::from_secs(seconds.into())
}

/// Returns the time for which an authority's negative answer holds, in seconds.
fn soa(message: &Message) -> Option<u32> {
    message
        .authorities
        .iter()
        .find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        })
}

/// True if the server neither knows the name nor asks other servers.
fn is_referral(message: &Message) -> bool {
    let metadata = &message.metadata;
    let says = metadata.authoritative || metadata.recursion_available;
    !says && message.answers.is_empty() && soa(message).is_none()
}

/// Sends a question and waits for its answer. Falls back to no EDNS if the
/// server does not understand it (RFC 6891, section 7), and to TCP if the
/// answer does not fit a datagram.
async fn exchange(way: Way, query: Query) -> Result<Message, Undecided> {
    let answer = send(way, &query, way.edns).await?;
    match answer.metadata.response_code {
        ResponseCode::FormErr if way.edns => send(way, &query, false).await,
        _ => Ok(answer),
    }
}

async fn send(way: Way, query: &Query, edns: bool) -> Result<Message, Undecided> {
    // The message's ID is random.
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(query.clone());
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(EDNS_PAYLOAD);
        question.set_edns(edns);
    }
    let bytes = question.to_vec()?;
    if !way.tcp {
        let answer = by_udp(way.server, &question, &bytes).await?;
        if let Some(answer) = answer {
            return Ok(answer);
        }
    }
    by_tcp(way.server, &question, &bytes).await
}

/// Asks by UDP, from a port that the system picks at random. Returns `None` if
/// the answer is truncated.
async fn by_udp(
    server: SocketAddr,
    question: &Message,
    bytes: &[u8],
) -> Result<Option<Message>, Undecided> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // On a connected socket no other host can answer, and an unreachable port
    // is reported.
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = Vec::with_capacity(DATAGRAM);
    let mut resend = tokio::time::interval_at(Instant::now() + RESEND, RESEND);
    loop {
        buffer.clear();
        tokio::select! {
            received = socket.recv_buf(&mut buffer) => received?,
            _ = resend.tick() => socket.send(bytes).await?,
        };
        if !is_reply(&buffer, bytes) {
            continue;
        }
        // A truncated message may break off anywhere, so it is not parsed.
        if buffer[2] & TRUNCATED != 0 {
            return Ok(None);
        }
        let answer = Message::from_vec(&buffer)?;
        if answers(&answer, question) {
            return Ok(Some(answer));
        }
    }
}

/// Asks by TCP, where a length precedes each message.
async fn by_tcp(
    server: SocketAddr,
    question: &Message,
    bytes: &[u8],
) -> Result<Message, Undecided> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes(), bytes].concat())
        .await?;
    loop {
        let length = stream.read_u16().await?;
        let mut buffer = vec![0; length.into()];
        stream.read_exact(&mut buffer).await?;
        if !is_reply(&buffer, bytes) {
            continue;
        }
        let answer = Message::from_vec(&buffer)?;
        if answers(&answer, question) {
            return Ok(answer);
        }
    }
}

/// True if a message has the question's ID and a whole header.
fn is_reply(message: &[u8], question: &[u8]) -> bool {
    message.len() >= HEADER && message[..2] == question[..2]
}

/// True if a message answers a question. An error may leave out the question.
fn answers(message: &Message, question: &Message) -> bool {
    let errs = message.metadata.response_code != ResponseCode::NoError;
    message.metadata.message_type == MessageType::Response
        && (message.queries == question.queries || (errs && message.queries.is_empty()))
}
