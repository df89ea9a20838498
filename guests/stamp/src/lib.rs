//! Tells whether a compiled guest is the one that its sources would give.
//!
//! ```text
//! guests/NAME/**, wit/**, Cargo.toml, Cargo.lock --> digest --> guests/NAME.wasm
//! ```
//!
//! Compiled guests are committed, so that the host can be tried and tested on a
//! machine that cannot compile to WebAssembly. `guests/build` adds a custom
//! section to each that holds a digest of what it was built from, and the test
//! of this crate computes it again.
//!
//! The digest says nothing about the compiler: whoever has another version of
//! it gets other bytes from the same sources, and both are right.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The custom section that holds the digest, as text.
pub const SECTION: &str = "netwasm:sources";

/// The first eight bytes of a component.
const PREAMBLE: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// Why a guest cannot be stamped, or its stamp not be checked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        error: std::io::Error,
    },
    /// A manifest or the lock file is not what Cargo writes.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Fault, as a sentence.
        what: String,
    },
    /// The bytes are not a component: a core module, or cut short.
    #[error("not a component")]
    NotAComponent,
}

/// The names of all guests of a workspace: the crates in `guests/` that are
/// compiled to components.
///
/// # Errors
/// A directory or a manifest cannot be read.
pub fn guests(workspace: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in entries(&workspace.join("guests"))? {
        let manifest = entry.join("Cargo.toml");
        if !manifest.is_file() {
            continue;
        }
        let manifest = read_toml(&manifest)?;
        let types = manifest.get("lib").and_then(|lib| lib.get("crate-type"));
        let is_handler = types
            .and_then(toml::Value::as_array)
            .is_some_and(|types| types.iter().any(|kind| kind.as_str() == Some("cdylib")));
        // A program says so, as the tools of this host are programs too.
        let metadata = manifest.get("package").and_then(|it| it.get("metadata"));
        let is_program = metadata.is_some_and(|metadata| metadata.get("guest").is_some());
        if is_handler || is_program {
            names.push(name_of(&entry));
        }
    }
    Ok(names)
}

/// The digest of all that a guest is built from: `sha256:` and 64 hexadecimal
/// digits.
///
/// It is the same on every machine: paths are relative to the workspace, lines
/// end with LF, and files are in the order of their paths. Hidden files are
/// left out.
///
/// # Errors
/// A source, the workspace's manifest or its lock file cannot be read.
pub fn digest(workspace: &Path, guest: &str) -> Result<String, Error> {
    let mut sources = BTreeMap::new();
    for directory in [format!("guests/{guest}"), "wit".to_owned()] {
        read_tree(workspace, &directory, &mut sources)?;
    }
    sources.insert("Cargo.toml".to_owned(), build_settings(workspace, guest)?);
    sources.insert("Cargo.lock".to_owned(), dependencies(workspace, guest)?);

    let mut hash = Sha256::new();
    for (path, content) in &sources {
        for part in [path, content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    let digits: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(format!("sha256:{digits}"))
}

/// A component with a digest in it, instead of the one it may have had.
///
/// # Errors
/// [`Error::NotAComponent`].
pub fn stamp(component: &[u8], digest: &str) -> Result<Vec<u8>, Error> {
    let mut stamped = PREAMBLE.to_vec();
    for section in sections(component)? {
        if section.stamp().is_none() {
            stamped.extend_from_slice(section.whole);
        }
    }
    let mut content = Vec::new();
    write_leb128(SECTION.len(), &mut content);
    content.extend_from_slice(SECTION.as_bytes());
    content.extend_from_slice(digest.as_bytes());
    stamped.push(0);
    write_leb128(content.len(), &mut stamped);
    stamped.extend_from_slice(&content);
    Ok(stamped)
}

/// The digest that a component holds, if it holds one.
///
/// # Errors
/// [`Error::NotAComponent`].
pub fn stamped(component: &[u8]) -> Result<Option<String>, Error> {
    let stamp = sections(component)?
        .into_iter()
        .find_map(|section| section.stamp());
    Ok(stamp.map(|digest| String::from_utf8_lossy(digest).into_owned()))
}

/// Reads a file.
///
/// # Errors
/// [`Error::File`], with its path.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(at(path))
}

/// Writes a file.
///
/// # Errors
/// [`Error::File`], with its path.
pub fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    std::fs::write(path, content).map_err(at(path))
}

/// Adds all files below a directory, by their paths from the workspace.
fn read_tree(
    workspace: &Path,
    directory: &str,
    files: &mut BTreeMap<String, String>,
) -> Result<(), Error> {
    for entry in entries(&workspace.join(directory))? {
        let name = name_of(&entry);
        let path = format!("{directory}/{name}");
        if name.starts_with('.') {
            continue;
        } else if entry.is_dir() {
            read_tree(workspace, &path, files)?;
        } else {
            let content = String::from_utf8_lossy(&read(&entry)?).replace("\r\n", "\n");
            files.insert(path, content);
        }
    }
    Ok(())
}

/// Returns the settings of the workspace's manifest that a guest is compiled by:
/// the profile, and those dependencies that the guest takes from there.
fn build_settings(workspace: &Path, guest: &str) -> Result<String, Error> {
    let path = workspace.join("Cargo.toml");
    let manifest = read_toml(&path)?;
    let setting = |table: &str, key: &str| {
        let value = manifest.get(table).and_then(|table| table.get(key));
        value.ok_or_else(|| format_error(&path, format!("no {table}.{key}")))
    };
    let mut text = String::new();
    describe("profile", setting("profile", "guest")?, &mut text);
    let own = read_toml(&workspace.join("guests").join(guest).join("Cargo.toml"))?;
    let own = own.get("dependencies").and_then(toml::Value::as_table);
    let shared = setting("workspace", "dependencies")?;
    let inherits = |dependency: &toml::Value| dependency.get("workspace").is_some();
    let inherited = own
        .into_iter()
        .flatten()
        .filter(|(_, dependency)| inherits(dependency));
    for name in inherited.map(|(name, _)| name).collect::<BTreeSet<_>>() {
        if let Some(dependency) = shared.get(name) {
            describe(name, dependency, &mut text);
        }
    }
    Ok(text)
}

/// Writes a value in a line for each part of it, sorted by key, so that neither
/// comments nor layout matter.
fn describe(key: &str, value: &toml::Value, text: &mut String) {
    match value {
        toml::Value::Table(table) => {
            let sorted: BTreeMap<_, _> = table.iter().collect();
            for (name, value) in sorted {
                describe(&format!("{key}.{name}"), value, text);
            }
        }
        toml::Value::Array(values) => {
            for value in values {
                describe(key, value, text);
            }
        }
        toml::Value::String(value) => *text += &format!("{key} = {value:?}\n"),
        toml::Value::Integer(value) => *text += &format!("{key} = {value}\n"),
        toml::Value::Boolean(value) => *text += &format!("{key} = {value}\n"),
        // No setting is one of these.
        toml::Value::Float(_) | toml::Value::Datetime(_) => {}
    }
}

/// The lock file's entries of all that a guest depends on, directly or not: a
/// line each.
fn dependencies(workspace: &Path, guest: &str) -> Result<String, Error> {
    let path = workspace.join("Cargo.lock");
    let lock = read_toml(&path)?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let packages = packages.ok_or_else(|| format_error(&path, "no packages".to_owned()))?;
    let field = |package: &toml::Value, name| {
        let value = package.get(name).and_then(toml::Value::as_str);
        value.unwrap_or_default().to_owned()
    };

    let mut found = BTreeMap::new();
    let mut wanted = vec![guest.to_owned()];
    while let Some(name) = wanted.pop() {
        // `NAME`, or where that is not enough `NAME VERSION` and `NAME VERSION (SOURCE)`.
        let mut words = name.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let package = packages.iter().find(|package| {
            field(package, "name") == name
                && version.is_none_or(|version| field(package, "version") == version)
        });
        let missing = || format_error(&path, format!("no package {name}"));
        let package = package.ok_or_else(missing)?;
        let id = (name.to_owned(), field(package, "version"));
        if found.insert(id, field(package, "checksum")).is_none() {
            let needs = package.get("dependencies").and_then(toml::Value::as_array);
            let needs = needs.into_iter().flatten().filter_map(toml::Value::as_str);
            wanted.extend(needs.map(str::to_owned));
        }
    }
    // The guest itself is there by its sources.
    found.retain(|(name, _), _| name != guest);
    let lines = found
        .iter()
        .map(|((name, version), sum)| format!("{name} {version} {sum}\n"));
    Ok(lines.collect())
}

/// A top-level section of a component.
struct Section<'a> {
    id: u8,
    whole: &'a [u8],
    content: &'a [u8],
}

impl<'a> Section<'a> {
    /// The digest, if this is the section that holds it.
    fn stamp(&self) -> Option<&'a [u8]> {
        let mut content = self.content;
        let length = read_leb128(&mut content)?;
        let (name, digest) = content.split_at_checked(length)?;
        (self.id == 0 && name == SECTION.as_bytes()).then_some(digest)
    }
}

/// Splits a component into its top-level sections.
fn sections(component: &[u8]) -> Result<Vec<Section<'_>>, Error> {
    let mut rest = component
        .strip_prefix(&PREAMBLE)
        .ok_or(Error::NotAComponent)?;
    let mut sections = Vec::new();
    while let [id, after @ ..] = rest {
        let mut after = after;
        let section = read_leb128(&mut after)
            .and_then(|length| after.split_at_checked(length))
            .ok_or(Error::NotAComponent)?;
        let (content, next) = section;
        let whole = &rest[..rest.len() - next.len()];
        sections.push(Section {
            id: *id,
            whole,
            content,
        });
        rest = next;
    }
    Ok(sections)
}

/// Takes a number off the front: LEB128, of 32 bits at most.
fn read_leb128(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0_usize;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn write_leb128(mut value: usize, bytes: &mut Vec<u8>) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

/// Returns the entries of a directory, sorted.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(at(directory))? {
        paths.push(entry.map_err(at(directory))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn read_toml(path: &Path) -> Result<toml::Table, Error> {
    let text = std::fs::read_to_string(path).map_err(at(path))?;
    text.parse()
        .map_err(|error: toml::de::Error| format_error(path, error.message().to_owned()))
}

fn format_error(path: &Path, what: String) -> Error {
    Error::Format {
        path: path.to_owned(),
        what,
    }
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::File {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_can_be_read_and_replaced() -> Result<(), Error> {
        // A custom section called `x` that holds 200 bytes, so that a length
        // takes two.
        let mut component = PREAMBLE.to_vec();
        component.extend([0, 202, 1, 1, b'x']);
        component.extend([7; 200]);
        assert_eq!(stamped(&component)?, None);
        let once = stamp(&component, "sha256:1")?;
        assert!(once.starts_with(&component));
        assert_eq!(stamped(&once)?.as_deref(), Some("sha256:1"));
        let twice = stamp(&once, "sha256:2")?;
        assert_eq!(twice.len(), once.len());
        assert_eq!(stamped(&twice)?.as_deref(), Some("sha256:2"));
        Ok(())
    }

    #[test]
    fn what_is_not_a_component_is_refused() {
        let cut_short = [&PREAMBLE[..], &[0, 9, 1]].concat();
        let endless_length = [&PREAMBLE[..], &[0, 255, 255, 255, 255, 255, 255]].concat();
        let core_module = b"\0asm\x01\0\0\0".to_vec();
        for bytes in [Vec::new(), core_module, cut_short, endless_length] {
            assert!(
                matches!(stamp(&bytes, "x"), Err(Error::NotAComponent)),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn layout_and_order_of_settings_do_not_matter() -> Result<(), toml::de::Error> {
        let text = |source: &str| -> Result<String, toml::de::Error> {
            let mut text = String::new();
            describe("x", &toml::Value::Table(source.parse()?), &mut text);
            Ok(text)
        };
        let one = text("a = { c = 1, b = ['p', 'q'] } # why")?;
        assert_eq!(one, "x.a.b = \"p\"\nx.a.b = \"q\"\nx.a.c = 1\n");
        assert_eq!(text("[a]\nb = [\n  \"p\",\n  \"q\",\n]\nc = 1")?, one);
        Ok(())
    }
}
