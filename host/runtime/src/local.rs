//! State that the instances of a run share, and that those of a thread share.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use netwasm_base::config::{Config, Isolation};
use netwasm_base::error::Error;
use netwasm_exchange::outgoing::Outgoing;
use netwasm_exchange::topics::{Topics, TopicsOfThread};
use netwasm_keyvalue::{Buckets, Stores};
use netwasm_net::env::Env as NetEnv;
use netwasm_net::files::Roots;
use netwasm_net::permits::Permits;
use netwasm_net::worker::Worker;

use crate::blobs::Containers;
use crate::concurrent::background::Background;
use crate::guest_log::GuestLog;
use crate::hand_back::HandBack;
use crate::joined;
use crate::room::Room;
use crate::wasi::WasiSetup;

/// State that the instances of a run share.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) net: Arc<NetEnv>,
    pub(crate) isolation: Isolation,
    pub(crate) room: Room,
    pub(crate) roots: Arc<Roots>,
    /// Containers of `--blobstore`.
    pub(crate) blobs: Arc<Containers>,
    /// True if the component is run in place of serving connections.
    pub(crate) is_program: bool,
    pub(crate) log: GuestLog,
    pub(crate) wasi: WasiSetup,
    /// Values of `wasi:config`.
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) stores: Stores,
    pub(crate) background: Background,
    pub(crate) topics: Arc<Topics>,
}

/// How a component is driven, known once it is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Driven {
    pub(crate) awaits: bool,
    pub(crate) is_program: bool,
}

impl Env {
    /// Sets up the environment of a loaded component.
    ///
    /// # Errors
    /// Fails if a directory cannot be given to the guest, or if there is no thread to
    /// join topics.
    pub(crate) fn new(
        config: &Config,
        net: &Arc<NetEnv>,
        roots: &Arc<Roots>,
        driven: Driven,
        isolation: Isolation,
        room: Room,
        background: Arc<Permits>,
    ) -> Result<Self, Error> {
        let log = GuestLog::new(&config.guest.name);
        Ok(Self {
            isolation,
            room,
            roots: Arc::clone(roots),
            blobs: Arc::new(Containers::open(&config.blobstore)?),
            is_program: driven.is_program,
            config: config.guest.config.iter().cloned().collect(),
            stores: Stores::default(),
            wasi: WasiSetup::new(&config.guest, &config.limits, driven.awaits, log.clone())?,
            log,
            background: Background::new(&config.limits, background, &net.counters),
            net: Arc::clone(net),
            topics: joined::topics(config, net)?,
        })
    }
}

/// State that the instances of a thread share.
pub(crate) struct Local {
    pub(crate) worker: Rc<Worker>,
    pub(crate) env: Arc<Env>,
    /// Sends the guests' HTTP requests.
    pub(crate) outgoing: Rc<dyn Outgoing>,
    /// Returns the files of bodies to their connections.
    pub(crate) hand_back: HandBack,
    /// Buckets, with connections of the thread.
    pub(crate) buckets: Buckets,
    pub(crate) topics: Rc<TopicsOfThread>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}
