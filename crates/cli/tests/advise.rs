//! `hob advise` as a user types it: constraints in, answers with commands out, in two languages.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{Home, said};
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

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
    let at = |args: &[&str], columns: usize, lang: &str| {
        let mut command = home.command(&[&["advise", "--lang", lang], args].concat());
        said(command.env("COLUMNS", columns.to_string()).output().unwrap()).ok()
    };
    let code = ["--budget", "2000", "--for", "code"];
    let served = ["--device", "2x A100 80GB", "--users", "32"];
    let vectors = ["--budget", "2000", "--for", "embedding"];
    for args in [&["--portable"][..], &code, &served, &vectors] {
        for (columns, lang) in [(80, "en"), (80, "zh"), (120, "en"), (120, "zh")] {
            for line in at(args, columns, lang).lines() {
                assert!(line.width() <= columns, "{line}");
            }
        }
    }
    assert!(at(&["--portable"], 80, "zh").contains("便携"));
    assert!(at(&["--portable"], 80, "en").contains("portable"));
    let broken = at(&code, 80, "en");
    assert!(broken.contains(" \\\n       -"), "{broken}");
}

#[test]
fn what_is_assumed_is_said_in_both_languages() {
    let home = Home::new();
    let ask = |lang: &str| home.hob(&["advise", "--device", "RTX 4090", "--lang", lang]).ok();
    assert!(ask("en").contains("Assumed around it: a desktop"));
    let chinese = ask("zh");
    assert!(chinese.contains("假设装在一台台式机中") && !chinese.contains("Assumed"), "{chinese}");
}
