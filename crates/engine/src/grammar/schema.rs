//! JSON schemas before they are compiled: their size, and how JSON is to be laid out. What keywords mean is llguidance's.

use hob_text::{JSON_BLANKS, bound_integers};
use serde_json::{Value, json};

use super::{
    GrammarError, MAX_RULE_BYTES, MAX_SCHEMA_DEPTH, MAX_SCHEMA_PROPERTIES, MAX_SCHEMA_VALUES,
    at_most,
};

/// The largest least common multiple of all that numbers must be multiples of: the matcher has a state per remainder.
const MAX_MULTIPLE: u64 = 10_000;
/// Most decimals of such a number.
const MAX_DECIMALS: i32 = 6;

/// Any object.
pub(super) fn object() -> Value {
    json!({ "type": "object", "x-guidance": layout() })
}

/// A schema of bearable size, with our layout and bounded integers.
pub(super) fn checked(schema: &Value) -> Result<Value, GrammarError> {
    let mut size = Size::default();
    size.add(schema, 1)?;
    size.multiples()?;
    match schema {
        Value::Object(_) => {
            let mut schema = schema.clone();
            bound_integers(&mut schema);
            schema["x-guidance"] = layout();
            Ok(schema)
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
    /// Of all `multipleOf`.
    multiples: Vec<f64>,
}

impl Size {
    fn add(&mut self, value: &Value, depth: usize) -> Result<(), GrammarError> {
        at_most("levels of a schema", depth, MAX_SCHEMA_DEPTH)?;
        self.values += 1;
        at_most("values of a schema", self.values, MAX_SCHEMA_VALUES)?;
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter().try_for_each(|item| self.add(item, depth + 1)),
            Value::Object(map) => {
                at_most("keys of one object in a schema", map.len(), MAX_SCHEMA_PROPERTIES)?;
                self.multiples.extend(map.get("multipleOf").and_then(Value::as_f64));
                map.iter().try_for_each(|(key, value)| {
                    self.text(key)?;
                    self.add(value, depth + 1)
                })
            }
            _ => Ok(()),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), GrammarError> {
        self.bytes += text.len() + 2;
        at_most("bytes of a schema", self.bytes, MAX_RULE_BYTES)
    }

    /// Whether numbers may be matched by their remainders.
    fn multiples(&self) -> Result<(), GrammarError> {
        let whole = |scale: f64| {
            self.multiples.iter().all(|m| ((m * scale) - (m * scale).round()).abs() < 1e-6)
        };
        let refused =
            || GrammarError::Rule(format!("multipleOf: {:?} is too much", self.multiples));
        let scale =
            (0..=MAX_DECIMALS).map(|k| 10f64.powi(k)).find(|&k| whole(k)).ok_or_else(refused)?;
        let mut common = 1;
        for multiple in &self.multiples {
            let multiple = (multiple * scale).round() as u64;
            common =
                common / divisor(common, multiple.max(1)) * multiple.clamp(1, MAX_MULTIPLE + 1);
            if common > MAX_MULTIPLE {
                return Err(refused());
            }
        }
        Ok(())
    }
}

/// The greatest common divisor.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}
