//! JSON schemas before they are compiled: their size, and how JSON is to be laid out. What keywords mean is llguidance's.

use hob_text::JSON_BLANKS;
use serde_json::{Value, json};

use super::{GrammarError, MAX_RULE_BYTES, MAX_SCHEMA_DEPTH, MAX_SCHEMA_VALUES, at_most};

/// Any object.
pub(super) fn object() -> Value {
    json!({ "type": "object", "x-guidance": layout() })
}

/// A schema of bearable size, with our layout.
pub(super) fn checked(schema: &Value) -> Result<Value, GrammarError> {
    let mut size = Size::default();
    size.add(schema, 1)?;
    match schema {
        Value::Object(map) => {
            let mut map = map.clone();
            map.insert("x-guidance".to_owned(), layout());
            Ok(Value::Object(map))
        }
        Value::Bool(_) => Ok(json!({ "allOf": [schema], "x-guidance": layout() })),
        _ => Err(GrammarError::Rule("a schema must be an object".to_owned())),
    }
}

fn layout() -> Value {
    json!({ "whitespace_pattern": JSON_BLANKS, "coerce_one_of": true })
}

#[derive(Default)]
struct Size {
    bytes: usize,
    values: usize,
}

impl Size {
    fn add(&mut self, value: &Value, depth: usize) -> Result<(), GrammarError> {
        at_most("levels of a schema", depth, MAX_SCHEMA_DEPTH)?;
        self.values += 1;
        at_most("values of a schema", self.values, MAX_SCHEMA_VALUES)?;
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter().try_for_each(|item| self.add(item, depth + 1)),
            Value::Object(map) => map.iter().try_for_each(|(key, value)| {
                self.text(key)?;
                self.add(value, depth + 1)
            }),
            _ => Ok(()),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), GrammarError> {
        self.bytes += text.len() + 2;
        at_most("bytes of a schema", self.bytes, MAX_RULE_BYTES)
    }
}
