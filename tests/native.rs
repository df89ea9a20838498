//! Handlers in C and Go: new projects, and the component that is made of what a
//! compiler writes. `tests/other-languages` has the compilers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::harness::{Run, directory, text};

/// Makes a project by `netwasm new`, and returns its directory.
#[track_caller]
fn project(parent: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let path = parent.join(name);
    let finished = Run::command(&["new", text(&path)]).args(flags).output();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    path
}

#[test]
fn projects_in_c_and_go_bring_their_library_and_name_the_compiler_that_is_missing() {
    let scratch = directory();
    for (language, library, told) in [
        (
            "c",
            "netwasm/netwasm.h",
            "`pip install ziglang` installs one",
        ),
        ("go", "netwasm/go.mod", "https://go.dev/dl"),
    ] {
        for kind in ["tcp", "udp", "http"] {
            let flag = format!("--{kind}");
            let name = format!("{language}-{kind}");
            let project = project(scratch.path(), &name, &[&flag, "--lang", language]);
            for file in ["README.md", "test.sh", library] {
                let text = fs::read_to_string(project.join(file)).expect("a file");
                assert!(!text.contains("{{"), "{file}: {text}");
            }
            Run::command(&["build", text(&project)])
                .env("PATH", "/nowhere")
                .env("WASI_SDK_PATH", "/nowhere")
                .output()
                .refused(1, &[told]);
        }
    }
}

/// Core module of an echo, as a compiler of C would write it. What the host
/// passes always lies at one address.
const ECHO: &str = r#"(module
    (import "netwasm:net/transports@0.2.0" "write"
        (func $write (param i64 i32 i32) (result i64)))
    (memory (export "memory") 4)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
    (func (export "netwasm:net/tcp-handler@0.2.0#connection-made") (param i64) (result i64)
        local.get 0)
    (func (export "netwasm:net/tcp-handler@0.2.0#data-received") (param i64 i32 i32)
        (drop (call $write (local.get 0) (local.get 1) (local.get 2))))
    (func (export "netwasm:net/tcp-handler@0.2.0#eof-received") (param i64) (result i32)
        i32.const 0)
    (func (export "netwasm:net/tcp-handler@0.2.0#writable") (param i64))
    (func (export "netwasm:net/tcp-handler@0.2.0#tls-started")
        (param i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32))
    (func (export "netwasm:net/tcp-handler@0.2.0#connection-lost")
        (param i64 i32 i32 i32 i32 i32))
    (func (export "netwasm:net/timer-handler@0.2.0#woken")))"#;

/// Checks all but the compiler, in whose place a script writes a module.
#[test]
fn a_component_is_made_of_what_a_compiler_of_c_writes() {
    let scratch = directory();
    let project = project(scratch.path(), "loud", &["--tcp", "--lang", "c"]);
    let module = scratch.path().join("echo.wasm");
    fs::write(&module, wat::parse_str(ECHO).expect("a module")).expect("a file");
    let compiler = scratch.path().join("zig");
    let compiles = |script: &str| {
        fs::write(&compiler, format!("#!/bin/sh\n{script}\n")).expect("a file");
        fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).expect("permissions");
        let path = format!("{}:/usr/bin:/bin", scratch.path().display());
        Run::command(&["build", text(&project)])
            .env("PATH", &path)
            .env("WASI_SDK_PATH", "")
            .output()
    };
    // The module's path is the last argument.
    let built = compiles(&format!(
        "echo \"$@\" >&2; for last; do :; done; cp {} \"$last\"",
        module.display()
    ));
    let component = PathBuf::from(built.stdout.trim_end());
    assert!(component.ends_with("loud/target/loud.wasm"), "{built:#?}");
    for told in [
        "cc --target=wasm32-wasi",
        "-DNETWASM_TCP",
        "handler.c netwasm/",
    ] {
        assert!(built.stderr.contains(told), "no {told} in {built:#?}");
    }
    Run::component(&component).tcp().start().serves_echo();

    for (script, told) in [
        ("echo 'handler.c:1: no' >&2; exit 1", "handler.c:1: no"),
        ("exit 1", "the C compiler failed (exit status: 1)"),
        (
            "for last; do :; done; echo nonsense >\"$last\"",
            "no component can be made",
        ),
    ] {
        let failed = compiles(script);
        assert_eq!(failed.code, Some(1), "{failed:#?}");
        assert!(failed.stderr.contains(told), "no {told} in {failed:#?}");
    }
}
