//! Events of WebSocket connections.

use std::rc::Rc;

use wasmtime::component::Resource;

use netwasm_exchange::handler::Decision;
use netwasm_exchange::request::Request;
use netwasm_exchange::websocket::{Accepted, Socket, WebSocketGuest};
use netwasm_net::guest::Gone;
use netwasm_net::transport::Transport;

use super::{Instance, Numbered, Party, exported};
use crate::bindings::exports::netwasm::net::websocket_handler::Opening;
use crate::bindings::netwasm::net::websockets::WebsocketId;
use crate::decisions::response;

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
