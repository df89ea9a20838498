//! Components that are composed when they are loaded: `--plug`.

use std::fs;
use std::path::{Path, PathBuf};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::harness::{Finished, Run, START, directory, guest, text, within, write};

/// A program whose exit code is what `a:b/code` tells.
const PROGRAM: &str = r#"(component
    (import "a:b/code@1.0.0" (instance $code (export "code" (func (result u8)))))
    (import "wasi:cli/exit@0.2.0" (instance $cli
        (export "exit-with-code" (func (param "status-code" u8)))))
    (core func $code (canon lower (func $code "code")))
    (core func $exit (canon lower (func $cli "exit-with-code")))
    (core module $m
        (import "" "code" (func $code (result i32)))
        (import "" "exit" (func $exit (param i32)))
        (func (export "run") (result i32) (call $exit (call $code)) (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance
        (export "code" (func $code)) (export "exit" (func $exit))))))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $program (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $program)))"#;

/// Returns a component that exports `a:b/code`, which tells this code.
fn code(code: u8) -> String {
    format!(
        r#"(component
            (core module $m (func (export "code") (result i32) i32.const {code}))
            (core instance $i (instantiate $m))
            (func $code (result u8) (canon lift (core func $i "code")))
            (instance $it (export "code" (func $code)))
            (export "a:b/code@1.0.3" (instance $it)))"#
    )
}

/// Makes middleware of `wasi:http` 0.3 that gives each request another path.
fn path_setter(directory: &Path, path: &str) -> PathBuf {
    let length = path.len();
    let module = format!(
        r#"(module
            (import "wasi:http/handler@0.3.0" "handle"
                (func $next (param $request i32) (param $result i32)))
            (import "wasi:http/types@0.3.0" "[method]request.set-path-with-query"
                (func $set (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 2)
            (data (i32.const 16) "{path}")
            (global $end (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (global.set $end (i32.and (i32.add (global.get $end) (i32.const 7))
                    (i32.const -8)))
                (global.get $end)
                (global.set $end (i32.add (global.get $end) (local.get 3))))
            (func (export "wasi:http/handler@0.3.0#handle") (param $request i32) (result i32)
                (drop (call $set (local.get $request) (i32.const 1) (i32.const 16)
                    (i32.const {length})))
                (call $next (local.get $request) (i32.const 1024))
                (i32.const 1024)))"#
    );
    let mut module = wat::parse_str(module).expect("a module");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("it.wit", include_str!("fixtures/middleware.wit"));
    let world = resolve.select_world(&[package.expect("a package")], Some("middleware"));
    embed_component_metadata(
        &mut module,
        &resolve,
        world.expect("a world"),
        StringEncoding::UTF8,
    )
    .expect("an interface");
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(ComponentEncoder::encode)
        .expect("a component");
    let name = format!("{}.wasm", path.trim_start_matches('/'));
    write(directory, &name, component)
}

/// Returns middleware of `wasi:http` 0.2 that does this with each request. What
/// it does not pass on is not answered, which is status 500.
fn middleware_0_2(action: &str) -> String {
    format!(
        r#"(component
            (import "wasi:http/types@0.2.0" (instance $types
                (export "incoming-request" (type (sub resource)))
                (export "response-outparam" (type (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $out))
            (import "wasi:http/incoming-handler@0.2.0" (instance $next
                (alias outer 1 $request (type $r))
                (alias outer 1 $out (type $o))
                (export "incoming-request" (type $request (eq $r)))
                (export "response-outparam" (type $out (eq $o)))
                (export "handle" (func (param "request" (own $request))
                    (param "response-out" (own $out))))))
            (core func $next (canon lower (func $next "handle")))
            (core module $m
                (import "" "next" (func $next (param i32 i32)))
                (func (export "handle") (param i32 i32) {action}))
            (core instance $i (instantiate $m (with "" (instance
                (export "next" (func $next))))))
            (func $handle (param "request" (own $request)) (param "response-out" (own $out))
                (canon lift (core func $i "handle")))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    )
}

fn inspect(component: &Path, plugs: &[&Path]) -> Finished {
    let mut args = vec!["inspect", text(component)];
    for plug in plugs {
        args.extend(["--plug", text(plug)]);
    }
    Run::command(&args).output()
}

#[test]
fn a_plug_exports_what_the_component_imports() {
    let scratch = directory();
    let program = write(scratch.path(), "program.wat", PROGRAM);
    let plug = write(scratch.path(), "code.wat", code(9));
    let done = Run::component(&program)
        .args(["--plug", text(&plug)])
        .output();
    assert_eq!(done.code, Some(9), "{done:?}");
    let told = inspect(&program, &[&plug]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let (program, plug) = (text(&program), text(&plug));
    for line in [
        format!("{program}, with {plug}: components of"),
        format!("  outside calls wasi:cli/run@0.2.0 of {program}"),
        format!("  {program} calls a:b/code@1.0.0 of {plug}"),
        format!("netwasm run {program} --plug {plug}"),
    ] {
        assert!(told.stdout.contains(&line), "no {line} in {}", told.stdout);
    }
}

#[test]
fn what_is_composed_is_compiled_once_and_again_when_a_part_changes() {
    let (scratch, cache) = (directory(), directory());
    let program = write(scratch.path(), "program.wat", PROGRAM);
    let ends_with = |number: u8| {
        let plug = write(scratch.path(), "code.wat", code(number));
        let run = Run::component(&program).args(["--plug", text(&plug)]);
        run.env("XDG_CACHE_HOME", text(cache.path())).output().code
    };
    let kept = || fs::read_dir(cache.path().join("netwasm/code")).map_or(0, Iterator::count);
    assert_eq!([ends_with(3), ends_with(3)], [Some(3); 2]);
    assert_eq!(kept(), 1);
    assert_eq!(ends_with(4), Some(4));
    assert_eq!(kept(), 2);
}

#[test]
fn requests_pass_middleware_in_the_order_given() {
    let scratch = directory();
    let hello = path_setter(scratch.path(), "/hello");
    let nowhere = path_setter(scratch.path(), "/nowhere");
    // The one that a request passes last decides.
    for (plugs, status) in [([&hello, &nowhere], 404), ([&nowhere, &hello], 200)] {
        let [outer, inner] = plugs.map(|plug| text(plug));
        let run = Run::guest("service-probe").http();
        let run = run.args(["--plug", outer, "--plug", inner, "--workers", "1"]);
        let server = run.start();
        let mut client = server.connect_http();
        for _ in 0..2 {
            let response = client.fetch("/elsewhere");
            assert_eq!(response.status, status, "{response:?}");
        }
        drop(client);
        server.stop();
    }
    let told = inspect(&guest("service-probe"), &[&hello, &nowhere]);
    let (hello, nowhere) = (text(&hello), text(&nowhere));
    for line in [
        format!("  outside calls wasi:http/handler@0.3.0 of {hello}"),
        format!("  {hello} calls wasi:http/handler@0.3.0 of {nowhere}"),
    ] {
        assert!(told.stdout.contains(&line), "no {line} in {}", told.stdout);
    }
}

#[test]
fn middleware_that_changes_is_loaded_again_and_a_broken_one_changes_nothing() {
    let scratch = directory();
    let plug = write(
        scratch.path(),
        "plug.wat",
        middleware_0_2("(call $next (local.get 0) (local.get 1))"),
    );
    let configuration = format!(
        "component = {:?}\nplug = [{:?}]\nhttp = \"127.0.0.1:0\"\nworkers = 1\n",
        text(&guest("proxy-probe")),
        text(&plug)
    );
    let file = write(scratch.path(), "netwasm.toml", configuration);
    let server = Run::config(&file, 1).args(["--watch"]).start();
    server.connect_http().fetch("/hello").is(200, "hello");
    write(scratch.path(), "plug.wat", "(component)");
    let told = ["everything stays as it was", "plug.wat fits nowhere"];
    server.log.wait_for(&told);
    server.connect_http().fetch("/hello").is(200, "hello");
    write(scratch.path(), "plug.wat", middleware_0_2(""));
    // It is compiled before.
    within(START, "the middleware that answers nothing", || {
        let response = server.connect_http().fetch("/hello");
        (response.status == 500).then_some(())
    });
    server.stop();
}

#[test]
fn a_program_that_is_watched_runs_again_when_a_plug_changes() {
    let scratch = directory();
    let program = write(scratch.path(), "program.wat", PROGRAM);
    let plug = write(scratch.path(), "code.wat", code(3));
    let run = Run::component(&program).args(["--plug", text(&plug), "--watch"]);
    let server = run.start_command();
    server
        .log
        .wait_for_within(START, &["the component ended", "exit status: 3"]);
    write(scratch.path(), "code.wat", code(14));
    server
        .log
        .wait_for_within(START, &["the component ended", "exit status: 14"]);
}

#[test]
fn a_plug_that_fits_nowhere_names_both_sides() {
    let scratch = directory();
    let program = write(scratch.path(), "program.wat", PROGRAM);
    let other = code(1).replace("a:b/code@1.0.3", "a:b/code@2.0.0");
    let other = write(scratch.path(), "other.wat", other);
    let broken = code(1).replace("u8", "u32");
    let broken = write(scratch.path(), "broken.wat", broken);
    for (plug, parts) in [
        (
            &other,
            [
                "other.wat fits nowhere: it exports a:b/code@2.0.0,",
                "program.wat imports a:b/code@1.0.0;",
            ],
        ),
        (
            &broken,
            [
                "program.wat imports a:b/code@1.0.0, and the a:b/code@1.0.3 that",
                "broken.wat exports has another form",
            ],
        ),
    ] {
        let run = Run::component(&program).args(["--plug", text(plug)]);
        run.output().refused(1, &parts);
    }
    let missing = Run::component(&program).args(["--plug", "missing.wasm"]);
    missing.output().refused(1, &["missing.wasm"]);
}
