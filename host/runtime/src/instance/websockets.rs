//! Events of WebSocket connections.

use std::rc::Rc;

use wasmtime::component::Resource;

use netwasm_exchange::handler::Decision;
use netwasm_exchange::request::Request;
use netwasm_exchange::websocket::{Accepted, NotOpened, Opened, Socket, WebSocketGuest};
use netwasm_net::guest::Gone;
use netwasm_net::transport::Transport;

use super::{Instance, Numbered, Party, exported};
use crate::bindings::exports::netwasm::net::websocket_connect_handler::{
    Failure, Opened as WitOpened, Refusal,
};
use crate::bindings::exports::netwasm::net::websocket_handler::Opening;
use crate::bindings::netwasm::net::websockets::WebsocketId;
use crate::convert::connecting;
use crate::decisions::response;
use crate::state::Later;

/// A WebSocket connection of a guest.
#[derive(Debug)]
struct WebSocketOf {
    instance: Rc<Instance>,
    connection: Numbered,
    transport: Rc<Transport>,
}

impl Instance {
    /// Calls the guest's `open`, and returns the request with the decision.
    pub(crate) fn open_websocket(
        self: &Rc<Self>,
        mut request: Box<Request>,
    ) -> (Box<Request>, Result<Decision, Gone>) {
        let mut target = std::mem::take(&mut request.target);
        target.clear();
        target.push_str(request.head.target());
        let Some(transport) = request.transport.clone() else {
            // A request that is handled has one.
            return (request, Err(Gone));
        };
        let mut slot = Some(request);
        let party = Party::Requester(Some(&transport));
        let decision = self.call("open", party, |store, handlers| {
            let handler = exported(handlers.websocket.as_ref())?;
            let state = store.data_mut();
            let socket = Socket::new(&transport, &state.local.topics);
            state.refresh_files();
            state.request = slot.take();
            let number = state.websockets.add(Rc::clone(&socket));
            let id = WebsocketId { number };
            // There is one request at a time, so the number means nothing.
            let handle = Resource::new_borrow(0);
            let decided = handler.call_open(&mut *store, id, &target, handle);
            let state = store.data_mut();
            let decided = match decided {
                Ok(Opening::Accept(acceptance)) => {
                    let connection = Numbered {
                        number,
                        token: acceptance.token,
                    };
                    Ok(Decision::WebSocket(Box::new(Accepted {
                        protocol: acceptance.protocol,
                        headers: acceptance.headers,
                        socket: Rc::clone(&socket),
                        guest: Box::new(WebSocketOf {
                            instance: Rc::clone(self),
                            connection,
                            transport: Rc::clone(&transport),
                        }),
                    })))
                }
                Ok(Opening::Refuse(refusal)) => {
                    socket.end();
                    state.websockets.remove(number);
                    response(state, refusal)
                }
                Err(error) => Err(error),
            };
            state.interim.clear();
            slot = state.request.take();
            decided
        });
        let mut request = slot.unwrap_or_default();
        request.target = target;
        (request, decision)
    }

    /// Calls the guest's `connected` for a WebSocket connection that it has asked
    /// for, and begins to drive it, if there is one.
    pub(crate) fn websocket_connected(
        self: &Rc<Self>,
        token: u64,
        outcome: Result<Opened, NotOpened>,
    ) -> Result<(), Gone> {
        let opened = match outcome {
            Ok(opened) => opened,
            Err(reason) => return self.websocket_not_opened(token, reason),
        };
        let Opened {
            protocol,
            headers,
            transport,
            begin,
        } = opened;
        let party = Party::Requester(Some(&transport));
        let (socket, number) = self.call("connected", party, |store, handlers| {
            let handler = exported(handlers.websocket_connect.as_ref())?;
            let state = store.data_mut();
            state.finish(Later::WebSocket, token);
            let socket = Socket::new(&transport, &state.local.topics);
            let number = state.websockets.add(Rc::clone(&socket));
            let opened = WitOpened {
                connection: WebsocketId { number },
                protocol,
                headers,
            };
            handler.call_connected(store, token, Ok(&opened))?;
            Ok((socket, number))
        })?;
        let guest = WebSocketOf {
            instance: Rc::clone(self),
            connection: Numbered { number, token },
            transport,
        };
        begin(socket, Box::new(guest));
        Ok(())
    }

    fn websocket_not_opened(&self, token: u64, reason: NotOpened) -> Result<(), Gone> {
        self.call("connected", Party::Nobody, |store, handlers| {
            let handler = exported(handlers.websocket_connect.as_ref())?;
            store.data_mut().finish(Later::WebSocket, token);
            let failure = match reason {
                NotOpened::Failed(error) => Failure::Error(connecting(&error)),
                NotOpened::Refused { status, headers } => {
                    Failure::Refused(Refusal { status, headers })
                }
            };
            handler.call_connected(store, token, Err(&failure))
        })
    }
}

impl WebSocketOf {
    fn party(&self) -> Party<'_> {
        Party::Requester(Some(&self.transport))
    }
}

impl WebSocketGuest for WebSocketOf {
    fn text(&self, text: &str) -> Result<(), Gone> {
        let token = self.connection.token;
        self.instance
            .call("text-received", self.party(), |store, handlers| {
                let handler = exported(handlers.websocket.as_ref())?;
                handler.call_text_received(store, token, text)
            })
    }

    fn binary(&self, data: &[u8]) -> Result<(), Gone> {
        let token = self.connection.token;
        self.instance
            .call("binary-received", self.party(), |store, handlers| {
                let handler = exported(handlers.websocket.as_ref())?;
                handler.call_binary_received(store, token, data)
            })
    }

    fn drained(&self) -> Result<(), Gone> {
        let token = self.connection.token;
        self.instance
            .call("drained", self.party(), |store, handlers| {
                exported(handlers.websocket.as_ref())?.call_drained(store, token)
            })
    }

    /// Calls `closed`, after which the number means nothing.
    fn closed(&self, code: u16, reason: &str) -> Result<(), Gone> {
        let Numbered { number, token } = self.connection;
        self.instance
            .call("closed", self.party(), |store, handlers| {
                let handler = exported(handlers.websocket.as_ref())?;
                handler.call_closed(&mut *store, token, code, reason)?;
                store.data_mut().websockets.remove(number);
                Ok(())
            })
    }
}
