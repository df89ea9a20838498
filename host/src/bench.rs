//! What the micro-benchmarks need of the inside: an instance and its events,
//! without sockets. Not for other use.

use std::ffi::OsString;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use wasmtime::component::ResourceAny;

use crate::cli::{self, Command};
use crate::config::Config;
use crate::server::Shared;
use crate::transport::Transport;
use crate::wasm::instance::Instance;
use crate::worker::Worker;

/// Instances of one component.
#[derive(Debug)]
pub struct Bench {
    worker: Rc<Worker>,
}

/// A connection that goes nowhere: its host takes every write and forgets it.
#[derive(Debug)]
pub struct Connection {
    instance: Rc<Instance>,
    resource: ResourceAny,
}

impl Bench {
    /// Compiles a component.
    ///
    /// # Errors
    /// It cannot be used; the text says why.
    pub fn new(component: &Path) -> Result<Self, String> {
        let args = ["netwasm", "run", "--tcp", "0"].map(OsString::from);
        let args = args.into_iter().chain([component.into()]);
        let config: Config = match cli::parse(args) {
            Ok(Command::Run(config, _)) => *config,
            Ok(_) => return Err("not a run".into()),
            Err(error) => return Err(error.to_string()),
        };
        let shared = Shared::new(&config).map_err(|error| error.to_string())?;
        Ok(Self {
            worker: Worker::new(Arc::new(shared)),
        })
    }

    /// Makes an instance and tells it of a connection. Dropping that drops
    /// the instance.
    ///
    /// # Errors
    /// The instance cannot be made, or traps.
    pub fn connect(&self) -> Result<Connection, String> {
        let instance = self.worker.instance().map_err(|error| error.to_string())?;
        let transport = Rc::new(Transport::unconnected(&self.worker));
        let made = instance.connection_made(&transport);
        Ok(Connection {
            resource: made.map_err(|_| "the guest trapped")?,
            instance,
        })
    }
}

impl Connection {
    /// `data-received`.
    ///
    /// # Errors
    /// The guest traps.
    pub fn data_received(&self, data: &[u8]) -> Result<(), String> {
        let received = self.instance.data_received(self.resource, data);
        received.map_err(|_| "the guest trapped".into())
    }
}
