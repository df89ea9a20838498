#!/usr/bin/env bash
# clap_complete 4.6.12 with clap 4.6.9 (crates.io): scripts that complete a command line.
#
# Question: are the values of a positional argument, told by `value_parser`, offered in
# all shells?
# Guess: yes, as those of options are: one definition feeds all generators.
# Seen: bash's and zsh's scripts have them, fish's has none, though it has the values of
# options. There, the first argument completes as names of files.
# Why it matters: a tool whose first argument is a kind (a shell, a topic) looks
# unfinished to users of fish alone, and no test of the other shells finds it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cargo init --quiet --vcs none --name tool
cargo add --quiet clap@=4.6.9 clap_complete@=4.6.12
cat >src/main.rs <<'RUST'
use clap::{Arg, Command};
use clap_complete::{Shell, generate};

fn main() {
    let positional = Arg::new("colour").value_parser(["crimson", "turquoise"]);
    let option = Arg::new("size").long("size").value_parser(["gigantic", "tiny"]);
    let tool = Command::new("tool").arg(positional).arg(option);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        generate(shell, &mut tool.clone(), "tool", &mut script);
        let script = String::from_utf8(script).expect("a script");
        let has = |value| if script.contains(value) { "yes" } else { "no" };
        println!("{shell}: of the option {}, of the argument {}", has("gigantic"), has("turquoise"));
    }
}
RUST
cargo run --quiet | tee seen
diff seen - <<'SEEN'
bash: of the option yes, of the argument yes
zsh: of the option yes, of the argument yes
fish: of the option yes, of the argument no
SEEN
