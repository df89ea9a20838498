//! Options of a client that continues in TLS.

use crate::host::TlsOptions;

/// A client's options for [`Connection::start_tls_client`]; a name alone is
/// enough for most.
///
/// ```no_run
/// # use netwasm_guest::{Connection, Result, TlsClient};
/// # async fn f(mut conn: Connection) -> Result<()> {
/// let tls = TlsClient::new("db.example.org").authority("internal").identity("web");
/// conn.start_tls_client(tls).await?;
/// # Ok(())
/// # }
/// ```
///
/// [`Connection::start_tls_client`]: crate::Connection::start_tls_client
#[derive(Clone, Debug)]
#[must_use = "it is an argument of `start_tls_client`"]
pub struct TlsClient(pub(crate) TlsOptions);

impl TlsClient {
    /// Begins with the name that the server's certificate must carry: a DNS
    /// name or an IP address.
    pub fn new(server_name: impl Into<String>) -> Self {
        Self(TlsOptions {
            server_name: Some(server_name.into()),
            ..TlsOptions::default()
        })
    }

    /// Sets the protocols to offer, best first.
    pub fn alpn<P: Into<String>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.0.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Trusts the authorities of a `--tls-authority NAME=FILE` by its name, in
    /// place of the system's and those of `--ca`.
    pub fn authority(mut self, name: impl Into<String>) -> Self {
        self.0.authority = Some(name.into());
        self
    }

    /// Presents the certificate of a `--tls-identity NAME=CERT,KEY`, by its
    /// name, to a server that asks for one.
    pub fn identity(mut self, name: impl Into<String>) -> Self {
        self.0.identity = Some(name.into());
        self
    }
}

impl From<&str> for TlsClient {
    fn from(server_name: &str) -> Self {
        Self::new(server_name)
    }
}

impl From<String> for TlsClient {
    fn from(server_name: String) -> Self {
        Self::new(server_name)
    }
}
