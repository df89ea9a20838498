//! `netwasm completions`: scripts for shells, made from the flags by
//! `clap_complete`. It knows no files of one kind: components are added here.

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, Args, CommandFactory, ValueEnum, ValueHint};
use clap_complete::generate;
use clap_complete::shells;

use super::{Cli, Command, built_in, help, writing};

/// Commands that take a component.
const TAKE_COMPONENT: [&str; 3] = ["run", "inspect", "compile"];

/// Marks components in the script for zsh, as no other argument has this hint.
const COMPONENT: ValueHint = ValueHint::EmailAddress;

/// Function of zsh that the mark becomes.
const MARK: &str = "_email_addresses";

#[derive(Args, Debug)]
pub(super) struct CompletionsFlags {
    /// The shell: bash, zsh or fish
    #[arg(value_enum, hide_possible_values = true)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl CompletionsFlags {
    pub(super) fn into_command(self) -> Command {
        Command::Print(script(self.shell))
    }
}

fn script(shell: Shell) -> String {
    let mut command =
        Cli::command().mut_subcommands(|command| command.mut_args(|arg| completed(arg, shell)));
    let (command, name, mut script) = (&mut command, "netwasm", Vec::<u8>::new());
    match shell {
        Shell::Bash => generate(shells::Bash, command, name, &mut script),
        Shell::Zsh => generate(shells::Zsh, command, name, &mut script),
        Shell::Fish => generate(shells::Fish, command, name, &mut script),
    }
    let mut script = String::from_utf8_lossy(&script).into_owned();
    for name in hidden(command) {
        script = match shell {
            Shell::Bash => script.replace(&format!(" --{name} "), " "),
            Shell::Zsh => without(&script, &format!("--{name}=[")),
            Shell::Fish => without(&script, &format!(" -l {name} ")),
        };
    }
    match shell {
        Shell::Bash => format!("{script}\n{}", of_bash(command)),
        Shell::Zsh => {
            let (first, rest) = script.split_once('\n').unwrap_or((&script, ""));
            let rest = rest.replace(MARK, "_netwasm_component");
            // Arguments of the guest would be offered before `--`, too, as commands.
            let rest = without(&rest, "'*::args ");
            format!("{first}\n\n{}{rest}", of_zsh())
        }
        Shell::Fish => format!("{script}{}", of_fish(command)),
    }
}

/// Returns the long flags that no help tells; `clap_complete` offers them.
fn hidden(command: &clap::Command) -> Vec<String> {
    let all = command
        .get_subcommands()
        .flat_map(clap::Command::get_arguments);
    let hidden = all.filter(|arg| arg.is_hide_set());
    hidden
        .filter_map(Arg::get_long)
        .map(str::to_owned)
        .collect()
}

/// Returns a script without the lines that have a text.
fn without(script: &str, text: &str) -> String {
    let lines = script.lines().filter(|line| !line.contains(text));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Adds to an argument which values it has.
fn completed(arg: Arg, shell: Shell) -> Arg {
    if !arg.get_action().takes_values() {
        return arg;
    }
    let names = arg.get_value_names().unwrap_or_default();
    let name = names.first().map(ToString::to_string).unwrap_or_default();
    let is_component = arg.get_id() == "component" || arg.get_id() == "plug";
    match &*name {
        _ if is_component && shell == Shell::Zsh => arg.value_hint(COMPONENT),
        _ if is_component => arg.value_hint(ValueHint::FilePath),
        _ if arg.get_id() == "topic" => {
            let topics = super::manual::names().into_iter().map(PossibleValue::new);
            arg.value_parser(PossibleValuesParser::new(topics))
        }
        "MODE" => {
            let modes = help::ISOLATION.map(|(mode, about)| PossibleValue::new(mode).help(about));
            arg.value_parser(PossibleValuesParser::new(modes))
        }
        "LANGUAGE" => arg.value_parser(PossibleValuesParser::new(writing::LANGUAGES)),
        words if words.contains('|') && !words.contains(char::is_uppercase) => {
            // The names live as long as the parser, which lives to the end.
            let words: Vec<&'static str> = words.to_owned().leak().split('|').collect();
            arg.value_parser(PossibleValuesParser::new(words))
        }
        "DIR" | "PATH" => arg.value_hint(ValueHint::DirPath),
        file if file.starts_with("FILE") => arg.value_hint(ValueHint::FilePath),
        "USER" => arg.value_hint(ValueHint::Username),
        _ if arg.is_positional() => arg,
        _ => arg.value_hint(ValueHint::Other),
    }
}

/// Returns the flags of a command that take a value, as a pattern.
fn with_value(command: &clap::Command) -> String {
    let flags = command
        .get_arguments()
        .filter(|arg| arg.get_action().takes_values());
    let mut names = Vec::new();
    for arg in flags {
        names.extend(arg.get_long().map(|name| format!("--{name}")));
        names.extend(arg.get_short().map(|letter| format!("-{letter}")));
    }
    names.join("|")
}

/// Returns what completes components in bash, and values behind a `=`, which bash
/// makes a word of its own.
fn of_bash(command: &clap::Command) -> String {
    let run = command.find_subcommand("run");
    let flags = run.map(with_value).unwrap_or_default();
    let commands = TAKE_COMPONENT.join("|");
    let names = built_in::names().join("\\n");
    format!(
        r#"_netwasm_words() {{
    local cur="$2" prev="$3" word
    if [[ $prev == "=" ]]; then
        prev="${{COMP_WORDS[COMP_CWORD-2]}}"
    elif [[ ${{COMP_WORDS[COMP_CWORD]}} == "=" ]]; then
        cur=""
    fi
    for word in "${{COMP_WORDS[@]:0:COMP_CWORD}}"; do
        # Arguments of the guest.
        [[ $word == "--" ]] && return
    done
    _netwasm "$1" "$cur" "$prev"
    [[ ${{COMP_WORDS[1]}} =~ ^({commands})$ && $cur != -* ]] || return
    case "$prev" in
        --plug)
            ;;
        {flags})
            return
            ;;
    esac
    mapfile -t COMPREPLY < <(
        for word in wasm wat cwasm py; do
            compgen -f -X "!*.$word" -- "$cur"
        done
        compgen -d -- "$cur"
        [[ $prev == --plug ]] || compgen -W $'{names}' -- "$cur"
    )
    compopt -o filenames 2>/dev/null
}}

complete -F _netwasm_words -o nosort -o bashdefault -o default netwasm
"#
    )
}

/// Returns the function that completes components in zsh.
fn of_zsh() -> String {
    let names = built_in::described().into_iter().map(|(name, about)| {
        let about = about.replace('\'', r"'\''");
        format!("        '{name}:{about}'\n")
    });
    format!(
        "_netwasm_component() {{
    local ret=1
    local -a built_in
    built_in=(
{}    )
    _files -g '*.(wasm|wat|cwasm|py)' && ret=0
    [[ $words[CURRENT-1] == --plug ]] ||
        _describe -t built-in 'built-in component' built_in && ret=0
    return ret
}}

",
        names.collect::<String>()
    )
}

/// Returns what completes components in fish, and words that are positional, which
/// `clap_complete` leaves out there.
fn of_fish(command: &clap::Command) -> String {
    let uses = format!(
        "complete -c netwasm -n \"__fish_netwasm_using_subcommand {}\"",
        TAKE_COMPONENT.join(" ")
    );
    let mut script = format!("{uses} -f -k -a \"(__fish_complete_suffix .wasm)\"\n");
    for (name, about) in built_in::described() {
        let about = about.replace('\\', "\\\\").replace('\'', "\\'");
        script += &format!("{uses} -a {name} -d '{about}'\n");
    }
    for command in command.get_subcommands() {
        let words = command.get_positionals().flat_map(Arg::get_possible_values);
        let words: Vec<_> = words.map(|word| word.get_name().to_owned()).collect();
        if !words.is_empty() {
            script += &format!(
                "complete -c netwasm -n \"__fish_netwasm_using_subcommand {}\" -f -a \"{}\"\n",
                command.get_name(),
                words.join(" ")
            );
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_completes_components_where_they_are_meant() {
        let zsh = script(Shell::Zsh);
        // Of run, inspect and compile, and each of their --plug.
        assert_eq!(zsh.matches(":_netwasm_component'").count(), 6, "{zsh}");
        assert!(!zsh.contains(MARK), "{zsh}");
        assert!(zsh.starts_with("#compdef netwasm\n"), "{zsh}");
        let fish = script(Shell::Fish);
        assert!(fish.contains("__fish_complete_suffix .wasm"), "{fish}");
        assert!(
            fish.contains(r"request\t'none: each HTTP request"),
            "{fish}"
        );
        let bash = script(Shell::Bash);
        assert!(bash.contains("|--cert|"), "{bash}");
        for script in [zsh, fish, bash] {
            assert!(!script.contains("-built "), "{script}");
            assert!(!script.contains("--built="), "{script}");
        }
    }
}
