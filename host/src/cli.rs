//! The command line: raw arguments are parsed once into a checked [`Config`].

mod built_in;
mod completions;
mod config;
mod flags;
mod help;
mod manual;
mod mistakes;
mod python;
mod registry;
mod run;
mod topics;
mod values;
mod version;
mod websocket;
mod writing;

use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use netwasm_base::config::{
    ComponentSource, Config, Limits, ListenAddress, RegistryConfig, RunConfig,
};

use crate::doctor::DoctorOptions;
use crate::logging::LogOptions;
use crate::project::build::BuildOptions;
use crate::project::new::{Language, ProjectKind};
use crate::project::watch::Watch;

pub use self::config::{Examined, Loaded, Mistakes, examine, load, locate};
use self::flags::{Compiling, Plugs};
use self::registry::RegistryFlags;
pub use self::registry::{PullOptions, PushOptions};
use self::run::{RunFlags, watched};

/// A command of the program.
#[derive(Clone, Debug)]
pub enum Command {
    /// Run components.
    Run(Box<RunConfig>, LogOptions),
    /// Say what is wrong with a configuration file.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Say what of the machine is wrong or slow.
    Doctor(DoctorOptions),
    /// Print a text.
    Print(String),
    /// Write files.
    Write {
        /// The directory.
        directory: PathBuf,
        /// The files: their paths in the directory, and their texts.
        files: Vec<(PathBuf, String)>,
    },
    /// Let a run read its settings and components again.
    Reload {
        /// The Unix socket of its admin interface.
        socket: PathBuf,
    },
    /// Ask a run if it takes new connections.
    Ready {
        /// Its admin interface.
        admin: ListenAddress,
    },
    /// Build and run a component, and do so again after each change.
    Watch(Watch),
    /// Describe a component.
    Inspect {
        /// The component.
        component: ComponentSource,
        /// Components to compose with it.
        plugs: Vec<PathBuf>,
        /// Settings of registries.
        registry: RegistryConfig,
        /// Limits, of which only those of reading and compiling apply.
        limits: Limits,
        /// True to list also the imports that need no permission.
        all: bool,
    },
    /// Compile a component ahead of time.
    Compile {
        /// The component.
        component: ComponentSource,
        /// Components to compose with it.
        plugs: Vec<PathBuf>,
        /// The file to write.
        output: PathBuf,
        /// Settings of registries.
        registry: RegistryConfig,
        /// Limits of reading and compiling. The code is for guests with this much memory.
        limits: Limits,
    },
    /// Pull a component from a registry.
    Pull(Box<PullOptions>),
    /// Push a component to a registry.
    Push(Box<PushOptions>),
    /// Make a project.
    New {
        /// Its directory.
        directory: PathBuf,
        /// Kind of its component.
        kind: ProjectKind,
        /// Its language.
        language: Language,
    },
    /// Build a project's component.
    Build {
        /// Its directory.
        directory: PathBuf,
        /// How it is built.
        options: BuildOptions,
    },
    /// Print or write the interface.
    Wit {
        /// The directory to write to; `None` prints.
        out: Option<PathBuf>,
        /// Set to write WASI 0.2 instead, as of a release; `None` is the host's.
        wasi: Option<Option<String>>,
        /// Set to write what handlers in another language are built from.
        language: Option<Language>,
    },
}

/// Parses the program's arguments, with the program's name first. `commit` is
/// that of the program, for `--version`; empty if it is unknown.
///
/// # Errors
/// Fails if the arguments cannot be used, or ask for help. The error prints
/// itself, and has its own exit code.
pub fn parse(
    commit: &str,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Command, clap::Error> {
    let args = plain(args.into_iter().collect());
    let mut command = command(commit, &args);
    let matches = command.try_get_matches_from_mut(&args);
    let matches = matches.map_err(|error| mistakes::explain(error, &args, &command))?;
    match Cli::from_arg_matches(&matches)?.command {
        Subcommands::Run(run) => {
            let Some((_, given)) = matches.subcommand() else {
                return Err(usage(&"there is no command"));
            };
            let component = run.component.clone().unwrap_or_default();
            match config::command(*run, given)? {
                Command::Run(run, log) if run.watch => watched(run, log, component, &args),
                command => Ok(command),
            }
        }
        Subcommands::Check(check) => Ok(check.into_command()),
        Subcommands::Doctor(doctor) => Ok(doctor.into_command()),
        Subcommands::Reload(reload) => reload.into_command(),
        Subcommands::Ready(ready) => ready.into_command(),
        Subcommands::Pull(pull) => Ok(pull.into_command()),
        Subcommands::Push(push) => Ok(push.into_command()),
        Subcommands::New(new) => Ok(new.into_command()),
        Subcommands::Build(build) => build.into_command(),
        Subcommands::Wit(wit) => Ok(wit.into_command()),
        Subcommands::Help(help) => help.into_command(),
        Subcommands::Man(man) => man.into_command(explained(), commit),
        Subcommands::Completions(completions) => Ok(completions.into_command()),
        Subcommands::Inspect(Inspect {
            component,
            plugs,
            verbose,
            compiling,
            registry,
        }) => Ok(Command::Inspect {
            component: component_source(&component)?,
            plugs: plugs.plug,
            registry: registry.into_config(&[]),
            limits: compiling.checked()?,
            all: verbose,
        }),
        Subcommands::Compile(Compile {
            component,
            plugs,
            output,
            compiling,
            registry,
        }) => Ok(Command::Compile {
            component: component_source(&component)?,
            plugs: plugs.plug,
            output,
            registry: registry.into_config(&[]),
            limits: compiling.checked()?,
        }),
    }
}

/// Runs network servers whose logic is a sandboxed WebAssembly component
#[derive(Debug, Parser)]
#[command(name = "netwasm", version, after_help = help::EXAMPLES, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Runs a component as a server on the given listeners, or as a program
    #[command(after_help = help::RUN_SHORT, override_usage = help::RUN_USAGE)]
    Run(Box<RunFlags>),
    /// Checks a configuration file: says what is wrong with it, and where
    Check(Check),
    /// Checks this machine: says what is wrong or will be slow, and what helps
    Doctor(Doctor),
    /// Makes a run read its settings and components again, and says how that went
    Reload(ReloadArguments),
    /// Asks a run whether it takes new connections, and exits with 0 if so: a health check
    Ready(ReadyArguments),
    /// Makes a project: a handler with its test, which builds and runs
    New(writing::NewFlags),
    /// Builds a project's component, and prints its path
    Build(writing::BuildFlags),
    /// Prints the interface of this host, in WIT
    Wit(writing::WitFlags),
    /// Says what a component exports and imports, and how to run it
    Inspect(Inspect),
    /// Compiles a component ahead of time, for `run --allow-compiled`
    Compile(Compile),
    /// Pulls a component from a registry, and prints its reference by the digest
    Pull(registry::PullFlags),
    /// Pushes a component to a registry, and prints its reference by the digest
    Push(registry::PushFlags),
    /// Explains a topic, or the flags of a command
    Help(manual::HelpFlags),
    /// Prints a manual page, or writes all of them
    Man(manual::ManFlags),
    /// Prints a script with which a shell completes commands, flags and values
    Completions(completions::CompletionsFlags),
}

#[derive(Args, Debug)]
struct Check {
    /// The file
    #[arg(required_unless_present = "schema")]
    file: Option<PathBuf>,
    /// Print the JSON schema of such files instead, for editors
    #[arg(long, conflicts_with = "file")]
    schema: bool,
}

impl Check {
    fn into_command(self) -> Command {
        match self.file {
            Some(file) => Command::Check { file },
            None => Command::Print(format!("{:#}\n", config::schema())),
        }
    }
}

#[derive(Args, Debug)]
struct Doctor {
    /// Look at this configuration as well: at all that `check` does, and its addresses
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask the name servers, and connect to the servers that the configuration names
    #[arg(long)]
    network: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    fn into_command(self) -> Command {
        Command::Doctor(DoctorOptions {
            json: self.json,
            network: self.network,
            config: self.config,
        })
    }
}

#[derive(Args, Debug)]
struct ReloadArguments {
    /// The Unix socket of the run's --admin
    #[arg(value_name = "unix:PATH", required_unless_present = "config")]
    admin: Option<ListenAddress>,
    /// The run's configuration file, which names that socket
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    config: Option<PathBuf>,
}

impl ReloadArguments {
    fn into_command(self) -> Result<Command, clap::Error> {
        let admin = match self.config {
            Some(file) => config::address(&file, "admin").map_err(|mistakes| usage(&mistakes))?,
            None => self.admin,
        };
        match admin {
            Some(ListenAddress::Unix(socket)) => Ok(Command::Reload { socket }),
            Some(other) => Err(usage(&format!(
                "the admin interface at {other} only tells, since anybody on this machine can \
                 reach it: write --admin unix:PATH there, or send SIGHUP"
            ))),
            None => Err(usage(
                &"the file has no admin: write admin = \"unix:PATH\" there, or send SIGHUP",
            )),
        }
    }
}

#[derive(Args, Debug)]
struct ReadyArguments {
    /// The run's --admin or --probes
    #[arg(value_name = "ADDR", required_unless_present = "config")]
    admin: Option<ListenAddress>,
    /// The run's configuration file, which names one of them
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    config: Option<PathBuf>,
}

impl ReadyArguments {
    fn into_command(self) -> Result<Command, clap::Error> {
        let mut admin = self.admin;
        for key in ["admin", "probes"] {
            if let (None, Some(file)) = (&admin, &self.config) {
                admin = config::address(file, key).map_err(|mistakes| usage(&mistakes))?;
            }
        }
        let Some(admin) = admin else {
            return Err(usage(
                &"the file has neither admin nor probes, of which a run can be asked: write \
                  admin = \"unix:PATH\" there",
            ));
        };
        Ok(Command::Ready { admin })
    }
}

#[derive(Args, Debug)]
struct Inspect {
    /// The component: a file, a project's directory, a built-in one (echo), or oci://HOST/NAME:TAG
    component: PathBuf,
    #[command(flatten)]
    plugs: Plugs,
    /// List also the imports that need no permission
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    compiling: Compiling,
    #[command(flatten)]
    registry: RegistryFlags,
}

#[derive(Args, Debug)]
struct Compile {
    /// The component: a file, a project's directory, a built-in one (echo), or oci://HOST/NAME:TAG
    component: PathBuf,
    #[command(flatten)]
    plugs: Plugs,
    /// The file to write
    #[arg(short, long, value_name = "FILE.cwasm")]
    output: PathBuf,
    #[command(flatten)]
    compiling: Compiling,
    #[command(flatten)]
    registry: RegistryFlags,
}

/// Gives a service the isolation that its project asks for, unless a flag or its
/// configuration has one.
///
/// # Errors
/// Returns what the words are, if it is none of them.
pub fn set_isolation(config: &mut Config, wanted: &str) -> Result<(), String> {
    let wanted = values::isolation(wanted)?;
    config.isolation.get_or_insert(wanted);
    Ok(())
}

/// Puts the component that a project was built to in the place of the project.
pub fn set_component(config: &mut Config, component: PathBuf) {
    let is_named = match &config.component {
        ComponentSource::File(before) => config.guest.name != guest_name(before),
        ComponentSource::BuiltIn { .. } | ComponentSource::Registry { .. } => true,
    };
    if !is_named {
        config.guest.name = guest_name(&component);
    }
    config.guest.program = file_name(&component);
    config.component = ComponentSource::File(component);
}

/// Returns a file or a project's directory, or a built-in component if the
/// argument is a plain word and there is neither.
fn component_source(component: &Path) -> Result<ComponentSource, clap::Error> {
    let file = || Ok(ComponentSource::File(component.to_owned()));
    if let Some(reference) = registry::reference(component) {
        return Ok(ComponentSource::Registry {
            reference: reference?.to_string(),
            file: None,
        });
    }
    let Some(name) = component.to_str() else {
        return file();
    };
    let is_project = || ["Cargo.toml", "netwasm.toml"].map(|it| component.join(it).is_file());
    let exists = component.is_file() || is_project().contains(&true);
    if name.contains(['/', '.']) || exists {
        return file();
    }
    built_in::find(name).ok_or_else(|| {
        let names = built_in::names();
        let meant = mistakes::nearest(name, &names);
        let meant = meant.map_or_else(String::new, |it| format!(" Did you mean {it}?"));
        usage(&format!(
            "there is neither a file nor a built-in component '{name}'.{meant} Built in: {}",
            names.join(", ")
        ))
    })
}

/// True if a component of this name is built in.
#[must_use]
pub fn is_built_in(name: &str) -> bool {
    built_in::find(name).is_some()
}

/// Returns the file's name without its extension, or the last part of a
/// reference's name.
fn guest_name(component: &Path) -> String {
    if let Some(Ok(reference)) = registry::reference(component) {
        return reference.short_name().to_owned();
    }
    let stem = component.file_stem().unwrap_or(component.as_os_str());
    stem.to_string_lossy().into_owned()
}

fn file_name(component: &Path) -> String {
    if let Some(Ok(reference)) = registry::reference(component) {
        return reference.short_name().to_owned();
    }
    let name = component.file_name().unwrap_or(component.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Returns the error for a mistake that involves several arguments.
#[must_use]
pub fn usage(message: &dyn Display) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format!("{message}\n"))
}

/// Returns the arguments with `help` and `version` as the flags that they
/// stand for: `netwasm help run` is `netwasm run --help`. Topics stay.
fn plain(mut args: Vec<OsString>) -> Vec<OsString> {
    match args.get(1).and_then(|word| word.to_str()) {
        Some("help") => {
            let wanted = args.get(2).and_then(|word| word.to_str());
            let is_command = |word| Cli::command().find_subcommand(word).is_some();
            if wanted.is_none_or(is_command) {
                args.remove(1);
                args.truncate(2);
                args.push("--help".into());
            }
        }
        Some("version") if args.len() == 2 => {
            args.truncate(1);
            args.push("--version".into());
        }
        _ => {}
    }
    args
}

/// Returns the flags. If some are hidden from `-h`, clap's `--help` takes three
/// lines per flag. For `--help`, this therefore hides none from the short form.
fn command(commit: &str, args: &[OsString]) -> clap::Command {
    let mut flags = args.iter().take_while(|arg| *arg != "--");
    let command = match flags.any(|arg| arg == "--help") {
        true => explained(),
        false => Cli::command(),
    };
    // Texts of clap are as static as those of its attributes. There are two.
    command
        .version(&*version::short(commit).leak())
        .long_version(&*version::long(commit).leak())
}

/// Returns the flags with all that `--help` tells.
fn explained() -> clap::Command {
    Cli::command()
        .after_help(help::program())
        .mut_subcommands(|command| command.mut_args(|arg| arg.hide_short_help(false)))
        .mut_subcommand("run", |run| run.after_help(help::run()))
}

#[cfg(test)]
mod tests;
