//! Two connections joined to one: what arrives on either goes to the other,
//! natively, until both have ended.

use std::any::Any;
use std::rc::Rc;

use netwasm_base::error::ConnectionError;

use crate::connection::Driver;
use crate::guest::{EventGuest, Gone};
use crate::tls::SessionInfo;
use crate::transport::Transport;
use crate::worker::Worker;

/// A guest that is told nothing: its connection is relayed.
#[derive(Debug)]
pub struct Unattended;

/// Driver of one end of a tunnel.
pub type TunnelDriver = Driver<Unattended>;

/// Joins two connections. The task of `one` goes on with the returned driver;
/// `other` gets a task, which keeps `held` until its end.
///
/// # Errors
/// Fails with `InvalidState` if one of them is closing.
pub fn join(
    worker: &Rc<Worker>,
    one: &Rc<Transport>,
    other: &Rc<Transport>,
    held: Box<dyn Any>,
) -> Result<TunnelDriver, ConnectionError> {
    one.relay(other)?;
    other.relay(one)?;
    let guest = Rc::new(Unattended);
    let driver = Driver::connected(Rc::clone(other), Rc::clone(&guest), ());
    let driven = Box::pin(async move {
        driver.await;
        drop(held);
    });
    worker.drive(other, driven);
    Ok(Driver::connected(Rc::clone(one), guest, ()))
}

impl EventGuest for Unattended {
    type Connection = ();

    fn connection_made(&self, _: &Rc<Transport>) -> Result<(), Gone> {
        Ok(())
    }

    fn data_received(&self, (): (), _: &[u8]) -> Result<(), Gone> {
        Ok(())
    }

    fn eof_received(&self, (): ()) -> Result<bool, Gone> {
        Ok(true)
    }

    fn writable(&self, (): ()) -> Result<(), Gone> {
        Ok(())
    }

    fn tls_started(&self, (): (), _: SessionInfo) -> Result<(), Gone> {
        Ok(())
    }

    fn connection_lost(&self, (): (), _: Option<&ConnectionError>) -> Result<(), Gone> {
        Ok(())
    }

    fn is_dead(&self) -> bool {
        false
    }

    fn has_exited(&self) -> bool {
        false
    }
}
