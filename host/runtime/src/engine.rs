//! The engine that compiles components and makes instances of them: for
//! events, and what it has in common with the one for guests that await
//! (`concurrent`).
//!
//! Instances come from a pool whose slots are reserved as address space at
//! start and reset after use, so that making one takes microseconds. Compiled
//! code is kept in a cache between runs. A thread advances the epoch by which
//! a handler that takes too long is interrupted.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, InstanceAllocationStrategy, Precompiled};

use netwasm_base::config::{ComponentSource, Config, ConfigError, Isolation, Limits};
use netwasm_base::error::Error;
use netwasm_base::ticker::Ticker;
use netwasm_net::turns::Steps;

use crate::cache::{Cache, Key};
use crate::concurrent::link;
use crate::concurrent::program::Program;
use crate::event_program::EventProgram;
use crate::kind::Kind;
use crate::room::{self, Needs, Room, Uses};
use crate::state::State;
use crate::steps::step;
use crate::{component, fit, host, wasi};

/// The stack of a guest, bytes.
const GUEST_STACK: usize = 512 << 10;

/// A component that was loaded, by how it is driven.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// By events.
    Events(Box<EventProgram>),
    /// By calls that await: handlers of streams, and commands.
    Concurrent(Arc<Program>),
}

impl Loaded {
    /// Compiles the component, or takes it from the cache; also tells who is to
    /// share an instance, and how many there may be.
    ///
    /// # Errors
    /// It is no component, is too large, takes too long, imports what the
    /// host does not have, or does not go with the listeners.
    pub(crate) fn load(config: &Config) -> Result<(Self, Isolation, Room), Error> {
        let Ready {
            component,
            engine,
            kind,
            isolation,
            room,
        } = compile_for(config)?;
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
                let linker = link::linker(&engine).map_err(failed)?;
                let pre = linker.instantiate_pre(&component).map_err(unlinkable)?;
                let program = Program::new(engine, pre, kind);
                let program = program.map_err(|error| wrong(format!("{error:#}")))?;
                Self::Concurrent(Arc::new(program))
            }
        };
        Ok((loaded, isolation, room))
    }

    /// The program that events drive.
    ///
    /// # Errors
    /// Something else drives it, and nobody should have asked.
    pub(crate) fn events(&self) -> wasmtime::Result<&EventProgram> {
        match self {
            Self::Events(program) => Ok(program),
            Self::Concurrent(_) => Err(wasmtime::Error::msg("the component takes no events")),
        }
    }

    /// The program that takes connections as streams.
    pub(crate) fn streams(&self) -> Option<&Arc<Program>> {
        match self {
            Self::Concurrent(program) if program.takes_streams() => Some(program),
            _ => None,
        }
    }

    /// The program that answers HTTP requests and awaits.
    pub(crate) fn requests(&self) -> Option<&Arc<Program>> {
        match self {
            Self::Concurrent(program) if program.takes_requests() => Some(program),
            _ => None,
        }
    }

    /// The program that is one call.
    pub(crate) fn command(&self) -> Option<&Arc<Program>> {
        match self {
            Self::Concurrent(program) if program.is_command() => Some(program),
            _ => None,
        }
    }

    /// Starts the thread that advances the epoch, and the workers' clock of
    /// their turns with it.
    ///
    /// # Errors
    /// The system gives no thread.
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

/// Compiles a component ahead of time: what `netwasm compile` writes.
///
/// # Errors
/// It is no component, is too large, or takes too long.
pub fn compile(source: &ComponentSource, limits: &Limits) -> Result<Vec<u8>, Error> {
    let name = source.to_string();
    let bytes = component::read(source, limits)?;
    let bytes = check_binary(&name, bytes)?;
    let engine = engine(Kind::of_binary(&bytes, true), limits, None)?;
    within(limits, &name, move || {
        start_compilers()?;
        engine
            .precompile_component(&bytes)
            .map_err(|error| component::not_compiled(&format!("{error:#}")))
    })
}

/// An engine for looking at components and compiling them, without a pool.
pub(crate) fn plain_engine(kind: Kind, limits: &Limits) -> Result<Engine, Error> {
    engine(kind, limits, None)
}

/// All that guests may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    host::add_to_linker(&mut linker)?;
    Ok(linker)
}

fn engine(kind: Kind, limits: &Limits, room: Option<&Room>) -> Result<Engine, Error> {
    let mut config = wasmtime::Config::new();
    match kind {
        Kind::Events => {
            config.concurrency_support(false);
        }
        Kind::Streams | Kind::Proxy | Kind::Service | Kind::Command => {
            link::configure(&mut config, GUEST_STACK);
        }
    }
    config
        .wasm_component_model(true)
        // Tools write both unasked, and wasmtime has them off for the present.
        .wasm_component_model_map(true)
        .wasm_component_model_implements(true)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        // These shape the compiled code, so they are the same with a pool and
        // without one.
        .memory_reservation(room::reservation(limits) as u64)
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

/// A component with the engine that makes its instances.
struct Ready {
    component: Component,
    engine: Engine,
    kind: Kind,
    isolation: Isolation,
    room: Room,
}

/// The component, compiled, with room for its instances.
fn compile_for(config: &Config) -> Result<Ready, Error> {
    let name = config.component.to_string();
    let listens = !config.listeners.is_empty();
    let bytes = component::read(&config.component, &config.limits)?;
    if Engine::detect_precompiled(&bytes) == Some(Precompiled::Component) {
        let (component, engine, kind) = trusted(config, &bytes)?;
        // What it uses is not told of compiled code, so there is room for it.
        let uses = Uses {
            gc: true,
            ..Uses::default()
        };
        return make_room(config, component, engine, kind, uses);
    }
    let bytes = check_binary(&name, bytes)?;
    let kind = Kind::of_binary(&bytes, listens);
    let uses = Uses::of_binary(&bytes);
    if uses.shared_memory {
        return Err(Error::Component {
            name,
            reason: component::SHARED_MEMORY.into(),
        });
    }
    let engine = engine(kind, &config.limits, None)?;
    let compiling = engine.clone();
    let cached = config.cache;
    let component = within(&config.limits, &name, move || {
        compiled(&compiling, &bytes, cached)
    })?;
    make_room(config, component, engine, kind, uses)
}

/// Compiles a component, or takes it from the cache.
///
/// # Errors
/// It cannot be compiled, or the system gives no threads for that.
pub(crate) fn compiled(engine: &Engine, bytes: &[u8], cached: bool) -> Result<Component, String> {
    let text = |error: wasmtime::Error| format!("{error:#}");
    let cache = cached.then(Cache::of_user).flatten();
    let kept = cache.map(|cache| (cache, Key::new(engine, bytes)));
    if let Some((cache, key)) = &kept
        && let Some(code) = cache.get(key)
    {
        match deserialize(engine, &code) {
            Ok(component) => return Ok(component),
            Err(error) => cache.refuse(key, &text(error)),
        }
    }
    start_compilers()?;
    let component = Component::from_binary(engine, bytes)
        .map_err(|error| component::not_compiled(&text(error)))?;
    if let Some((cache, key)) = &kept {
        cache.put(key, &component.serialize().map_err(text)?);
    }
    Ok(component)
}

/// Starts the threads that compile. wasmtime would do it, and panic where the
/// system gives none.
fn start_compilers() -> Result<(), String> {
    match rayon::ThreadPoolBuilder::new().build_global() {
        // The other error is that they have been started.
        Err(error) if std::error::Error::source(&error).is_some() => {
            Err(Error::Thread(io::Error::other(error)).to_string())
        }
        _ => Ok(()),
    }
}

/// Moves a component to an engine that has a pool for as many instances as the
/// run may need.
fn make_room(
    config: &Config,
    component: Component,
    engine: Engine,
    kind: Kind,
    uses: Uses,
) -> Result<Ready, Error> {
    let wrong = |reason: String| Error::Component {
        name: config.component.to_string(),
        reason,
    };
    let failed = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
    let isolation = config.isolation.unwrap_or_else(|| kind.isolation());
    let needs = Needs::of(&component, uses, &config.limits).map_err(wrong)?;
    let room = Room::new(kind, isolation, needs, config).map_err(wrong)?;
    // A command has one instance, which needs no pool.
    let (component, engine) = match kind {
        Kind::Command => (component, engine),
        Kind::Events | Kind::Streams | Kind::Proxy | Kind::Service => {
            let compiled = component.serialize().map_err(failed)?;
            drop((component, engine));
            let engine = self::engine(kind, &config.limits, Some(&room))?;
            (deserialize(&engine, &compiled).map_err(failed)?, engine)
        }
    };
    Ok(Ready {
        component,
        engine,
        kind,
        isolation,
        room,
    })
}

/// Loads compiled code, with the engine of the kind that it was made for.
fn trusted(config: &Config, bytes: &[u8]) -> Result<(Component, Engine, Kind), Error> {
    let wrong = |reason: String| Error::Component {
        name: config.component.to_string(),
        reason,
    };
    if !config.trust_compiled {
        return Err(wrong(
            "it is compiled code, which runs without a sandbox if somebody tampered \
                    with it; --allow-compiled trusts it"
                .into(),
        ));
    }
    let listens = !config.listeners.is_empty();
    let mut failed = None;
    for kind in [
        Kind::Events,
        Kind::Command,
        Kind::Streams,
        Kind::Service,
        Kind::Proxy,
    ] {
        let engine = engine(kind, &config.limits, None)?;
        match deserialize(&engine, bytes) {
            Ok(component) => {
                let ty = component.component_type();
                let exports: Vec<_> = ty.exports(&engine).map(|(name, _)| name).collect();
                if Kind::of(&exports, listens) == kind {
                    return Ok((component, engine, kind));
                }
            }
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    let error = failed.map_or_else(String::new, |error| format!("{error:#}; "));
    Err(wrong(format!("{error}`netwasm compile` makes it anew")))
}

#[expect(unsafe_code, reason = "compiled code is run as it is")]
fn deserialize(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` needs bytes that wasmtime made. Either this process
    // had them from it just now; or the cache has them, whose checksum is keyed
    // by what they were compiled from and is right, in a file that only the user
    // may write; or `netwasm compile` made them, for which the user vouches by
    // the flag. wasmtime checks version and settings.
    unsafe { Component::deserialize(engine, bytes) }
}

/// Text to binary, and a plain word for what is no component.
fn check_binary(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    component::to_binary(bytes).map_err(|reason| Error::Component {
        name: name.into(),
        reason,
    })
}

/// Does it on a thread of its own, and gives up when that takes too long.
fn within<T: Send + 'static>(
    limits: &Limits,
    name: &str,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Error> {
    let (done, result) = mpsc::channel();
    let wrong = |reason: String| Error::Component {
        name: name.into(),
        reason,
    };
    thread::Builder::new()
        .name("compile".into())
        .spawn(move || {
            // Nobody waits for it any more after the time is up.
            let _ = done.send(work());
        })
        .map_err(Error::Thread)?;
    match result.recv_timeout(limits.compile_timeout) {
        Ok(result) => result.map_err(wrong),
        Err(_) => Err(wrong(format!(
            "compiling it takes longer than {} (--compile-timeout)",
            humantime::format_duration(limits.compile_timeout)
        ))),
    }
}
