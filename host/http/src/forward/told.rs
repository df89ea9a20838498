//! The fields by which a server is told of the client: `X-Forwarded-*`, `Forwarded`
//! (RFC 7239) and `Via`.

use std::net::IpAddr;

use netwasm_base::address::Address;
use netwasm_exchange::forward::Tells;
use netwasm_exchange::request::Request;

use crate::forward::compose::Header;

/// Maximum length of an IP address as text, in bytes.
const LONGEST_IP: usize = 45;

/// Adds the fields that tell the server of the client.
pub(super) fn add(request: &Request, tells: Tells, out: &mut impl Header) {
    let head = &request.head;
    let ip = request.transport.as_ref().map(|it| match it.peer() {
        Address::Ip(address) => Some(address.ip().to_canonical()),
        Address::Unix(_) => None,
    });
    let ip = ip.flatten();
    let before = |name: &str| {
        let values: Vec<_> = head.all(name).filter(|_| tells.believes).collect();
        match values.is_empty() {
            true => Vec::new(),
            false => [&values.join(&b", "[..])[..], b", "].concat(),
        }
    };
    if tells.x_forwarded {
        let mut room = [0; LONGEST_IP];
        let client: &[u8] = match ip {
            Some(ip) => ip_text(ip, &mut room),
            None => b"unix:",
        };
        let earlier = before("x-forwarded-for");
        match earlier.is_empty() {
            true => out.add("X-Forwarded-For", client),
            false => out.add("X-Forwarded-For", &[&earlier, client].concat()),
        }
        let lacks = |name: &str| !tells.believes || head.first(name).is_none();
        if lacks("x-forwarded-proto") {
            out.add("X-Forwarded-Proto", request.scheme().as_bytes());
        }
        if let Some(authority) = head.authority()
            && lacks("x-forwarded-host")
        {
            out.add("X-Forwarded-Host", authority.as_bytes());
        }
    }
    if tells.forwarded {
        let mut element = match ip {
            Some(ip) if ip.is_ipv6() => format!("for=\"[{ip}]\""),
            Some(ip) => format!("for={ip}"),
            None => "for=unknown".to_owned(),
        };
        if let Some(authority) = head.authority() {
            // An authority has neither quotes nor backslashes.
            element += &format!(";host=\"{authority}\"");
        }
        element += &format!(";proto={}", request.scheme());
        let value = [&before("forwarded"), element.as_bytes()].concat();
        out.add("Forwarded", &value);
    }
    if tells.via {
        let via: &[u8] = match head.request_line().ends_with(b"HTTP/2.0") {
            true => b"2.0 netwasm",
            false if head.minor_version() == 0 => b"1.0 netwasm",
            false => b"1.1 netwasm",
        };
        out.add("Via", via);
    }
}

/// Writes an IP address as text. Most are IPv4, for which the formatter takes
/// several times as long.
fn ip_text(ip: IpAddr, room: &mut [u8; LONGEST_IP]) -> &[u8] {
    let mut rest = room.iter_mut();
    let mut push = |byte| {
        if let Some(place) = rest.next() {
            *place = byte;
        }
    };
    match ip {
        IpAddr::V4(ip) => {
            for (place, octet) in ip.octets().into_iter().enumerate() {
                if place > 0 {
                    push(b'.');
                }
                if octet >= 100 {
                    push(b'0' + octet / 100);
                }
                if octet >= 10 {
                    push(b'0' + octet / 10 % 10);
                }
                push(b'0' + octet % 10);
            }
        }
        IpAddr::V6(ip) => ip.to_string().bytes().for_each(push),
    }
    let used = LONGEST_IP - rest.len();
    room.get(..used).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_formatter_does() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "10.99.100.255",
            "::1",
            "2001:db8::a:0:1",
        ] {
            let ip = text.parse().expect("an address");
            assert_eq!(ip_text(ip, &mut [0; LONGEST_IP]), text.as_bytes());
        }
        let longest: IpAddr = [0xffff_u16; 8].into();
        let text = longest.to_string();
        assert_eq!(ip_text(longest, &mut [0; LONGEST_IP]), text.as_bytes());
    }
}
