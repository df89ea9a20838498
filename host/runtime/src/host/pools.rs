use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use netwasm_base::error::ConnectionError;
use netwasm_net::endpoint::Endpoint;

use crate::bindings::netwasm::net::pools::Host;
use crate::bindings::netwasm::net::types::{
    ConnectionId, Endpoint as WitEndpoint, Error as WitError, PoolCounts, PoolId, PoolOptions,
};
use crate::convert::{called, pool_key};
use crate::host::connector::allow;
use crate::later;
use crate::pooling::Opened;
use crate::state::{Later, State, TOO_MANY_HANDLES};

impl Host for State {
    fn open(
        &mut self,
        to: WitEndpoint,
        options: PoolOptions,
    ) -> wasmtime::Result<Result<PoolId, WitError>> {
        Ok(open(self, to, options).map_err(called))
    }

    fn get(
        &mut self,
        token: u64,
        pool: PoolId,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<(), WitError>> {
        let timeout = timeout.map(Duration::from_nanos);
        Ok(get(self, token, pool, timeout).map_err(called))
    }

    fn put(&mut self, connection: ConnectionId) -> wasmtime::Result<()> {
        let ConnectionId { number } = connection;
        if let Some(transport) = self.transports.get(number).map(Rc::clone) {
            self.transports.remove(number);
            self.subscribed.remove(&number);
            let place = self.pooling.give_place(number);
            let parked = match place {
                Some(_) => transport.give_back(),
                None => {
                    transport.give_up();
                    None
                }
            };
            if let Some((place, parked)) = place.zip(parked) {
                place.put(parked);
            }
        }
        Ok(())
    }

    fn close(&mut self, pool: PoolId) -> wasmtime::Result<()> {
        if let Some(opened) = self.pooling.get(pool.number) {
            opened.pool.close();
        }
        Ok(())
    }

    fn counts(&mut self, pool: PoolId) -> wasmtime::Result<PoolCounts> {
        let opened = self.pooling.get(pool.number);
        let counts = opened.map(|opened| opened.pool.counts());
        Ok(counts.unwrap_or_default().into())
    }
}

fn open(
    state: &mut State,
    to: WitEndpoint,
    options: PoolOptions,
) -> Result<PoolId, ConnectionError> {
    let env = Arc::clone(&state.local.env);
    let endpoint = Endpoint::from(to).checked()?;
    let key = pool_key(endpoint, options, &env.net)?;
    allow(state, &key.endpoint)?;
    let opened = Opened {
        pool: env.net.pools.open(&key)?,
        key: Arc::new(key),
    };
    let number = state.pooling.add(opened, env.net.limits.max_handles);
    number
        .map(|number| PoolId { number })
        .ok_or(TOO_MANY_HANDLES)
}

fn get(
    state: &mut State,
    token: u64,
    pool: PoolId,
    timeout: Option<Duration>,
) -> Result<(), ConnectionError> {
    let opened = state.pooling.get(pool.number);
    let opened = opened.cloned().ok_or(ConnectionError::InvalidState)?;
    allow(state, &opened.key.endpoint)?;
    state.begin(Later::Connection, token, |state| {
        later::get(
            Rc::clone(&state.local.worker),
            state.instance.clone(),
            token,
            opened,
            timeout,
        )
    })
}
