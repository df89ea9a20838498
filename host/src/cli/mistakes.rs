//! Explanations of mistakes for which clap has no advice, or wrong advice.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{built_in, usage};

/// Flags of other servers for what has one flag per protocol here.
const OF_OTHER_SERVERS: [&str; 9] = [
    "--listen",
    "--listen-address",
    "--listen-addr",
    "--bind",
    "--addr",
    "--address",
    "--host",
    "--port",
    "-p",
];

/// Commands of other tools, with what stands for them here.
const OF_OTHER_TOOLS: [(&[&str], &str); 4] = [
    (&["init", "create"], "write `netwasm new NAME --http`"),
    (
        &["serve", "start", "up"],
        "write `netwasm run . --http 8080`",
    ),
    (
        &["dev", "watch"],
        "write `netwasm run . --http 8080 --watch`",
    ),
    (
        &["test"],
        "`cargo test` runs the tests of a project in Rust, `bash test.sh` that of one in C or Go",
    ),
];

/// Most edits between a word and what was probably meant.
const MOST_EDITS: usize = 2;

/// Replaces clap's error by one that helps, where there is one.
pub(super) fn explain(
    error: clap::Error,
    args: &[OsString],
    command: &clap::Command,
) -> clap::Error {
    let words: Vec<String> = args
        .iter()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    match (error.kind(), words.split_first()) {
        (ErrorKind::InvalidSubcommand, Some((first, rest))) => {
            unknown_command(error, first, rest, command)
        }
        (ErrorKind::UnknownArgument, Some((first, rest))) => {
            unknown_flag(error, first, rest, command)
        }
        (ErrorKind::MissingRequiredArgument, Some((first, _))) if first == "new" => usage(
            &"a project has a name and a kind, --tcp|--udp|--http|--websocket|--stream|--program: \
              write `netwasm new site --http`, say",
        ),
        _ => error,
    }
}

fn unknown_command(
    mut error: clap::Error,
    first: &str,
    rest: &[String],
    command: &clap::Command,
) -> clap::Error {
    if built_in::is_component(first) {
        let line = line(
            ["run", first]
                .into_iter()
                .chain(rest.iter().map(|it| &**it)),
        );
        return usage(&format!(
            "{first} is a component, not a command: write `netwasm {line}`"
        ));
    }
    let mut others = OF_OTHER_TOOLS.iter();
    if let Some((_, here)) = others.find(|(names, _)| names.contains(&first)) {
        return usage(&format!("there is no command {first}: {here}"));
    }
    let mut commands: Vec<_> = command
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    commands.push("version");
    if let Some(meant) = nearest(first, &commands) {
        let meant = ContextValue::Strings(vec![meant.to_owned()]);
        error.insert(ContextKind::SuggestedSubcommand, meant);
    }
    error
}

fn unknown_flag(
    mut error: clap::Error,
    first: &str,
    rest: &[String],
    command: &clap::Command,
) -> clap::Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let flag = flag.clone();
    let run = command.find_subcommand("run");
    let of_run = run.map(flags).unwrap_or_default();
    let Some(given) = command.find_subcommand(first) else {
        // A flag before any command.
        let Some(meant) = known(&flag, &of_run) else {
            return error;
        };
        let component = rest.iter().find(|it| built_in::is_component(it));
        let component = component.map_or("COMPONENT", |it| &**it);
        return usage(&format!(
            "{flag} is not a flag of netwasm itself: write `netwasm run {component} {meant} ...`"
        ));
    };
    if OF_OTHER_SERVERS.contains(&flag.as_str()) && given.get_name() == "run" {
        return usage(&format!(
            "there is no {flag}: each protocol has its own flag. Write --tcp, --tls, --udp, --http \
             or --https with PORT (of localhost), IP:PORT, [IPV6]:PORT or unix:PATH; a program's \
             own listeners need --allow-listen"
        ));
    }
    let kinds = given.get_groups().find(|group| group.get_id() == "kind");
    if let Some(kinds) = kinds.filter(|_| first == "new")
        && kinds.get_args().any(|kind| *kind == *flag)
    {
        return usage(&format!(
            "unexpected argument '{flag}': the kind of a project is a flag, `netwasm new NAME --{flag}`"
        ));
    }
    if !flag.starts_with('-') && first != "run" {
        let told = format!("unexpected argument '{flag}': see `netwasm help {first}`");
        return usage(&told);
    }
    if !flag.starts_with('-') {
        return usage(&format!(
            "unexpected argument '{flag}': a listener is written --tcp PORT (or --http PORT, and so \
             on), and arguments of the guest follow `--`"
        ));
    }
    let own = flags(given);
    if let Some(meant) = nearest(&flag, &own) {
        let meant = ContextValue::String(meant.to_owned());
        error.insert(ContextKind::SuggestedArg, meant);
        error.remove(ContextKind::Suggested);
    } else if of_run.contains(&flag) {
        return usage(&format!(
            "{flag} is a flag of `netwasm run`, not of `netwasm {first}`"
        ));
    }
    error
}

/// Returns the long flags of a command.
fn flags(command: &clap::Command) -> Vec<String> {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let names = shown.filter_map(clap::Arg::get_long);
    names.map(|name| format!("--{name}")).collect()
}

/// Returns the flag, or the one that was probably meant.
fn known<'a>(flag: &str, flags: &'a [String]) -> Option<&'a str> {
    let same = flags.iter().find(|it| *it == flag).map(|it| &**it);
    same.or_else(|| nearest(flag, flags))
}

/// Returns the word that was probably meant: the one that takes the fewest
/// edits, and not too many for its length.
pub(super) fn nearest<'a>(word: &str, known: &'a [impl AsRef<str>]) -> Option<&'a str> {
    let plain = word.trim_start_matches('-');
    let most = if plain.len() <= 3 { 1 } else { MOST_EDITS };
    (1..=most).find_map(|edits| {
        let mut known = known.iter().map(AsRef::as_ref);
        known.find(|other| is_near(word.as_bytes(), other.as_bytes(), edits))
    })
}

/// True if so many edits turn one word into the other: a letter more, a letter
/// less, another letter, or two neighbours swapped.
fn is_near(one: &[u8], other: &[u8], edits: usize) -> bool {
    match (one, other) {
        ([], rest) | (rest, []) => rest.len() <= edits,
        ([a, one @ ..], [b, other @ ..]) if a == b => is_near(one, other, edits),
        _ if edits == 0 => false,
        ([a, one_rest @ ..], [b, other_rest @ ..]) => {
            let left = edits - 1;
            let swapped = match (one_rest, other_rest) {
                ([c, one @ ..], [d, other @ ..]) if a == d && b == c => is_near(one, other, left),
                _ => false,
            };
            swapped
                || is_near(one_rest, other_rest, left)
                || is_near(one_rest, other, left)
                || is_near(one, other_rest, left)
        }
    }
}

/// Returns words as a shell takes them.
fn line<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_./:=,@%+[]".contains(letter);
    let quoted = words.map(|word| match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_near_those_that_fingers_confuse_it_with() {
        let flags = ["--tcp", "--tls", "--udp", "--http", "--https", "--workers"];
        for (given, meant) in [
            ("--tpc", Some("--tcp")),
            ("--tc", Some("--tcp")),
            ("--tccp", Some("--tcp")),
            ("--htpp", Some("--http")),
            ("--worker", Some("--workers")),
            ("--wokrer", Some("--workers")),
            ("--quic", None),
            ("--x", None),
        ] {
            assert_eq!(nearest(given, &flags), meant, "{given}");
        }
    }

    #[test]
    fn a_line_can_be_given_to_a_shell() {
        let words = ["run", "a b.wasm", "--env", "A=it's", ""];
        assert_eq!(
            line(words.into_iter()),
            r"run 'a b.wasm' --env 'A=it'\''s' ''"
        );
    }
}
