use std::net::SocketAddr;
use std::rc::Rc;

use netwasm_base::error::ConnectionError;
use netwasm_net::udp::Opened;

use crate::bindings::netwasm::net::datagram_connector::Host;
use crate::bindings::netwasm::net::types::{Error as WitError, IpSocketAddress, SocketId};
use crate::convert::called;
use crate::instance::Numbered;
use crate::later;
use crate::state::{Later, State, TOO_MANY_HANDLES};

impl Host for State {
    fn bind(
        &mut self,
        token: u64,
        local: IpSocketAddress,
    ) -> wasmtime::Result<Result<SocketId, WitError>> {
        Ok(bind(self, token, local.into()).map_err(called))
    }

    fn connect(
        &mut self,
        token: u64,
        host: String,
        port: u16,
    ) -> wasmtime::Result<Result<(), WitError>> {
        Ok(connect(self, token, host, port).map_err(called))
    }

    fn cancel(&mut self, token: u64) -> wasmtime::Result<()> {
        self.cancel(Later::Datagrams, token);
        Ok(())
    }
}

fn bind(state: &mut State, token: u64, local: SocketAddr) -> Result<SocketId, ConnectionError> {
    let env = &state.local.env.net;
    // The system picks the port of a socket that only sends.
    if local.port() != 0 {
        env.decide(env.policy.listen(local))?;
    }
    let opened = state
        .room_for_datagrams()
        .and_then(|()| Opened::bind(env, local))?;
    let number = state.datagrams.add(Rc::clone(opened.datagrams()));
    let socket = Numbered { number, token };
    later::drive_datagrams(&state.local, state.instance.clone(), opened, socket);
    Ok(SocketId { number })
}

fn connect(state: &mut State, token: u64, host: String, port: u16) -> Result<(), ConnectionError> {
    if host.is_empty() || port == 0 {
        return Err(ConnectionError::InvalidArgument);
    }
    let env = &state.local.env.net;
    env.decide(env.policy.send_name(&host, port))?;
    state.room_for_datagrams()?;
    state.begin(Later::Datagrams, token, |state| {
        later::connect_datagrams(
            Rc::clone(&state.local),
            state.instance.clone(),
            token,
            host,
            port,
        )
    })
}

impl State {
    /// Checks that the instance may open another datagram socket.
    ///
    /// # Errors
    /// Fails with `LimitExceeded` if it has too many.
    pub(crate) fn room_for_datagrams(&self) -> Result<(), ConnectionError> {
        match self.datagrams.len() < self.local.env.net.limits.max_handles {
            true => Ok(()),
            false => Err(TOO_MANY_HANDLES),
        }
    }
}
