//! The keys of configuration files, described for people.

use std::collections::BTreeMap;

use crate::prose::{Block, StyledText};

use super::flags;
use super::keys::{Form, Key, Scope};

/// Returns all keys with their types, defaults and texts, by the groups of their
/// flags.
pub(crate) fn described() -> Vec<Block> {
    let (_, keys) = flags();
    let mut groups: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
    for key in &keys {
        groups.entry(&key.heading).or_default().push(key);
    }
    let mut blocks = vec![Block::paragraph(
        "A file is TOML. A key is the flag of `netwasm run` of that name, without its dashes. Keys \
         stand above `[services.NAME]`, where they are the defaults of all services, or in a \
         service; a file with one service needs no `[services]`.",
    )];
    for (heading, keys) in groups {
        blocks.push(Block::Heading(heading.to_owned()));
        let terms = keys.iter().map(|key| (term(key), meaning(key)));
        blocks.push(Block::Terms(terms.collect()));
    }
    blocks
}

fn term(key: &Key) -> Vec<StyledText> {
    let mut term = vec![StyledText::code(&key.name)];
    if let Some(default) = &key.default {
        term.push(StyledText::plain(format!(" (default: {default})")));
    }
    term
}

fn meaning(key: &Key) -> Vec<StyledText> {
    let about = key.about.trim_end_matches('.');
    let place = match key.scope {
        Scope::Process => " Above the services only.",
        Scope::OneService => " In a service only.",
        Scope::Service => "",
    };
    let mut form = form(key);
    if key.has_secrets() {
        form += "; a value in a file is { file = \"PATH\" }";
    }
    vec![StyledText::plain(format!("{about}. Type: {form}.{place}"))]
}

fn form(key: &Key) -> String {
    match key.form {
        Form::Switch => "true or false".into(),
        Form::Times => "a number, 0 to 2".into(),
        Form::One => value(key),
        Form::List => format!("{}, or a list of such", value(key)),
        Form::Pairs => "a table of NAME = \"VALUE\", or a list of \"NAME=VALUE\"".into(),
    }
}

fn value(key: &Key) -> String {
    match &*key.value {
        "N" => "a whole number".into(),
        "SIZE" => "SIZE in bytes, a number or a string such as \"64KiB\"".into(),
        "TIME" => "TIME, a string with a unit such as \"30s\", or \"none\"".into(),
        "OCTAL" => "a string of octal digits".into(),
        "RATIO" => "a number from 0 to 1".into(),
        "ADDR" => "ADDR, a string, or a number for a port of localhost".into(),
        words if words.contains('|') && !words.contains(char::is_uppercase) => {
            format!("one of {}", words.replace('|', ", "))
        }
        "" => "a string".into(),
        name => format!("{name}, a string"),
    }
}
