//! Values of attributes and of the bodies of log records: `wasi:otel` has them as
//! JSON, and bytes as text with a prefix.

use netwasm_base::base64;
use netwasm_otlp::attributes::{AnyValue, KeyValue, KeyValueList, OtlpValue, ValueList};
use serde_json::Value;

/// Beginning of a text that means bytes: RFC 2397.
const BYTES: &str = "data:application/octet-stream;base64,";

/// Depth beyond which a value stays JSON. Receivers refuse messages that are
/// nested too deeply, with all that came in the same request.
const DEEPEST: usize = 16;

/// Returns a value of JSON. A text that is none is taken as it is.
pub(super) fn of_json(text: &str) -> OtlpValue {
    match serde_json::from_str(text) {
        Ok(value) => of(value, 0),
        Err(_) => OtlpValue {
            value: Some(AnyValue::Text(text.to_owned())),
        },
    }
}

/// Returns the beginning of a value of JSON, as text.
pub(super) fn of_beginning(text: &str) -> OtlpValue {
    let text = text.strip_prefix('"').unwrap_or(text);
    OtlpValue {
        value: Some(AnyValue::Text(text.to_owned())),
    }
}

fn of(value: Value, depth: usize) -> OtlpValue {
    let value = match value {
        Value::Null => None,
        Value::Bool(value) => Some(AnyValue::Truth(value)),
        // A whole number beyond 64 bits with a sign becomes the nearest number.
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Some(AnyValue::Whole(whole)),
            None => number.as_f64().map(AnyValue::Number),
        },
        Value::String(text) => Some(of_text(text)),
        deep if depth >= DEEPEST => Some(AnyValue::Text(deep.to_string())),
        Value::Array(values) => {
            let values = values.into_iter().map(|value| of(value, depth + 1));
            Some(AnyValue::List(ValueList {
                values: values.collect(),
            }))
        }
        Value::Object(pairs) => {
            let values = pairs.into_iter().map(|(key, value)| KeyValue {
                key,
                value: Some(of(value, depth + 1)),
            });
            Some(AnyValue::Map(KeyValueList {
                values: values.collect(),
            }))
        }
    };
    OtlpValue { value }
}

fn of_text(text: String) -> AnyValue {
    match text.strip_prefix(BYTES).map(base64::decode) {
        Some(Some(bytes)) => AnyValue::Bytes(bytes),
        Some(None) | None => AnyValue::Text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> AnyValue {
        of_json(text).value.expect("a value")
    }

    #[test]
    fn a_value_has_the_type_that_its_json_has() {
        let text = |text: &str| AnyValue::Text(text.to_owned());
        assert_eq!(value("\"a\\n\\u00e4\""), text("a\nä"));
        assert_eq!(value("true"), AnyValue::Truth(true));
        assert_eq!(value("-7"), AnyValue::Whole(-7));
        assert_eq!(value("1.5"), AnyValue::Number(1.5));
        assert_eq!(value("1.0"), AnyValue::Number(1.0));
        let beyond = value("18446744073709551615");
        assert_eq!(beyond, AnyValue::Number(1.844_674_407_370_955_2e19));
        assert_eq!(of_json("null").value, None);
        let bytes = value("\"data:application/octet-stream;base64,SGVsbG8sIHdvcmxkIQ==\"");
        assert_eq!(bytes, AnyValue::Bytes(b"Hello, world!".to_vec()));
        let broken = "data:application/octet-stream;base64,?";
        assert_eq!(value(&format!("\"{broken}\"")), text(broken));
        // A text that is no JSON is shown as it came.
        assert_eq!(value("plain"), text("plain"));
        assert_eq!(value(""), text(""));
        assert_eq!(of_beginning("\"cut o").value, Some(text("cut o")));
        assert_eq!(of_beginning("{\"a").value, Some(text("{\"a")));
        let some = |value| OtlpValue { value: Some(value) };
        let list = AnyValue::List(ValueList {
            values: vec![some(AnyValue::Whole(1)), some(text("b"))],
        });
        assert_eq!(value("[1,\"b\"]"), list);
        let map = AnyValue::Map(KeyValueList {
            values: vec![KeyValue {
                key: "k".to_owned(),
                value: Some(some(list)),
            }],
        });
        assert_eq!(value("{\"k\":[1,\"b\"]}"), map);
    }

    #[test]
    fn a_value_that_is_nested_deeply_stays_json_inside() {
        let json = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        let mut inner = of_json(&json);
        for _ in 0..DEEPEST {
            let Some(AnyValue::List(list)) = inner.value else {
                panic!("no list: {inner:?}");
            };
            inner = list.values.into_iter().next().expect("a value");
        }
        let Some(AnyValue::Text(rest)) = inner.value else {
            panic!("no text: {inner:?}");
        };
        assert_eq!(rest, json[DEEPEST..json.len() - DEEPEST]);
        // Deeper than the reader of JSON goes, too.
        let json = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(value(&json), AnyValue::Text(json));
    }
}
