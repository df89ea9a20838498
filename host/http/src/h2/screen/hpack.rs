//! Decoder of HPACK (RFC 7541), as far as needed to find the target of a
//! request and to detect pseudo-fields.
//!
//! For a field that enters the dynamic table, the decoder keeps only its size,
//! whether it is a pseudo-field, and a target that is not plain.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use netwasm_exchange::head::target;

use super::huffman;

/// Size of the dynamic table that `h2` grants, in bytes. A client may reduce it
/// (RFC 9113, section 6.5.2).
const TABLE: usize = 4096;

/// Lengths of the names of the static table, in its order (RFC 7541, appendix
/// A).
const STATIC: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14,
    16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10,
    25, 17, 10, 4, 3, 16,
];

/// The client breaks the rules of HPACK. `h2` will report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MalformedBlock;

/// Content of a header block.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// True if there is a pseudo-field.
    pub(super) pseudo: bool,
    /// The target, if it is not plain.
    pub(super) target: Option<Arc<[u8]>>,
    /// Positions of such targets that are written out, with their decoded
    /// lengths in bytes.
    pub(super) written: Vec<(Range<usize>, usize)>,
}

/// Kind of a field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Path,
    OtherPseudo,
    Regular,
}

/// A field in the dynamic table.
#[derive(Debug)]
struct TableEntry {
    kind: Kind,
    /// Length of the name in bytes.
    name: usize,
    /// Size in the table in bytes (RFC 7541, section 4.1).
    size: usize,
    target: Option<Arc<[u8]>>,
}

/// Decoder of one direction of a connection.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Dynamic table, latest entry first.
    table: VecDeque<TableEntry>,
    /// Size of the table in bytes.
    size: usize,
    /// Maximum size of the table in bytes.
    most: usize,
    /// Buffer for a decoded string.
    text: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            most: TABLE,
            text: Vec::new(),
        }
    }
}

impl Decoder {
    /// Reads a whole header block.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Found, MalformedBlock> {
        let mut found = Found::default();
        let mut input = Input { block, at: 0 };
        while let Some(first) = input.peek() {
            if first & 0x80 != 0 {
                self.indexed(input.number(7)?, &mut found)?;
            } else if first & 0xe0 == 0x20 {
                let most = input.number(5)?;
                if most > TABLE {
                    return Err(MalformedBlock);
                }
                self.most = most;
                self.evict(0);
            } else {
                let kept = first & 0x40 != 0;
                let index = input.number(if kept { 6 } else { 4 })?;
                self.literal(index, kept, &mut input, &mut found)?;
            }
        }
        self.text.shrink_to(TABLE);
        Ok(found)
    }

    /// Reads an indexed field.
    fn indexed(&self, index: usize, found: &mut Found) -> Result<(), MalformedBlock> {
        let (kind, _, entry) = self.name(index)?;
        found.note(kind, entry.and_then(|entry| entry.target.clone()));
        Ok(())
    }

    /// Returns the kind and length of an indexed name, and its entry if it is
    /// in the dynamic table.
    fn name(&self, index: usize) -> Result<(Kind, usize, Option<&TableEntry>), MalformedBlock> {
        let index = index.checked_sub(1).ok_or(MalformedBlock)?;
        if let Some(&length) = STATIC.get(index) {
            let kind = match index {
                3 | 4 => Kind::Path,
                0..14 => Kind::OtherPseudo,
                _ => Kind::Regular,
            };
            return Ok((kind, usize::from(length), None));
        }
        let entry = self.table.get(index - STATIC.len()).ok_or(MalformedBlock)?;
        Ok((entry.kind, entry.name, Some(entry)))
    }

    /// Reads a field with a literal value.
    fn literal(
        &mut self,
        index: usize,
        kept: bool,
        input: &mut Input<'_>,
        found: &mut Found,
    ) -> Result<(), MalformedBlock> {
        let (kind, name) = if index > 0 {
            let (kind, name, _) = self.name(index)?;
            (kind, name)
        } else {
            input.string(&mut self.text)?;
            let kind = match self.text.as_slice() {
                b":path" => Kind::Path,
                [b':', ..] => Kind::OtherPseudo,
                _ => Kind::Regular,
            };
            (kind, self.text.len())
        };
        if kind == Kind::Regular && !kept {
            // Its value does not matter; `h2` says whether that is right.
            input.raw_string()?;
            return Ok(());
        }
        let place = input.string(&mut self.text)?;
        let length = self.text.len();
        let odd = kind == Kind::Path && length > 0 && !target::is_plain(&self.text);
        let target = odd.then(|| Arc::from(self.text.as_slice()));
        if odd {
            found.written.push((place, length));
        }
        found.note(kind, target.clone());
        if kept {
            let size = name + length + 32;
            self.evict(size);
            if size <= self.most {
                self.size += size;
                self.table.push_front(TableEntry {
                    kind,
                    name,
                    size,
                    target,
                });
            }
        }
        Ok(())
    }

    /// Makes room for a field of this size in bytes (RFC 7541, section 4.4).
    fn evict(&mut self, size: usize) {
        while self.size + size > self.most
            && let Some(entry) = self.table.pop_back()
        {
            self.size -= entry.size;
        }
    }
}

impl Found {
    fn note(&mut self, kind: Kind, target: Option<Arc<[u8]>>) {
        self.pseudo |= kind != Kind::Regular;
        if self.target.is_none() {
            self.target = target;
        }
    }
}

/// A header block with a read position.
struct Input<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn peek(&self) -> Option<u8> {
        self.block.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, MalformedBlock> {
        let byte = self.peek().ok_or(MalformedBlock)?;
        self.at += 1;
        Ok(byte)
    }

    /// Reads an integer with a prefix of so many bits (RFC 7541, section 5.1).
    fn number(&mut self, bits: u32) -> Result<usize, MalformedBlock> {
        let full = (1 << bits) - 1;
        let mut number = usize::from(self.next()?) & full;
        if number < full {
            return Ok(number);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.next()?;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(MalformedBlock)
    }

    /// Reads a string (RFC 7541, section 5.2). Returns its position.
    fn string(&mut self, text: &mut Vec<u8>) -> Result<Range<usize>, MalformedBlock> {
        let begin = self.at;
        let (coded, string) = self.raw_string()?;
        text.clear();
        match coded {
            true => huffman::decode(string, text)?,
            false => text.extend_from_slice(string),
        }
        Ok(begin..self.at)
    }

    /// A string as it is written, and whether that is in the Huffman code.
    fn raw_string(&mut self) -> Result<(bool, &'a [u8]), MalformedBlock> {
        let coded = self.peek().is_some_and(|first| first & 0x80 != 0);
        let length = self.number(7)?;
        let end = self.at.checked_add(length).ok_or(MalformedBlock)?;
        let string = self.block.get(self.at..end).ok_or(MalformedBlock)?;
        self.at = end;
        Ok((coded, string))
    }
}

/// Appends a string without Huffman coding.
pub(super) fn write_string(string: impl ExactSizeIterator<Item = u8>, out: &mut Vec<u8>) {
    let length = string.len();
    if let Some(rest) = length.checked_sub(0x7f) {
        out.push(0x7f);
        let mut rest = rest;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    } else {
        out.push(length as u8);
    }
    out.extend(string);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(decoder: &mut Decoder, block: &[u8]) -> Found {
        decoder.read(block).expect("a block")
    }

    #[test]
    fn the_requests_of_the_rfc_are_read() {
        // RFC 7541, appendix C.4, with the table sizes given there.
        let mut decoder = Decoder::default();
        let blocks: [(&[u8], usize); 3] = [
            (
                b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
                57,
            ),
            (b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf", 110),
            (
                b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
                164,
            ),
        ];
        for (block, size) in blocks {
            let found = read(&mut decoder, block);
            assert!(found.pseudo && found.target.is_none());
            assert_eq!(decoder.size, size);
        }
    }

    #[test]
    fn a_target_is_known_again_where_it_is_remembered() {
        let mut decoder = Decoder::default();
        let found = read(&mut decoder, b"\x82\x44\x04/a<b\x40\x01x\x01y");
        assert_eq!(found.target.as_deref(), Some(b"/a<b".as_slice()));
        assert_eq!(found.written, [(2..7, 4)]);
        // The last entry but one.
        let found = read(&mut decoder, b"\xbf");
        assert_eq!(found.target.as_deref(), Some(b"/a<b".as_slice()));
        assert!(found.written.is_empty());
        // Its name alone.
        let found = read(&mut decoder, b"\x0f\x30\x02/b");
        assert!(found.pseudo && found.target.is_none());
        // The table is emptied.
        read(&mut decoder, b"\x20");
        assert_eq!(decoder.read(b"\xbe").err(), Some(MalformedBlock));
    }

    #[test]
    fn what_breaks_a_rule_is_told() {
        for block in [
            &b"\x80"[..],
            b"\xff\xff\xff\xff\xff\xff",
            b"\x3f\xff\x7f",
            b"\x44\x7f",
            b"\x44\x05/a",
            b"\x00",
        ] {
            assert!(Decoder::default().read(block).is_err(), "{block:?}");
        }
    }

    #[test]
    fn strings_are_written_as_they_are_read() {
        for length in [0, 1, 126, 127, 128, 254, 255, 400, 20_000] {
            let mut block = Vec::new();
            write_string(std::iter::repeat_n(b'a', length), &mut block);
            let mut input = Input {
                block: &block,
                at: 0,
            };
            let mut text = Vec::new();
            assert_eq!(input.string(&mut text), Ok(0..block.len()));
            assert_eq!(text.len(), length);
        }
    }
}
