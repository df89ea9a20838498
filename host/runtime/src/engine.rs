//! The engine that compiles components and makes instances of them: the one for
//! events, and what it shares with the one for async guests (`concurrent`).
//!
//! Instances come from a pool. It reserves address space for its slots at start
//! and resets a slot after use, so making an instance takes microseconds. A
//! thread advances the epoch, which interrupts handlers that take too long.

use std::io;
use std::sync::Arc;

use wasmtime::component::Linker;
use wasmtime::{Engine, InstanceAllocationStrategy};

use netwasm_base::config::{Config, ConfigError, Isolation, Limits};
use netwasm_base::error::Error;
use netwasm_base::ticker::Ticker;
use netwasm_net::turns::Steps;

use crate::concurrent::link;
use crate::concurrent::program::Program;
use crate::event_program::EventProgram;
use crate::kind::Kind;
use crate::loading::{self, Ready};
use crate::room::{self, Room};
use crate::state::State;
use crate::steps::step;
use crate::{fit, host, wasi};

/// Size of a guest's stack in bytes.
const GUEST_STACK: usize = 512 << 10;

/// A loaded component, by how it is driven.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// Driven by events.
    Events(Box<EventProgram>),
    /// Async guests: handlers of streams and of `wasi:http`, and commands.
    Concurrent(Arc<Program>),
}

impl Loaded {
    /// Compiles the component or loads it from the cache. Also returns which
    /// connections share an instance, and how many instances there may be.
    ///
    /// # Errors
    /// Fails if the file is no component, is too large, takes too long to
    /// compile, imports what the host does not have, or does not fit the
    /// listeners or `--isolation`.
    pub(crate) fn load(config: &Config) -> Result<(Self, Isolation, Room), Error> {
        let Ready {
            component,
            engine,
            kind,
            isolation,
            room,
        } = loading::load(config)?;
        let name = config.component.to_string();
        let wrong = |reason: String| Error::Component {
            name: name.clone(),
            reason,
        };
        fit::check(&component, &engine, kind, &config.listeners).map_err(wrong)?;
        if kind != Kind::Command && config.listeners.is_empty() {
            return Err(ConfigError::NoListener.into());
        }
        if config.isolation == Some(Isolation::Request) && !kind.answers_requests() {
            return Err(ConfigError::NotOfRequests.into());
        }
        let failed = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
        let unlinkable = |error: wasmtime::Error| wrong(fit::unlinkable(&component, kind, &error));
        let loaded = match kind {
            Kind::Events => {
                let linker = linker(&engine).map_err(failed)?;
                let pre = linker.instantiate_pre(&component).map_err(unlinkable)?;
                Self::Events(Box::new(EventProgram::new(engine, pre)))
            }
            Kind::Streams | Kind::Proxy | Kind::Service | Kind::Command => {
                let linker = link::linker(&engine, kind).map_err(failed)?;
                let pre = linker.instantiate_pre(&component).map_err(unlinkable)?;
                let program = Program::new(engine, pre, kind);
                let program = program.map_err(|error| wrong(format!("{error:#}")))?;
                Self::Concurrent(Arc::new(program))
            }
        };
        Ok((loaded, isolation, room))
    }

    /// Returns the program that events drive.
    ///
    /// # Errors
    /// Fails if the component is an async guest: the caller has a bug.
    pub(crate) fn events(&self) -> wasmtime::Result<&EventProgram> {
        match self {
            Self::Events(program) => Ok(program),
            Self::Concurrent(_) => Err(wasmtime::Error::msg("the component takes no events")),
        }
    }

    /// Returns the program that takes connections as streams.
    pub(crate) fn streams(&self) -> Option<&Arc<Program>> {
        match self {
            Self::Concurrent(program) if program.takes_streams() => Some(program),
            _ => None,
        }
    }

    /// Returns the async program that answers HTTP requests.
    pub(crate) fn requests(&self) -> Option<&Arc<Program>> {
        match self {
            Self::Concurrent(program) if program.takes_requests() => Some(program),
            _ => None,
        }
    }

    /// Returns the program that is one call.
    pub(crate) fn command(&self) -> Option<&Arc<Program>> {
        match self {
            Self::Concurrent(program) if program.is_command() => Some(program),
            _ => None,
        }
    }

    /// Starts the thread that advances the epoch and the clock of the workers'
    /// turns.
    ///
    /// # Errors
    /// Fails if the system gives no thread.
    pub(crate) fn start_ticker(&self, limits: &Limits, steps: Steps) -> io::Result<Ticker> {
        let engine = match self {
            Self::Events(program) => &program.engine,
            Self::Concurrent(program) => program.engine(),
        };
        let engine = engine.clone();
        Ticker::start("epoch", step(limits), move || {
            engine.increment_epoch();
            steps.advance();
        })
    }
}

/// Returns a linker with all that event guests may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    host::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Sets up an engine, with a pool of this room.
///
/// # Errors
/// Fails if the system does not give the address space of the pool.
pub(crate) fn engine(kind: Kind, limits: &Limits, room: Option<&Room>) -> Result<Engine, Error> {
    let mut config = wasmtime::Config::new();
    match kind {
        Kind::Events => {
            config.concurrency_support(false);
        }
        Kind::Streams | Kind::Proxy | Kind::Service | Kind::Command => {
            link::configure(&mut config, GUEST_STACK);
        }
    }
    let reservation = match kind {
        // The one instance of a command is in no pool, so that another limit
        // does not compile it anew.
        Kind::Command if !room::is_space_limited() => room::LARGEST,
        Kind::Command | Kind::Events | Kind::Streams | Kind::Proxy | Kind::Service => {
            room::reservation(limits)
        }
    };
    config
        .wasm_component_model(true)
        // Tools emit both unasked, and wasmtime disables them by default for
        // now.
        .wasm_component_model_map(true)
        .wasm_component_model_implements(true)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        // These shape the compiled code, so they do not depend on the pool.
        .memory_reservation(reservation as u64)
        .memory_guard_size(room::GUARD as u64)
        .memory_may_move(false);
    if let Some(room) = room {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(room.pool()));
    }
    Engine::new(&config).map_err(|error| {
        let hint = match room {
            Some(_) => " (a smaller --max-connections takes less address space)",
            None => "",
        };
        Error::Engine(format!("cannot set up WebAssembly: {error:#}{hint}"))
    })
}
