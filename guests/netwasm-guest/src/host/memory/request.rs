//! Requests of a test.

use super::example_info;
use crate::{Error, ErrorKind, Info, Result};

/// A request, apart from its method and target.
pub(crate) struct RequestData {
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// Handle that the host gives for a request.
pub(crate) type RequestHandle = RequestData;

/// A request, as a handler sees it.
#[derive(Clone, Copy)]
pub(crate) struct RawRequest<'a>(pub(crate) &'a RequestData);

impl<'a> From<&'a RequestHandle> for RawRequest<'a> {
    fn from(data: &'a RequestHandle) -> Self {
        Self(data)
    }
}

impl RawRequest<'_> {
    pub(crate) fn is_whole(&self) -> bool {
        true
    }

    pub(crate) fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.header_values(name).into_iter().next()
    }

    pub(crate) fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        let named = |(other, _): &&(String, Vec<u8>)| other.eq_ignore_ascii_case(name);
        let values = self.0.headers.iter().filter(named);
        values.map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.0.headers.clone()
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        self.0.body.clone()
    }

    pub(crate) fn trailers(&self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }

    pub(crate) fn scheme(&self) -> String {
        "http".to_owned()
    }

    pub(crate) fn authority(&self) -> Option<String> {
        let host = self.header("host")?;
        String::from_utf8(host).ok()
    }

    /// Drops an interim response, which no test asks for.
    pub(crate) fn inform(&self, status: u16, _: &[(String, Vec<u8>)]) -> Result<()> {
        inform(0, status, &[])
    }

    /// Returns nothing: there is no proxy here.
    pub(crate) fn proxied(&self) -> Option<crate::ProxyInfo> {
        None
    }

    pub(crate) fn info(&self) -> Info {
        example_info()
    }
}

/// Drops an interim response to a deferred request.
pub(crate) fn inform(_: u64, status: u16, _: &[(String, Vec<u8>)]) -> Result<()> {
    match status {
        102..200 => Ok(()),
        _ => Err(Error::new(
            ErrorKind::InvalidArgument,
            "the status is not 102 to 199",
        )),
    }
}
