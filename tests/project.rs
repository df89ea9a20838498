//! Writing a handler: `netwasm wit`, `build`, `new`, and `run --watch`.

mod watching;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use wit_parser::Resolve;

use crate::harness::{Finished, Run, directory, repository, skipped, text, write};

/// Makes a command that builds. It needs no network.
fn building(args: &[&str]) -> Run {
    Run::command(args).env("CARGO_NET_OFFLINE", "true")
}

/// True if this machine can compile components in Rust.
fn has_target() -> bool {
    let libraries = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", "wasm32-wasip2"])
        .output();
    let has =
        libraries.is_ok_and(|it| Path::new(String::from_utf8_lossy(&it.stdout).trim()).is_dir());
    if !has {
        skipped("rustc has no target wasm32-wasip2");
    }
    has
}

/// Makes a project by `netwasm new`, and returns its directory.
#[track_caller]
fn project(parent: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let path = parent.join(name);
    let finished = Run::command(&["new", text(&path)]).args(flags).output();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let told = format!(
        "created {0}; next: cd {0} && netwasm run . ",
        path.display()
    );
    assert!(finished.stdout.starts_with(&told), "{finished:#?}");
    if !flags.contains(&"--lang") {
        let told = format!("terminal: cd {} && cargo test\n", path.display());
        assert!(finished.stdout.ends_with(&told), "{finished:#?}");
    }
    path
}

fn went_well(finished: &Finished) -> &str {
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    &finished.stdout
}

#[test]
fn the_interface_is_printed_as_one_document() {
    let printed = Run::command(&["wit"]).output();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("netwasm.wit", went_well(&printed));
    let package = package.expect("a package");
    for world in ["tcp-server", "udp-server", "http-server", "stream-server"] {
        let worlds = &resolve.packages[package].worlds;
        assert!(worlds.contains_key(world), "no {world}");
    }
}

#[test]
fn the_interface_is_written_as_the_files_of_the_repository() {
    let scratch = directory();
    let out = scratch.path().join("a/wit");
    let finished = Run::command(&["wit", "--out", text(&out)]).output();
    assert_eq!(went_well(&finished), "");
    let written = fs::read_dir(&out).expect("a directory").count();
    let mut own = 0;
    for entry in fs::read_dir(repository().join("wit")).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "wit") {
            own += 1;
            let other = out.join(path.file_name().expect("a name"));
            assert_eq!(
                fs::read(&path).expect("a file"),
                fs::read(other).expect("a file")
            );
        }
    }
    assert_eq!(written, own);
    let nowhere = Run::command(&["wit", "--out", "/proc/nowhere"]).output();
    nowhere.refused(1, &["cannot write /proc/nowhere"]);
}

#[test]
fn the_interfaces_of_wasi_are_written_as_of_a_release() {
    for release in [&[][..], &["0.2.10"]] {
        let scratch = directory();
        let finished = Run::command(&["wit", "--out", text(scratch.path()), "--wasi"])
            .args(release)
            .output();
        went_well(&finished);
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(scratch.path()).expect("a package");
        for world in ["server", "program"] {
            assert!(resolve.packages[package].worlds.contains_key(world));
        }
    }
    let args = ["wit", "--out", "a", "--wasi", "0.9.0"];
    Run::command(&args)
        .output()
        .refused(1, &["0.9.0", "from 0.2.1 to"]);
}

#[test]
fn a_library_is_written_with_its_worlds_for_each_language_that_has_one() {
    for (language, file) in [
        ("js", "netwasm.js"),
        ("ts", "netwasm.d.ts"),
        ("python", "netwasm/__init__.py"),
    ] {
        let scratch = directory();
        let out = text(scratch.path());
        let finished = Run::command(&["wit", "--lang", language, "--out", out]).output();
        went_well(&finished);
        assert!(scratch.path().join(file).is_file(), "no {file}");
        let mut resolve = Resolve::default();
        let (package, _) = resolve
            .push_dir(scratch.path().join("wit"))
            .expect("a package");
        for world in ["tcp", "udp", "http", "websocket"] {
            assert!(resolve.packages[package].worlds.contains_key(world));
        }
    }
    Run::command(&["wit", "--lang", "rust", "--out", "/nowhere"])
        .output()
        .refused(1, &["libraries for js", "netwasm new"]);
    Run::command(&["wit", "--lang", "js"])
        .output()
        .refused(2, &["--out"]);
}

#[test]
fn a_new_project_in_javascript_brings_the_types_of_what_it_imports() {
    let scratch = directory();
    for (language, kind, has) in [
        ("js", "--tcp", true),
        ("ts", "--http", true),
        ("js", "--http", false),
        ("js", "--websocket", true),
        ("python", "--tcp", false),
    ] {
        let name = format!("{language}{kind}");
        let project = project(scratch.path(), &name, &[kind, "--lang", language]);
        assert_eq!(project.join("netwasm.d.ts").is_file(), has, "{name}");
        let readme = fs::read_to_string(project.join("README.md")).expect("a file");
        assert!(readme.contains(&name) && !readme.contains("{{"), "{readme}");
    }
}

/// Checks that the interfaces of WASI are those that the host is built with.
#[test]
fn the_interfaces_of_wasi_are_those_of_the_host() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let http = packages
        .iter()
        .find(|it| it["name"] == "wasmtime-wasi-http");
    let manifest = http.expect("the package")["manifest_path"].as_str();
    let theirs = Path::new(manifest.expect("a path")).with_file_name("wit/deps");
    let ours = repository().join("host/src/project/wasi-0.2");
    let names = |path: &Path| -> Vec<_> {
        let entries = fs::read_dir(path).expect("a directory");
        let mut names: Vec<_> = entries
            .map(|it| it.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&ours), names(&theirs));
    for name in names(&ours) {
        let read = |path: &Path| fs::read_to_string(path.join(&name)).expect("a file");
        assert!(
            read(&ours) == read(&theirs),
            "{name:?}: copy wit/deps of the crate again"
        );
    }
}

#[test]
fn a_program_is_built_and_run() {
    if !has_target() {
        return;
    }
    let scratch = directory();
    let project = project(scratch.path(), "greeter", &["--program"]);
    write(
        &project.join("src"),
        "main.rs",
        "fn main() { println!(\"built\"); }",
    );
    let built = building(&["build", text(&project)]).output();
    let component = went_well(&built).trim_end();
    assert!(component.ends_with("/greeter.wasm"), "{built:#?}");
    let ran = Run::command(&["run", component]).output();
    assert_eq!(went_well(&ran), "built\n");
    // The directory in the place of a file.
    let ran = building(&["run", text(&project)]).output();
    assert_eq!(went_well(&ran), "built\n");
    let told = building(&["inspect", text(&project)]).output();
    assert!(went_well(&told).contains("wasi:cli/run"), "{told:#?}");

    write(&project.join("src"), "main.rs", "fn main() { nonsense }");
    let failed = building(&["build", text(&project)]).output();
    assert_eq!(failed.code, Some(1));
    for told in [
        "cannot find value `nonsense`",
        "netwasm: cargo build failed",
    ] {
        assert!(failed.stderr.contains(told), "no {told} in {failed:#?}");
    }
    fs::remove_file(project.join("src/main.rs")).expect("it is there");
    write(&project.join("src"), "lib.rs", "");
    let failed = building(&["build", text(&project)]).output();
    assert!(failed.stderr.contains("crate-type"), "{failed:#?}");
}

#[test]
fn what_is_missing_for_a_build_is_named() {
    let scratch = directory();
    let at = scratch.path();
    building(&["build", text(at)]).output().refused(
        1,
        &["neither a Cargo.toml nor a netwasm.toml", "netwasm new"],
    );
    building(&["build", "/nowhere"])
        .output()
        .refused(2, &["no directory /nowhere"]);
    let project = project(at, "greeter", &["--program"]);
    let rustc = write(at, "rustc", "#!/bin/sh\necho /nowhere\n");
    fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).expect("permissions");
    building(&["build", text(&project)])
        .env("RUSTC", text(&rustc))
        .output()
        .refused(1, &["`rustup target add wasm32-wasip2` installs it"]);
    building(&["build", text(&project)])
        .env("PATH", "/nowhere")
        .output()
        .refused(1, &["there is no rustc", "https://rustup.rs"]);
}

#[test]
fn what_is_missing_for_other_languages_is_named() {
    let scratch = directory();
    let tools = scratch.path().join("bin");
    fs::create_dir(&tools).expect("a directory");
    for tool in ["bash", "realpath", "mkdir", "dirname", "mktemp", "rm"] {
        let found = ["/usr/bin", "/bin"].map(|at| Path::new(at).join(tool));
        let found = found.iter().find(|path| path.exists()).expect("a tool");
        symlink(found, tools.join(tool)).expect("a link");
    }
    for (language, kind, tool) in [
        ("js", "--http", "node"),
        ("ts", "--tcp", "node"),
        ("python", "--udp", "python3"),
    ] {
        let project = project(scratch.path(), language, &[kind, "--lang", language]);
        let finished = building(&["build", text(&project)])
            .env("PATH", text(&tools))
            .env("NETWASM_TOOLS", text(&scratch.path().join("tools")))
            .output();
        assert_eq!(finished.code, Some(1));
        let told = format!("there is no {tool}, which compiles");
        assert!(finished.stderr.contains(&told), "{finished:#?}");
        assert!(
            finished.stderr.contains("componentize failed"),
            "{finished:#?}"
        );
    }
}

#[test]
fn the_isolation_that_a_project_asks_for_is_looked_at_before_it_is_built() {
    let scratch = directory();
    for (wanted, code, told) in [
        ("none", 1, "is 'none': write one of these"),
        ("request", 2, "--isolation request is for --http"),
    ] {
        let manifest = format!("source = \"a.py\"\nisolation = \"{wanted}\"\n");
        write(scratch.path(), "netwasm.toml", manifest);
        Run::command(&["run", text(scratch.path()), "--tcp", "127.0.0.1:0"])
            .output()
            .refused(code, &[told]);
    }
}

#[test]
fn every_new_project_in_rust_is_one_that_cargo_takes() {
    let scratch = directory();
    for kind in [
        "--tcp",
        "--udp",
        "--http",
        "--websocket",
        "--stream",
        "--program",
    ] {
        let name = format!("my{kind}");
        let project = project(scratch.path(), &name, &[kind]);
        let manifest = fs::read_to_string(project.join("Cargo.toml")).expect("a manifest");
        let manifest: toml::Table = manifest.parse().expect("it is TOML");
        assert_eq!(manifest["package"]["name"].as_str(), Some(&*name));
        // Of no other workspace.
        assert!(manifest.contains_key("workspace"), "{manifest:?}");
        for file in ["README.md", ".gitignore", ".cargo/config.toml"] {
            assert!(project.join(file).is_file(), "no {file}");
        }
        let readme = fs::read_to_string(project.join("README.md")).expect("a file");
        assert!(readme.contains(&name) && !readme.contains("{{"), "{readme}");
        if kind != "--program" {
            assert!(project.join("src/lib.rs").is_file());
            assert!(project.join("netwasm/wit/types.wit").is_file());
            assert!(project.join("netwasm/Cargo.toml").is_file());
        }
        let cargo = Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--offline",
                "--no-deps",
                "--format-version",
                "1",
            ])
            .current_dir(&project)
            .output()
            .expect("cargo runs");
        let told = String::from_utf8_lossy(&cargo.stderr);
        assert!(cargo.status.success(), "{kind}: {told}");
    }
}

#[test]
fn a_new_project_overwrites_nothing() {
    let scratch = directory();
    let path = scratch.path().join("mine");
    fs::create_dir(&path).expect("a directory");
    let file = write(&path, "thesis.txt", "years of work");
    let new = |name: &Path, flags: &[&str]| Run::command(&["new", text(name)]).args(flags).output();
    new(&path, &["--tcp"]).refused(1, &["is there already", "choose another name"]);
    assert_eq!(fs::read(&file).expect("the file"), b"years of work");
    assert_eq!(fs::read_dir(&path).expect("a directory").count(), 1);
    // An empty directory holds nothing.
    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).expect("a directory");
    went_well(&new(&empty, &["--program"]));
    let name = scratch.path().join("2fast");
    new(&name, &["--tcp"]).refused(1, &["'2fast' is not a project name"]);
    new(&path, &[]).refused(2, &["--tcp|--udp|--http|--websocket|--stream|--program"]);
    new(&path, &["--tcp", "--udp"]).refused(2, &["cannot be used with"]);
    let other = scratch.path().join("other");
    new(&other, &["--stream", "--lang", "js"])
        .refused(1, &["--tcp, --udp", "--stream --lang rust"]);
    new(&other, &["--stream", "--lang", "go"])
        .refused(1, &["--http with --lang go", "--stream --lang rust"]);
    new(&other, &["--websocket", "--lang", "c"]).refused(
        1,
        &["--http with --lang c", "--lang rust, js, ts or python"],
    );
    new(&other, &["--http", "--lang", "cobol"]).refused(2, &["rust, js, ts, python, c or go"]);
    assert!(!other.exists());
}

#[test]
fn a_new_program_passes_its_own_test() {
    let scratch = directory();
    let project = project(scratch.path(), "loud", &["--program"]);
    let tested = Command::new(env!("CARGO"))
        .args(["test", "--offline"])
        .env_remove("CARGO_TARGET_DIR")
        .current_dir(&project)
        .output()
        .expect("cargo runs");
    let told = String::from_utf8_lossy(&tested.stderr);
    assert!(tested.status.success(), "{told}");
}
