//! Tests of the crates below `host/`: the dependencies that each may have, the
//! crates that it must not reach, and the imports of its modules. The tables are
//! those of `host/src/lib.rs` and of each crate.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A crate, the crates of ours that it may depend on, and the crates that it
/// must not reach through any dependency.
const CRATES: [(&str, &[&str], &[&str]); 10] = [
    ("netwasm-base", &[], &["tokio", "rustls", "wasmtime"]),
    ("netwasm-commit", &[], &["tokio", "rustls", "wasmtime"]),
    ("netwasm-otlp", &[], &["tokio", "rustls", "wasmtime"]),
    ("netwasm-net", &["base"], &["netwasm-http", "wasmtime"]),
    (
        "netwasm-keyvalue",
        &["base"],
        &["netwasm-net", "rustls", "wasmtime"],
    ),
    (
        "netwasm-registry",
        &["base", "net"],
        &["netwasm-http", "netwasm-runtime", "wasmtime"],
    ),
    (
        "netwasm-exchange",
        &["base", "net"],
        &["h2", "hyper", "wasmtime"],
    ),
    (
        "netwasm-http",
        &["base", "net", "exchange"],
        &["netwasm-runtime", "wasmtime"],
    ),
    (
        "netwasm-runtime",
        &["base", "keyvalue", "net", "otlp", "exchange"],
        &["netwasm-http"],
    ),
    (
        "netwasm",
        &[
            "base", "commit", "keyvalue", "net", "otlp", "registry", "exchange", "http", "runtime",
        ],
        &[],
    ),
];

/// The packages of the workspace's graph, by their identity: the name and the
/// normal dependencies of each.
struct Graph {
    names: HashMap<String, String>,
    edges: HashMap<String, Vec<String>>,
}

impl Graph {
    fn of_workspace() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let list = |value: &Value| value.as_array().expect("a list").clone();
        let names = list(&metadata["packages"])
            .iter()
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let is_normal = |dependency: &Value| {
            let kinds = list(&dependency["dep_kinds"]);
            kinds.iter().any(|kind| kind["kind"].is_null())
        };
        let edges = list(&metadata["resolve"]["nodes"])
            .iter()
            .map(|node| {
                let dependencies = list(&node["deps"]);
                let normal = dependencies.iter().filter(|it| is_normal(it));
                (
                    text(&node["id"]),
                    normal.map(|it| text(&it["pkg"])).collect(),
                )
            })
            .collect();
        Self { names, edges }
    }

    fn package(&self, name: &str) -> &String {
        let mut all = self.names.iter();
        let found = all.find(|(_, other)| *other == name);
        found.unwrap_or_else(|| panic!("no package {name}")).0
    }

    fn direct(&self, name: &str) -> BTreeSet<&str> {
        let edges = &self.edges[self.package(name)];
        edges.iter().map(|id| self.names[id].as_str()).collect()
    }

    /// Returns all packages that a package brings along.
    fn reached(&self, name: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut left = vec![self.package(name)];
        let mut seen: BTreeSet<&String> = left.iter().copied().collect();
        while let Some(id) = left.pop() {
            for next in &self.edges[id] {
                if seen.insert(next) {
                    reached.insert(self.names[next].as_str());
                    left.push(next);
                }
            }
        }
        reached
    }
}

#[test]
fn no_crate_reaches_what_it_is_not_to_know() {
    let graph = Graph::of_workspace();
    assert!(graph.reached("netwasm").contains("wasmtime"));
    for (name, allowed, never) in CRATES {
        let ours = graph.direct(name);
        let ours = ours.iter().filter_map(|it| it.strip_prefix("netwasm-"));
        for other in ours {
            assert!(allowed.contains(&other), "{name} depends on {other}");
        }
        let reached = graph.reached(name);
        for other in never {
            assert!(!reached.contains(other), "{name} reaches {other}");
        }
    }
}

/// Largest number of modules that may import each other in a circle, in each
/// crate. That many can be read as one thing. A transport is one of five.
const LARGEST_CIRCLES: [(&str, usize); 8] = [
    ("base", 0),
    ("keyvalue", 2),
    ("otlp", 0),
    ("registry", 0),
    ("net", 5),
    ("exchange", 4),
    ("http", 4),
    ("runtime", 4),
];

#[test]
fn no_circle_of_imports_is_large() {
    for (name, most) in LARGEST_CIRCLES {
        let imports = imports(&source_of(name));
        assert!(imports.len() >= 5, "{name}: {imports:?}");
        let reached: BTreeMap<&String, BTreeSet<&String>> = imports
            .keys()
            .map(|module| (module, reached_from(module, &imports)))
            .collect();
        for (module, beyond) in &reached {
            let circle: Vec<_> = beyond
                .iter()
                .filter(|other| reached[*other].contains(module))
                .collect();
            assert!(circle.len() <= most, "{name}: {circle:?}");
        }
    }
}

#[test]
fn the_name_of_a_type_is_unique_in_its_crate() {
    for (name, _, _) in CRATES {
        let root = source_of(name.strip_prefix("netwasm-").unwrap_or_default());
        let mut files = Vec::new();
        find_sources(&root, &mut files);
        files.retain(|file| !file.components().any(|part| part.as_os_str() == "tests"));
        let mut places: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for file in files {
            let source = fs::read_to_string(&file).expect("a source");
            for name in source.lines().filter_map(defined) {
                places
                    .entry(name.to_owned())
                    .or_default()
                    .push(file.clone());
            }
        }
        places.retain(|_, files| files.len() > 1);
        assert!(places.is_empty(), "{name}: {places:#?}");
    }
}

/// Returns the name of the structure, enumeration or trait that a line at the top of
/// a module defines.
fn defined(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.strip_prefix(' ')?,
        None => line,
    };
    let kinds = ["struct ", "enum ", "trait ", "union "];
    let name = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
    name.split(|it: char| !it.is_alphanumeric()).next()
}

/// Crates whose module tables have an order: a module imports only those above
/// it. The pairs are exceptions, which `lib.rs` tells.
const ORDERED: [(&str, &[(&str, &str)]); 4] = [
    ("base", &[]),
    ("registry", &[]),
    ("exchange", &[("request", "handler")]),
    ("http", &[]),
];

#[test]
fn the_tables_of_modules_are_true() {
    for (name, _) in LARGEST_CIRCLES {
        let rows = table(name);
        let tops = rows.keys().filter_map(|module| module.split("::").next());
        let tops: BTreeSet<_> = tops.map(str::to_owned).collect();
        assert_eq!(tops, declared(name), "{name}");
    }
    for (name, exceptions) in ORDERED {
        let rows = table(name);
        let row = |module: &str| {
            let mut path = module;
            loop {
                if let Some(row) = rows.get(path) {
                    return Some(row);
                }
                path = path.rsplit_once("::")?.0;
            }
        };
        for (module, imported) in imports(&source_of(name)) {
            let top = module.split("::").next();
            for other in imported {
                let is_known = exceptions.contains(&(&*module, &*other));
                if is_known || other.split("::").next() == top {
                    continue;
                }
                if let (Some(own), Some(theirs)) = (row(&module), row(&other)) {
                    assert!(
                        theirs <= own,
                        "{name}: {module} imports {other}, a row below"
                    );
                }
            }
        }
    }
}

#[test]
fn the_tables_of_the_program_are_true() {
    let rows = table("");
    let (crates, modules): (BTreeSet<_>, BTreeSet<_>) = rows
        .keys()
        .cloned()
        .partition(|name| name.starts_with("netwasm"));
    let all = CRATES.map(|(name, _, _)| name.to_owned());
    assert_eq!(crates, BTreeSet::from(all));
    assert_eq!(modules, declared(""));
    for (name, allowed, _) in CRATES {
        for other in allowed {
            let above = rows[&format!("netwasm-{other}")] < rows[name];
            assert!(above, "{name} uses {other}, a row below");
        }
    }
}

fn source_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join("src")
}

fn read_lib(name: &str) -> String {
    fs::read_to_string(source_of(name).join("lib.rs")).expect("it can be read")
}

/// Returns the modules that a crate declares.
fn declared(name: &str) -> BTreeSet<String> {
    let lib = read_lib(name);
    let modules = lib.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    let modules = modules.filter(|it| *it != "testing");
    modules.map(str::to_owned).collect()
}

/// Returns the modules that the table of a crate names, and the row of each.
fn table(name: &str) -> BTreeMap<String, usize> {
    let lib = read_lib(name);
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | "));
    let mut modules = BTreeMap::new();
    for (number, row) in rows.enumerate() {
        let names = row.split(" | ").next().unwrap_or_default();
        // Every second piece is between backquotes.
        for name in names.split('`').skip(1).step_by(2) {
            let name = name.strip_prefix("mod@").unwrap_or(name);
            modules.insert(name.to_owned(), number);
        }
    }
    modules
}

fn reached_from<'a>(
    module: &'a String,
    imports: &'a BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut left: Vec<_> = imports[module].iter().collect();
    while let Some(next) = left.pop() {
        if reached.insert(next) {
            left.extend(&imports[next]);
        }
    }
    reached
}

/// Returns the modules of a crate as paths, and the other modules that each
/// imports from.
fn imports(root: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut files = Vec::new();
    find_sources(root, &mut files);
    let name = |file: &PathBuf| {
        let path = file
            .strip_prefix(root)
            .expect("it is below")
            .with_extension("");
        let path = path.to_str().expect("a name").replace('/', "::");
        path.strip_suffix("::mod").unwrap_or(&path).to_owned()
    };
    let modules: BTreeSet<String> = files.iter().map(name).collect();
    let imported = |file: &PathBuf| {
        let text = fs::read_to_string(file).expect("it can be read");
        // Tests may import anything.
        let text = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        let paths = text.split("use crate::").skip(1).flat_map(|rest| {
            let tree = rest.split(';').next().unwrap_or_default();
            flat("", &tree.split_whitespace().collect::<String>())
        });
        let own = name(file);
        paths
            .filter_map(|path| module_of(&path, &modules))
            .filter(|module| *module != own)
            .collect()
    };
    files
        .iter()
        .map(|file| (name(file), imported(file)))
        .collect()
}

fn find_sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find_sources(&path, files);
        } else if path.extension().is_some_and(|it| it == "rs")
            && !path.ends_with("tests.rs")
            && !path.ends_with("lib.rs")
        {
            files.push(path);
        }
    }
}

/// Returns the paths of a tree of imports, such as `a::{b, c::{d, e}}`.
fn flat(prefix: &str, tree: &str) -> Vec<String> {
    let Some(open) = tree.find('{') else {
        return vec![format!("{prefix}{tree}")];
    };
    let prefix = format!("{prefix}{}", &tree[..open]);
    let inner = tree[open + 1..].strip_suffix('}').expect("a brace");
    let (mut paths, mut begin, mut depth) = (Vec::new(), 0, 0);
    for (place, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                paths.extend(flat(&prefix, &inner[begin..place]));
                begin = place + 1;
            }
            _ => {}
        }
    }
    if begin < inner.len() {
        paths.extend(flat(&prefix, &inner[begin..]));
    }
    paths
}

/// Returns the module that a path leads to, or into.
fn module_of(path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let mut path = path;
    loop {
        if modules.contains(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    }
}
