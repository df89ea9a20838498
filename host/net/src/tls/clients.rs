//! TlsClients that present a certificate: `--client-ca`.
//!
//! Resuming a session does not verify certificates: rustls takes them from the
//! ticket, as they were at the handshake. So they are verified again here, as
//! of the time of the resumption and by the authorities of that time.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;
use rustls::server::danger::ClientCertVerifier;
use rustls::{Error, HandshakeKind, ServerConnection};

/// Verification of clients, and the tickets by which they resume sessions.
#[derive(Debug)]
pub(super) struct TlsClients {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    pub(super) tickets: Arc<Tickets>,
}

impl TlsClients {
    /// Creates the verification, with a new ticket key.
    ///
    /// # Errors
    /// Fails if no randomness is available for the key.
    pub(super) fn new(verifier: Arc<dyn ClientCertVerifier>) -> Result<Self, Error> {
        Ok(Self {
            verifier,
            tickets: Arc::new(Tickets(RwLock::new(Ticketer::new()?))),
        })
    }

    /// Verifies the client of a completed handshake, if it resumed a session.
    ///
    /// # Errors
    /// Fails with what is wrong with its certificate, and invalidates all
    /// tickets. A client that has another certificate by now is then asked for
    /// it the next time.
    pub(super) fn verify_again(&self, session: &ServerConnection) -> Result<(), Error> {
        if session.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Ok(());
        }
        let verified = match session.peer_certificates() {
            Some([certificate, intermediates @ ..]) => {
                let now = UnixTime::now();
                let verified = self
                    .verifier
                    .verify_client_cert(certificate, intermediates, now);
                verified.map(drop)
            }
            _ => Err(Error::NoCertificatesPresented),
        };
        verified.inspect_err(|_| self.tickets.forget())
    }
}

/// Tickets whose key can be replaced.
#[derive(Debug)]
pub(super) struct Tickets(RwLock<Arc<dyn ProducesTickets>>);

impl Tickets {
    /// Invalidates all tickets issued so far.
    fn forget(&self) {
        // Without randomness for a new key the old one stays. The certificates
        // in its tickets are then refused each time.
        if let Ok(tickets) = Ticketer::new() {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = tickets;
        }
    }

    fn current(&self) -> Arc<dyn ProducesTickets> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.current().lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.current().encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.current().decrypt(cipher)
    }
}
