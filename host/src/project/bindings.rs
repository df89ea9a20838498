//! Bindings of C and Go to the interface, which come with the libraries of
//! these languages.
//!
//! wit-bindgen generates them from `wit/`, and they are committed, so that
//! nobody else needs it: `NETWASM_WRITE_BINDINGS=1 cargo test --workspace --lib
//! bindings_of_c_and_go` writes them. They are for one world that has all that event
//! handlers can use: a project's build takes from it what the project uses.

use std::collections::BTreeMap;
use std::path::Path;

use wit_bindgen_core::{Files, WorldGenerator};
use wit_parser::{Resolve, WorldId};

/// The world of the bindings, in the terms of `wit/world.wit`.
const WORLD: &str = "package netwasm:net@0.2.0;

world bindings {
    include tcp-server;
    include udp-server;
    include http-server;
    include deferring;
    include connecting;
    include timing;
    include resolving;
    include draining;
}
";

/// Import paths of the packages that the generated Go needs, and what is there
/// in their place.
const SUPPORT: [(&str, &str); 2] = [
    (
        "go.bytecodealliance.org/pkg/wit/runtime",
        "github.com/netwasm/netwasm/internal/wit/runtime",
    ),
    (
        "go.bytecodealliance.org/pkg/wit/types",
        "github.com/netwasm/netwasm/internal/wit/types",
    ),
];

/// The import path of the generated Go.
const GO: &str = "github.com/netwasm/netwasm/internal/wit";

/// Generates the bindings from the package in a directory. Returns files, by
/// their paths below `libraries`.
pub(super) fn generate(package: &Path) -> BTreeMap<String, String> {
    let mut all = c(package);
    all.extend(go(package));
    all
}

fn world(package: &Path) -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let mut text = String::new();
    let mut paths: Vec<_> = std::fs::read_dir(package)
        .expect("the directory of the package")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "wit"))
        .collect();
    paths.sort();
    for path in paths {
        let content = std::fs::read_to_string(&path).expect("a file");
        text += &content.replace("package netwasm:net@0.2.0;", "");
    }
    let text = format!("{WORLD}\n{text}");
    let package = resolve.push_str("bindings.wit", &text).expect("a package");
    let world = resolve.select_world(&[package], Some("bindings"));
    (resolve, world.expect("the world"))
}

fn run(generator: &mut dyn WorldGenerator, package: &Path) -> Vec<(String, String)> {
    let (mut resolve, world) = world(package);
    let mut files = Files::default();
    generator
        .generate(&mut resolve, world, &mut files)
        .expect("bindings");
    let mut texts = Vec::new();
    for (name, content) in files.iter() {
        if let Ok(text) = std::str::from_utf8(content) {
            texts.push((name.to_owned(), text.to_owned()));
        }
    }
    texts
}

fn c(package: &Path) -> BTreeMap<String, String> {
    let options = wit_bindgen_c::Opts {
        // The type of a component comes from what its code imports and exports.
        no_object_file: true,
        ..Default::default()
    };
    let mut all = BTreeMap::new();
    for (name, text) in run(&mut *options.build(), package) {
        let text = match name.ends_with(".c") {
            true => guarded(&text),
            false => text,
        };
        all.insert(format!("c/{name}"), tidy(&text));
    }
    all
}

/// Puts the exports of handlers that not every component has below a condition:
/// what is exported cannot be left out by the linker.
fn guarded(text: &str) -> String {
    const EXPORT: &str = "__export_name__(\"";
    const KINDS: [(&str, &str); 3] = [
        ("netwasm:net/udp-handler@", "NETWASM_UDP"),
        ("netwasm:net/http-handler@", "NETWASM_HTTP"),
        ("netwasm:net/response-handler@", "NETWASM_HTTP"),
    ];
    let mut out = String::from("#pragma GCC diagnostic ignored \"-Wunused-variable\"\n");
    let mut inside = false;
    // The end would link the component's type.
    let end = text.find("// Ensure that the *_component_type.o");
    for line in text[..end.unwrap_or(text.len())].lines() {
        let name = line.split(EXPORT).nth(1).unwrap_or_default();
        let name = name.strip_prefix("cabi_post_").unwrap_or(name);
        if let Some((_, flag)) = KINDS.iter().find(|(kind, _)| name.starts_with(kind)) {
            out += &format!("#ifdef {flag}\n");
            inside = true;
        }
        out += line;
        out.push('\n');
        if inside && line == "}" {
            out += "#endif\n";
            inside = false;
        }
    }
    out
}

fn go(package: &Path) -> BTreeMap<String, String> {
    let options = wit_bindgen_go::Opts {
        format: wit_bindgen_go::Format::False,
        pkg_name: Some(GO.into()),
        export_pkg_name: Some(GO.into()),
        ..Default::default()
    };
    let mut all = BTreeMap::new();
    for (name, text) in run(&mut *options.build(), package) {
        // These have nothing but other names of types.
        let is_handler = name.contains("_handler/") || name.contains("_lifecycle/");
        if is_handler || name == "go.mod" {
            continue;
        }
        let text = match name.ends_with(".go") {
            true => indented(&of_this_library(&text)),
            false => tidy(&text),
        };
        all.insert(format!("go/internal/wit/{name}"), text);
    }
    all
}

/// Makes generated Go use this library's packages for what it needs at run time,
/// and call the functions in `handlers`.
fn of_this_library(text: &str) -> String {
    let mut text = text.to_owned();
    for (theirs, ours) in SUPPORT {
        text = text.replace(theirs, ours);
    }
    text = text.replace("runtime.Pinner", "witRuntime.Pinner");
    // It stays, while a pinner lets go of what it keeps.
    text = text.replace("witRuntime.Allocate(&staticPinner, ", "witRuntime.Static(");
    text = text.replace("var staticPinner = witRuntime.Pinner{}\n", "");
    let uses_runtime = text.contains(" runtime.") || text.contains("\truntime.");
    let mut out = String::with_capacity(text.len());
    let mut calls = false;
    for line in text.lines() {
        let bare = line.trim();
        if bare == "\"runtime\"" && !uses_runtime {
            if !text.contains("witRuntime \"") {
                out += &format!("witRuntime \"{}\"\n", SUPPORT[0].1);
            }
            continue;
        }
        if bare.starts_with(&format!("\"{GO}/export_")) {
            if !calls {
                out += "\"github.com/netwasm/netwasm/internal/handlers\"\n";
            }
            calls = true;
            continue;
        }
        out += line;
        out.push('\n');
        // A panic is told, which Go could not do by itself: it waits first.
        if bare.starts_with("func wasm_export_netwasm_net_") {
            out += "defer witRuntime.Crash()\n";
        }
        // The handler has returned.
        let calls = bare.strip_prefix("result := ").unwrap_or(bare);
        if calls.starts_with("export_netwasm_net_") {
            out += "witRuntime.Reset()\n";
        }
    }
    // `export_netwasm_net_tcp_handler.X` becomes `handlers.TcpHandler.X`.
    const PREFIX: &str = "export_netwasm_net_";
    let mut rest = out.as_str();
    let mut called = String::with_capacity(out.len());
    while let Some((before, after)) = rest.split_once(PREFIX) {
        called += before;
        rest = after;
        // The names of functions, which nobody calls, have it too.
        if before.ends_with('_') {
            called += PREFIX;
            continue;
        }
        let (name, after) = after.split_once('.').expect("a function");
        called += "handlers.";
        for word in name.split('_') {
            let (first, others) = word.split_at(1);
            called += &first.to_uppercase();
            called += others;
        }
        called.push('.');
        rest = after;
    }
    called + rest
}

/// Indents generated Go by its braces.
fn indented(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut depth = 0_usize;
    for line in tidy(text).lines() {
        let line = line.trim();
        let code = match line.starts_with("//") {
            true => "",
            false => line,
        };
        let opened = code.matches(['{', '(']).count();
        let closed = code.matches(['}', ')']).count();
        let leading = code
            .chars()
            .take_while(|it| matches!(it, '}' | ')'))
            .count();
        let label = usize::from(code.starts_with("case ") || code == "default:");
        if !line.is_empty() {
            let tabs = depth.saturating_sub(leading.max(label));
            out.extend(std::iter::repeat_n('\t', tabs));
            out += line;
        }
        out.push('\n');
        depth = (depth + opened).saturating_sub(closed);
    }
    out
}

/// Takes away what ends lines, and lines that follow empty ones and are empty.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut was_empty = false;
    for line in text.lines() {
        let line = line.trim_end();
        if line.is_empty() && was_empty {
            continue;
        }
        was_empty = line.is_empty();
        out += line;
        out.push('\n');
    }
    out
}

/// Committed files that are generated, by their paths below `libraries`.
fn committed(libraries: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut directories = vec![libraries.join("c"), libraries.join("go/internal/wit")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(libraries).expect("it is below");
            let name = name.to_string_lossy().into_owned();
            let generated = name.starts_with("c/bindings.") || name.contains("/netwasm_net_");
            if generated || name.contains("/wit_exports/") {
                all.insert(name, std::fs::read_to_string(path).expect("a file"));
            }
        }
    }
    all
}

#[test]
fn bindings_of_c_and_go_are_those_of_the_interface() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries = manifest.join("src/project/libraries");
    let generated = generate(&manifest.join("../wit"));
    if std::env::var_os("NETWASM_WRITE_BINDINGS").is_some() {
        for name in committed(&libraries).keys() {
            std::fs::remove_file(libraries.join(name)).expect("it is there");
        }
        for (name, text) in &generated {
            super::write(&libraries.join(name), text).expect("a file");
        }
    }
    let committed = committed(&libraries);
    let names = |all: &BTreeMap<String, String>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&generated));
    for (name, text) in &generated {
        assert!(
            committed[name] == *text,
            "{name} is of another interface: NETWASM_WRITE_BINDINGS=1 cargo test --workspace \
             --lib bindings_of_c_and_go writes it"
        );
    }
}
