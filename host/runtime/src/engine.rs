//! The engine that compiles components and makes instances of them: the one for
//! events, and what it shares with the one for async guests (`concurrent`).
//!
//! Instances come from a pool. It reserves address space for its slots at start
//! and resets a slot after use, so making an instance takes microseconds. A
//! cache keeps compiled code between runs. A thread advances the epoch, which
//! interrupts handlers that take too long.

use std::io;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, InstanceAllocationStrategy, Precompiled};

use netwasm_base::config::{ComponentSource, Config, ConfigError, Isolation, Limits};
use netwasm_base::error::Error;
use netwasm_base::ticker;

use crate::cache::{Cache, Fingerprint};
use crate::concurrent::link;
use crate::concurrent::program::Program;
use crate::event_program::EventProgram;
use crate::kind::Kind;
use crate::room::{self, Needs, Reserved, Room, Uses};
use crate::state::State;
use crate::steps::step;
use crate::{component, fit, host, wasi};

/// Size of a guest's stack in bytes.
const GUEST_STACK: usize = 512 << 10;

/// Time for compiling after which the log says what takes so long.
const SLOW: Duration = Duration::from_secs(1);

/// A loaded component.
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

impl Loaded {
    /// Compiles the component or loads it from the cache, for one of so many
    /// services of the process. Also returns which connections share an
    /// instance, how many instances there may be, and the fingerprint of the
    /// component, unless it was compiled ahead of time.
    ///
    /// # Errors
    /// Fails if the file is no component, is too large, takes too long to
    /// compile, imports what the host does not have, or does not fit the
    /// listeners or `--isolation`.
    pub(crate) fn load(
        config: &Config,
        services: usize,
    ) -> Result<(Self, Isolation, Room, Option<Fingerprint>), Error> {
        let Ready {
            component,
            engine,
            kind,
            isolation,
            room,
            fingerprint,
            reserved,
        } = compile_for(config, services)?;
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
        tick_while_it_lasts(&engine, &config.limits)?;
        let program = match kind {
            Kind::Events => {
                let linker = linker(&engine).map_err(failed)?;
                let pre = linker.instantiate_pre(&component).map_err(unlinkable)?;
                AnyProgram::Events(Box::new(EventProgram::new(engine, pre)))
            }
            Kind::Streams | Kind::Proxy | Kind::Service | Kind::Command => {
                let linker = link::linker(&engine).map_err(failed)?;
                let pre = linker.instantiate_pre(&component).map_err(unlinkable)?;
                let program = Program::new(engine, pre, kind);
                let program = program.map_err(|error| wrong(format!("{error:#}")))?;
                AnyProgram::Concurrent(Arc::new(program))
            }
        };
        let loaded = Self {
            program,
            _reserved: reserved,
        };
        Ok((loaded, isolation, room, fingerprint))
    }

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

/// Compiles a component ahead of time, for `netwasm compile`.
///
/// # Errors
/// Fails if the file is no component, is too large, or takes too long to
/// compile.
pub fn compile(source: &ComponentSource, limits: &Limits) -> Result<Vec<u8>, Error> {
    let name = source.to_string();
    let bytes = component::read(source, limits)?;
    let bytes = check_binary(&name, bytes)?;
    let engine = engine(Kind::of_binary(&bytes, true), limits, None)?;
    let compiling = Compiling {
        name,
        size: bytes.len(),
        kept: false,
    };
    within(limits, &compiling, move |_| {
        start_compilers()?;
        engine
            .precompile_component(&bytes)
            .map_err(|error| component::not_compiled(&format!("{error:#}")))
    })
}

/// Returns an engine without a pool, for inspecting and compiling components.
pub(crate) fn plain_engine(kind: Kind, limits: &Limits) -> Result<Engine, Error> {
    engine(kind, limits, None)
}

/// Returns a linker with all that event guests may import.
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

/// A component with the engine that makes its instances.
struct Ready {
    component: Component,
    engine: Engine,
    kind: Kind,
    isolation: Isolation,
    room: Room,
    fingerprint: Option<Fingerprint>,
    reserved: Option<Reserved>,
}

/// Compiles or loads the component, and makes room for its instances.
fn compile_for(config: &Config, services: usize) -> Result<Ready, Error> {
    let name = config.component.to_string();
    let listens = !config.listeners.is_empty();
    let bytes = component::read(&config.component, &config.limits)?;
    if Engine::detect_precompiled(&bytes) == Some(Precompiled::Component) {
        let (component, engine, kind) = trusted(config, &bytes)?;
        // Compiled code does not tell whether it collects garbage, so assume
        // it.
        let uses = Uses {
            gc: true,
            ..Uses::default()
        };
        return make_room(config, services, component, engine, kind, uses);
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
    let compiling = Compiling {
        name,
        size: bytes.len(),
        kept: config.cache && Cache::of_user().is_some(),
    };
    let (compiler, cached) = (engine.clone(), config.cache);
    let (component, fingerprint) = within(&config.limits, &compiling, move |compiles| {
        let fingerprint = Fingerprint::new(&compiler, &bytes);
        compiled(&compiler, &bytes, cached, &fingerprint, compiles)
            .map(|component| (component, fingerprint))
    })?;
    let ready = make_room(config, services, component, engine, kind, uses)?;
    Ok(Ready {
        fingerprint: Some(fingerprint),
        ..ready
    })
}

/// Compiles a component, or loads it from the cache. Calls `compiles` if it is
/// not there.
///
/// # Errors
/// Fails if the component cannot be compiled, or if the system gives no
/// threads.
pub(crate) fn compiled(
    engine: &Engine,
    bytes: &[u8],
    cached: bool,
    fingerprint: &Fingerprint,
    compiles: &dyn Fn(),
) -> Result<Component, String> {
    let text = |error: wasmtime::Error| format!("{error:#}");
    let cache = cached.then(Cache::of_user).flatten();
    let kept = cache.map(|cache| (cache, fingerprint.key()));
    if let Some((cache, key)) = &kept
        && let Some(code) = cache.get(key)
    {
        match deserialize(engine, &code) {
            Ok(component) => return Ok(component),
            Err(error) => cache.refuse(key, &text(error)),
        }
    }
    compiles();
    start_compilers()?;
    let component = Component::from_binary(engine, bytes)
        .map_err(|error| component::not_compiled(&text(error)))?;
    if let Some((cache, key)) = &kept {
        cache.put(key, &component.serialize().map_err(text)?);
    }
    Ok(component)
}

/// Starts the compiler threads. wasmtime would start them too, but panics if
/// the system gives none.
fn start_compilers() -> Result<(), String> {
    match rayon::ThreadPoolBuilder::new().build_global() {
        // An error without a source means that they are running already.
        Err(error) if std::error::Error::source(&error).is_some() => {
            Err(Error::Thread(io::Error::other(error)).to_string())
        }
        _ => Ok(()),
    }
}

/// Moves a component to an engine whose pool has a slot for each instance that
/// the run may need.
fn make_room(
    config: &Config,
    services: usize,
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
    let room = Room::new(kind, isolation, needs, config, services).map_err(wrong)?;
    let reserved = room.reserve().map_err(Error::Room)?;
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
        fingerprint: None,
        reserved,
    })
}

/// Loads compiled code, with an engine of the kind that it was compiled for.
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
    // just serialized them; or they come from the cache, whose checksum is
    // keyed by what they were compiled from and is right, in a file that only
    // the user or root may write; or `netwasm compile` made them, for which the
    // user vouches by the flag. wasmtime checks version and settings.
    unsafe { Component::deserialize(engine, bytes) }
}

/// Converts text to binary, and explains bytes that are no component.
fn check_binary(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    component::to_binary(bytes).map_err(|reason| Error::Component {
        name: name.into(),
        reason,
    })
}

/// Notice about a component that takes long to compile.
struct Compiling {
    name: String,
    size: usize,
    /// True if the code is kept for the next start.
    kept: bool,
}

impl Compiling {
    fn say(&self) {
        let size = ByteSize::b(self.size as u64).display().si();
        let name = &self.name;
        match self.kept {
            true => tracing::info!(
                "compiling {name} ({size}) for the first time; cached for the next start"
            ),
            false => tracing::info!("compiling {name} ({size})"),
        }
    }
}

/// Step of work on a thread.
enum Step<T> {
    /// It compiles. Code from the cache does not need that.
    Compiles,
    Done(Result<T, String>),
}

/// Runs `work` on its own thread, which calls its argument when it begins to
/// compile. Says so if that takes long, and gives up after `--compile-timeout`.
fn within<T: Send + 'static>(
    limits: &Limits,
    compiling: &Compiling,
    work: impl FnOnce(&dyn Fn()) -> Result<T, String> + Send + 'static,
) -> Result<T, Error> {
    let (sender, steps) = mpsc::channel();
    let wrong = |reason: String| Error::Component {
        name: compiling.name.clone(),
        reason,
    };
    thread::Builder::new()
        .name("compile".into())
        .spawn(move || {
            // After the timeout, nobody receives the steps.
            let compiles = || drop(sender.send(Step::Compiles));
            let done = Step::Done(work(&compiles));
            drop(sender.send(done));
        })
        .map_err(Error::Thread)?;
    let deadline = Instant::now() + limits.compile_timeout;
    let mut slow: Option<Instant> = None;
    loop {
        let next = slow.map_or(deadline, |slow| slow.min(deadline));
        match steps.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Step::Done(result)) => return result.map_err(wrong),
            Ok(Step::Compiles) => slow = Some(Instant::now() + SLOW),
            Err(RecvTimeoutError::Timeout) if next < deadline => {
                slow = None;
                compiling.say();
            }
            Err(RecvTimeoutError::Timeout) => {
                return Err(wrong(format!(
                    "compiling it takes longer than {} (--compile-timeout)",
                    humantime::format_duration(limits.compile_timeout)
                )));
            }
            // The panic is already logged.
            Err(RecvTimeoutError::Disconnected) => {
                return Err(wrong("compiling it failed".into()));
            }
        }
    }
}
