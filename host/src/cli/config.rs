//! Configuration files: TOML with a key for each flag of `netwasm run`.
//!
//! ```text
//!   file --document--> keys and values --> arguments --clap--> Config
//!   arguments --clap--> keys and values --document--> file (--print-config)
//! ```
//!
//! A value goes through the parser of its flag, so both mean the same by
//! construction. A mistake is told at its place in the file.

mod document;
mod keys;
mod mistake;
mod page;
mod schema;

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use netwasm_base::config::{AddressError, Config, ListenAddress, RunConfig};
use netwasm_base::identity::AsUser;
use netwasm_base::input::Input;

use crate::logging::LogOptions;

use super::run::{OfProcess, RunFlags};
use super::{Cli, Command, usage};

use self::document::{Document, Entry, Place, Service, Setting};
use self::keys::Key;
use self::mistake::{Mistake, find_flag, first_paragraph, in_keys, position};

pub use self::mistake::Mistakes;

pub(super) use self::page::described;
pub(super) use self::schema::schema;

/// Largest size of a file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// The run that a file describes.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub run: RunConfig,
    /// How the log is written.
    pub log: LogOptions,
}

/// A configuration file, as far as it can be used.
#[derive(Debug)]
pub struct Examined {
    /// The settings of the process; it has no services.
    pub run: RunConfig,
    /// The services without a mistake, by their numbers in the file.
    pub services: Vec<(usize, Config)>,
    /// Number of services that the file has.
    pub count: usize,
    /// All mistakes.
    pub mistakes: Option<Mistakes>,
}

/// Reads a configuration file.
///
/// # Errors
/// Fails with all mistakes of the file.
pub fn load(file: &Path) -> Result<Loaded, Mistakes> {
    let text = read(file)?;
    let (command, keys) = flags();
    let (document, mut mistakes) = Document::read(&text, &keys);
    // Values are checked even if there are keys that do not exist.
    let (configs, process, more) = configs(&document, &command);
    mistakes.extend(more);
    if !mistakes.is_empty() {
        return Err(Mistakes::new(file, &text, mistakes));
    }
    let services = configs.into_iter().map(|(_, config)| config);
    let mut run = RunConfig::of(services.collect());
    if let Err(mistake) = join(&mut run, &document, &keys) {
        return Err(Mistakes::new(file, &text, vec![mistake]));
    }
    let log = process.set(&mut run);
    run.file = Some(file.to_owned());
    run.secrets = document.secrets();
    run.shown = document.to_toml(true);
    Ok(Loaded { run, log })
}

/// Reads a configuration file as far as it goes.
#[must_use]
pub fn examine(file: &Path) -> Examined {
    let text = match read(file) {
        Ok(text) => text,
        Err(mistakes) => {
            return Examined {
                run: RunConfig::of(Vec::new()),
                services: Vec::new(),
                count: 0,
                mistakes: Some(mistakes),
            };
        }
    };
    let (command, keys) = flags();
    let (document, mut mistakes) = Document::read(&text, &keys);
    let (mut services, process, more) = configs(&document, &command);
    mistakes.extend(more);
    let mut of_process = RunConfig::of(Vec::new());
    process.set(&mut of_process);
    match mistakes.is_empty() {
        true => {
            let configs = services.iter().map(|(_, config)| config.clone());
            let mut run = RunConfig::of(configs.collect());
            mistakes.extend(join(&mut run, &document, &keys).err());
            services = run.services.into_iter().enumerate().collect();
        }
        // A service that lacks a part of its settings would have more faults than it has.
        false => services.retain(|(number, _)| {
            let begins = |number: usize| document.services.get(number).map(|it| it.place.start);
            let (begin, end) = (begins(*number).unwrap_or(0), begins(number + 1));
            !mistakes.iter().any(|mistake| {
                let place = mistake.place.as_ref().map_or(0, |place| place.start);
                place >= begin && end.is_none_or(|end| place < end)
            })
        }),
    }
    Examined {
        run: of_process,
        services,
        count: document.services.len(),
        mistakes: (!mistakes.is_empty()).then(|| Mistakes::new(file, &text, mistakes)),
    }
}

/// Returns the address that a file names by a key, such as `admin`. Other settings
/// are not looked at: who reloads a run need not be able to read its secrets.
///
/// # Errors
/// Fails if the file cannot be read, or its address.
pub(super) fn address(file: &Path, key: &str) -> Result<Option<ListenAddress>, Mistakes> {
    let text = read(file)?;
    let (_, keys) = flags();
    let (document, mistakes) = Document::read(&text, &keys);
    let found = document.shared.iter().find(|it| it.key.name == key);
    let Some(Setting::Words(words)) = found.map(|entry| &entry.setting) else {
        return match mistakes.is_empty() {
            true => Ok(None),
            false => Err(Mistakes::new(file, &text, mistakes)),
        };
    };
    let address = words.first().map(|word| {
        let wrong = |error: AddressError| {
            let mistake = Mistake::at(Some(word.place.clone()), error.to_string());
            Mistakes::new(file, &text, vec![mistake])
        };
        word.text.parse().map_err(wrong)
    });
    address.transpose()
}

/// Places a fault of a service, found when its files were read, in the
/// configuration file.
///
/// `fault` has a text and the keys that it is about, the first that the service
/// sets being its place.
#[must_use]
pub fn locate(file: &Path, faults: &[(usize, &[&str], String)]) -> Mistakes {
    let text = read(file).unwrap_or_default();
    let (_, keys) = flags();
    let (document, _) = Document::read(&text, &keys);
    let mistakes = faults.iter().map(|(number, names, message)| {
        let place = document.services.get(*number).map(|service| {
            let settings = document.settings(service);
            let found = names.iter().find_map(|name| {
                let mut settings = settings.iter();
                settings.find(|entry| entry.key.name == *name)
            });
            found.map_or_else(|| service.place.clone(), |entry| entry.place.clone())
        });
        Mistake::at(place, in_keys(message))
    });
    Mistakes::new(file, &text, mistakes.collect())
}

fn read(file: &Path) -> Result<String, Mistakes> {
    use std::io::Read;
    let fail = |message: String| Mistakes::one(file, None, message);
    let unreadable = |error: std::io::Error| {
        let user = AsUser(&error);
        fail(format!("cannot read it{user}: {error}"))
    };
    let opened = Input::open(file).map_err(unreadable)?;
    let mut bytes = Vec::new();
    opened
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(fail("it has more than 4 MiB".into()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes().get(..place).unwrap_or_default());
        let message = "a byte that is not UTF-8, which TOML is";
        Mistakes::one(file, Some(position(&text, place)), message.into())
    })
}

/// Returns the flags of `netwasm run`, and their keys.
fn flags() -> (clap::Command, Vec<Key>) {
    let mut command = Cli::command();
    let run = command.find_subcommand_mut("run");
    let run = run.map(std::mem::take).unwrap_or_default();
    let keys = keys::of(&run);
    (run, keys)
}

/// Returns the settings of the services that have no mistake, with their numbers,
/// those of the process, and the mistakes.
fn configs(
    document: &Document<'_>,
    command: &clap::Command,
) -> (Vec<(usize, Config)>, OfProcess, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    let mut services = Vec::new();
    let mut process = OfProcess::default();
    for (number, service) in document.services.iter().enumerate() {
        match config(document, service, command) {
            Ok((config, shared)) => {
                process = shared;
                services.push((number, config));
            }
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if !mistakes.is_empty() {
        // A service tells its first mistake. Each value tells its own.
        let mut of_values = Vec::new();
        let own = document.services.iter().flat_map(|it| &it.entries);
        for entry in document.shared.iter().chain(own) {
            check_values(entry, command, &mut of_values);
        }
        if !of_values.is_empty() {
            mistakes = of_values;
        }
    }
    (services, process, mistakes)
}

/// Joins the services of a file.
///
/// # Errors
/// Fails with the first mistake.
fn join(run: &mut RunConfig, document: &Document<'_>, keys: &[Key]) -> Result<(), Mistake> {
    run.join().map_err(|(number, error)| {
        let service = document.services.get(number);
        let place = service.map(|service| place_of(document, service, &error.to_string(), keys));
        Mistake::at(place, in_keys(&error.to_string()))
    })
}

/// Checks each value by the parser of its flag.
fn check_values(entry: &Entry<'_>, command: &clap::Command, mistakes: &mut Vec<Mistake>) {
    if entry.key.is_positional() {
        return;
    }
    let Setting::Words(words) = &entry.setting else {
        return;
    };
    let name = &entry.key.name;
    for word in words {
        let args = ["run", "component", &format!("--{name}={}", word.text)];
        let Err(error) = command.clone().try_get_matches_from(args) else {
            continue;
        };
        let reason = match error.kind() {
            ErrorKind::ValueValidation => match std::error::Error::source(&error) {
                Some(source) => source.to_string(),
                None => first_paragraph(&error),
            },
            ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(values)) => {
                    format!("write one of these: {}", values.join(", "))
                }
                _ => first_paragraph(&error),
            },
            // It needs other keys: the whole service tells.
            _ => continue,
        };
        let place = Some(word.place.clone());
        mistakes.push(Mistake::at(
            place,
            format!("'{name}': {}", in_keys(&reason)),
        ));
    }
}

/// Returns the settings of a service.
fn config(
    document: &Document<'_>,
    service: &Service<'_>,
    command: &clap::Command,
) -> Result<(Config, OfProcess), Mistake> {
    let settings = document.settings(service);
    let positional = |name: &str| {
        let mut settings = settings.iter();
        let found = settings.find(|entry| entry.key.name == name);
        found.map_or(&[][..], |entry| match &entry.setting {
            Setting::Words(words) => words,
            _ => &[],
        })
    };
    let is_module = settings.iter().any(|entry| entry.key.name == "module");
    let component = match positional("component") {
        [component] => Some(component),
        _ if is_module => None,
        _ => {
            return Err(Mistake::at(
                Some(service.place.clone()),
                "there is no component: write component = \"FILE\", or the name of a built-in one",
            ));
        }
    };
    let mut args = vec!["run".into()];
    for entry in &settings {
        args.extend(entry.arguments()?);
    }
    if let Some(component) = component {
        // After all that begins with dashes, it may do so itself.
        args.push(match component.text.starts_with('-') {
            true => format!("./{}", component.text).into(),
            false => component.text.clone().into(),
        });
    }
    args.push("--".into());
    args.extend(
        positional("args")
            .iter()
            .map(|word| word.text.clone().into()),
    );
    let parsed = command.clone().try_get_matches_from(args);
    let parsed = parsed
        .and_then(|matches| RunFlags::from_arg_matches(&matches))
        .and_then(RunFlags::into_config);
    let (mut config, process) = parsed.map_err(|error| {
        if let Some(mistake) = missing(&error, &settings) {
            return mistake;
        }
        let message = first_paragraph(&error);
        let keys: Vec<_> = settings.iter().map(|entry| entry.key).collect();
        let place = place_of(document, service, &message, keys);
        Mistake::at(Some(place), in_keys(&message))
    })?;
    if let Some(name) = &service.name {
        config.guest.name.clone_from(name);
    }
    Ok((config, process))
}

/// Explains a key that needs another one, which is not set. clap tells that one
/// alone.
fn missing(error: &clap::Error, settings: &[&Entry<'_>]) -> Option<Mistake> {
    let Some(ContextValue::Strings(names)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let lacks = error.kind() == ErrorKind::MissingRequiredArgument
        && names.iter().any(|name| name.starts_with("--access-log "));
    let mut settings = settings.iter();
    let entry = settings.find(|entry| lacks && entry.key.name == "access-log-format")?;
    Some(Mistake::at(
        Some(entry.place.clone()),
        "access-log-format is the form of access-log, which is not set: write access-log = \
         \"FILE\"",
    ))
}

/// Returns the place of the first key that a message names and the service
/// sets, or else of the service.
fn place_of<'k>(
    document: &Document<'_>,
    service: &Service<'_>,
    message: &str,
    keys: impl IntoIterator<Item = &'k Key>,
) -> Place {
    let settings = document.settings(service);
    let mut named: Vec<_> = keys
        .into_iter()
        .filter_map(|key| Some((find_flag(message, &key.name)?, &key.name)))
        .collect();
    named.sort_unstable();
    let found = named.into_iter().find_map(|(_, name)| {
        let mut settings = settings.iter();
        settings.find(|entry| entry.key.name == *name)
    });
    found.map_or_else(|| service.place.clone(), |entry| entry.place.clone())
}

/// Returns the command that flags of `netwasm run` ask for, if they name a
/// file or ask for one.
///
/// # Errors
/// Fails with all mistakes of the file, and if the command line has more than
/// the file's name.
pub(super) fn command(run: RunFlags, given: &ArgMatches) -> Result<Command, clap::Error> {
    let (_, keys) = flags();
    let arguments = || {
        Document::of_arguments(given, &keys).map_err(|word| {
            usage(&format!(
                "{} is not UTF-8, which a configuration file is",
                word.to_string_lossy()
            ))
        })
    };
    let prints = run.print_config;
    let takeover = run.takeover;
    let watch = run.watch;
    let Some(file) = run.config.clone() else {
        let document = arguments()?;
        let (config, process) = run.into_config()?;
        if prints {
            return Ok(Command::Print(document.to_toml(false)));
        }
        let mut run = RunConfig::of(vec![config]);
        run.join().map_err(|(_, error)| usage(&error))?;
        let log = process.set(&mut run);
        run.takeover = takeover;
        run.watch = watch;
        check_takeover(&run)?;
        run.shown = document.to_toml(true);
        return Ok(Command::Run(Box::new(run), log));
    };
    let given = arguments()?;
    let others = given
        .shared
        .iter()
        .chain(given.services.iter().flat_map(|it| &it.entries));
    if let Some(entry) = others.into_iter().next() {
        let shown = match entry.key.is_positional() {
            true => match &entry.setting {
                Setting::Words(words) => words.first().map(|it| it.text.clone()),
                _ => None,
            },
            false => Some(format!("--{}", entry.key.name)),
        };
        return Err(usage(&format!(
            "--config FILE has all settings: write '{}' there, and not {}",
            entry.key.name,
            shown.unwrap_or_default()
        )));
    }
    let mut loaded = load(&file).map_err(|mistakes| usage(&mistakes))?;
    loaded.run.takeover = takeover;
    loaded.run.watch = watch;
    check_takeover(&loaded.run)?;
    if prints {
        let text = read(&file).map_err(|mistakes| usage(&mistakes))?;
        let (document, _) = Document::read(&text, &keys);
        return Ok(Command::Print(document.to_toml(false)));
    }
    Ok(Command::Run(Box::new(loaded.run), loaded.log))
}

/// Checks that a run that takes over from another has where to ask.
fn check_takeover(run: &RunConfig) -> Result<(), clap::Error> {
    match run.admin {
        _ if !run.takeover => Ok(()),
        Some(ListenAddress::Unix(_)) => Ok(()),
        _ => Err(usage(
            &"--takeover asks the run at --admin unix:PATH for its sockets: both need it",
        )),
    }
}

#[cfg(test)]
mod tests;
