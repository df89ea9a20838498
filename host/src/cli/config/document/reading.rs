//! Reading a configuration in TOML, with all that is wrong with it.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Document, Entry, Place, Service, Setting, Value, Word};
use crate::cli::config::keys::{self, Form, Key, Scope};
use crate::cli::config::mistake::Mistake;
use crate::cli::mistakes::nearest;

impl<'k> Document<'k> {
    /// Reads a text in TOML. Returns all that is wrong with it, too.
    pub(in crate::cli::config) fn read(text: &str, keys: &'k [Key]) -> (Self, Vec<Mistake>) {
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
            None if key.has_secrets() => match file_of(one) {
                Some(path) => Ok(Setting::File(path)),
                None => Err(wrong("a string, or { file = \"PATH\" }")),
            },
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

/// Returns the path in `{ file = "PATH" }`.
fn file_of(value: &DeValue<'_>) -> Option<PathBuf> {
    let table = value.as_table()?;
    match &*table.iter().collect::<Vec<_>>() {
        [(name, file)] if name.get_ref() == "file" => file.get_ref().as_str().map(PathBuf::from),
        _ => None,
    }
}

/// Reads the value of a name in a table: a text, or `{ file = "PATH" }` for one
/// that is in a file.
fn pair_value(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Value, Mistake> {
    let secret = key.has_secrets();
    if secret && let Some(path) = file_of(value.get_ref()) {
        return Ok(Value::File(path));
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
