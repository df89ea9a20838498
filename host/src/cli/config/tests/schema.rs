//! The schema takes what a file may have, and nothing else.

use clap::CommandFactory;
use serde_json::Value;

use super::super::{Cli, flags, schema};
use super::{all_flags, load_text, printed};

#[test]
fn the_schema_takes_what_a_file_may_have_and_nothing_else() {
    let schema = schema();
    let takes = |text: &str| {
        let table: toml::Table = text.parse().expect("it is TOML");
        let value = serde_json::to_value(table).expect("it is JSON, too");
        fits(&schema, &schema, &value)
    };
    let (_, keys) = flags();
    let all = printed(&all_flags(&keys));
    assert!(takes(&all), "{all}");
    for text in [
        "component = \"echo\"\ntcp = 1\n",
        "module = \"package\"\npython = \"python.wasm\"\n",
        "component = \"echo\"\ntcp = [1, \"unix:/a\"]\nidle-timeout = 0\nmax-body = 3000\n",
        "component = \"echo\"\nenv = { A = \"b\", C = { file = \"/dev/null\" } }\n",
        "component = \"echo\"\ntls-min-version = 1.3\nunix-mode = 0o660\n",
        "component = \"echo\"\notlp = \"http://a\"\notlp-sample = 0.5\n",
        "component = \"echo\"\notlp-sample = 0\n",
        "component = \"echo\"\ntls-min-version = \"1.3\"\nunix-mode = 660\n",
        "workers = 2\nmax-body = \"2MiB\"\n[services.a]\ncomponent = \"echo\"\ntcp = 1\n",
    ] {
        assert!(load_text(text).is_ok() && takes(text), "{text}");
    }
    for text in [
        "tcp = 1\n",
        "component = \"a.py\"\nmodule = \"package\"\n",
        "component = \"echo\"\nworker = 1\n",
        "component = \"echo\"\nno-cache = \"yes\"\n",
        "component = \"echo\"\nidle-timeout = 30\n",
        "component = \"echo\"\nisolation = \"none\"\n",
        "component = \"echo\"\nverbose = 3\n",
        "component = \"echo\"\ntls-min-version = 1.1\n",
        "component = \"echo\"\notlp-sample = 2\n",
        "component = \"echo\"\notlp = 4318\n",
        "component = \"echo\"\nenv = { A = { path = \"d\" } }\n",
        "[services.a]\ntcp = 1\n",
        "tcp = 1\n[services.a]\ncomponent = \"echo\"\n",
        "[services.a]\ncomponent = \"echo\"\nworkers = 1\n",
        "services = 1\n",
        "[services]\n",
    ] {
        assert!(load_text(text).is_err() && !takes(text), "{text}");
    }
    // Every key is described.
    let properties = schema.pointer("/else/properties").expect("keys");
    for key in &keys {
        let key = properties.get(&key.name).expect("the key");
        assert!(key["description"].as_str().is_some_and(|it| it.len() > 5));
    }
    assert!(Cli::command().find_subcommand("check").is_some());
}

/// Says whether a value fits a schema, by the words that ours has.
fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    let types = |schema: &Value| match schema.get("type") {
        None => true,
        Some(Value::String(one)) => is_of(one, value),
        Some(Value::Array(many)) => many
            .iter()
            .any(|it| is_of(it.as_str().expect("text"), value)),
        Some(other) => panic!("{other}"),
    };
    for word in schema.as_object().expect("an object").keys() {
        let known = [
            "$schema",
            "$defs",
            "$ref",
            "title",
            "description",
            "default",
            "type",
            "properties",
            "required",
            "additionalProperties",
            "propertyNames",
            "minProperties",
            "items",
            "if",
            "then",
            "else",
            "not",
            "enum",
            "const",
            "minimum",
            "maximum",
            "pattern",
        ];
        assert!(known.contains(&word.as_str()), "{word}");
    }
    if let Some(Value::String(path)) = schema.get("$ref") {
        let target = root
            .pointer(path.trim_start_matches('#'))
            .expect("a definition");
        return fits(root, target, value);
    }
    let choice = schema.get("if").is_none_or(|condition| {
        let word = match fits(root, condition, value) {
            true => "then",
            false => "else",
        };
        fits(root, schema.get(word).expect("its choice"), value)
    });
    let choice = choice && schema.get("not").is_none_or(|it| !fits(root, it, value));
    let listed = schema
        .get("enum")
        .is_none_or(|all| all.as_array().expect("a list").contains(value))
        && schema.get("const").is_none_or(|one| one == value);
    let number = value.as_i64().is_none_or(|number| {
        let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
        bound("minimum").is_none_or(|least| number >= least)
            && bound("maximum").is_none_or(|most| number <= most)
    });
    let items = schema.get("items").is_none_or(|items| {
        let all = value
            .as_array()
            .map(|all| all.iter().all(|it| fits(root, items, it)));
        all.unwrap_or(true)
    });
    let object = value.as_object().is_none_or(|object| {
        let required = schema.get("required").and_then(Value::as_array);
        let has = |name: &Value| object.contains_key(name.as_str().expect("a name"));
        required.is_none_or(|names| names.iter().all(has))
            && object.iter().all(|(name, value)| {
                let own = schema.get("properties").and_then(|it| it.get(name));
                match (own, schema.get("additionalProperties")) {
                    (Some(own), _) => fits(root, own, value),
                    (None, Some(Value::Bool(allowed))) => *allowed,
                    (None, Some(others)) => fits(root, others, value),
                    (None, None) => true,
                }
            })
    });
    let least = schema
        .get("minProperties")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    let enough = value.as_object().is_none_or(|it| it.len() as u64 >= least);
    types(schema) && enough && choice && listed && number && items && object
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other}"),
    }
}
