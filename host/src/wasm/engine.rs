//! The engine that compiles components and makes instances of them: for
//! events, and what it has in common with the one for guests that await
//! (`concurrent`).
//!
//! Instances come from a pool whose slots are reserved as address space at
//! start and reset after use, so that making one takes microseconds. Compiled
//! code is kept in a cache between runs. A thread advances the epoch by which
//! a handler that takes too long is interrupted.

use std::fmt;
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Precompiled, Store};

use crate::config::{ComponentSource, Config, ConfigError, Isolation, Limits};
use crate::error::Error;
use crate::ticker::Ticker;
use crate::wasm::bindings::exports::netwasm::net::{
    connect_handler, http_handler, resolve_handler, tcp_handler, timer_handler, udp_handler,
};
use crate::wasm::cache::{Cache, Key};
use crate::wasm::instance::{Guest, Handlers};
use crate::wasm::kind::Kind;
use crate::wasm::state::State;
use crate::wasm::{concurrent, host, wasi};

/// Elements that a table may have.
pub(crate) const TABLE_ELEMENTS: usize = 20_000;

/// The stack of a guest, bytes.
const GUEST_STACK: usize = 512 << 10;

/// How many steps of the epoch an event may take: the timeout is exact to one
/// of them.
pub(crate) const STEPS: u32 = 8;

/// The deadline of an event, in steps of the epoch; one more, since the
/// present step has begun already.
pub(crate) const EVENT_STEPS: u64 = STEPS as u64 + 1;

/// What Linux allows a process unless told otherwise: `vm.max_map_count`.
const DEFAULT_MAPPINGS: usize = 65_530;

/// What one call of the guest may have the host copy out of its memory, in
/// units of about a byte: `Store::set_hostcall_fuel`.
pub(crate) const HOSTCALL_FUEL: usize = 32 << 20;

/// A component that was loaded, by how it is driven.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// By events.
    Events(Box<Program>),
    /// By calls that await: handlers of streams, and commands.
    Concurrent(concurrent::Program),
}

impl Loaded {
    /// Compiles the component, or takes it from the cache; also tells who is to
    /// share an instance.
    ///
    /// # Errors
    /// It is no component, is too large, takes too long, imports what the
    /// host does not have, or does not go with the listeners.
    pub(crate) fn load(config: &Config) -> Result<(Self, Isolation), Error> {
        let (component, engine, kind) = component(config)?;
        let name = config.component.to_string();
        let wrong = |reason: String| Error::Component {
            name: name.clone(),
            reason,
        };
        if kind != Kind::Command && config.listeners.is_empty() {
            return Err(ConfigError::NoListener.into());
        }
        crate::inspect::check(&component, &engine, kind, &config.listeners).map_err(wrong)?;
        if config.isolation == Some(Isolation::Request) && !kind.answers_requests() {
            return Err(ConfigError::NotOfRequests.into());
        }
        let failed = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
        let unlinkable =
            |error: wasmtime::Error| wrong(crate::inspect::unlinkable(&component, kind, &error));
        let step = (config.limits.event_timeout / STEPS).max(Duration::from_millis(1));
        let isolation = config.isolation.unwrap_or_else(|| kind.isolation());
        let loaded = match kind {
            Kind::Events => {
                let linker = linker(&engine).map_err(failed)?;
                let pre = linker.instantiate_pre(&component).map_err(unlinkable)?;
                Self::Events(Box::new(Program {
                    handlers: Indices::new(&pre),
                    pre,
                    engine,
                    step,
                }))
            }
            Kind::Streams | Kind::Proxy | Kind::Service | Kind::Command => {
                let linker = concurrent::linker(&engine).map_err(failed)?;
                let pre = linker.instantiate_pre(&component).map_err(unlinkable)?;
                let program = concurrent::Program::new(engine, pre, kind, step);
                Self::Concurrent(program.map_err(|error| wrong(format!("{error:#}")))?)
            }
        };
        Ok((loaded, isolation))
    }

    /// The program that events drive.
    ///
    /// # Errors
    /// Something else drives it, and nobody should have asked.
    pub(crate) fn events(&self) -> wasmtime::Result<&Program> {
        match self {
            Self::Events(program) => Ok(program),
            Self::Concurrent(_) => Err(wasmtime::Error::msg("the component takes no events")),
        }
    }

    /// The program that takes connections as streams.
    pub(crate) fn streams(&self) -> Option<&concurrent::Program> {
        match self {
            Self::Concurrent(program) if program.takes_streams() => Some(program),
            _ => None,
        }
    }

    /// The program that answers HTTP requests and awaits.
    pub(crate) fn requests(&self) -> Option<&concurrent::Program> {
        match self {
            Self::Concurrent(program) if program.takes_requests() => Some(program),
            _ => None,
        }
    }

    /// The program that is one call.
    pub(crate) fn command(&self) -> Option<&concurrent::Program> {
        match self {
            Self::Concurrent(program) if program.is_command() => Some(program),
            _ => None,
        }
    }

    /// Whether it is one call.
    pub(crate) fn is_command(&self) -> bool {
        self.command().is_some()
    }

    /// How many connections there may be at once.
    pub(crate) fn most_connections(&self, isolation: Isolation, run: &Config) -> usize {
        let kind = match self {
            Self::Events(_) => Kind::Events,
            Self::Concurrent(program) if program.is_command() => Kind::Command,
            Self::Concurrent(program) if program.takes_requests() => Kind::Service,
            Self::Concurrent(_) => Kind::Streams,
        };
        connections(kind, isolation, run)
    }

    /// Starts the thread that advances the epoch.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start_ticker(&self) -> io::Result<Ticker> {
        let (engine, step) = match self {
            Self::Events(program) => (&program.engine, program.step),
            Self::Concurrent(program) => (program.engine(), program.step()),
        };
        let engine = engine.clone();
        Ticker::start("epoch", step, move || engine.increment_epoch())
    }
}

/// A component, ready to make instances of.
pub(crate) struct Program {
    engine: Engine,
    pre: InstancePre<State>,
    handlers: Indices,
    step: Duration,
}

struct Indices {
    tcp: Option<tcp_handler::GuestIndices>,
    udp: Option<udp_handler::GuestIndices>,
    http: Option<http_handler::GuestIndices>,
    connect: Option<connect_handler::GuestIndices>,
    timer: Option<timer_handler::GuestIndices>,
    resolve: Option<resolve_handler::GuestIndices>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// Makes an instance.
    ///
    /// # Errors
    /// The pool is used up, or the instance's start traps.
    pub(crate) fn instantiate(&self, state: State) -> wasmtime::Result<Guest> {
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(EVENT_STEPS);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        let instance = self.pre.instantiate(&mut store)?;
        let indices = &self.handlers;
        let handlers = Handlers {
            tcp: indices
                .tcp
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            udp: indices
                .udp
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            http: indices
                .http
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            connect: indices
                .connect
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            timer: indices
                .timer
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            resolve: indices
                .resolve
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
        };
        Ok(Guest { store, handlers })
    }
}

impl Indices {
    fn new(pre: &InstancePre<State>) -> Self {
        // What is missing is an error only of the lookup.
        Self {
            tcp: tcp_handler::GuestIndices::new(pre).ok(),
            udp: udp_handler::GuestIndices::new(pre).ok(),
            http: http_handler::GuestIndices::new(pre).ok(),
            connect: connect_handler::GuestIndices::new(pre).ok(),
            timer: timer_handler::GuestIndices::new(pre).ok(),
            resolve: resolve_handler::GuestIndices::new(pre).ok(),
        }
    }
}

/// Compiles a component ahead of time: what `netwasm compile` writes.
///
/// # Errors
/// It is no component, is too large, or takes too long.
pub fn compile(source: &ComponentSource, limits: &Limits) -> Result<Vec<u8>, Error> {
    let name = source.to_string();
    let bytes = read(source, limits)?;
    let bytes = check_binary(&name, bytes)?;
    let engine = engine(Kind::of_binary(&bytes, true), limits, None)?;
    within(limits, &name, move || {
        start_compilers()?;
        engine
            .precompile_component(&bytes)
            .map_err(|error| format!("{error:#}"))
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

fn engine(kind: Kind, limits: &Limits, pool: Option<&Config>) -> Result<Engine, Error> {
    let mut config = wasmtime::Config::new();
    match kind {
        Kind::Events => {
            config.concurrency_support(false);
        }
        Kind::Streams | Kind::Proxy | Kind::Service | Kind::Command => {
            concurrent::configure(&mut config, GUEST_STACK);
        }
    }
    config
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        // These shape the compiled code, so they are the same with a pool and
        // without one.
        .memory_reservation(limits.max_memory.next_multiple_of(64 << 10) as u64)
        .memory_guard_size(64 << 10)
        .memory_may_move(false);
    if let Some(run) = pool {
        let isolation = run.isolation.unwrap_or_else(|| kind.isolation());
        let pool = pooling(kind, isolation, run);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    Engine::new(&config)
        .map_err(|error| Error::Engine(format!("cannot set up WebAssembly: {error:#}")))
}

fn pooling(kind: Kind, isolation: Isolation, run: &Config) -> PoolingAllocationConfig {
    let limits = &run.limits;
    let connections = connections(kind, isolation, run);
    let left_behind = match kind {
        Kind::Streams | Kind::Proxy | Kind::Service => limits.max_background,
        Kind::Events | Kind::Command => 0,
    };
    // Those that end and those that begin overlap.
    let overlapping = connections + left_behind + 2 * run.workers.get();
    // A worker has as many of those that answer requests as are busy.
    let shared = isolation == Isolation::Worker && !kind.answers_requests();
    let instances = match shared {
        true => 4 * run.workers.get(),
        false => overlapping,
    };
    // Address space is bounded: 47 bits, of which at most half are taken.
    let slot = limits.max_memory.next_multiple_of(64 << 10) + (64 << 10);
    let instances = instances.min((1_usize << 46) / slot).max(16);
    let count = |factor: usize| u32::try_from(instances * factor).unwrap_or(u32::MAX);
    let stacks = match kind {
        // Its calls run on the worker's.
        Kind::Events => 1,
        // A call that waits in the midst of a host call keeps one, and each
        // instance one for the next call.
        Kind::Streams | Kind::Proxy | Kind::Service | Kind::Command => overlapping.max(16),
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_stacks(u32::try_from(stacks).unwrap_or(u32::MAX))
        .total_component_instances(count(1))
        .total_core_instances(count(16))
        .total_memories(count(1))
        .total_tables(count(4))
        .max_memories_per_component(4)
        .max_tables_per_component(16)
        .max_core_instances_per_component(64)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        .max_memory_size(limits.max_memory)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(16 << 10)
        .max_unused_warm_slots(64)
        .pagemap_scan(wasmtime::Enabled::Auto);
    pool
}

/// How many connections there may be at once: as many as are allowed, and as
/// have room for their instances. That an instance awaits takes a stack, which
/// the kernel keeps apart from its neighbours by mappings of which a process
/// has only so many.
fn connections(kind: Kind, isolation: Isolation, run: &Config) -> usize {
    /// Two of a stack, and up to four of a memory.
    const MAPPINGS: usize = 6;
    let most = run.limits.max_connections;
    let awaits_apart = match kind {
        Kind::Streams => isolation != Isolation::Worker,
        Kind::Proxy | Kind::Service => true,
        Kind::Events | Kind::Command => false,
    };
    if !awaits_apart {
        return most;
    }
    let mappings = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_MAPPINGS);
    most.min((mappings / MAPPINGS).max(1))
}

/// The component, with the engine that it was compiled by and what drives it.
fn component(config: &Config) -> Result<(Component, Engine, Kind), Error> {
    let name = config.component.to_string();
    let listens = !config.listeners.is_empty();
    let bytes = read(&config.component, &config.limits)?;
    if Engine::detect_precompiled(&bytes) == Some(Precompiled::Component) {
        return trusted(config, &bytes);
    }
    let bytes = check_binary(&name, bytes)?;
    let kind = Kind::of_binary(&bytes, listens);
    let engine = engine(kind, &config.limits, pool(kind, config))?;
    let compiling = engine.clone();
    let most = config.limits.max_memory;
    let cached = config.cache;
    let component = within(&config.limits, &name, move || {
        compiled(&compiling, &bytes, cached).map_err(|text| {
            if !text.contains("pooling allocator") {
                return text;
            }
            format!(
                "it needs more than an instance may have: --max-memory is {} ({text})",
                bytesize::ByteSize::b(most as u64).display().iec()
            )
        })
    })?;
    Ok((component, engine, kind))
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
    let component = Component::from_binary(engine, bytes).map_err(text)?;
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

/// A command has one instance, which needs no pool.
fn pool(kind: Kind, config: &Config) -> Option<&Config> {
    (kind != Kind::Command).then_some(config)
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
        let engine = engine(kind, &config.limits, pool(kind, config))?;
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
    // SAFETY: `deserialize` needs bytes that wasmtime made. Either the cache
    // has them, whose checksum is keyed by what they were compiled from and is
    // right, in a file that only the user may write; or `netwasm compile` made
    // them, for which the user vouches by the flag. wasmtime checks version and
    // settings.
    unsafe { Component::deserialize(engine, bytes) }
}

/// The component's bytes, in binary form.
pub(crate) fn read(source: &ComponentSource, limits: &Limits) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let path = match source {
        ComponentSource::BuiltIn { bytes, .. } => return Ok(bytes.to_vec()),
        ComponentSource::File(path) => path,
    };
    let failed = |source| Error::Read {
        path: path.clone(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limits.max_component_size + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limits.max_component_size {
        return Err(Error::Component {
            name: source.to_string(),
            reason: format!(
                "it is larger than {} (--max-component-size)",
                bytesize::ByteSize::b(limits.max_component_size)
                    .display()
                    .iec()
            ),
        });
    }
    Ok(bytes)
}

/// Text to binary, and a plain word for what is no component.
fn check_binary(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    crate::inspect::to_component_binary(bytes).map_err(|reason| Error::Component {
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
