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
    let mut schema = super::adapt::adapted(schema);
    if !combines(&schema) {
        close(&mut schema);
    }
    match schema {
        Value::Object(_) => {
            bound_integers(&mut schema);
            schema["x-guidance"] = layout();
            Ok(schema)
        }
        Value::Bool(any) => Ok(json!({ "allOf": [any], "x-guidance": layout() })),
        _ => Err(GrammarError::Rule("a schema must be an object".to_owned())),
    }
}

fn layout() -> Value {
    json!({ "whitespace_pattern": JSON_BLANKS, "coerce_one_of": true })
}

/// Keywords under which what one schema allows another may need.
const COMBINING: [&str; 6] =
    ["allOf", "not", "if", "dependentSchemas", "unevaluatedProperties", "$dynamicRef"];

/// Whether schemas are combined anywhere, so that none may be closed.
fn combines(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            map.keys().any(|key| COMBINING.contains(&key.as_str())) || map.values().any(combines)
        }
        Value::Array(items) => items.iter().any(combines),
        _ => false,
    }
}

/// Forbids properties that an object's schema neither names nor speaks of: what is written is valid either way, and small models, once they
/// may invent properties, do not stop. llama.cpp does so too.
fn close(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    let speaks = ["additionalProperties", "patternProperties", "minProperties", "$ref"];
    let branches = ["anyOf", "oneOf"].iter().any(|key| map.contains_key(*key));
    let named = map.get("properties").is_some_and(|p| p.as_object().is_some_and(|p| !p.is_empty()));
    if named && !branches && !speaks.iter().any(|key| map.contains_key(*key)) {
        map.insert("additionalProperties".to_owned(), false.into());
    }
    for (key, value) in map {
        match (key.as_str(), value) {
            ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(all)) => {
                all.values_mut().for_each(close);
            }
            ("items" | "additionalProperties" | "contains", value @ Value::Object(_)) => {
                close(value);
            }
            ("prefixItems" | "items", Value::Array(all)) => all.iter_mut().for_each(close),
            // Where the object itself names properties, its branches must leave room for them.
            ("anyOf" | "oneOf", Value::Array(all)) if !named => all.iter_mut().for_each(close),
            _ => {}
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_closed_where_that_can_be_seen() {
        let closed = |mut schema: Value| {
            if !combines(&schema) {
                close(&mut schema);
            }
            schema
        };
        let open = json!({"properties": {"a": {"properties": {"b": {}}}}});
        let expected = json!({"properties": {"a": {"properties": {"b": {}}, "additionalProperties": false}},
            "additionalProperties": false});
        assert_eq!(closed(open), expected);
        for left in [
            json!({"properties": {"a": {}}, "additionalProperties": true}),
            json!({"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}]}),
            json!({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}),
            json!({"type": "object"}),
            json!({"properties": {}}),
            json!({"enum": [{"properties": {"a": 1}}]}),
        ] {
            assert_eq!(closed(left.clone()), left);
        }
    }
}
