//! Schemas, expressions, Lark and thinking.

use serde_json::{Value, json};

use super::*;

/// Schemas as they are sent: of structured outputs, of Ollama's `format`, by pydantic and zod.
fn schemas() -> Vec<Value> {
    let named =
        json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    vec![
        json!({"type": "object"}),
        json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 14}, "b": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}}, "required": ["a", "b"], "additionalProperties": false}),
        json!({"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 2, "maxItems": 4}),
        json!({"type": "string", "enum": ["red", "green", "blue \"deep\"", "é"]}),
        json!({"enum": [1, "one", null, true]}),
        json!({"const": {"a": [1, 2], "b": null}}),
        json!({"type": "boolean"}),
        json!({"type": ["string", "null"], "maxLength": 3}),
        json!({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"type": "string", "pattern": "^[a-z]{2,4}$"}]}),
        json!({"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "integer", "maximum": 9, "minimum": 0}}, "required": ["kind", "x"], "additionalProperties": false}, {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"], "additionalProperties": false}]}),
        json!({"allOf": [named, {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150}}, "required": ["age"]}], "unevaluated": 1}),
        json!({"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"}),
        json!({"type": "string", "minLength": 2, "maxLength": 6}),
        json!({"type": "string", "format": "date"}),
        json!({"type": "string", "format": "uuid"}),
        json!({"type": "string", "format": "ipv4"}),
        json!({"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100}),
        json!({"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": 3}),
        json!({"type": "array", "prefixItems": [{"type": "boolean"}, {"const": "x"}], "items": false, "minItems": 2}),
        json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "null"}, "c": {"type": "boolean"}}, "additionalProperties": false}),
        json!({"type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9}}),
        json!({"type": "object", "patternProperties": {"^x_[a-z]$": {"type": "boolean"}}, "additionalProperties": false}),
        json!({"$defs": {"P": {"type": "object", "properties": {"x": {"type": "integer", "minimum": -5, "maximum": 5}}, "required": ["x"], "additionalProperties": false}}, "type": "object", "properties": {"a": {"$ref": "#/$defs/P"}, "b": {"type": "array", "items": {"$ref": "#/$defs/P"}, "maxItems": 2}}, "required": ["a", "b"], "additionalProperties": false}),
        json!({"definitions": {"Node": {"type": "object", "properties": {"v": {"type": "boolean"}, "next": {"anyOf": [{"$ref": "#/definitions/Node"}, {"type": "null"}]}}, "required": ["v", "next"], "additionalProperties": false}}, "$ref": "#/definitions/Node"}),
        json!({"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}}, "required": ["children"], "additionalProperties": false}),
        json!({"title": "Pet", "description": "of pydantic", "type": "object", "properties": {"name": {"title": "Name", "type": "string"}, "age": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 99}, {"type": "null"}], "default": null, "title": "Age"}}, "required": ["name"]}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "minItems": 1, "maxItems": 3}}, "required": ["tags"], "additionalProperties": false}),
        json!({"type": "object", "minProperties": 1, "maxProperties": 2, "additionalProperties": {"type": "boolean"}}),
        json!({"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 1}, "minItems": 2, "maxItems": 2}, "minItems": 1, "maxItems": 2}),
        json!({"type": "object", "properties": {"outer": {"type": "object", "properties": {"inner": {"type": "object", "properties": {"deep": {"enum": ["yes", "no"]}}, "required": ["deep"], "additionalProperties": false}}, "required": ["inner"], "additionalProperties": false}}, "required": ["outer"], "additionalProperties": false}),
        json!(true),
        json!({}),
    ]
}

#[test]
fn whatever_is_drawn_from_a_schema_is_valid() {
    let tokenizer = bytes();
    let grammars = grammars(&tokenizer);
    assert!(schemas().len() >= 30);
    let mut rng = Rng::new(11);
    for schema in schemas() {
        let constraint = grammars.compile(&Rule::Schema(schema.clone())).unwrap();
        let judge = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        let mut ended = 0;
        for _ in 0..12 {
            let Some(text) = draw(&tokenizer, &constraint, &mut rng) else { continue };
            ended += 1;
            let value: Value = match serde_json::from_str(&text) {
                Ok(value) => value,
                // Valid JSON all the same: 1e999.
                Err(e) if e.to_string().starts_with("number out of range") => continue,
                Err(e) => panic!("{e}: {text:?} of {schema}"),
            };
            assert!(judge.is_valid(&value), "{text} of {schema}");
        }
        assert!(ended > 6, "{ended} answers of {schema} ended");
    }
}

#[test]
fn integers_without_bounds_fit_64_bits() {
    let tokenizer = bytes();
    let grammars = grammars(&tokenizer);
    let integer = grammars.compile(&Rule::Schema(json!({"type": "integer"}))).unwrap();
    for good in ["0", "-7", "9000000000000000000", "-8999999999999999999", "1234567890123456789"] {
        assert!(accepts(&tokenizer, &integer, good), "{good}");
    }
    for bad in ["9000000000000000001", "10000000000000000000", "-99999999999999999999", "01"] {
        assert!(!accepts(&tokenizer, &integer, bad), "{bad}");
    }
    let positive = json!({"type": "integer", "minimum": 5});
    let positive = grammars.compile(&Rule::Schema(positive)).unwrap();
    assert!(accepts(&tokenizer, &positive, "77") && !accepts(&tokenizer, &positive, "4"));
}

#[test]
fn json_mode_is_any_object_and_nothing_else() {
    let tokenizer = bytes();
    let json = grammars(&tokenizer).compile(&Rule::Json).unwrap();
    for good in
        ["{}", "{\"a\": [1, -2.5e3, null], \"b\": {\"c\": \"d\\n\\\"é\"}}", "{\n  \"a\": true\n}"]
    {
        assert!(accepts(&tokenizer, &json, good), "{good}");
    }
    let endless = format!("{{\"a\":{}1}}", "\n".repeat(9));
    for bad in [
        "[]",
        "1",
        "\"a\"",
        "{\"a\": }",
        "{'a': 1}",
        "{\"a\": 1,}",
        " {}",
        "{}x",
        "{",
        "",
        endless.as_str(),
    ] {
        assert!(!accepts(&tokenizer, &json, bad), "{bad}");
    }
}

#[test]
fn an_expression_matches_all_of_the_answer() {
    let tokenizer = bytes();
    let grammars = grammars(&tokenizer);
    let mut rng = Rng::new(3);
    for regex in
        [r"[0-9]{4}-[0-9]{2}", r"(yes|no)( /[a-z]+)?", "[0-9]{3}[[:alpha:]]", "\"quoted\" and é/ü"]
    {
        let constraint = grammars.compile(&Rule::Regex(regex.to_owned())).unwrap();
        let judge = regex_lite(regex);
        for _ in 0..10 {
            let text = draw(&tokenizer, &constraint, &mut rng).unwrap();
            assert!(judge.is_valid(&json!(text)), "{text} of {regex}");
        }
    }
    let yes = grammars.compile(&Rule::Regex("yes|no".to_owned())).unwrap();
    assert!(accepts(&tokenizer, &yes, "yes") && !accepts(&tokenizer, &yes, "yesno"));
}

/// An expression as a schema: the judge's own engine is another one.
fn regex_lite(regex: &str) -> jsonschema::Validator {
    let ascii = regex.replace("[[:alpha:]]", "[a-zA-Z]");
    jsonschema::validator_for(&json!({"pattern": format!("^({ascii})$")})).unwrap()
}

#[test]
fn a_grammar_with_markers_means_tokens_or_text() {
    const MARKED: &str =
        "start: <|tool|> WORD <[ARGS]> // a <|comment|>\nWORD: /[a-z]{1,3}/ \"<|tool|>\"?";
    let mut rng = Rng::new(5);
    for tokenizer in [bytes(), marked(&["<|tool|>", "[ARGS]"])] {
        let constraint = grammars(&tokenizer).compile(&Rule::Lark(MARKED.to_owned())).unwrap();
        for _ in 0..5 {
            let text = draw(&tokenizer, &constraint, &mut rng).unwrap();
            assert!(text.starts_with("<|tool|>") && text.ends_with("[ARGS]"), "{text}");
        }
        // Spelled, a control token is not itself.
        let control = tokenizer.token_id("<|tool|>").is_some();
        assert_eq!(accepts(&tokenizer, &constraint, "<|tool|>ab[ARGS]"), !control);
    }
}

#[test]
fn control_tokens_are_no_text() {
    let tokenizer = marked(&["<|tool|>"]);
    let any = grammars(&tokenizer).compile(&Rule::Regex("(?s:.*)".to_owned())).unwrap();
    let mut follower = any.follow().unwrap();
    let mask = follower.allowed().unwrap().unwrap();
    let allowed = |t: u32| mask[t as usize / 32] >> (t % 32) & 1 == 1;
    let call = tokenizer.token_id("<|tool|>").unwrap();
    assert!(!allowed(call) && allowed(tokenizer.eos().unwrap()) && allowed(1 + u32::from(b'a')));
}

#[test]
fn thinking_comes_before_the_rule() {
    let yes = Rule::Regex("yes|no".to_owned());
    for tokenizer in [bytes(), marked(&["<think>", "</think>"]), marked(&["</think>"])] {
        let rule = grammars(&tokenizer).compile(&yes).unwrap();
        let text = |name: &str| tokenizer.token_id(name).is_none();
        let opened = rule.clone().behind_thinking("<think>", "</think>", true);
        let fresh = rule.behind_thinking("<think>\n", "\n</think>", false);
        if text("</think>") {
            for good in ["hm, <b>? no!</think>yes", "</think>\n\nno"] {
                assert!(accepts(&tokenizer, &opened, good), "{good}");
            }
            for bad in ["yes", "hm", "a</think>b</think>yes", "</think> perhaps", "</think>"] {
                assert!(!accepts(&tokenizer, &opened, bad), "{bad}");
            }
        }
        if text("<think>") && text("</think>") {
            assert!(accepts(&tokenizer, &fresh, "<think>so</think>\nyes"));
            assert!(!accepts(&tokenizer, &fresh, "so</think>\nyes"));
        }
        assert!(accepts(&tokenizer, &fresh, "no") && !accepts(&tokenizer, &fresh, "so"));
        let mut rng = Rng::new(9);
        let (mut thought, mut ended) = (0, 0);
        for i in 0..40 {
            let constraint = if i % 2 == 0 { &opened } else { &fresh };
            let Some(answer) = draw(&tokenizer, constraint, &mut rng) else { continue };
            ended += 1;
            let end = answer.rsplit_once("</think>").map_or(answer.as_str(), |(_, end)| end);
            thought += usize::from(end.len() < answer.len());
            assert!(["yes", "no"].contains(&end.trim()), "{answer}");
        }
        assert!(ended > 20 && thought > 5, "{ended} ended, {thought} thought");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let grammars = grammars(&bytes());
    let error = |rule: Rule| grammars.compile(&rule).unwrap_err().to_string();
    let schema = |value: Value| error(Rule::Schema(value));
    assert!(schema(json!({"type": "object", "not": {"required": ["a"]}})).contains("\"not\""));
    assert!(schema(json!({"type": "array", "uniqueItems": true})).contains("uniqueItems"));
    assert!(schema(json!({"$ref": "#/$defs/None"})).contains("None"));
    assert!(schema(json!({"$ref": "https://example.com/schema.json"})).contains("example.com"));
    assert!(schema(json!([1])).contains("object"));
    assert!(schema(json!({"type": "thing"})).contains("thing"));
    assert!(error(Rule::Regex("(".to_owned())).contains('('));
    assert!(error(Rule::Lark("start: nothing".to_owned())).contains("nothing"));
    assert!(error(Rule::Lark(String::new())).contains("start"));
    let lost = grammars.compile(&Rule::Json).unwrap().behind_thinking("", "x", true);
    assert!(matches!(lost.follow(), Err(GrammarError::Rule(_))));
}
