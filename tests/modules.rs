//! Core modules of WASI p1, which are adapted when they are loaded.

use std::path::Path;

use crate::harness::{Run, directory, text, write};

/// A command of p1; the fixture says what it does.
const COMMAND: &str = include_str!("fixtures/command.wat");

/// Returns the number of files of compiled code in a cache.
fn compiled(cache: &Path) -> usize {
    std::fs::read_dir(cache.join("netwasm/code")).map_or(0, Iterator::count)
}

#[test]
fn a_command_of_p1_is_a_program_with_a_programs_permissions() {
    let (scratch, files, cache) = (directory(), directory(), directory());
    let module = wat::parse_str(COMMAND).expect("a module");
    let module = write(scratch.path(), "command.wasm", module);
    write(files.path(), "greeting.txt", "good day\n");
    let run = || Run::component(&module).env("XDG_CACHE_HOME", text(cache.path()));
    let denied = run().output();
    assert_eq!((denied.code, &*denied.stdout), (Some(99), ""), "{denied:?}");
    let given = format!("{}::/", text(files.path()));
    // The code of the adapted module is compiled once.
    for _ in 0..2 {
        let done = run()
            .args(["--dir", &given])
            .guest_args(&["one", "two"])
            .output();
        assert_eq!(
            (done.code, &*done.stdout),
            (Some(3), "good day\n"),
            "{done:?}"
        );
        assert_eq!(compiled(cache.path()), 1);
    }
    // In text form as well.
    let module = write(scratch.path(), "command.wat", COMMAND);
    let done = Run::component(&module).args(["--dir", &given]).output();
    assert_eq!(
        (done.code, &*done.stdout),
        (Some(1), "good day\n"),
        "{done:?}"
    );
    let told = Run::command(&["inspect", text(&module)]).output();
    assert_eq!(told.code, Some(0), "{told:?}");
    for part in [
        "a core module of",
        "WASI p1",
        "wasi:cli/run@0.2",
        "netwasm run",
    ] {
        assert!(told.stdout.contains(part), "no {part} in {}", told.stdout);
    }
}

#[test]
fn a_reactor_of_p1_is_what_its_interface_says() {
    let mut module = wat::parse_str(
        r#"(module
            (import "wasi_snapshot_preview1" "clock_time_get"
                (func $now (param i32 i64 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "wasi:cli/run@0.2.0#run") (result i32)
                (drop (call $now (i32.const 0) (i64.const 0) (i32.const 64)))
                ;; Success if it is after 1970.
                (i64.eqz (i64.load (i32.const 64)))))"#,
    )
    .expect("a module");
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str(
        "run.wit",
        "package a:b;\n\
         world program { export wasi:cli/run@0.2.0; }\n\
         package wasi:cli@0.2.0 { interface run { run: func() -> result; } }\n",
    );
    let package = package.expect("a package");
    let world = resolve.select_world(&[package], Some("program"));
    wit_component::embed_component_metadata(
        &mut module,
        &resolve,
        world.expect("a world"),
        wit_component::StringEncoding::UTF8,
    )
    .expect("an interface");
    let scratch = directory();
    let module = write(scratch.path(), "reactor.wasm", module);
    let done = Run::component(&module).output();
    assert_eq!(done.code, Some(0), "{done:?}");
}

/// Exceptions of C++, and longjmp(3), are compiled to these.
#[test]
fn exceptions_are_thrown_and_caught() {
    let scratch = directory();
    let module = write(
        scratch.path(),
        "throw.wat",
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (tag $code (param i32))
            (func $fail (throw $code (i32.const 7)))
            (func (export "_start")
                (call $exit (block $caught (result i32)
                    (try_table (catch $code $caught) (call $fail))
                    (i32.const 1)))))"#,
    );
    let done = Run::component(&module).output();
    assert_eq!(done.code, Some(7), "{done:?}");
}

#[test]
fn a_module_that_needs_more_than_p1_is_told_what() {
    let scratch = directory();
    for (import, parts) in [
        (
            "\"env\" \"emscripten_sleep\"",
            ["env.emscripten_sleep", "did not find"],
        ),
        (
            "\"wasi_snapshot_preview1\" \"sock_open\"",
            ["wasi_snapshot_preview1.sock_open", "p1 does not have"],
        ),
    ] {
        let module = format!("(module (import {import} (func)) (func (export \"_start\")))");
        let module = write(scratch.path(), "more.wat", module);
        Run::component(&module).output().refused(1, &parts);
    }
}

#[test]
fn names_of_a_strangers_module_do_not_control_the_terminal() {
    let scratch = directory();
    let escape = r"\1b[2J\0anetwasm: it is fine";
    for module in [
        format!("(module (import \"a{escape}\" \"b\" (func)) (func (export \"_start\")))"),
        format!("(module (func (export \"a{escape}\")))"),
        format!("(component (import \"a{escape}\" (func)))"),
    ] {
        let module = write(scratch.path(), "names.wat", module);
        for command in ["run", "inspect"] {
            let told = Run::command(&[command, text(&module)]).output();
            assert_eq!(told.code, Some(1), "{told:?}");
            assert!(told.stderr.contains(r"a\u{1b}[2J"), "{told:?}");
            let raw = |letter: char| letter.is_control() && letter != '\n';
            assert!(!told.stderr.contains(raw), "{told:?}");
            let mut lines = told.stderr.lines();
            assert!(
                !lines.any(|line| line.starts_with("netwasm: it")),
                "{told:?}"
            );
        }
    }
}

#[test]
fn a_heap_as_gos_does_not_overwrite_what_the_adapter_keeps() {
    let scratch = directory();
    let heap = include_str!("fixtures/heap.wat");
    let module = write(scratch.path(), "heap.wat", heap);
    let done = Run::component(&module).output();
    assert_eq!(done.code, Some(7), "{done:?}");
}
