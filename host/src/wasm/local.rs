//! What instances share: those of a run, and those of one thread.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::{Config, Isolation};
use crate::env::Env as NetEnv;
use crate::error::Error;
use crate::files::Roots;
use crate::guest::{EventGuest as _, Guests, NoGuest, StreamGuests};
use crate::http::Outgoing;
use crate::service::Program;
use crate::stream::Stream;
use crate::transport::Transport;
use crate::wasm::concurrent::{self, Background};
use crate::wasm::engine::Loaded;
use crate::wasm::guest_log::GuestLog;
use crate::wasm::hand_back::HandBack;
use crate::wasm::instance::Instance;
use crate::wasm::room::Room;
use crate::wasm::wasi::WasiSetup;
use crate::worker::Worker;

/// What the instances of a run share.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) net: Arc<NetEnv>,
    pub(crate) isolation: Isolation,
    pub(crate) room: Room,
    pub(crate) roots: Arc<Roots>,
    pub(crate) program: Loaded,
    pub(crate) log: GuestLog,
    pub(crate) wasi: WasiSetup,
    pub(crate) background: Background,
}

impl Env {
    /// For a component that was loaded.
    ///
    /// # Errors
    /// A directory cannot be given to it.
    pub(crate) fn new(
        config: &Config,
        net: &Arc<NetEnv>,
        roots: &Arc<Roots>,
        (program, isolation, room): (Loaded, Isolation, Room),
    ) -> Result<Self, Error> {
        let log = GuestLog::new(&config.guest.name);
        let awaits = program.events().is_err();
        Ok(Self {
            isolation,
            room,
            roots: Arc::clone(roots),
            wasi: WasiSetup::new(&config.guest, &config.limits, awaits, log.clone())?,
            program,
            log,
            background: Background::new(&config.limits, &net.counters),
            net: Arc::clone(net),
        })
    }
}

/// What the instances of a thread share.
pub(crate) struct Local {
    pub(crate) worker: Rc<Worker>,
    pub(crate) env: Arc<Env>,
    /// What sends their HTTP requests.
    pub(crate) outgoing: Rc<dyn Outgoing>,
    /// Where bodies that are files give themselves to a connection.
    pub(crate) hand_back: HandBack,
    /// The instance that all share under `--isolation worker`.
    instance: RefCell<Option<Rc<Instance>>>,
    /// The same for guests that await.
    pub(crate) calls: RefCell<Option<concurrent::Calls>>,
    /// The same for those that answer HTTP requests; as many as it takes.
    pub(crate) requests: RefCell<Vec<Rc<concurrent::Requests>>>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

impl Local {
    /// For a thread.
    pub(crate) fn new(worker: Rc<Worker>, env: Arc<Env>, outgoing: Rc<dyn Outgoing>) -> Rc<Self> {
        Rc::new(Self {
            worker,
            env,
            outgoing,
            hand_back: HandBack::default(),
            instance: RefCell::default(),
            calls: RefCell::default(),
            requests: RefCell::default(),
        })
    }

    /// The instance for a new connection: its own, or the worker's.
    ///
    /// # Errors
    /// No instance can be made.
    pub(crate) fn instance(self: &Rc<Self>) -> Result<Rc<Instance>, NoGuest> {
        if self.env.isolation != Isolation::Worker {
            return Instance::new(self);
        }
        let mut kept = self.instance.borrow_mut();
        match &*kept {
            Some(instance) if !instance.is_dead() => Ok(Rc::clone(instance)),
            _ => Ok(Rc::clone(kept.insert(Instance::new(self)?))),
        }
    }

    /// The program that is run in place of serving connections, where the
    /// component is one.
    pub(crate) fn program(self: &Rc<Self>) -> Option<Program> {
        self.env.program.command()?;
        let local = Rc::clone(self);
        Some(Box::pin(async move {
            match local.env.program.command() {
                Some(program) => concurrent::run(&local, program).await,
                None => 1,
            }
        }))
    }
}

/// The guests of a thread, for whoever drives them.
#[derive(Clone, Debug)]
pub(crate) struct LocalGuests(pub(crate) Rc<Local>);

impl Guests<Instance> for LocalGuests {
    fn guest(&self) -> Result<Rc<Instance>, NoGuest> {
        self.0.instance()
    }
}

impl StreamGuests for LocalGuests {
    fn serve(&self, transport: &Rc<Transport>) -> Rc<Stream> {
        concurrent::serve(&self.0, transport)
    }
}
