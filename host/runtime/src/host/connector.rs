use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use netwasm_base::error::ConnectionError;
use netwasm_net::endpoint::Endpoint;
use netwasm_net::tls::ClientTls;

use crate::bindings::netwasm::net::connector::{ConnectOptions, Endpoint as WitEndpoint, Host};
use crate::bindings::netwasm::net::types::ErrorCode;
use crate::later;
use crate::state::{Later, State};

impl Host for State {
    fn connect(
        &mut self,
        to: WitEndpoint,
        options: ConnectOptions,
    ) -> wasmtime::Result<Result<u64, ErrorCode>> {
        Ok(begin(self, to, options).map_err(ErrorCode::from))
    }

    fn cancel(&mut self, id: u64) -> wasmtime::Result<()> {
        self.cancel(Later::Connection, id);
        Ok(())
    }
}

fn begin(
    state: &mut State,
    to: WitEndpoint,
    options: ConnectOptions,
) -> Result<u64, ConnectionError> {
    let endpoint = endpoint(to)?;
    allow(state, &endpoint)?;
    let client = options
        .tls
        .map(|tls| ClientTls::new(tls.server_name, tls.alpn))
        .transpose()?;
    let timeout = options.timeout.map(Duration::from_nanos);
    state.begin(Later::Connection, |state, id| {
        later::connect(
            Rc::clone(&state.local.worker),
            state.instance.clone(),
            id,
            endpoint,
            client,
            timeout,
        )
    })
}

fn endpoint(to: WitEndpoint) -> Result<Endpoint, ConnectionError> {
    let endpoint = match to {
        WitEndpoint::Ip(address) => Endpoint::Address(address.into()),
        WitEndpoint::Unix(path) => Endpoint::Unix(PathBuf::from(path)),
        WitEndpoint::Name((host, port)) => Endpoint::named(host, port),
    };
    endpoint.checked()
}

fn allow(state: &State, endpoint: &Endpoint) -> Result<(), ConnectionError> {
    let (env, resolver) = (&state.local.env, &state.local.worker.resolver);
    let allowed = match endpoint {
        Endpoint::Address(address) => env.net.policy.connect_address(*address, &resolver.names()),
        Endpoint::Name { host, port } => env.net.policy.connect_name(host, *port),
        Endpoint::Unix(path) => env.net.policy.connect_unix(path),
    };
    allowed.map_err(|denied| {
        env.net.deny(&denied);
        ConnectionError::AccessDenied
    })
}
