//! Options of TLS sessions that clients open.

/// A client's options of a TLS session: for [`Connect::tls_with`],
/// [`websocket::Connect::tls_with`], [`http::Forward::tls_with`] and
/// [`Connection::start_tls_client`], for which a server's name alone will do.
///
/// ```no_run
/// # use netwasm_guest::{Connect, Connection, Result, TlsOptions, websocket};
/// # async fn f(mut mail: Connection) -> Result<()> {
/// let internal = TlsOptions::new().authority("internal").identity("web");
/// let db = Connect::to("db.example.org:5433").tls_with(internal.clone());
/// let prices = websocket::Connect::to("wss://prices.example.org/").tls_with(internal);
/// mail.start_tls_client("mail.example.org").await?;
/// # Ok(())
/// # }
/// ```
///
/// [`Connect::tls_with`]: crate::Connect::tls_with
/// [`websocket::Connect::tls_with`]: crate::websocket::Connect::tls_with
/// [`http::Forward::tls_with`]: crate::http::Forward::tls_with
/// [`Connection::start_tls_client`]: crate::Connection::start_tls_client
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it is an argument of what opens a session"]
pub struct TlsOptions {
    /// `None` for the endpoint's own.
    pub(crate) server_name: Option<String>,
    pub(crate) alpn: Vec<String>,
    /// Name of a `--tls-authority`.
    pub(crate) authority: Option<String>,
    /// Name of a `--tls-identity`.
    pub(crate) identity: Option<String>,
}

impl TlsOptions {
    /// Begins with the defaults: the server's certificate must carry the name of
    /// the endpoint, by one of the system's authorities or of those of `--ca`.
    pub const fn new() -> Self {
        Self {
            server_name: None,
            alpn: Vec::new(),
            authority: None,
            identity: None,
        }
    }

    /// Sets the name that the server's certificate must carry, in place of that of
    /// the endpoint: a DNS name or an IP address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Offers these protocols, best first. [`Info::tls`](crate::Info::tls) tells
    /// which one was agreed on. WebSocket connections and forwarded requests have
    /// those of the host, and so none of these.
    pub fn alpn<P: Into<String>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Trusts the authorities of a `--tls-authority NAME=FILE` by its name, in
    /// place of the system's and those of `--ca`.
    pub fn authority(mut self, name: impl Into<String>) -> Self {
        self.authority = Some(name.into());
        self
    }

    /// Presents the certificate of a `--tls-identity NAME=CERT,KEY`, by its
    /// name, to a server that asks for one.
    pub fn identity(mut self, name: impl Into<String>) -> Self {
        self.identity = Some(name.into());
        self
    }
}

/// Options with this name of the server.
impl From<&str> for TlsOptions {
    fn from(server_name: &str) -> Self {
        Self::new().server_name(server_name)
    }
}

/// Options with this name of the server.
impl From<String> for TlsOptions {
    fn from(server_name: String) -> Self {
        Self::new().server_name(server_name)
    }
}
