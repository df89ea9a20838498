//! The JSON schema of a configuration file, for editors: made from the flags,
//! as the keys are.

use serde_json::{Map, Value, json};

use crate::cli::help;

use super::flags;
use super::keys::{Form, Key, Scope};

/// Returns the schema, by draft 2020-12.
pub(crate) fn schema() -> Value {
    let (_, keys) = flags();
    let of = |wanted: &[Scope]| -> Map<String, Value> {
        let keys = keys.iter().filter(|key| wanted.contains(&key.scope));
        keys.map(|key| (key.name.clone(), of_key(key))).collect()
    };
    let mut shared = of(&[Scope::Process, Scope::Service]);
    shared.insert(
        "services".into(),
        json!({
            "description": "The services by their names, which the log and the metrics show. \
                            Settings above are the defaults of all",
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": "^[A-Za-z0-9_.-]{1,64}$" },
            "additionalProperties": { "$ref": "#/$defs/service" }
        }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "netwasm: the settings of a run",
        "$defs": {
            "service": {
                "type": "object",
                "properties": of(&[Scope::Service, Scope::OneService]),
                "if": { "required": ["module"] },
                "then": { "not": { "required": ["component"] } },
                "else": { "required": ["component"] },
                "additionalProperties": false
            }
        },
        // Not one of two: an editor could not say which one fails, and why.
        "if": { "required": ["services"] },
        "then": {
            "type": "object",
            "properties": shared,
            "additionalProperties": false
        },
        "else": {
            "type": "object",
            "properties": of(&[Scope::Process, Scope::Service, Scope::OneService]),
            "if": { "required": ["module"] },
            "then": { "not": { "required": ["component"] } },
            "else": { "required": ["component"] },
            "additionalProperties": false
        }
    })
}

fn of_key(key: &Key) -> Value {
    let mut schema = match key.form {
        Form::Switch => json!({ "type": "boolean" }),
        Form::Times => json!({ "type": "integer", "minimum": 0, "maximum": 2 }),
        Form::One if key.has_secrets() => json!({
            "type": ["string", "object"],
            "properties": { "file": { "type": "string" } },
            "required": ["file"],
            "additionalProperties": false
        }),
        Form::One => of_value(key),
        Form::List => one_or_many(of_value(key)),
        Form::Pairs => {
            let value = match key.has_secrets() {
                // The words about an object apply to a secret in a file alone.
                true => json!({
                    "type": ["string", "integer", "object"],
                    "properties": { "file": { "type": "string" } },
                    "required": ["file"],
                    "additionalProperties": false
                }),
                false => json!({ "type": "string" }),
            };
            json!({
                "type": ["string", "array", "object"],
                "items": { "type": "string" },
                "additionalProperties": value
            })
        }
    };
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".into(), key.about.clone().into());
        if let Some(default) = &key.default {
            schema.insert("default".into(), default.clone().into());
        }
    }
    schema
}

/// Returns the schema of one value or a list of such values. The words about a
/// value apply to one that is no list.
fn one_or_many(item: Value) -> Value {
    let mut one = item.clone();
    if let Some(types) = one.get_mut("type") {
        let mut all = match types.take() {
            Value::Array(all) => all,
            one => vec![one],
        };
        all.push("array".into());
        *types = all.into();
    }
    if let Value::Object(one) = &mut one {
        one.insert("items".into(), item);
    }
    one
}

fn of_value(key: &Key) -> Value {
    match &*key.value {
        "N" => json!({ "type": ["integer", "string"], "minimum": 1, "pattern": "^[0-9]+$" }),
        "SIZE" => json!({
            "type": ["integer", "string"],
            "minimum": 1,
            "pattern": "^[0-9]+(\\.[0-9]+)? ?[A-Za-z]*$"
        }),
        "TIME" => json!({
            "type": ["integer", "string"],
            "minimum": 0,
            "maximum": 0,
            "pattern": "^(0|none|[0-9].*[a-z])$"
        }),
        "OCTAL" => {
            json!({ "type": ["integer", "string"], "minimum": 0, "pattern": "^(0o)?[0-7]+$" })
        }
        "RATIO" => json!({
            "type": ["number", "string"],
            "minimum": 0,
            "maximum": 1,
            "pattern": "^[0-9]*\\.?[0-9]+$"
        }),
        "URL" => json!({ "type": "string", "pattern": "^https?://" }),
        "MODE" => json!({ "enum": help::ISOLATION.map(|(mode, _)| mode) }),
        "ADDR" => json!({ "type": ["integer", "string"], "minimum": 0, "maximum": 65535 }),
        words if words.contains('|') && !words.contains(char::is_uppercase) => {
            let words = words.split('|');
            let numbers = words.clone().filter_map(|word| word.parse::<f64>().ok());
            let all = numbers.map(Value::from).chain(words.map(Value::from));
            json!({ "enum": all.collect::<Vec<_>>() })
        }
        _ => json!({ "type": "string" }),
    }
}
