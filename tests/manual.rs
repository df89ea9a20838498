//! The texts that the program tells of itself: its version, manual pages, and completions.

use std::fs;
use std::process::{Command, Stdio};

use crate::harness::{Finished, Run, directory, skipped, text, write};

fn netwasm(args: &[&str]) -> Finished {
    Run::command(args).output()
}

/// Returns what the program prints.
fn printed(args: &[&str]) -> String {
    let finished = netwasm(args);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished.stdout
}

#[test]
fn the_version_is_told_with_the_commit() {
    let short = printed(&["-V"]);
    let begin = format!("netwasm {} (", env!("CARGO_PKG_VERSION"));
    let commit = short.strip_prefix(&begin).expect(&short);
    let commit = commit.strip_suffix(")\n").expect(&short);
    if commit != "commit unknown" {
        let (hash, date) = commit.split_once(' ').expect(&short);
        let hash = hash.strip_suffix("-dirty").unwrap_or(hash);
        assert!(hash.bytes().all(|it| it.is_ascii_hexdigit()), "{short}");
        assert_eq!((hash.len(), date.len()), (12, 10), "{short}");
    }
    let long = printed(&["--version"]);
    assert!(long.starts_with(&short), "{long}");
    for line in [
        "wasmtime: 48.",
        "target: ",
        "profile: ",
        "rustc: 1.",
        "features: ",
    ] {
        let mut lines = long.lines();
        assert!(lines.any(|it| it.starts_with(line)), "no {line} in {long}");
    }
}

/// Runs the script for bash, and asks it for words. Each case has the words of a
/// line, as bash splits it, and a word that is completed by it, or a part of one.
#[test]
fn bash_completes_commands_flags_values_and_components() {
    let folder = directory();
    for file in ["app.wasm", "app.txt", "cert.pem"] {
        write(folder.path(), file, "");
    }
    fs::create_dir(folder.path().join("apps")).expect("a directory");
    write(
        folder.path(),
        "netwasm.bash",
        printed(&["completions", "bash"]),
    );
    let cases: [(&str, &[&str]); 13] = [
        ("ru", &["run"]),
        ("run --isol", &["--isolation"]),
        ("run --isolation w", &["worker"]),
        ("run echo --isolation = w", &["worker"]),
        (
            "run echo --isolation =",
            &["request", "connection", "worker"],
        ),
        ("run echo --tls-min-version 1.", &["1.2", "1.3"]),
        ("run ap", &["app.wasm", "apps"]),
        ("run ech", &["echo"]),
        ("inspect app.wasm --plug ap", &["app.wasm", "apps"]),
        ("run echo --cert ce", &["cert.pem"]),
        ("run echo -- --isol", &[]),
        ("help ex", &["exit-codes"]),
        ("completions fi", &["fish"]),
    ];
    let mut script = String::from("source ./netwasm.bash\n");
    for (line, _) in cases {
        script += &format!(
            "COMP_WORDS=(netwasm {line}) COMPREPLY=()\n\
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _netwasm_words netwasm \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
             echo \"${{COMPREPLY[@]}}\"\n"
        );
    }
    let output = Command::new("bash")
        .args(["--norc", "-c", &script])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), cases.len(), "{output:?}");
    for (line, (case, words)) in lines.iter().zip(cases) {
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), words, "{case}");
    }
}

#[test]
fn manual_pages_are_written_without_a_warning() {
    let folder = directory();
    printed(&["man", "--out", text(folder.path())]);
    let read = |file: &str| fs::read_to_string(folder.path().join(file)).expect(file);
    let run = read("man1/netwasm-run.1");
    for needle in [
        "\\-\\-max\\-connections",
        "SH SYNOPSIS",
        "netwasm.toml",
        "SH EXAMPLES",
    ] {
        assert!(run.contains(needle), "no {needle} in {run}");
    }
    let keys = read("man5/netwasm.toml.5");
    for needle in [
        "max\\-connections",
        "(default: 100ms)",
        "Above the services only",
    ] {
        assert!(keys.contains(needle), "no {needle} in {keys}");
    }
    assert!(read("man7/netwasm-forwarding.7").contains("least\\-requests"));
    assert_eq!(printed(&["man", "run"]), run);
    let mut groff = Command::new("groff");
    groff.args(["-man", "-Tutf8", "-Kutf8", "-wall", "-z"]);
    for section in ["man1", "man5", "man7"] {
        let entries = fs::read_dir(folder.path().join(section)).expect("pages");
        groff.args(entries.map(|entry| entry.expect("a page").path()));
    }
    match groff.output() {
        Ok(output) => {
            let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && warnings.is_empty(), "{warnings}");
        }
        Err(_) => skipped("there is no groff here"),
    }
}
