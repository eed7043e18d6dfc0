//! Reads YAML of others into JSON values: what the tests need to know Istio's schemas.

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

enum Open {
    Mapping(Map<String, Value>, Option<String>),
    Sequence(Vec<Value>),
}

/// All documents of a text. Tags and aliases have no meaning here.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only the events of nodes have a meaning here"
)]
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let mut open: Vec<Open> = Vec::new();
    let mut found = Vec::new();
    for event in Parser::new_from_str(text) {
        let value = match event.unwrap().0 {
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::MappingStart(..) => {
                open.push(Open::Mapping(Map::new(), None));
                continue;
            }
            Event::SequenceStart(..) => {
                open.push(Open::Sequence(Vec::new()));
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => match open.pop().unwrap() {
                Open::Mapping(map, _) => Value::Object(map),
                Open::Sequence(items) => Value::Array(items),
            },
            _ => continue,
        };
        match open.last_mut() {
            None => found.push(value),
            Some(Open::Sequence(items)) => items.push(value),
            Some(Open::Mapping(map, key)) => match key.take() {
                None => {
                    *key = Some(
                        value
                            .as_str()
                            .map_or_else(|| value.to_string(), str::to_owned),
                    )
                }
                Some(key) => drop(map.insert(key, value)),
            },
        }
    }
    found
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return text.into();
    }
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => true.into(),
        "false" => false.into(),
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) if text.starts_with(|c: char| c.is_ascii_digit()) => number.into(),
            _ => text.into(),
        },
    }
}

#[test]
fn documents_become_values() {
    let text = "a: [1, x, {b: true}]\nc: 'no'\n---\nd: |-\n  two\n  lines\n";
    let shown: Vec<String> = documents(text).iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            r#"{"a":[1,"x",{"b":true}],"c":"no"}"#,
            r#"{"d":"two\nlines"}"#
        ]
    );
}
