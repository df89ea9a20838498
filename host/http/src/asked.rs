//! Fields of a request that decide how a file is served.

use netwasm_exchange::request::Request;

/// Fields of a request, by names in lower case.
pub(crate) trait Asked {
    /// Returns the first value of a header.
    fn first(&self, name: &str) -> Option<&[u8]>;

    /// Returns all values of a header, one for each line.
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
