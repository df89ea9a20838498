//! The types behind the handles of async guests.

use std::rc::Rc;
use std::sync::Arc;

use send_wrapper::SendWrapper;

use netwasm_net::datagram::DatagramSocket;
use netwasm_net::parked::{Key, Parked};
use netwasm_net::pool::Pool;
use netwasm_net::stream::Stream;

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
