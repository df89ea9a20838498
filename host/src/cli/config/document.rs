//! A configuration as keys and values: read from TOML or from the arguments of
//! a command, and written as either.

mod reading;
mod writing;

use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;

use netwasm_base::input::Input;

use super::keys::{Form, Key, Scope};
use super::mistake::Mistake;

/// Largest size of a file with a secret, in bytes.
const MAX_SECRET: u64 = 1 << 20;

/// Place in the text of a file, in bytes.
pub(super) type Place = Range<usize>;

/// A configuration, with the settings that services share.
#[derive(Debug, Default)]
pub(super) struct Document<'k> {
    /// Settings of the process, and defaults of all services.
    pub(super) shared: Vec<Entry<'k>>,
    pub(super) services: Vec<Service<'k>>,
}

/// A service of a configuration.
#[derive(Debug)]
pub(super) struct Service<'k> {
    /// Name; `None` if the file has one service, and no `[services]`.
    pub(super) name: Option<String>,
    pub(super) place: Place,
    pub(super) entries: Vec<Entry<'k>>,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry<'k> {
    pub(super) key: &'k Key,
    pub(super) setting: Setting,
    /// Place of the key.
    pub(super) place: Place,
}

/// Value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Switch(bool),
    Times(u8),
    /// Values of a flag, in order.
    Words(Vec<Word>),
    /// The content of a file, which is secret.
    File(PathBuf),
    /// A table of names.
    Pairs(Vec<(Word, Value)>),
}

/// A string of a file, or a number as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) place: Place,
}

/// Value of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    /// The content of a file, which is secret.
    File(PathBuf),
}

impl<'k> Document<'k> {
    /// Returns what the arguments of a command say.
    ///
    /// # Errors
    /// Fails with an argument that is not UTF-8, which TOML is.
    pub(super) fn of_arguments(given: &ArgMatches, keys: &'k [Key]) -> Result<Self, OsString> {
        let mut entries = Vec::new();
        for key in keys {
            if given.value_source(&key.id) != Some(ValueSource::CommandLine) {
                continue;
            }
            let setting = match key.form {
                Form::Switch => Setting::Switch(given.get_flag(&key.id)),
                Form::Times => Setting::Times(given.get_count(&key.id)),
                Form::One | Form::List | Form::Pairs => {
                    let words = given.get_raw(&key.id).unwrap_or_default();
                    let words = words.map(|word| match word.to_str() {
                        Some(text) => Ok(Word::from(text)),
                        None => Err(word.to_owned()),
                    });
                    Setting::Words(words.collect::<Result<_, _>>()?)
                }
            };
            let place = 0..0;
            entries.push(Entry {
                key,
                setting,
                place,
            });
        }
        let (own, shared) = entries
            .into_iter()
            .partition(|entry: &Entry<'_>| entry.key.scope == Scope::OneService);
        Ok(Self {
            shared,
            services: vec![Service {
                name: None,
                place: 0..0,
                entries: own,
            }],
        })
    }

    /// Returns the settings of a service, with the shared ones that it does not
    /// set itself.
    pub(super) fn settings<'a>(&'a self, service: &'a Service<'k>) -> Vec<&'a Entry<'k>> {
        let own = |entry: &&Entry<'_>| {
            let mut own = service.entries.iter();
            own.any(|it| it.key.name == entry.key.name)
        };
        let has = |name: &str| service.entries.iter().any(|it| it.key.name == name);
        let logs = has("access-log") || self.shared.iter().any(|it| it.key.name == "access-log");
        let speaks_http =
            service.name.is_none() || ["http", "https", "http-redirect"].map(has).contains(&true);
        let shared = self.shared.iter().filter(|entry| {
            // A default for those that it can apply to.
            let of_requests = matches!(&*entry.key.name, "access-log" | "access-log-format");
            let is_of_none =
                of_requests && !speaks_http || entry.key.name == "access-log-format" && !logs;
            !(own(entry) || is_of_none && service.name.is_some())
        });
        service.entries.iter().chain(shared).collect()
    }

    /// Returns the files of all secrets.
    pub(super) fn secrets(&self) -> Vec<PathBuf> {
        let own = self.services.iter().flat_map(|it| &it.entries);
        let settings = own.chain(&self.shared).map(|entry| &entry.setting);
        let files = settings.flat_map(|setting| match setting {
            Setting::File(path) => vec![path.clone()],
            Setting::Pairs(pairs) => {
                let files = pairs.iter().filter_map(|(_, value)| match value {
                    Value::File(path) => Some(path.clone()),
                    Value::Text(_) => None,
                });
                files.collect()
            }
            _ => Vec::new(),
        });
        files.collect()
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            place: 0..0,
        }
    }
}

impl Entry<'_> {
    /// Returns the arguments that say this on a command line; none for a
    /// positional one.
    ///
    /// # Errors
    /// Fails if a secret cannot be read.
    pub(super) fn arguments(&self) -> Result<Vec<OsString>, Mistake> {
        let name = &self.key.name;
        Ok(match &self.setting {
            _ if self.key.is_positional() => Vec::new(),
            Setting::Switch(true) => vec![format!("--{name}").into()],
            Setting::Switch(false) => Vec::new(),
            Setting::Times(times) => vec!["-v".into(); usize::from(*times)],
            Setting::Words(words) => words
                .iter()
                .map(|word| format!("--{name}={}", word.text).into())
                .collect(),
            Setting::File(path) => {
                let text = secret(path).map_err(|it| Mistake::at(Some(self.place.clone()), it))?;
                vec![format!("--{name}={text}").into()]
            }
            Setting::Pairs(pairs) => pairs
                .iter()
                .map(|(pair, value)| {
                    if pair.text.is_empty() || pair.text.contains('=') {
                        let message = "a name is not empty, and has no '='";
                        return Err(Mistake::at(Some(pair.place.clone()), message));
                    }
                    let value = match value {
                        Value::Text(text) => text.clone(),
                        Value::File(path) => {
                            secret(path).map_err(|it| Mistake::at(Some(pair.place.clone()), it))?
                        }
                    };
                    Ok(format!("--{name}={}={value}", pair.text).into())
                })
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Reads a secret: the content of a file, without the end of its line.
fn secret(path: &std::path::Path) -> Result<String, String> {
    use std::io::Read;
    let shown = path.display();
    let unreadable = |error: std::io::Error| format!("cannot read {shown}: {error}");
    let file = Input::open(path).map_err(unreadable)?;
    let mut content = Vec::new();
    file.take(MAX_SECRET + 1)
        .read_to_end(&mut content)
        .map_err(unreadable)?;
    if content.len() as u64 > MAX_SECRET {
        return Err(format!("{shown} has more than 1 MiB, and a secret is text"));
    }
    let mut text = String::from_utf8(content)
        .map_err(|_| format!("{shown} is not UTF-8, which a secret must be"))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.contains('\0') {
        return Err(format!("{shown} has a NUL byte, which no variable has"));
    }
    Ok(text)
}
