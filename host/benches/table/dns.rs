//! A DNS server with one name.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record, RecordType};

/// The one name.
pub(crate) const NAME: &str = "cached.example";

/// Address of [`NAME`].
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Lifetime of an answer in seconds.
const TTL: u32 = 3600;

/// Serves until the process ends.
pub(crate) fn serve() -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..length]) {
                // The asker may be gone.
                let _ = socket.send_to(&answer, peer);
            }
        }
    });
    Ok(address)
}

fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?;
    let address = match question.query_type() {
        RecordType::A => IpAddr::V4(ADDRESS),
        _ => IpAddr::V6(ADDRESS.to_ipv6_mapped()),
    };
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata.recursion_available = true;
    message.add_query(question.clone());
    let data = RData::from(address);
    message.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
    message.to_vec().ok()
}
