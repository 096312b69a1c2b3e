//! Rules made to take all memory or time: each is refused, or followed within limits.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::*;

fn nested(depth: usize) -> Value {
    (0..depth).fold(
        json!({"type": "integer"}),
        |inner, _| json!({"type": "object", "properties": {"a": inner}, "required": ["a"]}),
    )
}

/// A chain of references.
fn chain(length: usize) -> Value {
    let mut defs = Map::new();
    for i in 0..length {
        defs.insert(format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", i + 1)}));
    }
    defs.insert(format!("d{length}"), json!({"type": "integer"}));
    json!({"$defs": defs, "$ref": "#/$defs/d0"})
}

/// Two alternatives of two alternatives of ...: 2^n ways.
fn branching(keyword: &str, depth: usize) -> Value {
    let mut defs = Map::new();
    for i in 0..depth {
        let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
        let way = |key: &str| json!({"type": "object", "properties": {key: next.clone()}});
        defs.insert(format!("d{i}"), json!({keyword: [way("a"), way("b")]}));
    }
    defs.insert(format!("d{depth}"), json!({"type": "integer"}));
    json!({"$defs": defs, "$ref": "#/$defs/d0"})
}

/// `allOf` of many `anyOf`s: their product.
fn product(n: usize) -> Value {
    let any = |i: usize| {
        let way = |j: usize| json!({"type": "object", "properties": {format!("p{i}"): {"const": j}}, "required": [format!("p{i}")]});
        json!({"anyOf": (0..4).map(way).collect::<Vec<_>>()})
    };
    json!({"allOf": (0..n).map(any).collect::<Vec<_>>()})
}

fn properties(n: usize, required: bool) -> Value {
    let map: Map<String, Value> =
        (0..n).map(|i| (format!("property_{i}"), json!({"type": "string"}))).collect();
    let required: Vec<String> = if required { map.keys().cloned().collect() } else { Vec::new() };
    json!({"type": "object", "properties": map, "required": required})
}

fn bombs() -> Vec<(String, Rule)> {
    let mut bombs = Vec::new();
    let mut schema = |name: &str, value: Value| bombs.push((name.to_owned(), Rule::Schema(value)));
    schema("nested 30", nested(30));
    schema("nested 100", nested(100));
    schema(
        "enum of 15000",
        json!({"enum": (0..15_000).map(|i| format!("value {i}")).collect::<Vec<_>>()}),
    );
    schema(
        "enum of 100000",
        json!({"enum": (0..100_000).map(|i| format!("value {i}")).collect::<Vec<_>>()}),
    );
    schema(
        "long strings",
        json!({"enum": (0..100).map(|i| "ab".repeat(1000 + i)).collect::<Vec<_>>()}),
    );
    schema("chain of 6000", chain(6000));
    schema("anyOf of anyOf", branching("anyOf", 40));
    schema("allOf of allOf", branching("allOf", 40));
    schema("oneOf of oneOf", branching("oneOf", 40));
    schema("product", product(12));
    schema("4000 properties", properties(4000, true));
    schema("500 properties", properties(500, true));
    schema("500 optional properties", properties(500, false));
    schema(
        "maxItems",
        json!({"type": "array", "items": {"type": "integer"}, "minItems": 1_000_000, "maxItems": 2_000_000}),
    );
    schema(
        "prefixItems",
        json!({"type": "array", "prefixItems": vec![json!({"type": "string"}); 5000], "minItems": 5000}),
    );
    schema("minLength", json!({"type": "string", "minLength": 1_000_000_000}));
    schema(
        "maxLength",
        json!({"type": "string", "pattern": "^(a|b)*c(a|b)*$", "minLength": 10_000, "maxLength": 20_000}),
    );
    schema(
        "pattern",
        json!({"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$", "maxLength": 100_000}),
    );
    schema(
        "patterns",
        json!({"allOf": (1..40).map(|i| json!({"type": "string", "pattern": format!("^(.{{{i}}}a)*$")})).collect::<Vec<_>>()}),
    );
    schema(
        "patternProperties",
        json!({"type": "object", "patternProperties": (0..300).map(|i| (format!("^a.*{i}$"), json!({"type": "integer"}))).collect::<Map<_, _>>()}),
    );
    schema("multipleOf", json!({"type": "integer", "multipleOf": 999_999_937, "minimum": 1}));
    schema(
        "multiples",
        json!({"allOf": Vec::from([7, 11, 13, 17, 19, 23, 29].map(|n| json!({"type": "integer", "multipleOf": n})))}),
    );
    schema(
        "range",
        json!({"type": "number", "minimum": -1.234567890123e300, "maximum": 9.87654321e307}),
    );
    schema(
        "minProperties",
        json!({"type": "object", "minProperties": 100_000, "additionalProperties": {"type": "integer"}}),
    );
    schema("itself", json!({"$ref": "#"}));
    schema(
        "circle",
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
    );
    schema(
        "circle of allOf",
        json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
    );
    let mut regex = |text: String| bombs.push((format!("{text:.40}"), Rule::Regex(text)));
    regex("(a|aa)*b".to_owned());
    regex("((a*)*)*b".to_owned());
    regex("[a-z]{1000000}".to_owned());
    regex("(a{1000}){1000}".to_owned());
    regex("((a{1,100}){1,100}){1,100}".to_owned());
    regex("(.*a.{20})*b".to_owned());
    regex("(?s).*a.{200}".to_owned());
    regex("(x+x+)+y".to_owned());
    regex(r"(\w|\d|[a-z])*(\w\d){500}".to_owned());
    regex("(".repeat(5000) + "a" + &")".repeat(5000));
    regex("a?".repeat(5000) + &"a".repeat(5000));
    regex("(a|b|ab)*".repeat(400));
    regex("abcdefgh".repeat(1900));
    regex((0..1500).map(|i| format!("w{i}")).collect::<Vec<_>>().join("|"));
    regex(r"(\p{L}\p{N}){1,3000}".to_owned());
    regex(".*".repeat(3000));
    let mut lark = |text: String| bombs.push((format!("{text:.40}"), Rule::Lark(text)));
    lark("start: start start | \"a\"".to_owned());
    lark("start: start".to_owned());
    lark("start: (\"a\"?)~1000000".to_owned());
    lark("start: a~1..1000\na: b~1..1000\nb: \"x\"~1..1000".to_owned());
    lark("start: x x x x x x x x\nx: y? y? y? y? y? y?\ny: z? z? z? z? z?\nz: \"a\" | \"a\" \"a\" | start".to_owned());
    lark("start: ".to_owned() + &"(".repeat(20_000) + "\"a\"" + &")".repeat(20_000));
    lark(
        (0..8000).map(|i| format!("r{i}: r{} \"a\"\n", i + 1)).collect::<String>()
            + "r8000: \"b\"\nstart: r0",
    );
    lark(
        (0..5000).map(|i| format!("r{i}: /[a-z]+{i}/\n")).collect::<String>()
            + "start: "
            + &(0..5000).map(|i| format!("r{i}")).collect::<Vec<_>>().join(" | "),
    );
    lark("start: /[a-z]+/ /[a-z]+/ /[a-z]+/ start | ".to_owned() + &"/[a-z0-9]*/ ".repeat(3000));
    lark(
        (0..200).map(|i| format!("T{i}: T{} T{}\n", i + 1, i + 1)).collect::<String>()
            + "T200: \"a\"\nstart: T0",
    );
    lark("start: %json {\"enum\": [".to_owned() + &"\"a\",".repeat(50_000) + "\"b\"]}");
    lark("start: %regex {\"substring_chars\": \"".to_owned() + &"ab".repeat(100_000) + "\"}");
    bombs
}

/// What a bomb took.
#[derive(Default)]
struct Harm {
    /// Of compiling, until the thread that does it has ended too.
    compiling: Duration,
    slowest: Duration,
    /// Most work of a step, as llguidance counts it.
    items: usize,
    fuel: u64,
    steps: usize,
    end: String,
}

fn run(tokenizer: &Tokenizer, grammars: &Grammars, rule: &Rule) -> Harm {
    let mut harm = Harm::default();
    let begun = Instant::now();
    let compiled = grammars.compile(rule).and_then(|constraint| constraint.follow());
    while COMPILING.free() < MAX_COMPILING && begun.elapsed() < HANGS {
        std::thread::sleep(Duration::from_millis(1));
    }
    harm.compiling = begun.elapsed();
    harm.end = match compiled.and_then(|mut follower| steps(tokenizer, &mut follower, &mut harm)) {
        Ok(end) => end.to_owned(),
        Err(error) => error.to_string(),
    };
    harm
}

/// Random steps, and how they ended.
fn steps(
    tokenizer: &Tokenizer,
    follower: &mut Follower,
    harm: &mut Harm,
) -> Result<&'static str, GrammarError> {
    let mut rng = Rng::new(1);
    for _ in 0..MOST_STEPS {
        let begun = Instant::now();
        let allowed = follower.allowed().map(|mask| mask.map(<[u32]>::to_vec));
        harm.slowest = harm.slowest.max(begun.elapsed());
        let (items, fuel) = follower.work();
        (harm.items, harm.fuel) = (harm.items.max(items), harm.fuel.max(fuel));
        let Some(mask) = allowed? else { return Ok("complete") };
        let may =
            |t: &u32| mask.get(*t as usize / 32).is_some_and(|word| word >> (t % 32) & 1 == 1);
        let allowed: Vec<u32> = (0..tokenizer.vocab_size() as u32)
            .filter(|t| may(t) && !tokenizer.is_eog(*t))
            .collect();
        if allowed.is_empty() {
            return Ok("complete");
        }
        let begun = Instant::now();
        let taken = follower.take(allowed[rng.below(allowed.len())]);
        harm.slowest = harm.slowest.max(begun.elapsed());
        harm.steps += 1;
        taken?;
    }
    Ok("goes on")
}

const MOST_STEPS: usize = 150;
/// Longer than anything takes in a build with checks, on a busy machine.
const HANGS: Duration = Duration::from_secs(60);

/// Run with `--nocapture` for the times.
#[test]
fn bombs_end_as_errors_or_do_no_harm() {
    let tokenizer = bytes();
    let grammars = grammars(&tokenizer);
    let limits = limits();
    // The engine's thread has such a stack; an overflow would end the process.
    let all = move || {
        for (name, rule) in bombs() {
            let harm = run(&tokenizer, &grammars, &rule);
            let Harm { compiling, slowest, items, fuel, steps, end } = harm;
            println!(
                "{name:40} compiled {compiling:9.1?}, {steps:3} steps, slowest {slowest:9.1?}, {items:6} items, {fuel:7} fuel: {end:.90}"
            );
            assert!(compiling < HANGS && slowest < HANGS, "{name}");
            assert!(items <= limits.step_max_items + limits.max_items_in_row, "{name}: {items}");
            assert!(fuel <= limits.step_lexer_fuel, "{name}: {fuel}");
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(all).unwrap().join().unwrap();
}
