//! The guests of a run and of a thread, for their drivers. Decides which
//! connections share an instance.

use std::cell::RefCell;
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use netwasm_base::config::{Config, Isolation, NEVER};
use netwasm_base::error::Error;
use netwasm_exchange::answer::Answer;
use netwasm_exchange::handler::{
    Awaiting, Call, Decision, Handler, Handlers, NoAnswer, Nobody, Site, Takes, Wanted,
};
use netwasm_exchange::outgoing::Outgoing;
use netwasm_exchange::reply::NoResponse;
use netwasm_exchange::request::Request;
use netwasm_exchange::topics::TopicsOfThread;
use netwasm_exchange::websocket;
use netwasm_keyvalue::Stores;
use netwasm_net::env::Env as NetEnv;
use netwasm_net::files::Roots;
use netwasm_net::guest::{EventGuest as _, Guests, NoGuest, StreamGuests};
use netwasm_net::permits::Permits;
use netwasm_net::service::Program;
use netwasm_net::stream::Stream;
use netwasm_net::transport::Transport;
use netwasm_net::worker::Worker;
use wasmtime::Engine;

use crate::assembly::assemble;
use crate::cache::Fingerprint;
use crate::component;
use crate::concurrent;
use crate::concurrent::http::{self, KeptRequests};
use crate::concurrent::instance::{self, KeptCalls};
use crate::concurrent::place::Own;
use crate::engine::{AnyProgram, Loaded};
use crate::event_program::EventProgram;
use crate::hand_back::HandBack;
use crate::instance::{Instance, is_interrupt, one_line, reason};
use crate::local::{Driven, Env, Local};
use crate::state::State;
use crate::steps::cpu_time;

pub use crate::engine::LoadedComponent;

/// True if a component that its files, as they are now, make has this
/// fingerprint.
///
/// # Errors
/// Fails if a file cannot be read, is too large, is no component, or does not
/// fit the others.
pub fn is_the_component(config: &Config, fingerprint: &Fingerprint) -> Result<bool, Error> {
    let (source, limits) = (&config.component, &config.limits);
    let read = component::read(source, limits)?;
    if Engine::detect_precompiled(&read.bytes).is_some() {
        return Ok(false);
    }
    let assembled = assemble(source, read, &config.plugs, limits)?;
    Ok(fingerprint.is_of(&assembled.bytes))
}

/// The guest of a run.
#[derive(Clone, Debug)]
pub struct OfRun {
    program: Arc<Loaded>,
    env: Arc<Env>,
}

impl OfRun {
    /// Joins the component with all that a run needs.
    ///
    /// # Errors
    /// Fails if a directory cannot be given to the guest.
    pub fn new(
        config: &Config,
        net: &Arc<NetEnv>,
        roots: &Arc<Roots>,
        background: Arc<Permits>,
        stores: Stores,
        ready: LoadedComponent,
    ) -> Result<Self, Error> {
        let LoadedComponent {
            program,
            isolation,
            room,
            ..
        } = ready;
        let driven = Driven {
            awaits: program.events().is_err(),
            is_program: program.command().is_some(),
        };
        let env = Env {
            stores,
            ..Env::new(config, net, roots, driven, isolation, room, background)?
        };
        Ok(Self {
            program: Arc::new(program),
            env: Arc::new(env),
        })
    }

    /// True if the component runs in place of serving connections.
    #[must_use]
    pub fn is_program(&self) -> bool {
        self.env.is_program
    }

    /// Returns the guests of a thread.
    #[must_use]
    pub fn of_thread(&self, worker: &Rc<Worker>, outgoing: Rc<dyn Outgoing>) -> OfThread {
        OfThread(Rc::new(GuestsOfThread {
            program: Arc::clone(&self.program),
            local: Rc::new(Local {
                worker: Rc::clone(worker),
                env: Arc::clone(&self.env),
                outgoing,
                hand_back: HandBack::default(),
                buckets: self.env.stores.of_worker(&self.env.net.counters.buckets),
                topics: TopicsOfThread::new(&self.env.topics, &worker.thread),
            }),
            instance: RefCell::default(),
            listeners: RefCell::default(),
            calls: KeptCalls::default(),
            requests: KeptRequests::default(),
        }))
    }
}

/// Maximum of tries to make an instance at the start, while the machine is too
/// busy for it.
const TRIES: u32 = 100;

/// The guests of a thread. Clones share their state.
#[derive(Clone, Debug)]
pub struct OfThread(Rc<GuestsOfThread>);

/// State that a thread keeps for its guests.
struct GuestsOfThread {
    program: Arc<Loaded>,
    local: Rc<Local>,
    /// Instance that all connections share under `--isolation worker`.
    instance: RefCell<Option<Rc<Instance>>>,
    /// Instances to tell of the shutdown.
    listeners: RefCell<Vec<Weak<Instance>>>,
    /// Like `instance`, for async guests.
    calls: KeptCalls,
    /// Like `instance`, for async guests that answer HTTP requests.
    requests: KeptRequests,
}

impl fmt::Debug for GuestsOfThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestsOfThread").finish_non_exhaustive()
    }
}

impl GuestsOfThread {
    /// Tells all instances that the run is ending.
    fn shut_down(&self) {
        let limit = self.local.env.net.limits.shutdown_timeout;
        let deadline = (limit < NEVER).then_some(limit);
        for listener in self.listeners.take() {
            if let Some(instance) = listener.upgrade() {
                // A trap is already logged.
                let _ = instance.shutting_down(deadline);
            }
        }
    }
}

impl OfThread {
    /// Returns the call that runs in place of serving connections, if the
    /// component is a program.
    #[must_use]
    pub fn program(&self) -> Option<Program> {
        let program = Arc::clone(self.0.program.command()?);
        let local = Rc::clone(&self.0.local);
        Some(Box::pin(
            async move { instance::run(&local, &program).await },
        ))
    }

    /// Makes an instance of an event guest and drops it.
    ///
    /// # Errors
    /// Fails if the guest's start traps or exits.
    pub fn try_start(&self) -> Result<(), Error> {
        let Ok(program) = self.0.program.events() else {
            return Ok(());
        };
        let net = &self.0.local.env.net;
        let mut tries = 0;
        loop {
            tries += 1;
            let begun = cpu_time();
            let made = program.instantiate(State::new(&self.0.local));
            let Err(error) = made else {
                return Ok(());
            };
            let computed = cpu_time().saturating_sub(begun);
            // The machine may be so busy that the guest has hardly run.
            if is_interrupt(&error) && computed < net.limits.event_timeout / 2 && tries < TRIES {
                continue;
            }
            let reason = format!("it does not start: {}", reason(&error, &net.limits));
            return Err(Error::component(&net.guest, reason));
        }
    }

    /// Notes an instance, to call its `shutting-down` when the run is ending.
    fn tell_of_shutdown(&self, instance: &Rc<Instance>) {
        let mut listeners = self.0.listeners.borrow_mut();
        if listeners.capacity() == 0 {
            let kept = Rc::downgrade(&self.0);
            let thread = Rc::clone(&self.0.local.worker.thread);
            let drained = Rc::clone(&thread).drained();
            thread.spawn_local(async move {
                drained.await;
                if let Some(kept) = kept.upgrade() {
                    kept.shut_down();
                }
            });
        }
        if listeners.len() == listeners.capacity() {
            listeners.retain(|listener| listener.strong_count() > 0);
        }
        listeners.push(Rc::downgrade(instance));
    }

    /// True if a request opens a WebSocket connection.
    ///
    /// # Errors
    /// Fails with the host's answer, if no handler is to get the request.
    fn opens(&self, request: &Request) -> Result<bool, Answer> {
        let Ok(program) = self.0.program.events() else {
            return Ok(false);
        };
        if !program.opens_websockets() {
            return Ok(false);
        }
        if !websocket::asks(&request.head) {
            return match program.answers_requests() {
                true => Ok(false),
                false => Err(websocket::without()),
            };
        }
        let net = &self.0.local.env.net;
        let checked = websocket::check(&request.head, &net.limits.http.websocket);
        checked.map(|()| true).map_err(|unfit| {
            net.counters.requests_refused.add();
            let peer = request.transport.as_ref().map(|it| it.peer().to_string());
            tracing::info!(peer, reason = %unfit, "WebSocket connection refused");
            unfit.into()
        })
    }

    /// Returns guests that take connections as streams, if the component does.
    #[must_use]
    pub fn streams(&self) -> Option<Rc<dyn StreamGuests>> {
        Some(Rc::new(OfStreams {
            program: Arc::clone(self.0.program.streams()?),
            kept: Rc::clone(&self.0),
        }))
    }
}

impl Guests<Instance> for OfThread {
    fn guest(&self) -> Result<Rc<Instance>, NoGuest> {
        let make = || {
            let program = self.0.program.events();
            let program = program.map_err(|error| NoGuest(one_line(&error)))?;
            let instance = Instance::new(program, &self.0.local)?;
            if program.hears_of_shutdown() {
                self.tell_of_shutdown(&instance);
            }
            Ok(instance)
        };
        if self.0.local.env.isolation != Isolation::Worker {
            return make();
        }
        let mut kept = self.0.instance.borrow_mut();
        match &*kept {
            Some(instance) if !instance.is_dead() => Ok(Rc::clone(instance)),
            _ => Ok(Rc::clone(kept.insert(make()?))),
        }
    }
}

/// Guests that take connections as streams.
struct OfStreams {
    program: Arc<concurrent::program::Program>,
    kept: Rc<GuestsOfThread>,
}

impl StreamGuests for OfStreams {
    fn serve(&self, transport: &Rc<Transport>) -> Rc<Stream> {
        instance::serve(&self.kept.local, &self.program, &self.kept.calls, transport)
    }
}

impl Handlers for OfThread {
    fn takes<'a>(&self, _: &dyn Fn() -> Wanted<'a>) -> (Site, Takes) {
        let takes = match self.0.program.program() {
            AnyProgram::Events(program) if program.takes_heads() => Takes::Heads,
            AnyProgram::Events(_) => Takes::Whole,
            AnyProgram::Concurrent(_) => Takes::Streams,
        };
        (Site::default(), takes)
    }

    fn opens_websockets(&self) -> bool {
        let program = self.0.program.events();
        program.is_ok_and(EventProgram::opens_websockets)
    }

    fn connection(&self, _: &Rc<Transport>) -> Box<dyn Handler> {
        Box::new(OfConnection {
            guests: self.clone(),
            instance: None,
            own: Own::default(),
        })
    }
}

/// Answers the requests of one connection.
#[derive(Debug)]
struct OfConnection {
    guests: OfThread,
    /// Made for the first request, and again after a trap. Not used under
    /// `--isolation worker`.
    instance: Option<Rc<Instance>>,
    /// Like `instance`, for async guests.
    own: Own,
}

impl OfConnection {
    /// Returns the connection's instance, or the worker's.
    fn instance(&mut self) -> Result<Rc<Instance>, NoAnswer> {
        if self.guests.0.local.env.isolation == Isolation::Worker {
            // Not kept: an idle connection would hold an instance that ended in
            // another connection's call, and soon no slot would be left for the
            // next.
            return self.guests.guest().map_err(NoAnswer::NoGuest);
        }
        match &self.instance {
            Some(instance) if !instance.is_dead() => Ok(Rc::clone(instance)),
            _ => {
                // Frees its slot before another is taken.
                self.instance = None;
                let instance = self.guests.guest().map_err(NoAnswer::NoGuest)?;
                Ok(Rc::clone(self.instance.insert(instance)))
            }
        }
    }
}

impl Handler for OfConnection {
    fn handle(&mut self, request: Box<Request>) -> (Box<Request>, Result<Decision, NoAnswer>) {
        let opens = match self.guests.opens(&request) {
            Ok(opens) => opens,
            Err(answer) => return (request, Ok(Decision::Answer(answer))),
        };
        let instance = match self.instance() {
            Ok(instance) => instance,
            Err(none) => return (request, Err(none)),
        };
        let (request, answer) = match opens {
            true => instance.open_websocket(request),
            false => instance.handle_request(request),
        };
        let answer = answer.map_err(|_gone| {
            self.instance = None;
            NoAnswer::Gone
        });
        (request, answer)
    }

    fn begin(&mut self, call: Call) -> Rc<dyn Awaiting> {
        let GuestsOfThread {
            program,
            local,
            requests,
            ..
        } = &*self.guests.0;
        match program.requests() {
            Some(program) => http::begin(local, program, requests, &mut self.own, call),
            None => {
                call.reply.fail(NoResponse::NoInstance);
                Rc::new(Nobody)
            }
        }
    }
}

impl Drop for OfConnection {
    fn drop(&mut self) {
        self.own.close();
    }
}
