//! A DNS server on loopback whose answers the test decides.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::DEADLINE;

/// The answer to a question.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// The addresses of the family that is asked for, and their lifetime in
    /// seconds.
    Addresses(Vec<IpAddr>, u32),
    /// A chain of aliases, and the addresses of its last name.
    Aliases(Vec<&'static str>, Vec<IpAddr>),
    /// NXDOMAIN: the name does not exist.
    NoName,
    /// No records: the name has none of this type.
    NoData,
    /// An error response.
    Fails(ResponseCode),
    /// No response.
    Silence,
    /// A truncated response by UDP; these addresses by TCP.
    Truncated(Vec<IpAddr>),
    /// A reply after a delay.
    After(Duration, Box<Self>),
    /// FORMERR to a question with EDNS, and this reply to others.
    Plain(Box<Self>),
    /// An error response that leaves the question out.
    Bare(ResponseCode),
    /// Like `Aliases`, but in reverse order: the addresses come before the
    /// aliases that lead to them.
    Backwards(Vec<&'static str>, Vec<IpAddr>),
}

impl Reply {
    /// Returns addresses with a lifetime of a minute.
    pub(crate) fn addresses(addresses: &[&str]) -> Self {
        Self::addresses_for(addresses, 60)
    }

    /// Returns addresses with a lifetime in seconds.
    pub(crate) fn addresses_for(addresses: &[&str], seconds: u32) -> Self {
        Self::Addresses(addresses.iter().map(|it| parse(it)).collect(), seconds)
    }

    pub(crate) fn truncated(addresses: &[&str]) -> Self {
        Self::Truncated(addresses.iter().map(|it| parse(it)).collect())
    }

    pub(crate) fn after(self, delay: Duration) -> Self {
        Self::After(delay, Box::new(self))
    }
}

/// Returns a chain of aliases: `STEM0.example.`, `STEM1.example.` and so on.
pub(crate) fn aliases(stem: &str, count: usize) -> Vec<&'static str> {
    let names = (0..count).map(|number| &*format!("{stem}{number}.example.").leak());
    names.collect()
}

fn parse(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

/// A question that the server received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// The name, in lower case and with its final dot.
    pub(crate) name: String,
    /// `A` or `AAAA`.
    pub(crate) family: RecordType,
    /// True if it came by TCP.
    pub(crate) tcp: bool,
    /// True if it came with EDNS.
    pub(crate) edns: bool,
}

type Zone = dyn Fn(&str, RecordType) -> Reply + Send + Sync;

/// The server. It answers until the process ends.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    questions: Arc<Mutex<Vec<Question>>>,
}

impl Dns {
    /// Starts a server on a free port. `zone` gives the reply for a name and a
    /// family.
    pub(crate) fn new(zone: impl Fn(&str, RecordType) -> Reply + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", zone)
    }

    /// Like [`Self::new`], at an address.
    pub(crate) fn at(
        address: &str,
        zone: impl Fn(&str, RecordType) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) = super::eventually("a port for both protocols", || {
            let udp = UdpSocket::bind(address).ok()?;
            let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
            Some((udp, tcp))
        });
        let address = udp.local_addr().expect("its address");
        let questions = Arc::default();
        let zone: Arc<Zone> = Arc::new(zone);
        let responder = Responder {
            zone: Arc::clone(&zone),
            questions: Arc::clone(&questions),
        };
        let by_tcp = responder.clone();
        std::thread::spawn(move || responder.serve_udp(&udp));
        std::thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let responder = by_tcp.clone();
                std::thread::spawn(move || responder.serve_tcp(stream));
            }
        });
        Self { address, questions }
    }

    /// Returns the questions so far.
    pub(crate) fn questions(&self) -> Vec<Question> {
        self.questions.lock().expect("the questions").clone()
    }

    /// Returns the names and families that were asked for, each once.
    pub(crate) fn asked(&self) -> Vec<(String, RecordType)> {
        let mut asked: Vec<_> = self
            .questions()
            .into_iter()
            .map(|question| (question.name, question.family))
            .collect();
        asked.sort_by_key(|(name, family)| (name.clone(), u16::from(*family)));
        asked.dedup();
        asked
    }
}

#[derive(Clone)]
struct Responder {
    zone: Arc<Zone>,
    questions: Arc<Mutex<Vec<Question>>>,
}

impl Responder {
    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
            let Some(query) = buffer
                .get(..count)
                .and_then(|it| Message::from_vec(it).ok())
            else {
                continue;
            };
            let (responder, socket) = (self.clone(), socket.try_clone().expect("its socket"));
            // On a thread, so that a slow answer delays no other.
            std::thread::spawn(move || {
                if let Some(answer) = responder.answer(&query, false) {
                    let bytes = answer.to_vec().expect("a message");
                    // The asker may be gone.
                    let _ = socket.send_to(&bytes, peer);
                }
            });
        }
    }

    fn serve_tcp(&self, mut stream: TcpStream) {
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut bytes).is_err() {
                return;
            }
            let query = Message::from_vec(&bytes).expect("a message");
            let Some(answer) = self.answer(&query, true) else {
                continue;
            };
            let bytes = answer.to_vec().expect("a message");
            let length = u16::try_from(bytes.len()).expect("not too long");
            let framed = [&length.to_be_bytes(), bytes.as_slice()].concat();
            if stream.write_all(&framed).is_err() {
                return;
            }
        }
    }

    fn answer(&self, query: &Message, tcp: bool) -> Option<Message> {
        let question = query.queries.first()?;
        let name = question.name().to_lowercase().to_ascii();
        let family = question.query_type();
        self.questions
            .lock()
            .expect("the questions")
            .push(Question {
                name: name.clone(),
                family,
                tcp,
                edns: query.edns.is_some(),
            });
        let mut reply = (self.zone)(&name, family);
        if let Reply::After(delay, later) = reply {
            std::thread::sleep(delay);
            reply = *later;
        }
        if let Reply::Plain(plain) = reply {
            reply = match query.edns {
                Some(_) => Reply::Fails(ResponseCode::FormErr),
                None => *plain,
            };
        }
        let mut message = Message::response(query.metadata.id, query.metadata.op_code);
        message.metadata.recursion_desired = true;
        message.metadata.recursion_available = true;
        message.add_query(question.clone());
        match reply {
            Reply::Addresses(addresses, seconds) => {
                add(&mut message, question, question.name(), &addresses, seconds);
            }
            Reply::Aliases(aliases, addresses) => {
                let owner = lead(&mut message, question, aliases);
                add(&mut message, question, &owner, &addresses, 60);
            }
            Reply::Backwards(aliases, addresses) => {
                let owner = lead(&mut message, question, aliases);
                add(&mut message, question, &owner, &addresses, 60);
                message.answers.reverse();
            }
            Reply::Truncated(addresses) if tcp => {
                add(&mut message, question, question.name(), &addresses, 60);
            }
            Reply::Truncated(_) => message.metadata.truncation = true,
            Reply::NoData => {}
            Reply::NoName => message.metadata.response_code = ResponseCode::NXDomain,
            Reply::Fails(code) => message.metadata.response_code = code,
            Reply::Bare(code) => {
                message.queries.clear();
                message.metadata.response_code = code;
            }
            Reply::Silence | Reply::After(..) | Reply::Plain(_) => return None,
        }
        let code = message.metadata.response_code;
        let negative = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        if negative && message.answers.is_empty() && !message.metadata.truncation {
            // RFC 2308: the SOA says how long the absence may be cached.
            let root = Name::root();
            let soa = SOA::new(root.clone(), root.clone(), 1, 60, 60, 60, 60);
            message.add_authority(Record::from_rdata(root, 60, RData::SOA(soa)));
        }
        Some(message)
    }
}

/// Adds a chain of aliases that begins at the question's name, and returns its
/// last name.
fn lead(message: &mut Message, question: &Query, aliases: Vec<&str>) -> Name {
    let mut owner = question.name().clone();
    for alias in aliases {
        let target: Name = alias.parse().expect("a name");
        let data = RData::CNAME(CNAME(target.clone()));
        message.add_answer(Record::from_rdata(owner, 60, data));
        owner = target;
    }
    owner
}

fn add(message: &mut Message, question: &Query, owner: &Name, addresses: &[IpAddr], seconds: u32) {
    for &address in addresses {
        let data = RData::from(address);
        if data.record_type() == question.query_type() {
            message.add_answer(Record::from_rdata(owner.clone(), seconds, data));
        }
    }
}
