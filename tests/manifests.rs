//! The material for many machines, `host/deploy`: it names metrics that there are, and
//! settings that `netwasm check` takes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Run, directory, guest, probes_of, repository, scrape, text, write};

/// Parts of the material, each a directory.
const PARTS: [&str; 4] = ["compose", "haproxy", "kubernetes", "nomad"];

/// Returns all files below a directory.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

/// Returns the files of the material, with their contents.
fn material() -> Vec<(PathBuf, String)> {
    let of_part = |part: &&str| files_below(&repository().join("host/deploy").join(part));
    let files = PARTS.iter().flat_map(of_part);
    let read = |file: PathBuf| {
        let content = fs::read_to_string(&file).expect("text");
        (file, content)
    };
    files.map(read).collect()
}

/// Returns the words of a text that begin like a metric of netwasm.
fn metrics_in(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(move |letter| !is_part(letter))
        .filter(|word| word.starts_with("netwasm_"))
}

#[test]
fn metrics_that_the_material_names_are_there() {
    let run = Run::guest("router").http();
    let server = run.args(["--probes", "127.0.0.1:0"]).start();
    let values = scrape(probes_of(&server));
    let is_there = |name: &str| {
        let mut names = values.keys().map(|key| key.split('{').next());
        names.any(|it| it == Some(name))
    };
    let mut count = 0;
    for (file, content) in material() {
        for name in metrics_in(&content) {
            assert!(is_there(name), "{} names {name}", file.display());
            count += 1;
        }
    }
    assert!(count >= 3, "the rule of prometheus-adapter names some");
    server.stop();
}

/// Returns the settings within a file: the whole of it, or what is indented between
/// two lines.
fn settings_of(file: &Path, content: &str) -> Option<String> {
    match file.extension()?.to_str()? {
        "toml" => Some(content.to_owned()),
        "hcl" => {
            let (_, rest) = content.split_once("<<-TOML\n")?;
            let (settings, _) = rest.split_once("TOML\n")?;
            let lines = settings.lines().map(str::trim_start);
            Some(lines.collect::<Vec<_>>().join("\n"))
        }
        _ => None,
    }
}

#[test]
fn settings_of_the_material_are_right() {
    let scratch = directory();
    for name in ["keyvalue", "topics"] {
        write(scratch.path(), name, "redis://:secret@redis");
    }
    let component = format!("component = {:?}", text(&guest("router")));
    let (mut checked, mut delays) = (0, 0);
    for (file, content) in material() {
        let Some(settings) = settings_of(&file, &content) else {
            continue;
        };
        // Parts that only the machines have.
        let lines = settings.lines().map(|line| match line {
            line if line.starts_with("component = ") => component.clone(),
            line => ["/run/state", "/run/secrets"]
                .iter()
                .fold(line.to_owned(), |line, place| {
                    line.replace(place, text(scratch.path()))
                }),
        });
        let settings = lines.collect::<Vec<_>>().join("\n");
        let copy = write(scratch.path(), "netwasm.toml", &settings);
        let told = Run::command(&["check", text(&copy)]).output();
        assert_eq!(told.code, Some(0), "{}: {told:#?}", file.display());
        checked += 1;
        delays += usize::from(settings.contains("shutdown-delay = "));
    }
    assert!(checked >= 5, "there are others");
    assert_eq!(
        delays, checked,
        "each says how long others may take to notice"
    );
}
