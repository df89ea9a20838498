//! Huffman code of HPACK (RFC 7541, appendix B).

use super::hpack::MalformedBlock;

/// Bits of the longest code.
const LONGEST: usize = 30;

/// Symbol for the end of a string, which no string may contain.
const END: u16 = 256;

/// Appends the decoded string, at most 8 bytes for 5.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), MalformedBlock> {
    // Unused bits, left-aligned.
    let mut window: u64 = 0;
    let mut count = 0;
    let mut input = input.iter();
    loop {
        while count <= 56
            && let Some(&byte) = input.next()
        {
            window |= u64::from(byte) << (56 - count);
            count += 8;
        }
        let (symbol, length) = match SHORT[(window >> 56) as usize] {
            (symbol, length) if length > 0 => (u16::from(symbol), usize::from(length)),
            _ => first(window).ok_or(MalformedBlock)?,
        };
        if length > count {
            // Padding after the last code is less than a byte of ones.
            let padding = !(u64::MAX >> count);
            return match count < 8 && window == padding {
                true => Ok(()),
                false => Err(MalformedBlock),
            };
        }
        out.push(u8::try_from(symbol).map_err(|_| MalformedBlock)?);
        window <<= length;
        count -= length;
    }
}

/// Returns the first symbol and the bits of its code.
fn first(window: u64) -> Option<(u16, usize)> {
    let bits = (window >> (64 - LONGEST)) as u32;
    for row in &ROWS {
        if bits < row.end {
            let number = (bits - row.begin) >> (LONGEST - row.length);
            let symbol = SYMBOLS.get(row.symbols + number as usize)?;
            return Some((*symbol, row.length));
        }
    }
    None
}

/// Codes of one length, which are consecutive.
#[derive(Clone, Copy)]
struct Row {
    /// Length of a code in bits.
    length: usize,
    /// First code, and end after the last, left-aligned to [`LONGEST`] bits.
    begin: u32,
    end: u32,
    /// Index of the first symbol in [`SYMBOLS`].
    symbols: usize,
}

/// Number of lengths from the shortest to the longest.
const COUNT: usize = LONGEST - 4;

/// Rows from the shortest to the longest. The code is canonical: codes of a
/// length follow the shorter ones, in the order of their symbols.
const ROWS: [Row; COUNT] = {
    let mut rows = [Row {
        length: 0,
        begin: 0,
        end: 0,
        symbols: 0,
    }; COUNT];
    let (mut code, mut symbols, mut at) = (0, 0, 0);
    while at < COUNT {
        let length = at + 5;
        let mut count = 0;
        let mut symbol = 0;
        while symbol <= END as usize {
            count += (LENGTHS[symbol] as usize == length) as u32;
            symbol += 1;
        }
        let begin = code;
        code += count << (LONGEST - length);
        rows[at] = Row {
            length,
            begin,
            end: code,
            symbols,
        };
        symbols += count as usize;
        at += 1;
    }
    rows
};

/// Symbol at the start of each byte, and the bits of its code, or 0 if the code
/// is longer than a byte. Most symbols that clients send have short codes.
const SHORT: [(u8, u8); 256] = {
    let mut short = [(0, 0); 256];
    let mut row = 0;
    while row < COUNT && ROWS[row].length <= 8 {
        let Row {
            length,
            begin,
            end,
            symbols,
        } = ROWS[row];
        let mut byte = begin >> (LONGEST - 8);
        while byte < end >> (LONGEST - 8) {
            let number = (byte - (begin >> (LONGEST - 8))) >> (8 - length);
            short[byte as usize] = (SYMBOLS[symbols + number as usize] as u8, length as u8);
            byte += 1;
        }
        row += 1;
    }
    short
};

/// Symbols, sorted by the length of their codes.
const SYMBOLS: [u16; LENGTHS.len()] = {
    let mut symbols = [0; LENGTHS.len()];
    let (mut length, mut at) = (5, 0);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                symbols[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
};

/// Length of each symbol's code in bits.
#[rustfmt::skip]
const LENGTHS: [u8; END as usize + 1] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11,
    10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
    15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5,
    6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
    23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21,
    23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26,
    28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// Appends the code of a string.
#[cfg(test)]
pub(super) fn encode(string: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0_u64, 0);
    for byte in string {
        let length = usize::from(LENGTHS[usize::from(*byte)]);
        bits = bits << length | u64::from(CODES[usize::from(*byte)]);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | 0xff >> count);
    }
}

/// The code of each symbol.
#[cfg(test)]
const CODES: [u32; LENGTHS.len()] = {
    let mut codes = [0; LENGTHS.len()];
    let mut row = 0;
    while row < COUNT {
        let Row {
            length,
            begin,
            end,
            symbols,
        } = ROWS[row];
        let mut code = begin >> (LONGEST - length);
        let mut at = symbols;
        while code < end >> (LONGEST - length) {
            codes[SYMBOLS[at] as usize] = code;
            (code, at) = (code + 1, at + 1);
        }
        row += 1;
    }
    codes
};

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &[u8]) -> Result<String, MalformedBlock> {
        let mut out = Vec::new();
        decode(input, &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn strings_of_the_rfc_are_read() {
        // RFC 7541, appendix C.4 and C.6.
        let host = b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(decoded(host), Ok("www.example.com".into()));
        assert_eq!(decoded(b"\xa8\xeb\x10\x64\x9c\xbf"), Ok("no-cache".into()));
        let date = b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff";
        assert_eq!(decoded(date), Ok("Mon, 21 Oct 2013 20:13:21 GMT".into()));
        assert_eq!(decoded(b""), Ok(String::new()));
    }

    #[test]
    fn what_is_none_is_refused() {
        // A whole byte of ones, zero padding, the end symbol.
        assert_eq!(
            decoded(b"\xa8\xeb\x10\x64\x9c\xbf\xff"),
            Err(MalformedBlock)
        );
        assert_eq!(decoded(b"\xa8\xeb\x10\x64\x9c\xb8"), Err(MalformedBlock));
        assert_eq!(decoded(b"\xff\xff\xff\xff"), Err(MalformedBlock));
    }

    #[test]
    fn strings_are_read_as_they_are_written() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        for length in 0..=all.len() {
            let string = &all[all.len() - length..];
            let (mut code, mut out) = (Vec::new(), Vec::new());
            encode(string, &mut code);
            assert_eq!(decode(&code, &mut out), Ok(()));
            assert_eq!(out, string);
        }
    }

    #[test]
    fn the_code_is_complete() {
        let last = ROWS.last().expect("a row");
        assert_eq!(last.end, 1 << LONGEST);
    }
}
