//! Writing a configuration in TOML, without its secrets.

use super::{Document, Entry, Setting, Value};
use crate::cli::config::keys::{Form, Key};

impl Document<'_> {
    /// Writes the configuration in TOML. `hidden` hides the values of
    /// variables.
    pub(in crate::cli::config) fn to_toml(&self, hidden: bool) -> String {
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

impl Entry<'_> {
    fn to_toml(&self, hidden: bool) -> String {
        let name = &self.key.name;
        let hidden =
            name == "otlp-header" || hidden && matches!(&**name, "args" | "config-var" | "env");
        // The URL of a server may have a password.
        let has_login = matches!(&**name, "keyvalue" | "topics");
        let is_secret = |text: &str| hidden || has_login && text.contains('@');
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
                .map(|word| match word.text.split_once('?') {
                    _ if is_secret(&word.text) => quoted("(hidden)"),
                    // The query of the receiver's URL may have a key.
                    Some((url, _)) if name == "otlp" => quoted(&format!("{url}?(hidden)")),
                    _ => plain_or_quoted(self.key, &word.text),
                })
                .collect(),
            Setting::File(path) => of_file(path),
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
                            Value::File(path) => of_file(path),
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

/// Writes a secret as the file that has it.
fn of_file(path: &std::path::Path) -> String {
    format!("{{ file = {} }}", quoted(&path.to_string_lossy()))
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
