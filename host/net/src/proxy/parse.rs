//! The header of a proxy before this host.
//!
//! Anything else is refused: a receiver must not guess whether there is one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use netwasm_base::address::Address;

use super::SIGNATURE;

/// First bytes of version 1.
const WORD: &[u8] = b"PROXY ";

/// Longest header of version 1, with its end, in bytes.
const LONGEST_LINE: usize = 107;

/// Length of version 2 before the addresses, in bytes.
const FIXED: usize = 16;

/// Type of the field with a checksum.
const CRC32C: u8 = 0x03;

/// Length of a Unix address in version 2, in bytes.
const UNIX_PATH: usize = 108;

/// A header that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Length in bytes.
    pub(crate) length: usize,
    /// Address of the client; `None` if the connection is the proxy's own, or if
    /// it does not know.
    pub(crate) client: Option<Address>,
    /// Address that the client has connected to, if there is a client.
    pub(crate) destination: Option<Address>,
    /// Place of the fields of version 2; empty if there is no client.
    pub(crate) fields: Range<usize>,
}

/// Reason why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("it does not begin with a PROXY header")]
    NoHeader,
    #[error("malformed PROXY header")]
    Malformed,
    #[error("PROXY header of an unknown version or command")]
    Unknown,
    #[error("PROXY header with a wrong checksum")]
    Checksum,
}

/// Reads a header. Returns `None` if more of it must come; [`wanted`] tells how
/// much to look at.
pub(crate) fn parse(input: &[u8]) -> Result<Option<Header>, Wrong> {
    let begins = |with: &[u8]| {
        let common = with.len().min(input.len());
        input.get(..common) == with.get(..common)
    };
    if input.is_empty() {
        return Ok(None);
    }
    if begins(SIGNATURE) {
        return parse_binary(input);
    }
    if begins(WORD) {
        return parse_line(input);
    }
    Err(Wrong::NoHeader)
}

/// Returns the number of bytes to look at for a header that begins so.
pub(crate) fn wanted(input: &[u8]) -> usize {
    match input.get(..FIXED) {
        Some([head @ .., high, low]) if head.starts_with(SIGNATURE) => {
            FIXED + usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => LONGEST_LINE,
    }
}

fn parse_line(input: &[u8]) -> Result<Option<Header>, Wrong> {
    let within = input.get(..LONGEST_LINE).unwrap_or(input);
    let Some(end) = within.windows(2).position(|two| two == b"\r\n") else {
        return match within.len() < LONGEST_LINE {
            true => Ok(None),
            false => Err(Wrong::Malformed),
        };
    };
    let length = end + 2;
    let line = within.get(..end).unwrap_or_default();
    let line = str::from_utf8(line).map_err(|_| Wrong::Malformed)?;
    let mut words = line.split(' ').skip(1);
    let (is_v6, rest) = match words.next() {
        // The rest must be ignored.
        Some("UNKNOWN") => {
            return Ok(Some(Header {
                length,
                client: None,
                destination: None,
                fields: 0..0,
            }));
        }
        Some("TCP4") => (false, words),
        Some("TCP6") => (true, words),
        _ => return Err(Wrong::Malformed),
    };
    let [Some(source), Some(destination), Some(from), Some(to), None] = five(rest) else {
        return Err(Wrong::Malformed);
    };
    let address = |text: &str| -> Result<IpAddr, Wrong> {
        let parsed = match is_v6 {
            true => text.parse().map(IpAddr::V6),
            false => text.parse().map(IpAddr::V4),
        };
        parsed.map_err(|_| Wrong::Malformed)
    };
    let socket = |ip, port| Some(Address::Ip(SocketAddr::new(ip, port)));
    Ok(Some(Header {
        length,
        client: socket(address(source)?, port(from)?),
        destination: socket(address(destination)?, port(to)?),
        fields: 0..0,
    }))
}

fn five<'a>(mut words: impl Iterator<Item = &'a str>) -> [Option<&'a str>; 5] {
    std::array::from_fn(|_| words.next())
}

/// Reads a port in its shortest form.
fn port(text: &str) -> Result<u16, Wrong> {
    let port: u16 = text.parse().map_err(|_| Wrong::Malformed)?;
    match port.to_string() == text {
        true => Ok(port),
        false => Err(Wrong::Malformed),
    }
}

fn parse_binary(input: &[u8]) -> Result<Option<Header>, Wrong> {
    let Some((fixed, _)) = input.split_at_checked(FIXED) else {
        return Ok(None);
    };
    let [.., command, family, _, _] = fixed else {
        return Ok(None);
    };
    if command >> 4 != 2 {
        return Err(Wrong::Unknown);
    }
    let length = wanted(input);
    let Some(whole) = input.get(..length) else {
        return Ok(None);
    };
    let nobody = Header {
        length,
        client: None,
        destination: None,
        fields: 0..0,
    };
    let body = whole.get(FIXED..).unwrap_or_default();
    let (family, protocol) = (family >> 4, family & 0x0f);
    let (client, destination) = match (command & 0x0f, family, protocol) {
        // The proxy's own connection, such as a health check. Family and all that
        // follows are ignored.
        (0, ..) => return Ok(Some(nobody)),
        // Neither is specified: what follows is of an unknown form, and is ignored.
        (1, 0, 0..=2) | (1, 1..=3, 0) => return Ok(Some(nobody)),
        (1, 1, 1 | 2) => ends_v4(body)?,
        (1, 2, 1 | 2) => ends_v6(body)?,
        (1, 3, 1 | 2) => ends_unix(body)?,
        _ => return Err(Wrong::Unknown),
    };
    let fields = body.get(address_length(family)..).unwrap_or_default();
    check_fields(whole, fields)?;
    Ok(Some(Header {
        client: Some(client),
        destination: Some(destination),
        fields: length - fields.len()..length,
        ..nobody
    }))
}

fn address_length(family: u8) -> usize {
    match family {
        1 => 12,
        2 => 36,
        3 => 2 * UNIX_PATH,
        _ => 0,
    }
}

/// Addresses of the client, and of where it has connected to.
type Ends = (Address, Address);

fn ends_v4(body: &[u8]) -> Result<Ends, Wrong> {
    let Some(([from, to], [from_port, to_port])) = in_two::<4>(body) else {
        return Err(Wrong::Malformed);
    };
    let address = |ip, port| Address::Ip((Ipv4Addr::from_octets(ip), port).into());
    Ok((address(from, from_port), address(to, to_port)))
}

fn ends_v6(body: &[u8]) -> Result<Ends, Wrong> {
    let Some(([from, to], [from_port, to_port])) = in_two::<16>(body) else {
        return Err(Wrong::Malformed);
    };
    let address = |ip, port| Address::Ip((Ipv6Addr::from_octets(ip), port).into());
    Ok((address(from, from_port), address(to, to_port)))
}

/// Reads two IP addresses, and their ports.
fn in_two<const LENGTH: usize>(body: &[u8]) -> Option<([[u8; LENGTH]; 2], [u16; 2])> {
    let (from, rest) = body.split_first_chunk()?;
    let (to, rest) = rest.split_first_chunk()?;
    let (ports, _) = rest.split_first_chunk::<4>()?;
    let [a, b, c, d] = *ports;
    let ports = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    Some(([*from, *to], ports))
}

fn ends_unix(body: &[u8]) -> Result<Ends, Wrong> {
    let (source, rest) = body.split_at_checked(UNIX_PATH).ok_or(Wrong::Malformed)?;
    let (destination, _) = rest.split_at_checked(UNIX_PATH).ok_or(Wrong::Malformed)?;
    let address = |text: &[u8]| {
        let path = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let path = (!path.is_empty()).then(|| PathBuf::from(std::ffi::OsStr::from_bytes(path)));
        Address::Unix(path)
    };
    Ok((address(source), address(destination)))
}

/// Checks the fields behind the addresses: their lengths, and the checksum of
/// the header if there is one.
fn check_fields(whole: &[u8], mut fields: &[u8]) -> Result<(), Wrong> {
    while let [kind, high, low, rest @ ..] = fields {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = rest.split_at_checked(length).ok_or(Wrong::Malformed)?;
        if *kind == CRC32C {
            let told = value.try_into().map_err(|_| Wrong::Malformed)?;
            let place = whole.len() - rest.len();
            if checksum(whole, place) != u32::from_be_bytes(told) {
                return Err(Wrong::Checksum);
            }
        }
        fields = next;
    }
    // Less than the head of a field.
    match fields {
        [] => Ok(()),
        _ => Err(Wrong::Malformed),
    }
}

/// Returns the CRC32C (RFC 3720, section B.4) of a header in which the four
/// bytes of the checksum, at this place, are zero.
fn checksum(whole: &[u8], place: usize) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let bytes = whole.iter().enumerate().map(|(at, byte)| {
        let own = (place..place + 4).contains(&at);
        if own { 0 } else { *byte }
    });
    let sum = bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (POLYNOMIAL & (sum & 1).wrapping_neg())
        })
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<Address> {
        Some(Address::Ip(text.parse().expect("an address")))
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("a length").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    /// A header must be the same however it arrives, and whatever follows it.
    fn parsed(header: &[u8]) -> Option<Address> {
        for end in 0..header.len() {
            assert_eq!(parse(&header[..end]), Ok(None), "{end} of {header:?}");
            assert!(wanted(&header[..end]) > end, "{end} of {header:?}");
        }
        let more = [header, b"GET / HTTP/1.1\r\n\r\n"].concat();
        let found = parse(&more).expect("a header").expect("all of it");
        assert_eq!(found.length, header.len());
        found.client
    }

    #[test]
    fn version_1_is_read() {
        for (line, client) in [
            (
                "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
                ip("192.0.2.1:56324"),
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 0 65535\r\n",
                ip("[2001:db8::1]:0"),
            ),
            (
                "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                 ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 65535\r\n",
                ip("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN a b c\r\n", None),
        ] {
            assert_eq!(parsed(line.as_bytes()), client, "{line}");
        }
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 056324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +56 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n",
            "PROXY TCP4 192.0.2.1  198.51.100.1 56324 443\r\n",
            "PROXY TCP4 ::1 ::1 56324 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 56324 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 56324 443\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(Wrong::Malformed), "{line}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE));
        assert_eq!(parse(long.as_bytes()), Err(Wrong::Malformed));
    }

    #[test]
    fn version_2_is_read() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];
        assert_eq!(parsed(&binary(0x21, 0x11, &v4)), ip("192.0.2.1:56324"));
        // Datagrams, on whose stream a proxy may send it all the same.
        assert_eq!(parsed(&binary(0x21, 0x12, &v4)), ip("192.0.2.1:56324"));
        let mut v6 = [0; 36];
        v6[..2].copy_from_slice(&[0x20, 0x01]);
        v6[32..].copy_from_slice(&[0, 80, 1, 0xbb]);
        assert_eq!(parsed(&binary(0x21, 0x21, &v6)), ip("[2001::]:80"));
        let mut unix = [0; 216];
        unix[..6].copy_from_slice(b"/a/b.c");
        let path = Some(Address::Unix(Some("/a/b.c".into())));
        assert_eq!(parsed(&binary(0x21, 0x31, &unix)), path);
        assert_eq!(
            parsed(&binary(0x21, 0x31, &[0; 216])),
            Some(Address::Unix(None))
        );
        assert_eq!(parsed(&binary(0x21, 0x00, b"")), None);
        // The proxy's own connection, with and without addresses, and of a family
        // that is not known.
        assert_eq!(parsed(&binary(0x20, 0x00, b"")), None);
        assert_eq!(parsed(&binary(0x20, 0x11, &v4)), None);
        assert_eq!(parsed(&binary(0x20, 0x43, b"abc")), None);
        // An unspecified family or protocol: what follows need be no fields.
        for family in [0x00, 0x01, 0x02, 0x10, 0x20, 0x30] {
            for body in [&b""[..], b"a", b"\x03\0\x04abcd", b"\x01\0\x09abc", &v4] {
                let header = binary(0x21, family, body);
                let read = parse(&header).expect("a header").expect("a whole one");
                assert_eq!((read.length, read.client), (header.len(), None));
                assert_eq!((read.destination, read.fields), (None, 0..0));
            }
        }
        // Fields of unknown types are skipped.
        let fields = [&v4[..], &[0xea, 0, 2, 1, 2, 0x04, 0, 0]].concat();
        assert_eq!(parsed(&binary(0x21, 0x11, &fields)), ip("192.0.2.1:56324"));
        for (command, family, body, wrong) in [
            (0x11, 0x11, &v4[..], Wrong::Unknown),
            (0x22, 0x11, &v4, Wrong::Unknown),
            (0x21, 0x41, &v4, Wrong::Unknown),
            (0x21, 0x13, &v4, Wrong::Unknown),
            (0x21, 0x03, &v4, Wrong::Unknown),
            (0x21, 0x40, &v4, Wrong::Unknown),
            (0x21, 0x11, &v4[..11], Wrong::Malformed),
            (0x21, 0x21, &v4, Wrong::Malformed),
            (0x21, 0x31, &v4, Wrong::Malformed),
            (0x21, 0x11, &[&v4[..], &[1, 0]].concat(), Wrong::Malformed),
            (
                0x21,
                0x11,
                &[&v4[..], &[1, 0, 2, 0]].concat(),
                Wrong::Malformed,
            ),
        ] {
            let header = binary(command, family, body);
            assert_eq!(parse(&header), Err(wrong), "{header:?}");
        }
    }

    #[test]
    fn a_checksum_is_checked() {
        // The check value of the algorithm.
        assert_eq!(checksum(b"123456789", 100), 0xe306_9283);
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];
        let body = [&v4[..], &[CRC32C, 0, 4, 0, 0, 0, 0]].concat();
        let mut header = binary(0x21, 0x11, &body);
        let place = header.len() - 4;
        let sum = checksum(&header, place);
        header[place..].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(parsed(&header), ip("192.0.2.1:56324"));
        header[20] ^= 1;
        assert_eq!(parse(&header), Err(Wrong::Checksum));
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
        for input in [
            &b"G"[..],
            b"PROXX",
            b"PROXY\t",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"\x16\x03",
        ] {
            assert_eq!(parse(input), Err(Wrong::NoHeader), "{input:?}");
        }
    }
}
