//! Settings of outgoing sessions.

use rustls::pki_types::ServerName;

use netwasm_base::error::ConnectionError;

use super::choices::Choice;

/// Client configuration of a connection: `tls-options` of the WIT package,
/// checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientTls {
    pub(super) server_name: ServerName<'static>,
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) choice: Choice,
}

impl ClientTls {
    /// Checks a server name and protocols.
    ///
    /// # Errors
    /// `InvalidArgument`: the server name is invalid, or a protocol's name is
    /// empty or too long, or there are too many.
    pub fn new(server_name: String, alpn: Vec<String>) -> Result<Self, ConnectionError> {
        // RFC 7301, section 3.1: names have 1 to 255 bytes, and two bytes hold
        // the length of their list.
        let fits = alpn.iter().all(|name| (1..=255).contains(&name.len()))
            && alpn.iter().map(|name| name.len() + 1).sum::<usize>() <= 65_535;
        if !fits {
            return Err(ConnectionError::InvalidArgument);
        }
        Ok(Self {
            server_name: ServerName::try_from(server_name)
                .map_err(|_| ConnectionError::InvalidArgument)?,
            alpn: alpn.into_iter().map(String::into_bytes).collect(),
            choice: Choice::default(),
        })
    }

    /// Returns these settings without protocols to offer.
    #[must_use]
    pub fn without_alpn(&self) -> Self {
        Self {
            alpn: Vec::new(),
            ..self.clone()
        }
    }

    /// Returns these settings with HTTP/1.1 alone to offer.
    #[must_use]
    pub fn of_http1(&self) -> Self {
        Self {
            alpn: vec![b"http/1.1".to_vec()],
            ..self.clone()
        }
    }

    /// Chooses an authority and an identity by their names, which
    /// [`Tls::check`](super::Tls::check) checks.
    #[must_use]
    pub fn choosing(mut self, authority: Option<String>, identity: Option<String>) -> Self {
        self.choice = Choice {
            authority,
            identity,
        };
        self
    }
}
