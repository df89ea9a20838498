//! Internals for the micro-benchmarks: an instance, its events and requests,
//! without sockets. Not for other use.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::rc::Rc;

use netwasm_exchange::request::Request;
use netwasm_net::guest::{EventGuest, Guests as _};
use netwasm_net::transport::Transport;
use netwasm_net::worker::Worker;
use netwasm_runtime::guests::OfThread;
use netwasm_runtime::instance::Instance;
use tokio::task::LocalSet;

use crate::cli::{self, Command};
use crate::wiring::{Common, Lasting, Run};

/// Instances of one component.
#[derive(Debug)]
pub struct Bench {
    worker: Rc<Worker>,
    guests: OfThread,
    /// Place for tasks of guests, which nobody runs.
    tasks: LocalSet,
}

/// A connection that leads nowhere: the host takes every write and forgets it.
#[derive(Debug)]
pub struct Connection {
    instance: Rc<Instance>,
    resource: <Instance as EventGuest>::Connection,
}

/// A request that is made repeatedly, on a connection that leads nowhere.
pub struct Requests {
    worker: Rc<Worker>,
    instance: Rc<Instance>,
    /// `None` only while the guest has the request.
    request: RefCell<Option<Box<Request>>>,
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl Bench {
    /// Compiles a component for a listener's flag: `--tcp` or `--http`.
    ///
    /// # Errors
    /// Fails if the component cannot be used; the text says why.
    pub fn new(component: &Path, listener: &str) -> Result<Self, String> {
        let args = ["netwasm", "run", listener, "0"].map(OsString::from);
        let args = args.into_iter().chain([component.into()]);
        let services = match cli::parse("", args) {
            Ok(Command::Run(run, _)) => run.services,
            Ok(_) => return Err("not a run".into()),
            Err(error) => return Err(error.to_string()),
        };
        let config = services.first().ok_or("no service")?;
        let run = Run::new(config, Lasting::first(&Common::new(&services, false, None)))
            .map_err(|error| error.to_string())?;
        let worker = Worker::new(run.net.clone());
        Ok(Self {
            guests: run.guests_of(&worker),
            worker,
            tasks: LocalSet::new(),
        })
    }

    /// Makes an instance, and tells it of a connection. Dropping the connection
    /// drops the instance.
    ///
    /// # Errors
    /// Fails if the instance cannot be made, or traps.
    pub fn connect(&self) -> Result<Connection, String> {
        let _tasks = self.tasks.enter();
        let instance = self.guests.guest().map_err(|error| error.to_string())?;
        let transport = Rc::new(Transport::unconnected(&self.worker.thread));
        let made = instance.connection_made(&transport);
        Ok(Connection {
            resource: made.map_err(|_| "the guest trapped")?,
            instance,
        })
    }

    /// Makes an instance for requests with this head and no body.
    ///
    /// # Errors
    /// Fails if the instance cannot be made, or if no client could send such a
    /// head.
    pub fn requests(&self, head: &[u8]) -> Result<Requests, String> {
        let _tasks = self.tasks.enter();
        let instance = self.guests.guest().map_err(|error| error.to_string())?;
        let mut request = Box::<Request>::default();
        request.transport = Some(Rc::new(Transport::unconnected(&self.worker.thread)));
        let requests = Requests {
            worker: Rc::clone(&self.worker),
            instance,
            request: RefCell::new(Some(request)),
        };
        requests.parse(head)?;
        Ok(requests)
    }
}

impl Requests {
    /// Parses the head of the next request.
    ///
    /// # Errors
    /// Fails if this is not the whole head of a request.
    pub fn parse(&self, head: &[u8]) -> Result<(), String> {
        let limits = (&self.worker.env().limits.http).into();
        let mut request = self.request.take().unwrap_or_default();
        let parsed = request.head.parse(head, &limits);
        self.request.replace(Some(request));
        match parsed {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("a part of a head".into()),
            Err(refusal) => Err(format!("{refusal:?}")),
        }
    }

    /// Calls the guest's `handle` with the request whose head was parsed last.
    ///
    /// # Errors
    /// Fails if the guest traps.
    pub fn handle(&self) -> Result<(), String> {
        let request = self.request.take().unwrap_or_default();
        let (request, answer) = self.instance.handle_request(request);
        self.request.replace(Some(request));
        answer.map(drop).map_err(|_| "the guest trapped".into())
    }
}

impl Connection {
    /// Calls the guest's `data-received`.
    ///
    /// # Errors
    /// Fails if the guest traps.
    pub fn data_received(&self, data: &[u8]) -> Result<(), String> {
        let received = self.instance.data_received(self.resource, data);
        received.map_err(|_| "the guest trapped".into())
    }
}
