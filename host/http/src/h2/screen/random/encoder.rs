//! Writes header blocks in all the ways that HPACK knows (RFC 7541).

use std::collections::VecDeque;

use super::super::huffman;
use super::Fields;
use super::client::Random;

/// Names of the static table from its 15th entry on.
pub(super) const NAMES: &str = "accept-charset accept-encoding accept-language accept-ranges accept \
    access-control-allow-origin age allow authorization cache-control content-disposition \
    content-encoding content-language content-length content-location content-range content-type \
    cookie date etag expect expires from host if-match if-modified-since if-none-match if-range \
    if-unmodified-since last-modified link location max-forwards proxy-authenticate \
    proxy-authorization range referer refresh retry-after server set-cookie \
    strict-transport-security transfer-encoding user-agent vary via www-authenticate";

/// Names whose values have a meaning to `h2`.
pub(super) const MEANT: [&str; 2] = ["content-length", "transfer-encoding"];

/// Fields of the static table before that.
const PSEUDO: [(&str, &str); 14] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
];

/// See the module.
pub(super) struct Encoder {
    fixed: Fields,
    /// The latest first.
    table: VecDeque<(String, Vec<u8>)>,
    most: usize,
}

impl Encoder {
    pub(super) fn new() -> Self {
        let pseudo = PSEUDO
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        let names = NAMES.split(' ').map(|name| match name {
            "accept-encoding" => (name.to_owned(), b"gzip, deflate".to_vec()),
            _ => (name.to_owned(), Vec::new()),
        });
        let fixed: Vec<_> = pseudo.chain(names).collect();
        assert_eq!(fixed.len(), 61);
        Self {
            fixed,
            table: VecDeque::new(),
            most: 4096,
        }
    }

    /// Writes fields (RFC 7541).
    pub(super) fn block(&mut self, fields: &Fields, random: &mut Random) -> Vec<u8> {
        let mut out = Vec::new();
        if random.percent(20) {
            for _ in 0..1 + random.below(2) {
                let most = *random.of(&[0, 31, 32, 38, 60, 200, 1000, 4000, 4095, 4096]);
                number(0x20, 5, most, &mut out, random);
                self.most = most;
                self.evict(0);
            }
        }
        for (name, value) in fields {
            self.field(name, value, &mut out, random);
        }
        out
    }

    fn evict(&mut self, more: usize) {
        let size = |(name, value): &(String, Vec<u8>)| name.len() + value.len() + 32;
        while self.table.iter().map(size).sum::<usize>() + more > self.most
            && self.table.pop_back().is_some()
        {}
    }

    fn field(&mut self, name: &str, value: &[u8], out: &mut Vec<u8>, random: &mut Random) {
        let all = || self.fixed.iter().chain(&self.table).zip(1..);
        let same: Vec<usize> = all()
            .filter(|((one, other), _)| one == name && other == value)
            .map(|(_, index)| index)
            .collect();
        let named: Vec<usize> = all()
            .filter(|((one, _), _)| one == name)
            .map(|(_, index)| index)
            .collect();
        if !same.is_empty() && random.percent(70) {
            let index = *random.of(&same);
            number(0x80, 7, index, out, random);
            return;
        }
        let (first, bits) = [(0x40, 6), (0x40, 6), (0, 4), (0x10, 4)][random.below(4)];
        if !named.is_empty() && random.percent(70) {
            let index = *random.of(&named);
            number(first, bits, index, out, random);
        } else {
            out.push(first);
            string(name.as_bytes(), out, random);
        }
        string(value, out, random);
        if first == 0x40 {
            let size = name.len() + value.len() + 32;
            self.evict(size);
            if size <= self.most {
                self.table.push_front((name.to_owned(), value.to_vec()));
            }
        }
    }
}

fn string(string: &[u8], out: &mut Vec<u8>, random: &mut Random) {
    if random.percent(50) {
        let mut code = Vec::new();
        huffman::encode(string, &mut code);
        number(0x80, 7, code.len(), out, random);
        out.extend(code);
    } else {
        number(0, 7, string.len(), out, random);
        out.extend(string);
    }
}

/// Writes a number, perhaps in more bytes than it needs.
fn number(first: u8, bits: u32, number: usize, out: &mut Vec<u8>, random: &mut Random) {
    let full = (1_usize << bits) - 1;
    if number < full {
        out.push(first | number as u8);
        return;
    }
    out.push(first | full as u8);
    let mut rest = number - full;
    let least = 1 + random.below(4);
    let mut count = 0;
    while rest >= 0x80 || count + 1 < least {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
        count += 1;
    }
    out.push(rest as u8);
}
