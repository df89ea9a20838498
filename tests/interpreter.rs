//! Tests of `netwasm run SCRIPT.py`: the interpreter that it finds, and what it
//! tells it. A probe that prints its arguments stands in for the interpreter.

use crate::harness::{DEADLINE, Finished, Run, directory, guest, text, within, write};

fn run(args: &[&str]) -> Run {
    Run::command(&["run"])
        .args(args)
        .args(["--python", text(&guest("sockets-probe"))])
}

/// Returns the arguments that the stand-in got.
fn got(finished: &Finished) -> Vec<&str> {
    let lines = finished.stdout.lines();
    lines
        .map(|line| line.split(": ").next().unwrap_or_default())
        .collect()
}

#[test]
fn a_script_runs_in_its_folder_with_its_arguments() {
    let scratch = directory();
    let script = write(scratch.path(), "server.py", "print('hello')\n");
    write(scratch.path(), "data.txt", "beside it");
    let folder = text(scratch.path());
    let finished = run(&[text(&script)])
        .guest_args(&[
            "--verbose",
            "variable NETWASM_PYTHON_FOLDER",
            &format!("file {folder}/data.txt"),
            "file /etc/hosts",
        ])
        .output();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(got(&finished)[..2], [text(&script), "--verbose"]);
    for line in [
        format!("variable NETWASM_PYTHON_FOLDER: {folder}"),
        format!("file {folder}/data.txt: beside it"),
    ] {
        assert!(finished.stdout.contains(&line), "{line}: {finished:#?}");
    }
    let said = format!("the program may read its folder, {folder}");
    assert!(finished.stderr.contains(&said), "{finished:#?}");
    assert!(
        finished.stderr.contains("guest=\"server\""),
        "{finished:#?}"
    );
    assert!(!finished.stdout.contains("localhost"), "{finished:#?}");
}

#[test]
fn a_script_is_where_its_path_leads() {
    let scratch = directory();
    let inner = scratch.path().join("inner");
    std::fs::create_dir(&inner).expect("a directory");
    let script = write(scratch.path(), "a.py", "");
    let by_parent = inner.join("../a.py");
    let link = inner.join("link.py");
    std::os::unix::fs::symlink(&script, &link).expect("a link");
    for path in [by_parent, link] {
        let finished = run(&[text(&path)])
            .guest_args(&["variable NETWASM_PYTHON_FOLDER"])
            .output();
        let folder = format!("variable NETWASM_PYTHON_FOLDER: {}", text(scratch.path()));
        assert_eq!(got(&finished)[0], text(&script), "{finished:#?}");
        assert!(finished.stdout.contains(&folder), "{finished:#?}");
    }
}

#[test]
fn a_module_is_found_in_the_present_folder_and_those_that_are_named() {
    let scratch = directory();
    let folder = text(scratch.path());
    write(scratch.path(), "more.py", "more");
    let finished = run(&["-m", "http.server", "--python-path", folder])
        .guest_args(&[
            "8000",
            "variable PYTHONPATH",
            &format!("file {folder}/more.py"),
        ])
        .output();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(got(&finished)[..3], ["-m", "http.server", "8000"]);
    for line in [
        format!("variable PYTHONPATH: {folder}"),
        format!("file {folder}/more.py: more"),
    ] {
        assert!(finished.stdout.contains(&line), "{line}: {finished:#?}");
    }
}

#[test]
fn the_interpreter_is_named_by_a_variable_or_installed() {
    let scratch = directory();
    let script = write(scratch.path(), "a.py", "");
    let probe = guest("sockets-probe");
    let finished = Run::command(&["run", text(&script)])
        .env("NETWASM_PYTHON", text(&probe))
        .output();
    assert_eq!(got(&finished), [text(&script)], "{finished:#?}");
    let installed = scratch.path().join("netwasm");
    std::fs::create_dir(&installed).expect("a directory");
    std::fs::copy(&probe, installed.join("python.wasm")).expect("a copy");
    let finished = Run::command(&["run", text(&script)])
        .env("XDG_DATA_HOME", text(scratch.path()))
        .output();
    assert_eq!(got(&finished), [text(&script)], "{finished:#?}");
}

#[test]
fn a_missing_interpreter_or_script_says_what_to_do() {
    let scratch = directory();
    let script = write(scratch.path(), "a.py", "");
    let missing = Run::command(&["run", text(&script)])
        .env("XDG_DATA_HOME", text(scratch.path()))
        .output();
    assert_eq!(missing.code, Some(1), "{missing:#?}");
    for needle in [
        "netwasm/python.wasm",
        "guests/componentize python",
        "--python FILE",
    ] {
        assert!(missing.stderr.contains(needle), "{missing:#?}");
    }
    let none = Run::command(&["run", "/nowhere.py"]).output();
    none.refused(1, &["/nowhere.py", "No such file"]);
    let both = run(&[text(&script), "-m", "module"]).output();
    both.refused(2, &["-m"]);
    let neither = Run::command(&["run"]).output();
    neither.refused(2, &["COMPONENT"]);
}

#[test]
fn a_script_in_the_home_directory_does_not_open_all_of_it() {
    let scratch = directory();
    let home = text(scratch.path()).to_owned();
    let own = scratch.path().join("own");
    std::fs::create_dir(&own).expect("a directory");
    let allowed = format!("{home}::{home}");
    let script = write(scratch.path(), "a.py", "");
    let below = write(&own, "b.py", "");
    let at_home = |script: &std::path::Path| run(&[text(script)]).env("HOME", &home);
    let refused = at_home(&script).output();
    refused.refused(2, &["all of your files", &format!("--dir {allowed}")]);
    let above = run(&[text(&script)]).env("HOME", text(&own)).output();
    above.refused(2, &["--dir"]);
    for finished in [
        at_home(&script).args(["--dir", &allowed]).output(),
        at_home(&below).output(),
    ] {
        assert_eq!(finished.code, Some(0), "{finished:#?}");
    }
}

#[test]
fn a_watched_script_starts_again_after_a_change_in_its_folder() {
    let scratch = directory();
    let script = write(scratch.path(), "a.py", "");
    write(scratch.path(), "module.py", "one");
    let command = run(&[text(&script), "--watch"])
        .guest_args(&[&format!("file {}/module.py", text(scratch.path()))])
        .start_command();
    command
        .stdout
        .wait(crate::harness::START, "the first run", |lines| {
            let mut lines = lines.iter();
            lines
                .any(|line| line.ends_with("module.py: one"))
                .then_some(())
        });
    command
        .log
        .wait_for(&["the program ended", "waiting for a change"]);
    write(scratch.path(), "module.py", "another");
    within(DEADLINE, "another run", || {
        let text = command.stdout.text();
        text.contains("module.py: another").then_some(())
    });
}
