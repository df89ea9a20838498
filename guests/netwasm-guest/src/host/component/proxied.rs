//! The PROXY protocol, both ways.

use std::time::Duration;

use super::{RawRequest, Transport};
use crate::bindings::netwasm::net::types::{self, ConnectionId};
use crate::bindings::netwasm::net::{connector, transports};
use crate::time::nanoseconds;
use crate::{ProxyInfo, ProxyTlsInfo, Result};

/// The number of a connection.
pub(crate) type Number = ConnectionId;

impl Transport {
    pub(crate) fn number(&self) -> Number {
        self.0
    }

    pub(crate) fn proxied(&self) -> Option<ProxyInfo> {
        transports::proxied(self.0).map(Into::into)
    }
}

impl RawRequest<'_> {
    pub(crate) fn proxied(&self) -> Option<ProxyInfo> {
        self.0.proxied().map(Into::into)
    }
}

pub(crate) fn connect_upstream_for(
    token: u64,
    group: &str,
    client: Number,
    limit: Option<Duration>,
) -> Result<()> {
    let limit = limit.map(nanoseconds);
    Ok(connector::connect_upstream_for(
        token, group, client, limit,
    )?)
}

impl From<types::ProxyInfo> for ProxyInfo {
    fn from(told: types::ProxyInfo) -> Self {
        Self {
            proxy: told.proxy.into(),
            destination: told.destination.map(Into::into),
            alpn: told.alpn,
            authority: told.authority,
            unique_id: told.unique_id,
            tls: told.tls.map(Into::into),
            fields: told.fields,
        }
    }
}

impl From<types::ProxyTlsInfo> for ProxyTlsInfo {
    fn from(tls: types::ProxyTlsInfo) -> Self {
        Self {
            client_certificate: tls.client_certificate,
            verified: tls.verified,
            version: tls.version,
            cipher: tls.cipher,
            common_name: tls.common_name,
            signature_algorithm: tls.signature_algorithm,
            key_algorithm: tls.key_algorithm,
        }
    }
}
