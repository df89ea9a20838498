//! The buckets of a run. Their connections to Redis servers have the host's own
//! trust.

use std::io;
use std::sync::Arc;

use netwasm_base::config::Config;
use netwasm_base::error::Error;
use netwasm_keyvalue::{Dial, Dialing, Memories, Stores, Stream};
use netwasm_net::direct;
use netwasm_net::tls::Tls;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Opens the buckets of a service.
///
/// # Errors
/// Fails with the name of the bucket if its file cannot be opened.
pub fn open(config: &Config, memories: &Memories, tls: &Arc<Tls>) -> Result<Stores, Error> {
    let dial = dial(tls);
    let most = config.limits.max_keyvalue;
    Stores::open(&config.keyvalue, most, memories, &dial).map_err(Error::Keyvalue)
}

/// Returns what connects to Redis servers.
pub(crate) fn dial(tls: &Arc<Tls>) -> Arc<dyn Dial> {
    Arc::new(Dialer(Arc::clone(tls)))
}

/// Connects to Redis servers.
#[derive(Debug)]
struct Dialer(Arc<Tls>);

impl Dial for Dialer {
    fn dial(&self, host: &str, port: u16, secure: bool) -> Dialing {
        let tls = Arc::clone(&self.0);
        let host = host.to_owned();
        Box::pin(async move {
            let stream = direct::connect(&host, port).await?;
            if !secure {
                return Ok(Box::new(stream) as Box<dyn Stream>);
            }
            let secured = shake(&tls, host, stream).await;
            secured.map_err(|error| io::Error::other(format!("TLS fails: {error}")))
        })
    }
}

async fn shake(tls: &Arc<Tls>, host: String, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
    let name = ServerName::try_from(host).map_err(|_| {
        let why = "the server's name is neither a name nor an address";
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })?;
    tls.client_prepared().await;
    let config = tls.plain_client().map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(Box::new(stream))
}
