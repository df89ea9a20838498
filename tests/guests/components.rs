//! Components that are refused at the start.

use crate::harness::{Run, directory, guest, handler, handler_of_another_host, write};

#[test]
fn a_memory_larger_than_the_limit_is_refused() {
    let scratch = directory();
    let guest = handler(scratch.path(), "");
    Run::component(&guest)
        .tcp()
        .args(["--max-memory", "1MiB"])
        .output()
        .refused(1, &["misbehaving", "--max-memory"]);
}

/// Checks that a component is refused at its start.
fn refused(component: &std::path::Path, needles: &[&str]) {
    Run::component(component).tcp().output().refused(1, needles);
}

#[test]
fn garbage_is_refused_with_its_name() {
    let scratch = directory();
    refused(
        &write(scratch.path(), "garbage.wasm", b"\x7fELF no component"),
        &["garbage.wasm"],
    );
    refused(&write(scratch.path(), "empty.wasm", b""), &["empty.wasm"]);
    refused(
        &write(scratch.path(), "text.wat", "(component (nonsense))"),
        &["text.wat"],
    );
}

#[test]
fn a_corrupt_component_is_refused() {
    let scratch = directory();
    let whole = std::fs::read(guest("echo")).expect("the echo guest");
    let half = whole.get(..whole.len() / 2).expect("a half");
    refused(&write(scratch.path(), "half.wasm", half), &["half.wasm"]);
    let mut bent = whole.clone();
    // The kind of the first section, behind magic and version: there is none such.
    bent[8] = 0x7f;
    refused(&write(scratch.path(), "bent.wasm", bent), &["bent.wasm"]);
}

#[test]
fn a_component_beyond_the_size_limit_is_refused() {
    Run::guest("echo")
        .tcp()
        .args(["--max-component-size", "1KiB"])
        .output()
        .refused(1, &["echo.wasm", "--max-component-size"]);
}

#[test]
fn compiling_beyond_its_time_is_refused() {
    Run::guest("echo")
        .tcp()
        .args(["--no-cache", "--compile-timeout", "1ms"])
        .output()
        .refused(1, &["echo.wasm", "--compile-timeout"]);
}

#[test]
fn a_core_module_is_told_from_a_component() {
    let scratch = directory();
    let module = write(scratch.path(), "core.wat", "(module (memory 1))");
    refused(
        &module,
        &["core.wat", "core module", "component", "wasm32-wasip2"],
    );
}

#[test]
fn a_component_of_another_world_is_refused() {
    let scratch = directory();
    let component = write(scratch.path(), "nothing.wat", "(component)");
    refused(&component, &["nothing.wat", "netwasm:net/tcp-handler"]);
}

#[test]
fn a_missing_import_is_named() {
    let scratch = directory();
    let component = handler_of_another_host(scratch.path());
    refused(&component, &["misbehaving.wasm", "acme:rocket/engine"]);
}

#[test]
fn a_listener_without_its_export_is_named() {
    Run::guest("probe")
        .udp()
        .output()
        .refused(1, &["--udp", "netwasm:net/udp-handler"]);
}

#[test]
fn an_export_without_its_listener_is_named() {
    Run::guest("probe").output().refused(2, &["--tcp"]);
}
