//! Reasons why a reload changes nothing.

use netwasm_base::error::Error;
use netwasm_net::tls::Renewed;

/// Why a reload changes nothing.
#[derive(Debug)]
pub(crate) struct Refused {
    /// One line.
    pub(super) reason: String,
    /// True if there is no room for another generation at present.
    pub(super) crowded: bool,
    /// Certificates of services whose settings have not changed, by the numbers
    /// of their generations. They do not depend on what is wrong.
    pub(super) renewed: Vec<(u64, Renewed)>,
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self {
            reason,
            crowded: false,
            renewed: Vec::new(),
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            crowded: matches!(error, Error::Room(_)),
            ..Self::from(error.to_string())
        }
    }
}
