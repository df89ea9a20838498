//! `netwasm wit`: the interfaces that this host has, as text.

use std::fmt::Write as _;
use std::path::Path;

use super::embedded::{C, GO, LANGUAGES, WASI, WIT};
use super::new::Language;
use super::{ProjectError, write};

/// First line of the file that names the package.
const PACKAGE: &str = "package netwasm:net@";

/// Oldest release of WASI 0.2 that can be written, by its last number. The
/// texts do not tell 0.2.0 apart.
const OLDEST: u32 = 1;

/// Returns the package `netwasm:net` as one document.
#[must_use]
pub fn document() -> String {
    let mut text = String::new();
    let is_package = |line: &&str| line.starts_with(PACKAGE);
    let lines = WIT.iter().flat_map(|(_, content)| content.lines());
    if let Some(package) = lines.clone().find(is_package) {
        text += package;
        text.push('\n');
    }
    for (file, content) in WIT.iter() {
        // Writing to memory cannot fail.
        let _ = write!(text, "\n// {file}\n\n");
        let lines = content.lines().filter(|line| !is_package(line));
        for line in lines.skip_while(|line| line.is_empty()) {
            text += line;
            text.push('\n');
        }
    }
    text
}

/// Returns the version of the package.
#[must_use]
pub fn version() -> &'static str {
    let mut lines = WIT.iter().flat_map(|(_, content)| content.lines());
    let version = lines.find_map(|line| line.strip_prefix(PACKAGE));
    version.unwrap_or_default().trim_end_matches(';')
}

/// Writes the package `netwasm:net` to a directory, a file for each interface.
///
/// # Errors
/// Fails if a file cannot be written.
pub fn write_package(directory: &Path) -> Result<(), ProjectError> {
    for (name, content) in WIT.iter() {
        write(&directory.join(name), content)?;
    }
    Ok(())
}

/// Writes a package with the worlds `server`, `program` and `interpreter`, and
/// all that they need of WASI 0.2, in what was there in a release such as
/// `0.2.10`; `None` is the host's own. Tools of other languages want to know it.
/// A host takes any release of 0.2. An interpreter is a program whose language
/// has sockets and an event loop of its own.
///
/// # Errors
/// Fails if there is no such release, or if a file cannot be written.
pub fn write_wasi(directory: &Path, wanted: Option<&str>) -> Result<(), ProjectError> {
    let Some(release) = release() else {
        return Err(ProjectError::Told(
            "there is no WASI in this program".into(),
        ));
    };
    let wanted = wanted.unwrap_or(release);
    let newest = patch(release).unwrap_or_default();
    let number = patch(wanted).filter(|number| (OLDEST..=newest).contains(number));
    let Some(number) = number else {
        return Err(ProjectError::Told(format!(
            "there is no WASI {wanted} here: write a release from 0.2.{OLDEST} to {release}"
        )));
    };
    for (name, content) in WASI.iter() {
        let text = content.replace(&format!("@{release}"), &format!("@{wanted}"));
        write(&directory.join("deps").join(name), &older(&text, number))?;
    }
    let world = format!(
        "package netwasm:guest;\n\nworld server {{\n    include wasi:http/proxy@{wanted};\n}}\n\n\
         world program {{\n    include wasi:cli/command@{wanted};\n}}\n\n\
         world interpreter {{\n    include wasi:cli/command@{wanted};\n    \
         include netwasm:net/sockets-program@{own};\n}}\n",
        own = version()
    );
    write(&directory.join("world.wit"), &world)?;
    write_package(&directory.join("deps/netwasm"))
}

/// Writes what handlers in another language are built from: below `wit` the
/// package `netwasm:guest`, which has a world for each kind of handler, and
/// beside it the library.
///
/// # Errors
/// Fails if there is no library for the language, or if a file cannot be
/// written.
pub fn write_for(directory: &Path, language: Language) -> Result<(), ProjectError> {
    let library = match language {
        Language::JavaScript | Language::TypeScript => "js",
        Language::Python => "python",
        Language::C => return write_all(directory, &C),
        Language::Go => return write_all(directory, &GO),
        Language::Rust => {
            return Err(ProjectError::Told(
                "there are libraries for js, ts, python, c and go; `netwasm wit --out DIR` writes \
                 the interface, and `netwasm new` a project in Rust"
                    .into(),
            ));
        }
    };
    for (path, content) in LANGUAGES.iter() {
        match Path::new(path).strip_prefix(library) {
            Ok(inner) => write(&directory.join(inner), content)?,
            Err(_) if *path == "worlds.wit" => write(&directory.join("wit").join(path), content)?,
            Err(_) => {}
        }
    }
    write_package(&directory.join("wit/deps/netwasm"))
}

fn write_all(directory: &Path, files: &[(&str, &str)]) -> Result<(), ProjectError> {
    let mut files = files.iter();
    files.try_for_each(|(path, content)| write(&directory.join(path), content))
}

/// Returns the release of WASI 0.2 that this host has.
#[must_use]
pub fn release() -> Option<&'static str> {
    let (_, http) = WASI.iter().find(|(name, _)| *name == "http.wit")?;
    let (_, rest) = http.split_once("package wasi:http@")?;
    rest.split(';').next()
}

/// Returns the last number of a release of WASI 0.2.
fn patch(release: &str) -> Option<u32> {
    release.strip_prefix("0.2.")?.parse().ok()
}

/// Makes unstable what is newer than a release, so that tools leave it out.
fn older(text: &str, wanted: u32) -> String {
    const GATE: &str = "@since(version = ";
    let mut older = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(GATE) {
        older += before;
        let Some((version, after)) = after.split_once(')') else {
            older += GATE;
            rest = after;
            break;
        };
        match patch(version).is_some_and(|since| since > wanted) {
            true => older += "@unstable(feature = newer)",
            false => {
                older += GATE;
                older += version;
                older.push(')');
            }
        }
        rest = after;
    }
    older + rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::PathBuf;

    use wit_parser::Resolve;

    use super::*;

    /// Returns the `.wit` files of a directory.
    fn files(directory: &Path) -> BTreeMap<String, String> {
        let entries = fs::read_dir(directory).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let paths = paths.filter(|path| path.extension().is_some_and(|end| end == "wit"));
        let read = |path: PathBuf| {
            let name = path.file_name().expect("a name").to_string_lossy();
            let content = fs::read_to_string(&path).expect("a file");
            (name.into_owned(), content)
        };
        paths.map(read).collect()
    }

    fn package() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")
    }

    #[test]
    fn all_of_the_package_is_embedded_and_nothing_else() {
        let own = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned = list
                .iter()
                .map(|(name, content)| ((*name).into(), (*content).into()));
            owned.collect()
        };
        assert_eq!(own(&WIT), files(&package()));
        let wasi = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/project/wasi-0.2");
        assert_eq!(own(&WASI), files(&wasi));
    }

    #[test]
    fn the_document_is_the_package() {
        let mut resolve = Resolve::default();
        let whole = resolve.push_str("all.wit", &document());
        let whole = whole.expect("a package");
        let mut other = Resolve::default();
        let (files, _) = other.push_dir(package()).expect("a package");
        let names = |resolve: &Resolve, id| {
            let package = &resolve.packages[id];
            let interfaces: Vec<_> = package.interfaces.keys().cloned().collect();
            let worlds: Vec<_> = package.worlds.keys().cloned().collect();
            let (mut interfaces, mut worlds) = (interfaces, worlds);
            interfaces.sort();
            worlds.sort();
            (package.name.clone(), interfaces, worlds)
        };
        assert_eq!(names(&resolve, whole), names(&other, files));
    }

    #[test]
    fn libraries_of_other_languages_have_a_world_for_each_kind() {
        for (language, library) in [
            (Language::JavaScript, "netwasm.js"),
            (Language::TypeScript, "netwasm.d.ts"),
            (Language::Python, "netwasm/__init__.py"),
        ] {
            let scratch = tempfile::tempdir().expect("a directory");
            write_for(scratch.path(), language).expect("files");
            assert!(scratch.path().join(library).is_file(), "{library}");
            let mut resolve = Resolve::default();
            let pushed = resolve.push_dir(scratch.path().join("wit"));
            let (id, _) = pushed.expect("a package");
            for world in ["tcp", "udp", "http", "websocket"] {
                let worlds = &resolve.packages[id].worlds;
                assert!(worlds.contains_key(world), "{world}");
            }
        }
        let scratch = tempfile::tempdir().expect("a directory");
        for language in [Language::C, Language::Go] {
            let scratch = tempfile::tempdir().expect("a directory");
            write_for(scratch.path(), language).expect("files");
            let written = fs::read_dir(scratch.path()).expect("a directory");
            assert!(written.count() > 1, "{language:?}");
        }
        assert!(write_for(scratch.path(), Language::Rust).is_err());
    }

    #[test]
    fn older_releases_of_wasi_have_less_in_them() {
        let scratch = tempfile::tempdir().expect("a directory");
        let release = release().expect("a release");
        for wanted in [release, "0.2.10", "0.2.1"] {
            write_wasi(scratch.path(), Some(wanted)).expect("files");
            let mut resolve = Resolve::default();
            let (id, _) = resolve.push_dir(scratch.path()).expect("a package");
            for world in ["server", "program", "interpreter"] {
                let worlds = &resolve.packages[id].worlds;
                assert!(worlds.contains_key(world), "{world} of {wanted}");
            }
        }
        for wrong in ["0.2.0", "0.2.999", "0.3.0", "latest", ""] {
            assert!(write_wasi(scratch.path(), Some(wrong)).is_err(), "{wrong}");
        }
    }
}
