//! Loading a component: its code from the cache, or compiled, in an engine
//! whose pool has room for it.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use rayon::ThreadPoolBuilder;
use wasmtime::component::Component;
use wasmtime::{Engine, Precompiled};

use netwasm_base::config::{ComponentSource, Config, Isolation, Limits};
use netwasm_base::error::Error;

use crate::assembly::{Assembled, assemble};
use crate::cache::{Cache, ComponentHash, Facts, Fingerprint, Key, Stamps};
use crate::code::{Code, deserialize};
use crate::engine::engine;
use crate::kind::Kind;
use crate::room::{Needs, Reserved, Room, Uses};
use crate::{cache, component, fit, kind};

/// Time for compiling after which the log says what takes so long.
const SLOW: Duration = Duration::from_secs(1);

/// A component with the engine that makes its instances.
pub(crate) struct Ready {
    pub(crate) component: Component,
    pub(crate) engine: Engine,
    pub(crate) kind: Kind,
    pub(crate) isolation: Isolation,
    pub(crate) room: Room,
    /// `None` if it was compiled ahead of time.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Address space of the pool.
    pub(crate) reserved: Option<Reserved>,
}

/// Compiles or loads the component, and makes room for its instances, as those
/// of one of so many services. Calls `tell` with a line for the user if that takes
/// long.
pub(crate) fn load(config: &Config, services: usize, tell: &dyn Fn(&str)) -> Result<Ready, Error> {
    let unpooled = match recalled(config)? {
        Some(unpooled) => unpooled,
        None => read(config, tell)?,
    };
    make_room(config, services, unpooled)
}

/// Compiles a component, composed with `plugs`, ahead of time: `netwasm compile`.
/// Calls `tell` with a line for the user if that takes long.
///
/// # Errors
/// Fails if a file is no component, does not fit the others, is too large, or takes too long to
/// compile.
pub fn compile(
    source: &ComponentSource,
    plugs: &[PathBuf],
    limits: &Limits,
    tell: &dyn Fn(&str),
) -> Result<Vec<u8>, Error> {
    let name = source.to_string();
    let read = component::read(source, limits)?;
    let bytes = assemble(source, read, plugs, limits)?.bytes;
    let engine = engine(Kind::of_binary(&bytes, true), limits, None)?;
    let compiling = Compiling {
        name,
        size: bytes.len(),
        kept: false,
        tell,
    };
    within(limits, &compiling, move |compiles| {
        compiles();
        precompiled(&engine, &bytes)
    })
}

/// A component in an engine without a pool.
struct Unpooled {
    component: Component,
    engine: Engine,
    kind: Kind,
    uses: Uses,
    /// Its code, for another engine.
    code: Code,
    fingerprint: Option<Fingerprint>,
}

/// Loads the code of a component that has not changed since an earlier run,
/// without reading the component. Returns `None` if that is not known, or if
/// there is no code for these settings.
fn recalled(config: &Config) -> Result<Option<Unpooled>, Error> {
    let known = || {
        let cache = config.cache.then(Cache::of_code).flatten()?;
        let stamps = Stamps::of_component(&config.component, &config.plugs)?;
        if stamps.size() > config.limits.max_component_size {
            return None;
        }
        Some((cache, Cache::of_components()?.facts(&stamps)?))
    };
    let Some((cache, facts)) = known() else {
        return Ok(None);
    };
    let kind = Kind::of_names(&facts.exports, !config.listeners.is_empty());
    let engine = engine(kind, &config.limits, None)?;
    let loaded = cached(&cache, &Key::of_code(&engine, &facts.hash), &engine);
    Ok(loaded.map(|(component, code)| Unpooled {
        component,
        engine,
        kind,
        uses: Uses {
            gc: facts.gc,
            ..Uses::default()
        },
        code,
        fingerprint: Some(Fingerprint::new(facts.hash)),
    }))
}

/// Reads the component, and compiles it or loads its code.
fn read(config: &Config, tell: &dyn Fn(&str)) -> Result<Unpooled, Error> {
    let name = config.component.to_string();
    let read = component::read(&config.component, &config.limits)?;
    if Engine::detect_precompiled(&read.bytes) == Some(Precompiled::Component) {
        let bytes = read.bytes;
        let (component, engine, kind) = trusted(config, &bytes)?;
        return Ok(Unpooled {
            component,
            engine,
            kind,
            // Compiled code does not tell whether it collects garbage, so
            // assume it.
            uses: Uses {
                gc: true,
                ..Uses::default()
            },
            code: Code::Serialized(bytes),
            fingerprint: None,
        });
    }
    let assembled = assemble(&config.component, read, &config.plugs, &config.limits)?;
    let Assembled { bytes, stamps, .. } = assembled;
    let exports = kind::exports(&bytes);
    let kind = Kind::of_names(&exports, !config.listeners.is_empty());
    fit::check_exports(&exports, kind, &config.listeners).map_err(|misfit| misfit.of(&name))?;
    let uses = Uses::of_binary(&bytes);
    if uses.shared_memory {
        return Err(Error::component(&name, component::SHARED_MEMORY));
    }
    let facts = Facts {
        hash: cache::hash(&bytes),
        gc: uses.gc,
        exports,
    };
    let engine = engine(kind, &config.limits, None)?;
    let compiling = Compiling {
        name,
        size: bytes.len(),
        kept: config.cache && Cache::of_code().is_some(),
        tell,
    };
    let stamps = stamps.filter(|_| config.cache);
    let (compiler, cached, hash) = (engine.clone(), config.cache, facts.hash);
    let (component, code) = within(&config.limits, &compiling, move |compiles| {
        compiled(&compiler, &bytes, &hash, cached, compiles)
    })?;
    if let (Some(stamps), Some(cache)) = (stamps, Cache::of_components()) {
        cache.note(&stamps, &facts);
    }
    Ok(Unpooled {
        component,
        engine,
        kind,
        uses,
        code,
        fingerprint: Some(Fingerprint::new(facts.hash)),
    })
}

/// Compiles a component for a report, or loads its code from the cache. Calls `tell`
/// with a line for the user if that takes long.
///
/// # Errors
/// Fails if it cannot be compiled, or takes too long to compile.
pub(crate) fn compiled_for_report(
    engine: &Engine,
    name: &str,
    bytes: Vec<u8>,
    limits: &Limits,
    tell: &dyn Fn(&str),
) -> Result<Component, Error> {
    let compiling = Compiling {
        name: name.to_owned(),
        size: bytes.len(),
        kept: Cache::of_code().is_some(),
        tell,
    };
    let engine = engine.clone();
    within(limits, &compiling, move |compiles| {
        let hash = cache::hash(&bytes);
        let (component, _) = compiled(&engine, &bytes, &hash, true, compiles)?;
        Ok(component)
    })
}

/// Compiles a component with this hash, or loads it from the cache. Calls
/// `compiles` if it is not there.
///
/// # Errors
/// Fails if the component cannot be compiled, or if the system gives no
/// threads.
fn compiled(
    engine: &Engine,
    bytes: &[u8],
    hash: &ComponentHash,
    cached: bool,
    compiles: &dyn Fn(),
) -> Result<(Component, Code), String> {
    let text = |error: wasmtime::Error| format!("{error:#}");
    let cache = cached.then(Cache::of_code).flatten();
    let kept = cache.map(|cache| (cache, Key::of_code(engine, hash)));
    if let Some((cache, key)) = &kept
        && let Some(loaded) = self::cached(cache, key, engine)
    {
        return Ok(loaded);
    }
    compiles();
    // An engine keeps what its compiler has used, for the next component.
    let compiler = Engine::new(engine.config()).map_err(text)?;
    let code = precompiled(&compiler, bytes)?;
    drop(compiler);
    // The file is mapped, so that less memory is used than by the code as it was made.
    if let Some((cache, key)) = &kept
        && let Some(stored) = cache.put(key, &code).map(Code::Cached)
        && let Ok(component) = stored.load(engine)
    {
        return Ok((component, stored));
    }
    let code = Code::Serialized(code);
    let component = code.load(engine).map_err(text)?;
    Ok((component, code))
}

/// Loads code from the cache.
fn cached(cache: &Cache, key: &Key, engine: &Engine) -> Option<(Component, Code)> {
    let code = Code::Cached(cache.get(key)?);
    match code.load(engine) {
        Ok(component) => Some((component, code)),
        Err(error) => {
            cache.refuse(key, &format_args!("{error:#}"));
            None
        }
    }
}

/// Compiles a component, by threads that end with that: idle ones would keep what they
/// have allocated. Without these, wasmtime would start threads of its own, and panic if
/// the system gives none.
fn precompiled(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let threads = ThreadPoolBuilder::new().build();
    let threads = threads.map_err(|error| Error::Thread(io::Error::other(error)).to_string())?;
    threads
        .install(|| engine.precompile_component(bytes))
        .map_err(|error| component::not_compiled(&format!("{error:#}")))
}

/// Moves a component to an engine whose pool has a slot for each instance that
/// the run may need.
fn make_room(config: &Config, services: usize, unpooled: Unpooled) -> Result<Ready, Error> {
    let Unpooled {
        component,
        engine,
        kind,
        uses,
        code,
        fingerprint,
    } = unpooled;
    let wrong = |reason: String| Error::component(&config.component, reason);
    let failed = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
    let isolation = config.isolation.unwrap_or_else(|| kind.isolation());
    let needs = Needs::of(&component, uses, &config.limits).map_err(wrong)?;
    let room = Room::new(kind, isolation, needs, config, services).map_err(wrong)?;
    let reserved = room.reserve().map_err(Error::Room)?;
    // A command has one instance, which needs no pool.
    let (component, engine) = match kind {
        Kind::Command => (component, engine),
        Kind::Events | Kind::Streams | Kind::Proxy | Kind::Service => {
            drop((component, engine));
            let engine = self::engine(kind, &config.limits, Some(&room))?;
            (code.load(&engine).map_err(failed)?, engine)
        }
    };
    Ok(Ready {
        component,
        engine,
        kind,
        isolation,
        room,
        fingerprint,
        reserved,
    })
}

/// Loads compiled code, with an engine of the kind that it was compiled for.
fn trusted(config: &Config, bytes: &[u8]) -> Result<(Component, Engine, Kind), Error> {
    let wrong = |reason: String| Error::component(&config.component, reason);
    if !config.plugs.is_empty() {
        return Err(wrong(
            "it is compiled code, which cannot be composed: give --plug to `netwasm compile`"
                .into(),
        ));
    }
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
    Err(wrong(format!("{error}`netwasm compile` makes a new one")))
}

/// Notice about a component that takes long to compile.
struct Compiling<'a> {
    name: String,
    size: usize,
    /// True if the code is kept for the next start.
    kept: bool,
    /// Tells the user a line.
    tell: &'a dyn Fn(&str),
}

impl Compiling<'_> {
    fn say(&self) {
        let size = ByteSize::b(self.size as u64).display().si();
        let name = &self.name;
        let kept = match self.kept {
            true => " for the first time; cached for the next start",
            false => "",
        };
        (self.tell)(&format!("compiling {name} ({size}){kept}"));
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
    compiling: &Compiling<'_>,
    work: impl FnOnce(&dyn Fn()) -> Result<T, String> + Send + 'static,
) -> Result<T, Error> {
    let (sender, steps) = mpsc::channel();
    let wrong = |reason: String| Error::component(&compiling.name, reason);
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
