use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use netwasm_base::error::ConnectionError;
use netwasm_net::endpoint::Endpoint;
use netwasm_net::transport::Transport;

use crate::bindings::netwasm::net::connector::Host;
use crate::bindings::netwasm::net::types::{
    ConnectOptions as WitConnectOptions, ConnectionId, Endpoint as WitEndpoint, Error as WitError,
};
use crate::convert::{called, connect_options};
use crate::later;
use crate::state::{Later, State};

impl Host for State {
    fn connect(
        &mut self,
        token: u64,
        to: WitEndpoint,
        options: WitConnectOptions,
    ) -> wasmtime::Result<Result<(), WitError>> {
        Ok(begin(self, token, to, options).map_err(called))
    }

    fn connect_upstream(
        &mut self,
        token: u64,
        group: String,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<(), WitError>> {
        Ok(begin_upstream(self, token, &group, None, timeout).map_err(called))
    }

    fn connect_upstream_for(
        &mut self,
        token: u64,
        group: String,
        client: ConnectionId,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<(), WitError>> {
        let Some(client) = self.transport(client).cloned() else {
            return Ok(Err(called(ConnectionError::InvalidState)));
        };
        Ok(begin_upstream(self, token, &group, Some(client), timeout).map_err(called))
    }

    fn cancel(&mut self, token: u64) -> wasmtime::Result<()> {
        self.cancel(Later::Connection, token);
        Ok(())
    }
}

fn begin(
    state: &mut State,
    token: u64,
    to: WitEndpoint,
    options: WitConnectOptions,
) -> Result<(), ConnectionError> {
    let endpoint = Endpoint::from(to).checked()?;
    let (client, options) = connect_options(options, &endpoint, &state.local.env.net)?;
    allow(state, &endpoint)?;
    state.begin(Later::Connection, token, |state| {
        later::connect(
            Rc::clone(&state.local.worker),
            state.instance.clone(),
            token,
            endpoint,
            client,
            options,
        )
    })
}

fn begin_upstream(
    state: &mut State,
    token: u64,
    group: &str,
    client: Option<Rc<Transport>>,
    timeout: Option<u64>,
) -> Result<(), ConnectionError> {
    let group = Arc::clone(state.local.env.net.upstream(group)?);
    let timeout = timeout.map(Duration::from_nanos);
    state.begin(Later::Connection, token, |state| {
        let worker = Rc::clone(&state.local.worker);
        let instance = state.instance.clone();
        later::connect_upstream(worker, instance, token, group, client, timeout)
    })
}

/// Checks that a connection to an endpoint may be begun. Logs a denial.
///
/// # Errors
/// Fails with `AccessDenied` if the policy forbids it.
pub(super) fn allow(state: &State, endpoint: &Endpoint) -> Result<(), ConnectionError> {
    let local = &state.local;
    (local.env.net).may_connect(endpoint, &local.worker.resolver.names())
}
