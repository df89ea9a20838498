//! Received bytes that were not read.

/// Bytes in order, of which the first were read.
#[derive(Default)]
pub(super) struct Unread {
    data: Vec<u8>,
    start: usize,
}

impl Unread {
    pub(super) fn len(&self) -> usize {
        self.data.len().saturating_sub(self.start)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.data.get(self.start..).unwrap_or_default()
    }

    pub(super) fn push(&mut self, data: Vec<u8>) {
        if self.len() == 0 {
            self.data = data;
            self.start = 0;
            return;
        }
        // Reading moves the start; what lies before it goes before the vector
        // grows.
        if self.start > self.data.len() / 2 {
            self.data = self.bytes().to_vec();
            self.start = 0;
        }
        self.data.extend_from_slice(&data);
    }

    /// Takes everything, without a copy if nothing of it was read.
    pub(super) fn take(&mut self) -> Vec<u8> {
        if self.start > 0 {
            let rest = self.bytes().to_vec();
            self.data = Vec::new();
            self.start = 0;
            return rest;
        }
        std::mem::take(&mut self.data)
    }

    /// Drops everything up to a byte, and that byte. Returns true if it was
    /// found.
    pub(super) fn skip_until(&mut self, end: u8) -> bool {
        let found = self.bytes().iter().position(|&byte| byte == end);
        match found {
            Some(at) => self.start += at + 1,
            None => self.start = self.data.len(),
        }
        if self.len() == 0 {
            self.data.clear();
            self.start = 0;
        }
        found.is_some()
    }

    pub(super) fn take_first(&mut self, count: usize) -> Vec<u8> {
        if count >= self.len() {
            return self.take();
        }
        let first = self.bytes().get(..count).unwrap_or_default().to_vec();
        self.start += count;
        first
    }
}
