//! The engine that compiles components and makes instances of them: the one for
//! events, and what it shares with the one for async guests (`concurrent`).
//!
//! Instances come from a pool. It reserves address space for its slots at start
//! and resets a slot after use, so making an instance takes microseconds. A
//! thread advances the epoch, which interrupts handlers that take too long.

use std::sync::Arc;

use wasmtime::component::Linker;
use wasmtime::{Engine, InstanceAllocationStrategy};

use netwasm_base::config::{Config, ConfigError, Isolation, Limits};
use netwasm_base::error::Error;
use netwasm_base::ticker;

use crate::cache::Fingerprint;
use crate::concurrent::link;
use crate::concurrent::program::Program;
use crate::event_program::EventProgram;
use crate::kind::Kind;
use crate::loading::{self, Ready};
use crate::room::{self, Reserved, Room};
use crate::state::State;
use crate::steps::step;
use crate::{fit, host, standard, wasi};

/// Size of a guest's stack in bytes.
const GUEST_STACK: usize = 512 << 10;

/// A loaded component, before the rest of a run is set up.
#[derive(Debug)]
pub struct LoadedComponent {
    pub(crate) program: Loaded,
    pub(crate) isolation: Isolation,
    pub(crate) room: Room,
    fingerprint: Option<Fingerprint>,
}

/// The program of a loaded component.
#[derive(Debug)]
pub(crate) struct Loaded {
    program: AnyProgram,
    /// Kept as long as the pool.
    _reserved: Option<Reserved>,
}

/// A program, by how it is driven.
#[derive(Debug)]
pub(crate) enum AnyProgram {
    /// Driven by events.
    Events(Box<EventProgram>),
    /// Async guests: handlers of streams and of `wasi:http`, and commands.
    Concurrent(Arc<Program>),
}

impl LoadedComponent {
    /// Compiles the component or loads it from the cache, for one of so many
    /// services of the process. Calls `tell` with a line for the user if compiling
    /// takes long.
    ///
    /// # Errors
    /// Fails if the file is no component, is too large, takes too long to
    /// compile, imports what the host does not have, or does not fit the
    /// listeners or `--isolation`.
    pub fn load(config: &Config, services: usize, tell: &dyn Fn(&str)) -> Result<Self, Error> {
        let Ready {
            component,
            engine,
            kind,
            isolation,
            room,
            fingerprint,
            reserved,
        } = loading::load(config, services, tell)?;
        let name = config.component.to_string();
        let wrong = |reason: String| Error::Component {
            name: name.clone(),
            reason,
        };
        let fits = fit::check(&component, &engine, kind, &config.listeners);
        fits.map_err(|misfit| misfit.of(&name))?;
        if config.isolation == Some(Isolation::Request) && !kind.answers_requests() {
            return Err(ConfigError::NotOfRequests.into());
        }
        let failed = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
        let unlinkable = |error: wasmtime::Error| wrong(fit::unlinkable(&component, kind, &error));
        tick_while_it_lasts(&engine, &config.limits)?;
        let program = match kind {
            Kind::Events => {
                let mut linker = linker(&engine).map_err(failed)?;
                standard::suit(&mut linker, &component).map_err(failed)?;
                let pre = linker.instantiate_pre(&component).map_err(unlinkable)?;
                AnyProgram::Events(Box::new(EventProgram::new(engine, pre)))
            }
            Kind::Streams | Kind::Proxy | Kind::Service | Kind::Command => {
                let mut linker = link::linker(&engine, kind).map_err(failed)?;
                standard::suit(&mut linker, &component).map_err(failed)?;
                let pre = linker.instantiate_pre(&component).map_err(unlinkable)?;
                let program = Program::new(engine, pre, kind);
                let program = program.map_err(|error| wrong(format!("{error:#}")))?;
                AnyProgram::Concurrent(Arc::new(program))
            }
        };
        Ok(Self {
            program: Loaded {
                program,
                _reserved: reserved,
            },
            isolation,
            room,
            fingerprint,
        })
    }

    /// Returns how many connections there is room for.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.room.connections
    }

    /// Returns how many of the mappings that the process may have each
    /// connection takes.
    #[must_use]
    pub fn mappings(&self) -> u32 {
        self.room.mappings()
    }

    /// Returns the fingerprint of the component; `None` if it was compiled
    /// ahead of time.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        self.fingerprint.as_ref()
    }
}

impl Loaded {
    /// Returns the program.
    pub(crate) fn program(&self) -> &AnyProgram {
        &self.program
    }

    /// Returns the program that events drive.
    ///
    /// # Errors
    /// Fails if the component is an async guest: the caller has a bug.
    pub(crate) fn events(&self) -> wasmtime::Result<&EventProgram> {
        match &self.program {
            AnyProgram::Events(program) => Ok(program),
            AnyProgram::Concurrent(_) => Err(wasmtime::Error::msg("the component takes no events")),
        }
    }

    /// Returns the program that takes connections as streams.
    pub(crate) fn streams(&self) -> Option<&Arc<Program>> {
        match &self.program {
            AnyProgram::Concurrent(program) if program.takes_streams() => Some(program),
            _ => None,
        }
    }

    /// Returns the async program that answers HTTP requests.
    pub(crate) fn requests(&self) -> Option<&Arc<Program>> {
        match &self.program {
            AnyProgram::Concurrent(program) if program.takes_requests() => Some(program),
            _ => None,
        }
    }

    /// Returns the program that is one call.
    pub(crate) fn command(&self) -> Option<&Arc<Program>> {
        match &self.program {
            AnyProgram::Concurrent(program) if program.is_command() => Some(program),
            _ => None,
        }
    }
}

/// Advances the epoch of an engine as long as anything holds it, so that its
/// guests are interrupted to the last.
fn tick_while_it_lasts(engine: &Engine, limits: &Limits) -> Result<(), Error> {
    let engine = engine.weak();
    let tick = move || {
        let engine = engine.upgrade();
        engine.is_some_and(|engine| {
            engine.increment_epoch();
            true
        })
    };
    ticker::while_it_lasts(step(limits), tick).map_err(Error::Thread)
}

/// Returns a linker with all that event guests may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    host::add_to_linker(&mut linker)?;
    standard::add_to_linker(&mut linker)?;
    standard::no_tls::add_to_linker(&mut linker)?;
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
        // does not compile it again.
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
