//! What a client asks of a file, by the fields of its request.

use netwasm_exchange::request::Request;

/// What of a request decides how a file is served. Names are in lower case.
pub(crate) trait Asked {
    /// The first value of a header.
    fn first(&self, name: &str) -> Option<&[u8]>;

    /// All values of a header, one for each line.
    fn all(&self, name: &str) -> Vec<&[u8]>;
}

impl Asked for Request {
    fn first(&self, name: &str) -> Option<&[u8]> {
        self.head.first(name)
    }

    fn all(&self, name: &str) -> Vec<&[u8]> {
        self.head
            .fields()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}
