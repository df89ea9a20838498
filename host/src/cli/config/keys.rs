//! The keys of a configuration file, taken from the flags of `netwasm run`, so
//! that a flag cannot lack one.

use clap::{Arg, ArgAction, Command};

/// Arguments that have no key, because they say what to do with the settings
/// rather than being one.
pub(super) const WITHOUT_KEY: [&str; 5] = ["built", "config", "print_config", "takeover", "watch"];

/// Keys of the process. They stand above the services.
const OF_THE_PROCESS: [&str; 13] = [
    "admin",
    "group",
    "log-format",
    "log-rate",
    "otlp",
    "otlp-header",
    "otlp-sample",
    "probes",
    "quiet",
    "shutdown-delay",
    "user",
    "verbose",
    "workers",
];

/// Keys that two services cannot share, so that none is a default.
const OF_ONE_SERVICE: [&str; 11] = [
    "args",
    "component",
    "http",
    "http-redirect",
    "https",
    "module",
    "plug",
    "route",
    "tcp",
    "tls",
    "udp",
];

/// A key, and the flag that it stands for.
#[derive(Debug)]
pub(super) struct Key {
    /// Name: that of the flag without its dashes.
    pub(super) name: String,
    /// Identity of the flag in the parsed arguments.
    pub(super) id: String,
    pub(super) form: Form,
    pub(super) scope: Scope,
    /// Text of the help.
    pub(super) about: String,
    /// Heading above it in the help.
    pub(super) heading: String,
    /// Default value, as a flag has it.
    pub(super) default: Option<String>,
    /// Kind of value, such as `TIME`.
    pub(super) value: String,
}

/// Form of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `true` or `false`.
    Switch,
    /// A number: how often the flag is given.
    Times,
    /// One string or number.
    One,
    /// A list of strings or numbers, or one alone.
    List,
    /// A list of `NAME=VALUE`, or a table.
    Pairs,
}

/// Place of a key in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Above the services.
    Process,
    /// In a service; above them, it is the default of all.
    Service,
    /// Only in a service.
    OneService,
}

impl Key {
    fn of(arg: &Arg) -> Self {
        let id = arg.get_id().as_str();
        let name = arg.get_long().map_or_else(|| id.to_owned(), str::to_owned);
        let names = arg.get_value_names().unwrap_or_default();
        let value = names.first().map(ToString::to_string).unwrap_or_default();
        let form = match arg.get_action() {
            ArgAction::SetTrue => Form::Switch,
            ArgAction::Count => Form::Times,
            ArgAction::Append if value.starts_with("NAME=") => Form::Pairs,
            ArgAction::Append => Form::List,
            _ => Form::One,
        };
        let scope = match &*name {
            name if OF_THE_PROCESS.contains(&name) => Scope::Process,
            name if OF_ONE_SERVICE.contains(&name) => Scope::OneService,
            _ => Scope::Service,
        };
        let default = arg.get_default_values().first();
        Self {
            id: id.to_owned(),
            form,
            scope,
            about: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            heading: arg.get_help_heading().unwrap_or("Component").to_owned(),
            default: default.map(|it| it.to_string_lossy().into_owned()),
            value,
            name,
        }
    }

    /// True if its values may be in files, as secrets are.
    pub(super) fn has_secrets(&self) -> bool {
        matches!(
            &*self.name,
            "config-var" | "env" | "keyvalue" | "otlp-header" | "topics"
        )
    }

    /// True if the key is a positional argument on the command line.
    pub(super) fn is_positional(&self) -> bool {
        matches!(&*self.name, "component" | "args")
    }
}

/// Returns the key of each flag of `netwasm run`, sorted by name.
pub(super) fn of(run: &Command) -> Vec<Key> {
    let has_key = |arg: &&Arg| !WITHOUT_KEY.contains(&arg.get_id().as_str());
    let mut keys: Vec<_> = run.get_arguments().filter(has_key).map(Key::of).collect();
    keys.sort_by(|one, other| one.name.cmp(&other.name));
    keys
}

/// Returns the key of a name.
pub(super) fn find<'k>(keys: &'k [Key], name: &str) -> Option<&'k Key> {
    keys.iter().find(|key| key.name == name)
}
