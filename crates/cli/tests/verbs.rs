//! Every verb as a user types it, on small random models: what it prints, where, and with which exit code.

mod common;

use common::{Home, text};
use serde_json::json;

const VERBS: [&str; 21] = [
    "run", "service", "ps", "stop", "pull", "list", "show", "rm", "cp", "create", "import", "push",
    "search", "verify", "gc", "tokenize", "bench", "fit", "advise", "imatrix", "doctor",
];

#[test]
fn every_verb_has_help_with_an_example() {
    let home = Home::new();
    let overview = home.hob(&["--help"]).ok();
    for verb in VERBS {
        assert!(overview.contains(&format!("\n  {verb} ")), "{verb}: {overview}");
        let help = home.hob(&[verb, "--help"]).ok();
        assert!(help.contains(&format!("  hob {verb}")), "{help}");
        assert!(help.contains("--json"), "{help}");
    }
}

#[test]
fn wrong_usage_is_2() {
    let home = Home::new();
    let tiny = home.tiny();
    let run = |flag: &str, value: &str| home.hob(&["run", text(&tiny), "Hi", flag, value]);
    for (flag, value) in [
        ("--temperature", "-1"),
        ("--temperature", "NaN"),
        ("--temperature", "hot"),
        ("--top-p", "1.5"),
        ("--min-p", "-0.1"),
        ("--repeat-penalty", "0"),
        ("--max-tokens", "0"),
        ("--seed", "-1"),
        ("--stop", ""),
        ("--context", "1"),
        ("--threads", "0"),
        ("--kv", "q3"),
        ("--nonsense", "1"),
    ] {
        run(&format!("{flag}={value}"), "x").fails(2, &[flag]);
    }
    assert_eq!(home.hob(&[]).code, Some(2));
    home.hob(&["nonsense"]).fails(2, &["nonsense"]);
    home.hob(&["run", text(&tiny), "--raw", "--system", "x", "Hi"])
        .fails(2, &["--raw", "--system"]);
    home.hob(&["run", text(&tiny)]).fails(2, &["the prompt is empty"]);
    home.hob(&["bench", text(&tiny), "-b", "0"]).fails(2, &["--batch"]);
}

#[test]
fn what_is_no_model_is_named() {
    let home = Home::new();
    let other = home.file("other.gguf", b"PK\x03\x04 this is a zip file, or so");
    let empty = home.file("empty.gguf", b"");
    for verb in ["run", "show", "tokenize", "bench"] {
        let hob = |model: &str| home.hob_with(&[verb, model], b"Hi");
        hob("no-such.gguf").fails(1, &["no such file: no-such.gguf"]);
        hob(text(&other)).fails(1, &["other.gguf", "not a GGUF file", "50, 4b"]);
        hob(text(&empty)).fails(1, &["empty.gguf"]);
        hob("smolm2").fails(1, &["no model is called 'smolm2'", "did you mean smollm2:135m"]);
        hob("hf.co/org/repo").fails(1, &["hf.co/org/repo"]);
        hob("a b").fails(1, &["'a b' is not a model name"]);
    }
    for verb in ["show", "tokenize", "bench"] {
        home.hob_with(&[verb, "smollm2:135m"], b"Hi").fails(1, &["hob pull smollm2:135m"]);
    }
}

#[test]
fn an_empty_store() {
    let home = Home::new();
    assert_eq!(home.hob(&["list"]).ok(), "NAME    ID    SIZE    MODIFIED\n");
    assert_eq!(home.hob(&["ls", "--json"]).json(), json!({"models": []}));
    home.hob(&["rm", "smollm2:135m"]).fails(1, &["'smollm2:135m' is not stored here"]);
    let names = home.hob(&["pull", "--names", "--json"]).json();
    assert!(names.as_array().unwrap().contains(&json!("smollm2:135m")), "{names}");
}

#[test]
fn tokens_are_shown() {
    let home = Home::new();
    let tiny = home.tiny();
    let tokens = home.hob(&["tokenize", text(&tiny), "Hi <eos>", "--json"]).json();
    assert_eq!(tokens, json!({"tokens": [72, 105, 32, 257], "pieces": ["H", "i", " ", "<eos>"]}));
    let plain = home.hob(&["tokenize", text(&tiny), "<eos>", "--json", "--no-special"]).json();
    assert_eq!(plain["tokens"], json!([60, 101, 111, 115, 62]));
    assert_eq!(
        home.hob(&["tokenize", text(&tiny), "a\n"]).ok(),
        "    97  \"a\"\n    10  \"\\n\"\n"
    );
    let piped = home.hob_with(&["tokenize", text(&tiny), "--json"], b"Hi").json();
    assert_eq!(piped["tokens"], json!([72, 105]));
    home.hob_with(&["tokenize", text(&tiny)], b"ab\xff").fails(1, &["not UTF-8", "byte 2"]);
}

#[test]
fn a_model_is_described() {
    let home = Home::new();
    let tiny = home.tiny();
    let shown = home.hob(&["show", text(&tiny)]).ok();
    for part in [
        "architecture",
        "llama",
        "context length",
        "1024",
        "embedding length",
        "64",
        "quantization",
        "F32",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let verbose = home.hob(&["show", text(&tiny), "-v"]).ok();
    assert!(
        verbose.contains("blk.1.ffn_down.weight") && verbose.contains("general.architecture"),
        "{verbose}"
    );
    let json = home.hob(&["show", text(&tiny), "--json"]).json();
    assert_eq!(json["details"]["family"], "llama");
    assert_eq!(json["details"]["quantization_level"], "F32");
    assert_eq!(json["model_info"]["llama.context_length"], 1024);
    assert_eq!(json["model_info"]["tokenizer.ggml.tokens"], json!([]));
    assert!(json["model_info"]["general.parameter_count"].as_u64().unwrap() > 10_000);
    assert!(json.get("tensors").is_none());
    let json = home.hob(&["show", text(&tiny), "--json", "--verbose"]).json();
    assert_eq!(json["model_info"]["tokenizer.ggml.tokens"].as_array().unwrap().len(), 272);
    assert_eq!(json["tensors"].as_array().unwrap().len(), 2 * 9 + 3);
    assert!(home.hob(&["show", text(&tiny), "--template"]).err.contains("no chat template"));
}

#[test]
fn bench_reports_every_test_and_run() {
    let home = Home::new();
    let tiny = home.tiny();
    let args = [
        "bench",
        text(&tiny),
        "-t",
        "1",
        "-p",
        "70",
        "-n",
        "5",
        "-d",
        "0,100",
        "-b",
        "1,3",
        "-r",
        "2",
    ];
    let json = home.hob(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(
        (&json["schema"], &json["recipe"], &json["threads"]),
        (&json!(1), &json!("F32"), &json!(1))
    );
    assert!(json["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    let rows: Vec<(&str, u64, u64, u64)> = json["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let number = |key: &str| row[key].as_u64().unwrap();
            (row["test"].as_str().unwrap(), number("tokens"), number("depth"), number("batch"))
        })
        .collect();
    let decode = |depth| [("decode", 5, depth, 1), ("decode", 5, depth, 3)];
    let expected = [
        &[("load", 0, 0, 1), ("prefill", 70, 0, 1)][..],
        &decode(0),
        &[("prefill", 70, 100, 1)],
        &decode(100),
    ];
    assert_eq!(rows, expected.concat());
    for row in &json["rows"].as_array().unwrap()[1..] {
        assert_eq!(row["runs"].as_array().unwrap().len(), 2);
        assert!(
            row["tok_s"].as_f64().unwrap() > 0.0 && row["seconds"].as_f64().unwrap() > 0.0,
            "{row}"
        );
    }
    let table = home.hob(&args).ok();
    assert!(table.starts_with("TEST") && table.contains("peak memory"), "{table}");
    home.hob(&["bench", text(&tiny), "-d", "1000"]).fails(1, &["1512", "1024"]);
    home.hob(&["bench", text(&tiny), "-p", "0", "-n", "0"]).fails(1, &["nothing to measure"]);
}

#[test]
fn doctor_speaks_two_languages_and_json() {
    let home = Home::new();
    let json = home.hob(&["doctor", "--no-probe", "--json"]).ok();
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["schema"], 3);
    assert!(report["memory"]["total_bytes"].as_u64() > Some(64 << 20), "{json}");
    assert!(report["store"]["disk"]["free_bytes"].is_u64(), "{json}");
    assert!(home.hob(&["doctor", "--no-probe", "--lang", "en"]).ok().contains("\nAdvice\n"));
    assert!(home.hob(&["doctor", "--no-probe", "--lang", "zh"]).ok().contains("\n建议\n"));
    home.hob(&["doctor", "--lang", "fr"]).fails(2, &["--lang"]);
}
