//! The schemas that `cargo xtask schemas` asks a server for, here with answers drawn at random; and what a mask costs with real vocabularies.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::adapt::adapted;
use super::*;

struct Case {
    name: String,
    schema: Value,
    /// Why it is refused.
    refused: Option<String>,
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../tests/data/schemas.jsonl");
    let case = |line| {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| case[key].as_str().map(str::to_owned);
        let (name, refused) = (text("name").unwrap(), text("refused"));
        Case { name, schema: case["schema"].clone(), refused }
    };
    text.lines().map(case).collect()
}

#[test]
fn whatever_is_drawn_for_the_suite_is_valid() {
    let tokenizer = bytes();
    let grammars = grammars(&tokenizer);
    let (mut wrong, mut ended) = (Vec::new(), 0);
    let mut rng = Rng::new(5);
    for Case { name, schema, refused } in cases() {
        let constraint = match (grammars.compile(&Rule::Schema(schema.clone())), refused) {
            (Ok(constraint), None) => constraint,
            (Err(_), Some(_)) => continue,
            (Ok(_), Some(why)) => panic!("{name} is not refused, though: {why}"),
            (Err(error), None) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let judge = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        for _ in 0..6 {
            let Some(text) = draw(&tokenizer, &constraint, &mut rng) else { continue };
            ended += 1;
            match serde_json::from_str(&text) {
                Ok(value) => wrong
                    .extend(judge.validate(&value).err().map(|e| format!("{name}: {e}: {text}"))),
                Err(e) if e.to_string().starts_with("number out of range") => {}
                Err(e) => wrong.push(format!("{name}: {e}: {text}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ended > 1000, "{ended}");
}

#[test]
fn formats_without_a_standard_say_nothing() {
    let schema = json!({"properties": {"format": {"type": "string", "format": "phone"}, "d": {"format": "date"}},
        "const": {"format": "phone"}});
    let expected = json!({"properties": {"format": {"type": "string"}, "d": {"format": "date"}}, "const": {"format": "phone"}});
    assert_eq!(adapted(&schema), expected);
    let tokenizer = bytes();
    let regex = Rule::Schema(json!({"type": "string", "format": "regex"}));
    assert!(grammars(&tokenizer).compile(&regex).is_err());
}

#[test]
fn digits_come_to_an_end() {
    let tokenizer = bytes();
    let grammars = grammars(&tokenizer);
    let accept =
        |rule: &Rule, text: &str| accepts(&tokenizer, &grammars.compile(rule).unwrap(), text);
    let (few, many) = ("1".repeat(MAX_DIGITS), "1".repeat(MAX_DIGITS + 1));
    let number = Rule::Schema(json!({"type": "number"}));
    let pattern = Rule::Schema(json!({"type": "string", "pattern": "^[0-9]{40}$"}));
    for (rule, text, fits) in [
        (&number, few.clone(), true),
        (&number, many.clone(), false),
        (&number, format!("{few}.{few}e-{few}"), true),
        (&number, format!("0.{many}"), false),
        (&Rule::Json, format!("{{\"a\":{few}}}"), true),
        (&Rule::Json, format!("{{\"a\":{many}}}"), false),
        (&pattern, format!("\"{}\"", "1".repeat(40)), true),
        (&Rule::Regex("1+".to_owned()), many, true),
    ] {
        assert_eq!(accept(rule, &text), fits, "{text} for {rule:?}");
    }
    let host = adapted(&json!({"format": "hostname"}));
    assert_eq!(host, json!({"format": "hostname", "maxLength": 253}));
    assert_eq!(adapted(&json!({"format": "hostname", "maxLength": 9}))["maxLength"], 9);
}

#[test]
fn references_are_written_without_escapes() {
    let schema = json!({"$defs": {"a/b": {"$ref": "#/$defs/c~0d"}, "c~d": {"type": "null"}}, "$ref": "#/$defs/a~1b"});
    let out = adapted(&schema);
    assert_eq!(out["$ref"], "#/$defs/escaped reference 0");
    assert_eq!(
        out.pointer("/$defs/escaped reference 0"),
        Some(&json!({"$ref": "#/$defs/escaped reference 1"}))
    );
    assert_eq!(out.pointer("/$defs/escaped reference 1"), Some(&json!({"type": "null"})));
    let nowhere = json!({"$ref": "#/$defs/a~1b"});
    assert!(grammars(&bytes()).compile(&Rule::Schema(nowhere)).is_err());
}

#[test]
fn blanks_of_patterns_are_those_of_both_dialects() {
    let pattern = |text: &str| adapted(&json!({"pattern": text}))["pattern"].clone();
    let blanks = r" \t\n\r\f\v";
    assert_eq!(pattern(r"^\s+[\s_]$"), format!("^[{blanks}]+[{blanks}_]$"));
    for same in [r"\\s", r"[^\s]\S", r"\[s\]", "a\\"] {
        assert_eq!(pattern(same), same);
    }
}

#[test]
fn alternatives_of_one_of_are_set_apart() {
    let ways = |schema: Value| adapted(&schema)["oneOf"].clone();
    // By type and by closed objects they differ as they are.
    let apart = json!([{"type": "integer"}, {"type": ["string", "null"]},
        {"type": "object", "properties": {"a": true}, "required": ["a"], "additionalProperties": false},
        {"type": "object", "properties": {"b": true}, "required": ["b"], "additionalProperties": false}]);
    assert_eq!(ways(json!({"oneOf": apart.clone()})), apart);
    // A property with constants becomes required, also behind references.
    let schema = json!({"$defs": {"A": {"properties": {"t": {"const": 1}}}, "B": {"properties": {"t": {"enum": [2, 3]}}}},
        "oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]});
    let expected = json!([{"allOf": [{"$ref": "#/$defs/A"}, {"required": ["t"]}]}, {"allOf": [{"$ref": "#/$defs/B"}, {"required": ["t"]}]}]);
    assert_eq!(ways(schema), expected);
    // It is enough that one requires it.
    let told = json!([{"properties": {"t": {"const": 1}}}, {"properties": {"t": {"const": 2}}, "required": ["t"]}]);
    assert_eq!(ways(json!({"oneOf": told.clone()})), told);
    // What one requires, the other goes without.
    let schema = json!({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    assert_eq!(
        ways(schema),
        json!([{"required": ["a"], "properties": {"b": false}}, {"required": ["b"], "properties": {"a": false}}])
    );
    // References in a circle, and what cannot be told apart, stay.
    let odd = json!([{"$ref": "#/oneOf/0"}, {"type": "string"}, {"type": "string", "minLength": 3}, true]);
    assert_eq!(ways(json!({"oneOf": odd.clone()})), odd);
}

#[test]
fn an_email_of_zod_is_one_without_looking_ahead() {
    let zod = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$";
    let same = adapted(&json!({"pattern": zod}));
    let judges =
        [json!({"pattern": zod}), same].map(|schema| jsonschema::validator_for(&schema).unwrap());
    let parts = ["", "a", "b.c", ".d", "e.", "f..g", "h'", "'i", "j+k", "-", "_"];
    for local in parts.iter().flat_map(|a| parts.map(|b| format!("{a}{b}"))) {
        for domain in ["x.yz", "x", "x..yz", "-x.yz", "x-1.y.zz", "x.y"] {
            let mail = Value::from(format!("{local}@{domain}"));
            // Every address of ours is one of Zod's.
            assert!(judges[0].is_valid(&mail) || !judges[1].is_valid(&mail), "{mail}");
        }
    }
    assert!(judges[1].is_valid(&json!("a.b+c@x-1.y.zz")));
}

/// Prints a table: `cargo test -p hob-engine --lib what_masks_cost -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn what_masks_cost() {
    let cache = std::env::var_os("HOB_ASSETS").map(std::path::PathBuf::from);
    let cache = cache.unwrap_or_else(|| std::env::home_dir().unwrap().join(".cache/hob-assets"));
    for name in ["smollm2", "qwen-coder"] {
        let Ok(gguf) = hob_gguf::Gguf::open(&cache.join(format!("{name}.gguf"))) else { continue };
        let tokenizer = Arc::new(Tokenizer::from_gguf(gguf.meta()).unwrap());
        let start = Instant::now();
        let grammars = grammars(&tokenizer);
        let tables = start.elapsed();
        let (mut compiling, mut masks) = (Vec::new(), Vec::new());
        let mut rng = Rng::new(3);
        for case in cases().into_iter().filter(|case| case.refused.is_none()) {
            let start = Instant::now();
            let constraint = grammars.compile(&Rule::Schema(case.schema)).unwrap();
            compiling.push(start.elapsed());
            masks.extend(timed(&constraint, &mut rng));
        }
        eprintln!("{name}: {} tokens, tables in {tables:.1?}", tokenizer.vocab_size());
        for (what, mut times) in [("compiling", compiling), ("a mask", masks)] {
            times.sort();
            let mean = times.iter().sum::<Duration>() / times.len() as u32;
            let at = |part: usize| times[(times.len() - 1) * part / 100];
            eprintln!(
                "{what}: mean {mean:.1?}, half {:.1?}, 99 of 100 {:.1?}, most {:.1?}",
                at(50),
                at(99),
                at(100)
            );
        }
    }
}

/// Seconds of each mask of an answer that is drawn from the lowest allowed tokens, which are short.
fn timed(constraint: &Constraint, rng: &mut Rng) -> Vec<Duration> {
    let (mut follower, mut times) = (constraint.follow().unwrap(), Vec::new());
    for _ in 0..60 {
        let start = Instant::now();
        let Some(mask) = follower.allowed().unwrap() else { break };
        times.push(start.elapsed());
        let allowed =
            (0..mask.len() as u32 * 32).filter(|t| mask[*t as usize / 32] >> (t % 32) & 1 == 1);
        let allowed: Vec<u32> = allowed.take(64).collect();
        let token = allowed[rng.below(allowed.len())];
        follower.take(token).unwrap();
    }
    times
}
