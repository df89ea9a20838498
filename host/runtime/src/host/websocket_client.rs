use std::rc::Rc;

use netwasm_base::error::ConnectionError;
use netwasm_exchange::websocket::ClientRequest;

use crate::bindings::netwasm::net::types::{
    ConnectOptions as WitConnectOptions, Error as WitError, TlsOptions,
};
use crate::bindings::netwasm::net::websocket_client::{Host, WebsocketOptions};
use crate::convert::{called, connect_options};
use crate::host::connector::allow;
use crate::later;
use crate::state::{Later, State};

/// The protocol of the handshake, for ALPN.
const HTTP1: &str = "http/1.1";

impl Host for State {
    fn connect(
        &mut self,
        token: u64,
        url: String,
        options: WebsocketOptions,
    ) -> wasmtime::Result<Result<(), WitError>> {
        Ok(begin(self, token, &url, options).map_err(called))
    }

    fn cancel(&mut self, token: u64) -> wasmtime::Result<()> {
        self.cancel(Later::WebSocket, token);
        Ok(())
    }
}

fn begin(
    state: &mut State,
    token: u64,
    url: &str,
    options: WebsocketOptions,
) -> Result<(), ConnectionError> {
    let WebsocketOptions {
        protocols,
        headers,
        tls,
        compress,
        timeout,
    } = options;
    let request = ClientRequest::new(url, protocols, &headers, compress)?;
    let connect = WitConnectOptions {
        tls: tls_options(request.destination.secure, tls)?,
        timeout,
        local_address: None,
    };
    let endpoint = &request.destination.endpoint;
    let (client, connect) = connect_options(connect, endpoint, &state.local.env.net)?;
    allow(state, endpoint)?;
    state.begin(Later::WebSocket, token, |state| {
        let (local, instance) = (Rc::clone(&state.local), state.instance.clone());
        later::open_websocket(local, instance, token, request, client, connect)
    })
}

/// Returns the options of a TLS session, if the URL wants one.
///
/// # Errors
/// Fails with `InvalidArgument` if the guest's own do not fit.
fn tls_options(
    secure: bool,
    given: Option<TlsOptions>,
) -> Result<Option<TlsOptions>, ConnectionError> {
    if given
        .as_ref()
        .is_some_and(|tls| !secure || !tls.alpn.is_empty())
    {
        return Err(ConnectionError::InvalidArgument);
    }
    Ok(secure.then(|| {
        let given = given.unwrap_or_else(|| TlsOptions {
            server_name: None,
            alpn: Vec::new(),
            authority: None,
            identity: None,
        });
        TlsOptions {
            alpn: vec![HTTP1.to_owned()],
            ..given
        }
    }))
}
