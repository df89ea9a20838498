//! The types behind the handles of async guests.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use send_wrapper::SendWrapper;

use netwasm_net::datagram::DatagramSocket;
use netwasm_net::parked::{Key, Parked};
use netwasm_net::pool::Pool;
use netwasm_net::stream::Stream;
use netwasm_net::tls::engine::Engine;

/// The WIT resource `connection`.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct ConnectionHandle(pub(crate) SendWrapper<Rc<Stream>>);

/// The WIT resource `datagram-socket`.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct DatagramSocketHandle(pub(crate) SendWrapper<Rc<DatagramSocket>>);

/// The WIT resource `pool`.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct PoolHandle {
    pub(crate) pool: Arc<Pool<Parked>>,
    pub(crate) key: Arc<Key>,
}

/// The WIT resource `session` of `tls-engine`.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct TlsEngineHandle(pub(crate) SendWrapper<Rc<RefCell<Engine>>>);

impl TlsEngineHandle {
    pub(crate) fn new(engine: Engine) -> Self {
        Self(SendWrapper::new(Rc::new(RefCell::new(engine))))
    }
}
