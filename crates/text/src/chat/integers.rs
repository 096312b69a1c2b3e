//! Integers of JSON schemas get bounds where they have none: JSON has no longest number, but programs that read it have, and small models
//! write digits without end. Absent: numbers with fractions, whose exponents a bound would forbid.

use serde_json::{Map, Value};

/// Fits 64 bits, and is no rounded `f64`.
const LARGEST: i64 = 9_000_000_000_000_000_000;

/// Bounds the integers of a schema, and of those within it.
pub fn bound_integers(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    if is_integer(map.get("type")) {
        bound(map);
    }
    for (key, value) in map {
        match (key.as_str(), value) {
            (
                "properties" | "patternProperties" | "$defs" | "definitions",
                Value::Object(named),
            ) => {
                named.values_mut().for_each(bound_integers);
            }
            ("items" | "prefixItems" | "anyOf" | "allOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(bound_integers);
            }
            ("items" | "additionalProperties", schema) => bound_integers(schema),
            _ => {}
        }
    }
}

fn is_integer(kind: Option<&Value>) -> bool {
    match kind {
        Some(Value::Array(kinds)) => {
            kinds.iter().any(|kind| kind == "integer") && !kinds.iter().any(|kind| kind == "number")
        }
        kind => kind.is_some_and(|kind| kind == "integer"),
    }
}

/// Bounds that contradict each other, or values that are listed, are left to say what they say.
fn bound(map: &mut Map<String, Value>) {
    let limit = |plain: &str, exclusive: &str| {
        [plain, exclusive].iter().find_map(|key| map.get(*key)?.as_f64())
    };
    let (least, most) =
        (limit("minimum", "exclusiveMinimum"), limit("maximum", "exclusiveMaximum"));
    let within = |bound: Option<f64>| bound.is_none_or(|bound| bound.abs() < LARGEST as f64);
    if !within(least) || !within(most) {
        return;
    }
    if least.is_none() {
        map.insert("minimum".to_owned(), (-LARGEST).into());
    }
    if most.is_none() {
        map.insert("maximum".to_owned(), LARGEST.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn integers_get_the_bounds_that_they_lack() {
        let bounded = |mut schema: Value| {
            bound_integers(&mut schema);
            schema
        };
        let full = json!({"type": "integer", "minimum": -LARGEST, "maximum": LARGEST});
        assert_eq!(bounded(json!({"type": "integer"})), full);
        assert_eq!(
            bounded(json!({"type": ["null", "integer"], "exclusiveMinimum": 3})),
            json!({"type": ["null", "integer"], "exclusiveMinimum": 3, "maximum": LARGEST})
        );
        for same in [
            json!({"type": "number"}),
            json!({"type": ["integer", "number"]}),
            json!({"type": "integer", "minimum": 1e30}),
            json!({"enum": [{"type": "integer"}], "const": {"items": {"type": "integer"}}}),
            json!(true),
        ] {
            assert_eq!(bounded(same.clone()), same);
        }
        let integer = json!({"type": "integer"});
        let nest = |inner: &Value| {
            json!({"properties": {"properties": inner}, "items": [inner], "anyOf": [{"items": inner}],
                "$defs": {"a": {"additionalProperties": inner}}})
        };
        assert_eq!(bounded(nest(&integer)), nest(&full));
    }
}
