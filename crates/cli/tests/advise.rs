//! `hob advise` as a user types it: constraints in, answers with commands out, in two languages.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{Home, said};
use serde_json::Value;

#[test]
fn answers_keep_to_the_constraints() {
    let home = Home::new();
    let advice = home.hob(&["advise", "--budget", "3000", "--max-watts", "500", "--json"]).json();
    assert_eq!((&advice["schema"], &advice["for"]), (&Value::from(1), &Value::from("chat")));
    let choices = advice["choices"].as_array().unwrap();
    assert!((1..=7).contains(&choices.len()), "{advice}");
    for choice in choices {
        assert!(choice["price"]["usd"].as_u64().unwrap() <= 3000, "{choice}");
        assert!(choice["watts"].as_u64().unwrap() <= 500, "{choice}");
        assert!(choice["tok_s"]["mid"].as_f64().unwrap() >= 10.0, "{choice}");
        assert!(choice["tokens_per_joule"].as_f64().unwrap() > 0.0, "{choice}");
        assert!(!choice["command"].as_str().unwrap().is_empty(), "{choice}");
    }
}

#[test]
fn commands_do_what_is_advised() {
    let home = Home::new();
    let first = |args: &[&str]| {
        let advice = home.hob(&[&["advise", "--json"], args].concat()).json();
        advice["choices"].as_array().unwrap().clone()
    };
    let served = first(&["--device", "2x A100 80GB", "--users", "32"]);
    let command = |choice: &Value| choice["command"].as_str().unwrap().to_owned();
    assert!(served.iter().any(|c| {
        command(c).starts_with("vllm serve ") && command(c).contains("--tensor-parallel-size 2")
    }));
    let card = first(&["--device", "RTX 4090"]);
    assert!(card.iter().all(|c| command(c).starts_with("llama-server -hf ")), "{card:?}");
}

#[test]
fn nothing_is_said_with_its_reason() {
    let home = Home::new();
    let said = home.hob(&["advise", "--budget", "50", "--lang", "en"]);
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("The budget excludes everything"), "{}", said.out);
    assert!(said.err.contains("nothing fits"), "{}", said.err);
    let json = home.hob(&["advise", "--budget", "50", "--json"]).json();
    assert_eq!(json["excluded_by"][0]["constraint"], "budget");
    home.hob(&["advise", "--min-speed", "fast"]).fails(2, &["--min-speed", "tokens per second"]);
    home.hob(&["advise", "--for", "poetry"]).fails(2, &["--for"]);
}

#[test]
fn lines_fit_the_terminal_in_both_languages() {
    let home = Home::new();
    let at = |columns: &str, lang: &str| {
        let args = ["advise", "--portable", "--lang", lang];
        said(home.command(&args).env("COLUMNS", columns).output().unwrap()).ok()
    };
    let cells = |line: &str| -> usize {
        line.chars().map(|c| if ('\u{2e80}'..='\u{ffef}').contains(&c) { 2 } else { 1 }).sum()
    };
    for lang in ["en", "zh"] {
        for columns in [80, 120] {
            let text = at(&columns.to_string(), lang);
            let prose = text.lines().filter(|line| !line.trim_start().starts_with("$ "));
            for line in prose {
                assert!(cells(line) <= columns, "{line}");
            }
        }
    }
    assert!(at("80", "zh").contains("便携") && at("80", "en").contains("portable"));
}
