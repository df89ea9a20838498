//! A client that does all that HTTP/2 allows, at random.

use super::super::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PADDED, PRIORITY};
use super::encoder::{Encoder, MEANT, NAMES};
use super::{Fields, MOST_FRAMES, Message, PREFACE};

/// Numbers that are the same in each run (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    /// A smaller one.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, count: usize) -> bool {
        self.below(100) < count
    }

    pub(super) fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// See the module.
pub(super) struct RandomClient<'a> {
    random: &'a mut Random,
    encoder: Encoder,
    /// Paths and fields that come again.
    pub(super) paths: Vec<Vec<u8>>,
    fields: Fields,
    /// Those of `sent` that are not at their ends.
    open: Vec<usize>,
    next: u32,
    /// True if it also does what is refused.
    pub(super) all_kinds: bool,
    /// Arriving bytes.
    pub(super) sent: Vec<Message>,
    pub(super) output: Vec<u8>,
}

impl<'a> RandomClient<'a> {
    pub(super) fn new(random: &'a mut Random) -> Self {
        let mut paths: Vec<Vec<u8>> = ["/", "/index.html", "/a/b?c=d", "/{x}|y^z", "*"]
            .map(|path| path.as_bytes().to_vec())
            .to_vec();
        paths.extend(
            [
                &b"/<>"[..],
                b"/\xc3\xbc",
                b"/\xff\xfe",
                b"/a#b",
                b"/a b",
                b"?x",
                b"x",
                b"<",
                b"http://test/x",
            ]
            .map(<[u8]>::to_vec),
        );
        for length in [300, 4064, 5000, 20_000] {
            let byte = |_| *random.of(b"ab~\"\x01\xe4");
            paths.push(std::iter::once(b'/').chain((0..length).map(byte)).collect());
        }
        let fields = (0..30)
            .map(|_| {
                let name = match random.below(3) {
                    0 => format!("x-{}", random.below(1000)),
                    _ => {
                        let names: Vec<&str> = NAMES.split(' ').collect();
                        let name = *random.of(&names);
                        if MEANT.contains(&name) { "x" } else { name }.to_owned()
                    }
                };
                let length = match random.below(10) {
                    0 => 4000 + random.below(200),
                    1 => 120 + random.below(200),
                    _ => random.below(30),
                };
                let value = |_| *random.of(b"abcdefghijk0123456789 -_~\\^\xfc\x80\xff");
                (name, (0..length).map(value).collect())
            })
            .collect();
        Self {
            random,
            encoder: Encoder::new(),
            paths,
            fields,
            open: Vec::new(),
            next: 1,
            all_kinds: false,
            sent: Vec::new(),
            output: [PREFACE, &frame(4, 0, 0, b"")].concat(),
        }
    }

    /// Does so many things, then ends all requests.
    pub(super) fn run(&mut self, count: usize) {
        for _ in 0..count {
            match self.random.below(10) {
                0..5 => self.begin(),
                5..7 => self.data(false),
                7 => self.end(),
                _ => self.other(),
            }
        }
        while !self.open.is_empty() {
            self.end();
        }
    }

    /// A frame that tells nothing of requests.
    fn other(&mut self) {
        let stream = self.next;
        let size = [0, 100, 4096, 10_000][self.random.below(4)];
        let settings = [&[0, 1][..], &u32::to_be_bytes(size)].concat();
        let noise: Vec<u8> = (0..self.random.below(300))
            .map(|_| self.random.byte())
            .collect();
        let other = match self.random.below(5) {
            0 => frame(6, 0, 0, &[HEADERS; 8]),
            1 => frame(2, 0, stream, &[0, 0, 0, 0, 1]),
            2 => frame(8, 0, 0, &[0, 0, 0, 1]),
            3 => frame(4, 0, 0, &settings),
            _ => frame(0x20, self.random.byte(), stream, &noise),
        };
        self.output.extend(other);
    }

    fn begin(&mut self) {
        let stream = self.next;
        self.next += 2 * (1 + self.random.below(2) as u32);
        let mut message = Message {
            stream,
            method: (*self.random.of(&["GET", "POST", "PUT", "OPTIONS"])).to_owned(),
            path: self.random.of(&self.paths).clone(),
            authority: (*self.random.of(&["test", "other.test:80"])).to_owned(),
            ..Message::default()
        };
        let mut head: Fields = vec![
            (":method".to_owned(), message.method.clone().into()),
            (":path".to_owned(), message.path.clone()),
            (":authority".to_owned(), message.authority.clone().into()),
            (":scheme".to_owned(), b"http".to_vec()),
        ];
        let swapped = self.random.below(4);
        head.swap(0, swapped);
        message.headers = self.some_fields();
        head.extend(message.headers.clone());
        message
            .headers
            .sort_by(|(one, _), (other, _)| one.cmp(other));
        let fault = match self.all_kinds {
            true => self.random.below(20),
            false => usize::MAX,
        };
        match fault {
            0 => head.push(("connection".to_owned(), b"x".to_vec())),
            1 => head.insert(1, head[0].clone()),
            _ => {}
        }
        let block = self.encoder.block(&head, self.random);
        let ends = self.random.percent(60);
        let flags = if ends { END_STREAM } else { 0 };
        // h2 ends the connection where it refuses what is not the last frame.
        let whole = fault < 2;
        if whole && block.len() > 16_000 {
            self.frames(stream, flags | PRIORITY, &block, false, stream);
            return;
        }
        match fault {
            0 | 1 => self.frames(stream, flags, &block, true, 0),
            2 | 3 => self.frames(stream, flags | PRIORITY, &block, false, stream),
            _ => {
                let priority = if self.random.percent(20) { PRIORITY } else { 0 };
                self.frames(stream, flags | priority, &block, false, 0);
                message.whole = true;
                if !ends {
                    self.open.push(self.sent.len());
                }
                self.sent.push(message);
            }
        }
    }

    /// Sends a piece of a body, perhaps the last.
    fn data(&mut self, last: bool) {
        if self.open.is_empty() {
            return;
        }
        let index = *self.random.of(&self.open);
        let length = self.random.below(300);
        let piece: Vec<u8> = (0..length).map(|_| self.random.byte()).collect();
        let stream = self.sent[index].stream;
        self.sent[index].body.extend(&piece);
        let mut flags = 0;
        if last {
            flags |= END_STREAM;
            self.open.retain(|it| *it != index);
        }
        let mut payload = piece;
        if self.random.percent(30) {
            flags |= PADDED;
            let padding = self.random.below(256);
            payload.insert(0, padding as u8);
            payload.resize(payload.len() + padding, 0);
        }
        self.output.extend(frame(0, flags, stream, &payload));
    }

    /// Ends a request.
    fn end(&mut self) {
        if self.open.is_empty() || self.random.percent(50) {
            self.data(true);
            return;
        }
        let index = self.open.swap_remove(self.random.below(self.open.len()));
        let stream = self.sent[index].stream;
        let mut trailers = self.some_fields();
        let fault = self.all_kinds && self.random.percent(20);
        let message = &mut self.sent[index];
        if fault {
            message.whole = false;
            let path = self.random.of(&self.paths).clone();
            trailers.insert(0, (":path".to_owned(), path));
        } else {
            message.trailers.clone_from(&trailers);
            message
                .trailers
                .sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        let block = self.encoder.block(&trailers, self.random);
        self.frames(stream, END_STREAM, &block, false, 0);
    }

    fn some_fields(&mut self) -> Fields {
        (0..self.random.below(8))
            .map(|_| self.random.of(&self.fields).clone())
            .collect()
    }

    /// Sends a header block, cut at random, perhaps with padding.
    fn frames(&mut self, stream: u32, flags: u8, block: &[u8], whole: bool, depends_on: u32) {
        const MOST: usize = 16_000;
        let mut rest = block;
        let mut left = if whole {
            1
        } else {
            1 + self.random.below(MOST_FRAMES - 1)
        };
        left = left.max(block.len().div_ceil(MOST));
        let mut kind = HEADERS;
        loop {
            left -= 1;
            let least = rest.len().saturating_sub(left * MOST);
            let most = rest.len().min(MOST);
            let count = match left {
                0 => rest.len(),
                _ => least + self.random.below(most - least + 1),
            };
            let (piece, after) = rest.split_at(count);
            let mut payload = Vec::new();
            let mut own = if left == 0 { END_HEADERS } else { 0 };
            if kind == HEADERS {
                own |= flags;
                let padding = self
                    .random
                    .percent(30)
                    .then(|| self.random.below(256) as u8);
                if let Some(padding) = padding {
                    own |= PADDED;
                    payload.push(padding);
                }
                if flags & PRIORITY != 0 {
                    payload.extend(
                        (depends_on | u32::from(self.random.byte() & 1) << 31).to_be_bytes(),
                    );
                    payload.push(self.random.byte());
                }
                payload.extend(piece);
                payload.resize(payload.len() + usize::from(padding.unwrap_or(0)), 0);
            } else {
                payload.extend(piece);
            }
            self.output.extend(frame(kind, own, stream, &payload));
            if left == 0 {
                return;
            }
            (rest, kind) = (after, CONTINUATION);
        }
    }
}
