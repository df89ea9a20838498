//! A configuration as keys and values: read from TOML or from the arguments of
//! a command, and written as either.

use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::mistakes::nearest;

use super::keys::{self, Form, Key, Scope};
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
    /// Reads a text in TOML. Returns all that is wrong with it, too.
    pub(super) fn read(text: &str, keys: &'k [Key]) -> (Self, Vec<Mistake>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut mistakes: Vec<_> = errors
            .iter()
            .map(|error| Mistake::at(error.span(), error.message()))
            .collect();
        if !mistakes.is_empty() {
            // A recovered table may miss keys, and lead to false mistakes.
            return (Self::default(), mistakes);
        }
        let table = table.into_inner();
        let mut services = Vec::new();
        let has_services = table.keys().any(|key| key.get_ref() == "services");
        if let Some((_, value)) = table.iter().find(|(key, _)| key.get_ref() == "services") {
            read_services(value, keys, &mut services, &mut mistakes);
        }
        let others = table.iter().filter(|(key, _)| key.get_ref() != "services");
        let entries = read_entries(others, keys, &mut mistakes);
        let (own, shared): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|entry| entry.key.scope == Scope::OneService);
        if has_services {
            mistakes.extend(own.iter().map(|entry| {
                let name = &entry.key.name;
                Mistake::at(
                    Some(entry.place.clone()),
                    format!("each service has its own '{name}': write it below [services.NAME]"),
                )
            }));
        } else {
            services.push(Service {
                name: None,
                place: 0..0,
                entries: own,
            });
        }
        (Self { shared, services }, mistakes)
    }

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
        let pairs = settings.filter_map(|setting| match setting {
            Setting::Pairs(pairs) => Some(pairs),
            _ => None,
        });
        let files = pairs.flatten().filter_map(|(_, value)| match value {
            Value::File(path) => Some(path.clone()),
            Value::Text(_) => None,
        });
        files.collect()
    }

    /// Writes the configuration in TOML. `hidden` hides the values of
    /// variables.
    pub(super) fn to_toml(&self, hidden: bool) -> String {
        let mut text = String::new();
        let alone = match &*self.services {
            [one] if one.name.is_none() => one.entries.as_slice(),
            _ => &[],
        };
        for entry in alone.iter().chain(&self.shared) {
            text += &entry.to_toml(hidden);
        }
        for service in &self.services {
            let Some(name) = &service.name else { continue };
            text += &format!("\n[services.{}]\n", quoted_key(name));
            for entry in &service.entries {
                text += &entry.to_toml(hidden);
            }
        }
        text
    }
}

fn read_services<'k>(
    value: &Spanned<DeValue<'_>>,
    keys: &'k [Key],
    services: &mut Vec<Service<'k>>,
    mistakes: &mut Vec<Mistake>,
) {
    let form = "write a table for each service: [services.NAME]";
    let Some(tables) = value.get_ref().as_table() else {
        mistakes.push(Mistake::at(Some(value.span()), form));
        return;
    };
    if tables.is_empty() {
        mistakes.push(Mistake::at(Some(value.span()), form));
    }
    for (name, table) in tables {
        let place = name.span();
        if !is_name(name.get_ref()) {
            mistakes.push(Mistake::at(
                Some(place.clone()),
                "the name of a service has 1 to 64 letters, digits, '-', '_' or '.'",
            ));
        }
        let Some(table) = table.get_ref().as_table() else {
            mistakes.push(Mistake::at(Some(table.span()), form));
            continue;
        };
        let entries = read_entries(table.iter(), keys, mistakes);
        let (process, entries): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|entry| entry.key.scope == Scope::Process);
        mistakes.extend(process.iter().map(|entry| {
            let name = &entry.key.name;
            Mistake::at(
                Some(entry.place.clone()),
                format!("'{name}' is of the whole process: write it above the services"),
            )
        }));
        services.push(Service {
            name: Some(name.get_ref().clone().into_owned()),
            place,
            entries,
        });
    }
    // In the order of the file, not of their names.
    services.sort_by_key(|service| service.place.start);
}

/// True if a text can name a service in lines of a log and in metrics.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

fn read_entries<'k, 'a, 'i: 'a>(
    table: impl Iterator<
        Item = (
            &'a Spanned<toml::de::DeString<'i>>,
            &'a Spanned<DeValue<'i>>,
        ),
    >,
    keys: &'k [Key],
    mistakes: &mut Vec<Mistake>,
) -> Vec<Entry<'k>> {
    let mut entries = Vec::new();
    for (name, value) in table {
        let place = name.span();
        let Some(key) = keys::find(keys, name.get_ref()) else {
            mistakes.push(unknown(name.get_ref(), place, keys));
            continue;
        };
        match read_setting(key, value) {
            Ok(setting) => entries.push(Entry {
                key,
                setting,
                place,
            }),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    // In the order of the file.
    entries.sort_by_key(|entry| entry.place.start);
    entries
}

/// Explains a key that does not exist.
fn unknown(name: &str, place: Place, keys: &[Key]) -> Mistake {
    let mut names: Vec<_> = keys.iter().map(|key| &*key.name).collect();
    names.push("services");
    let written = name.replace('_', "-").to_ascii_lowercase();
    let plain = written.trim_start_matches('-');
    let meant = names.iter().find(|it| **it == plain).copied();
    let message = match (meant.or_else(|| nearest(plain, &names)), plain) {
        (Some(meant), _) => format!("there is no key '{name}': did you mean '{meant}'?"),
        (None, "listen" | "bind" | "address" | "port" | "host") => format!(
            "there is no key '{name}': each protocol has its own, tcp, tls, udp, http or https"
        ),
        (None, _) => format!(
            "there is no key '{name}': keys are the flags of `netwasm run --help` without their \
             dashes"
        ),
    };
    Mistake::at(Some(place), message)
}

fn read_setting(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Setting, Mistake> {
    let wrong = |form: &str| {
        let (name, found) = (&key.name, value.get_ref().type_str());
        let message = format!("'{name}' is {form}, and this is of the type {found}");
        Mistake::at(Some(value.span()), message)
    };
    match (key.form, value.get_ref()) {
        (Form::Switch, DeValue::Boolean(on)) => Ok(Setting::Switch(*on)),
        (Form::Switch, _) => Err(wrong("true or false")),
        (Form::Times, DeValue::Integer(number)) => match number.as_str().parse() {
            Ok(times @ 0..=2) => Ok(Setting::Times(times)),
            _ => Err(Mistake::at(
                Some(value.span()),
                format!("'{}' is 0, 1 or 2", key.name),
            )),
        },
        (Form::Times, _) => Err(wrong("a number from 0 to 2")),
        (Form::One, DeValue::Integer(number)) if key.value == "OCTAL" && number.radix() == 8 => {
            let (text, place) = (number.as_str().replace('_', ""), value.span());
            Ok(Setting::Words(vec![Word { text, place }]))
        }
        // A version, or a part of a whole.
        (Form::One, DeValue::Float(number)) if key.value.contains('.') || key.value == "RATIO" => {
            let (text, place) = (number.as_str().to_owned(), value.span());
            Ok(Setting::Words(vec![Word { text, place }]))
        }
        (Form::One, one) => match word(one, value.span()) {
            Some(word) => Ok(Setting::Words(vec![word])),
            None => Err(wrong("a string")),
        },
        (Form::List | Form::Pairs, DeValue::Array(items)) => items
            .iter()
            .map(|item| {
                word(item.get_ref(), item.span()).ok_or_else(|| {
                    let found = item.get_ref().type_str();
                    let name = &key.name;
                    Mistake::at(
                        Some(item.span()),
                        format!("'{name}' is a list of strings, and this is of the type {found}"),
                    )
                })
            })
            .collect::<Result<_, _>>()
            .map(Setting::Words),
        (Form::Pairs, DeValue::Table(table)) => {
            let mut pairs = table
                .iter()
                .map(|(name, value)| {
                    let text = name.get_ref().clone().into_owned();
                    let place = name.span();
                    Ok((Word { text, place }, pair_value(key, value)?))
                })
                .collect::<Result<Vec<_>, _>>()?;
            pairs.sort_by_key(|(name, _)| name.place.start);
            Ok(Setting::Pairs(pairs))
        }
        (Form::List | Form::Pairs, one) => match word(one, value.span()) {
            Some(word) => Ok(Setting::Words(vec![word])),
            None => Err(wrong("a string or a list of strings")),
        },
    }
}

/// Reads the value of a name in a table: a text, or `{ file = "PATH" }` for one
/// that is in a file.
fn pair_value(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Value, Mistake> {
    let secret = key.has_secrets();
    if let DeValue::Table(table) = value.get_ref()
        && secret
        && let [(name, file)] = &*table.iter().collect::<Vec<_>>()
        && name.get_ref() == "file"
        && let Some(path) = file.get_ref().as_str()
    {
        return Ok(Value::File(path.into()));
    }
    match word(value.get_ref(), value.span()) {
        Some(word) => Ok(Value::Text(word.text)),
        None => Err(Mistake::at(
            Some(value.span()),
            match secret {
                true if key.name == "env" => {
                    "a variable is a string, or { file = \"PATH\" } for the content of a file"
                }
                true if key.name == "config-var" => {
                    "a value is a string, or { file = \"PATH\" } for the content of a file"
                }
                true if key.name == "keyvalue" => {
                    "a store is a string, or { file = \"PATH\" } for one that the file names"
                }
                true => "a header is a string, or { file = \"PATH\" } for the content of a file",
                false => "this is a string",
            },
        )),
    }
}

/// Returns a string or a number as a flag has it.
fn word(value: &DeValue<'_>, place: Place) -> Option<Word> {
    let text = match value {
        DeValue::String(text) => text.clone().into_owned(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().replace('_', ""),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            i64::from_str_radix(&digits, number.radix())
                .ok()?
                .to_string()
        }
        _ => return None,
    };
    Some(Word { text, place })
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

    fn to_toml(&self, hidden: bool) -> String {
        let name = &self.key.name;
        let hidden =
            name == "otlp-header" || hidden && matches!(&**name, "args" | "config-var" | "env");
        // The URL of a server may have a password.
        let is_secret = |text: &str| hidden || name == "keyvalue" && text.contains('@');
        let shown = |text: &str| {
            if is_secret(text) {
                quoted("(hidden)")
            } else {
                quoted(text)
            }
        };
        let value = match &self.setting {
            Setting::Switch(on) => on.to_string(),
            Setting::Times(times) => times.to_string(),
            Setting::Words(words) if self.key.form == Form::One => words
                .iter()
                .map(|word| plain_or_quoted(self.key, &word.text))
                .collect(),
            Setting::Words(words) => {
                let items: Vec<_> = words
                    .iter()
                    .map(|word| match word.text.split_once('=') {
                        _ if hidden && name == "args" => quoted("(hidden)"),
                        Some((name, value)) if is_secret(value) => {
                            quoted(&format!("{name}=(hidden)"))
                        }
                        _ => quoted(&word.text),
                    })
                    .collect();
                format!("[{}]", items.join(", "))
            }
            Setting::Pairs(pairs) => {
                let items: Vec<_> = pairs
                    .iter()
                    .map(|(name, value)| {
                        let value = match value {
                            Value::Text(text) => shown(text),
                            Value::File(path) => {
                                format!("{{ file = {} }}", quoted(&path.to_string_lossy()))
                            }
                        };
                        format!("{} = {value}", quoted_key(&name.text))
                    })
                    .collect();
                format!("{{ {} }}", items.join(", "))
            }
        };
        format!("{name} = {value}\n")
    }
}

/// Reads a secret: the content of a file, without the end of its line.
fn secret(path: &std::path::Path) -> Result<String, String> {
    use std::io::Read;
    let shown = path.display();
    let unreadable = |error: std::io::Error| format!("cannot read {shown}: {error}");
    let file = std::fs::File::open(path).map_err(unreadable)?;
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

/// Returns a number as it is, and everything else as a string.
fn plain_or_quoted(key: &Key, text: &str) -> String {
    let number = text
        .parse::<i64>()
        .is_ok_and(|number| number.to_string() == text);
    match number && matches!(&*key.value, "N" | "SIZE" | "TIME") {
        true => text.to_owned(),
        false => quoted(text),
    }
}

/// Returns a text as a basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            '\0'..'\u{20}' | '\u{7f}' => quoted += &format!("\\u{:04X}", u32::from(letter)),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Returns a key of a table, quoted where it must be.
fn quoted_key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match !name.is_empty() && name.bytes().all(bare) {
        true => name.to_owned(),
        false => quoted(name),
    }
}
