//! The buckets of a run. Their TLS to Redis servers has the host's own trust.

use std::io;
use std::sync::Arc;

use netwasm_base::config::Config;
use netwasm_base::error::Error;
use netwasm_keyvalue::{Memories, Secure, Securing, Stores, Stream};
use netwasm_net::tls::Tls;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Opens the buckets of a service.
///
/// # Errors
/// Fails with the name of the bucket if its file cannot be opened.
pub fn open(config: &Config, memories: &Memories, tls: &Arc<Tls>) -> Result<Stores, Error> {
    let secure = secure(tls);
    let most = config.limits.max_keyvalue;
    Stores::open(&config.keyvalue, most, memories, &secure).map_err(Error::Keyvalue)
}

/// Returns the TLS of connections to Redis servers.
pub(crate) fn secure(tls: &Arc<Tls>) -> Arc<dyn Secure> {
    Arc::new(Trust(Arc::clone(tls)))
}

/// Makes connections to Redis servers secure.
#[derive(Debug)]
struct Trust(Arc<Tls>);

impl Secure for Trust {
    fn secure(&self, host: &str, stream: TcpStream) -> Securing {
        let tls = Arc::clone(&self.0);
        let name = ServerName::try_from(host.to_owned());
        Box::pin(async move {
            let name = name.map_err(|_| {
                let why = "the server's name is no name and no address";
                io::Error::new(io::ErrorKind::InvalidInput, why)
            })?;
            tls.client_prepared().await;
            let config = tls.plain_client().map_err(io::Error::other)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}
