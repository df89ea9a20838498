//! The bytes of a component, before any engine: reading them, recognising what
//! is no component, and explaining what the compiler refuses.

use std::time::SystemTime;

use netwasm_base::config::{ComponentSource, Limits};
use netwasm_base::error::Error;
use netwasm_base::input::Input;
use netwasm_base::stamp::Stamp;
use wasmtime::{Engine, Precompiled};

use crate::core_module;

/// Version of the component binary format that this host reads.
const VERSION: u8 = 0x0d;

/// Features that this host refuses, as the compiler names them, with a remedy
/// for each.
const REFUSED_FEATURES: [(&str, &str); 2] = [
    (
        "legacy_exceptions",
        "it uses exceptions of the legacy form, which wasmtime does not run: compile it with \
         `-mllvm -wasm-use-legacy-eh=false`, or translate its core module with `wasm-opt \
         --translate-to-exnref`",
    ),
    (
        "fixed-length lists feature",
        "it uses lists of a fixed length, which this host has not enabled: use `list` or `tuple` \
         in its WIT instead",
    ),
];

/// Error message for memory that threads share.
pub(crate) const SHARED_MEMORY: &str = "it has memory that threads share, and a component has one \
     thread: build it without threads (no `-pthread`, no target with `threads` in its name)";

/// Bytes of a component's file.
pub(crate) struct Read {
    pub(crate) bytes: Vec<u8>,
    /// Stamp of the file, if it tells of each later change.
    pub(crate) stamp: Option<Stamp>,
}

/// Reads a component's bytes.
///
/// # Errors
/// Fails with [`Error::Read`] if the file cannot be read, and with
/// [`Error::Component`] if it is larger than `--max-component-size`.
pub(crate) fn read(source: &ComponentSource, limits: &Limits) -> Result<Read, Error> {
    use std::io::Read as _;
    let path = match source {
        ComponentSource::BuiltIn { bytes, .. } => {
            return Ok(Read {
                bytes: bytes.to_vec(),
                stamp: None,
            });
        }
        ComponentSource::File(path) => path,
        ComponentSource::Registry {
            file: Some(path), ..
        } => path,
        ComponentSource::Registry { file: None, .. } => {
            return Err(Error::component(source, "it has not been pulled"));
        }
    };
    let failed = |source| Error::Read {
        path: path.clone(),
        source,
    };
    let begun = SystemTime::now();
    let mut file = Input::open(path).map_err(failed)?;
    let stamp = |file: &Input| file.file().metadata().ok().as_ref().and_then(Stamp::of);
    let before = stamp(&file).filter(|stamp| stamp.is_settled(begun));
    // Reading it into what grows would take three times its size.
    let length = file.file().metadata().map_or(0, |it| it.len());
    let length = length.min(limits.max_component_size) + 1;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    (&mut file)
        .take(limits.max_component_size + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limits.max_component_size {
        let most = bytesize::ByteSize::b(limits.max_component_size);
        let most = most.display().iec();
        let reason = format!("it is larger than {most} (--max-component-size)");
        return Err(Error::component(source, reason));
    }
    // A file that changed meanwhile may have given a part of either version.
    let stamp = before.filter(|before| stamp(&file).as_ref() == Some(before));
    Ok(Read { bytes, stamp })
}

/// Component in binary form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binary {
    pub(crate) bytes: Vec<u8>,
    /// True if it was made of a core module.
    pub(crate) adapted: bool,
}

/// Converts text form to binary form, and a core module of WASI p1 to a
/// component.
///
/// # Errors
/// Says what the bytes are instead, and what would be right.
pub(crate) fn to_binary(bytes: Vec<u8>) -> Result<Binary, String> {
    let bytes = match is_text(&bytes) {
        true => wat::parse_bytes(&bytes)
            .map_err(|error| text_error(&error))?
            .into_owned(),
        false => bytes,
    };
    if Engine::detect_precompiled(&bytes) == Some(Precompiled::Component) {
        return Err("it is compiled code; take the component that it was made from".into());
    }
    // The magic number, the version, and the layer: 0 is a module, 1 a
    // component.
    match *bytes {
        [0, b'a', b's', b'm', VERSION, 0, 1, 0, ..] => Ok(Binary {
            bytes,
            adapted: false,
        }),
        [0, b'a', b's', b'm', version, _, 1, 0, ..] => Err(format!(
            "it is a component in version {version} of the binary form, and this host reads \
             version {VERSION}: rebuild it with current tools"
        )),
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => Ok(Binary {
            bytes: core_module::component_of(&bytes)?,
            adapted: true,
        }),
        [] => Err("it is empty".into()),
        [0x7f, b'E', b'L', b'F', ..] => {
            Err("it is a native program or library, not a WebAssembly component".into())
        }
        _ => Err("it is not a WebAssembly component, neither in binary nor in text form".into()),
    }
}

/// Explains the compiler's error. A feature that is not enabled is no fault of
/// the file.
pub(crate) fn not_compiled(error: &str) -> String {
    let found = |(needle, _): &&(&str, &str)| error.contains(needle);
    if let Some((_, remedy)) = REFUSED_FEATURES.iter().find(found) {
        return (*remedy).to_owned();
    }
    let disabled = [
        "not enabled",
        "must be enabled",
        " feature",
        "not active",
        "proposal disabled",
    ];
    if disabled.iter().any(|word| error.contains(word)) {
        return format!("it uses a feature of WebAssembly that this host has not enabled: {error}");
    }
    error.to_owned()
}

/// True if the bytes look like a component or a module in text form.
fn is_text(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    let text = text.trim_start();
    text.starts_with('(') || text.starts_with(";;")
}

/// Returns the first line of a parser's message, with the position that its
/// second line draws.
fn text_error(error: &wat::Error) -> String {
    let message = error.to_string();
    let mut lines = message.lines();
    let what = lines.next().unwrap_or_default();
    match lines.find_map(|line| line.trim_start().strip_prefix("--> <anon>:")) {
        Some(place) => format!("its text is wrong at {place}: {what}"),
        None => format!("its text is wrong: {what}"),
    }
}
