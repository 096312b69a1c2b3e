//! `hob run` end to end: on small random models for its manners, on SmolLM2 (when `cargo xtask assets` has fetched it) for its answers.

mod common;

use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

use common::{Home, said, slow, text};
use hob_testkit::{Family, Tiny};

const GREEDY: [&str; 4] = ["--temperature", "0", "--max-tokens", "12"];

#[test]
fn stdout_is_the_answer_and_a_newline() {
    let home = Home::new();
    let tiny = home.tiny();
    let args = [&["run", text(&tiny), "--raw", "Hello"][..], &GREEDY].concat();
    let json = home.hob(&[&args[..], &["--json"]].concat()).json();
    let answer = home.hob(&args);
    assert!(
        answer.err.contains("context 1024 tokens (model 1024; F16 cache 256 KiB)"),
        "{}",
        answer.err
    );
    // What was chosen and why, in one line, and measured by nobody for it.
    let line = answer.err.lines().find(|line| line.starts_with("context ")).unwrap();
    for part in
        [", all of the model's; on the CPU with ", " tok/s (", ", by the table until hob doctor"]
    {
        assert!(line.contains(part), "{line}");
    }
    assert!(!home.path().join("probes").exists());
    assert_eq!(answer.ok(), format!("{}\n", json["text"].as_str().unwrap()));
    assert_eq!((json["prompt_tokens"].as_u64(), json["tokens"].as_u64()), (Some(5), Some(12)));
    assert_eq!(json["token_ids"].as_array().unwrap().len(), 12);
    assert_eq!(json["finish_reason"], "length");
    assert!(json["timings"]["total"].as_f64().unwrap() > 0.0);
}

#[test]
fn verbose_timings_go_to_stderr() {
    let home = Home::new();
    let tiny = home.tiny();
    let run = home.hob(&[&["run", text(&tiny), "Hello", "--verbose"][..], &GREEDY].concat());
    for line in [
        "total duration:",
        "load duration:",
        "prompt eval count:    5 token(s)",
        "eval count:           12 token(s)",
        "eval rate:",
    ] {
        assert!(run.err.contains(line), "{line}: {}", run.err);
    }
    assert!(!run.ok().contains("duration"));
}

#[test]
fn the_prompt_may_come_by_argument_by_pipe_or_both() {
    let home = Home::new();
    let tiny = home.tiny();
    let args = |prompt: &[&'static str]| {
        [&["run", text(&tiny), "--json"][..], &GREEDY, prompt]
            .concat()
            .iter()
            .map(|a| (*a).to_owned())
            .collect::<Vec<_>>()
    };
    let run = |prompt: &[&'static str], piped: &str| {
        let args = args(prompt);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let json = home.hob_with(&args, piped.as_bytes()).json();
        (json["prompt_tokens"].as_u64().unwrap(), json["text"].clone())
    };
    let whole = run(&["one two\n\nthree"], "");
    assert_eq!(whole.0, 14);
    assert_eq!(run(&["one", "two"], "three"), whole);
    assert_eq!(run(&[], "one two\n\nthree"), whole);
}

#[test]
fn the_seed_repeats_an_answer() {
    let home = Home::new();
    let tiny = home.tiny();
    let run = |seed: &str| {
        home.hob(&["run", text(&tiny), "x", "--max-tokens", "40", "--json", "--seed", seed]).json()
            ["token_ids"]
            .clone()
    };
    assert_eq!(run("7"), run("7"));
    assert_ne!(run("7"), run("8"));
}

#[test]
fn a_stop_string_ends_the_answer_before_it() {
    let home = Home::new();
    let tiny = home.tiny();
    let args = [&["run", text(&tiny), "Hello", "--json"][..], &GREEDY].concat();
    let full = home.hob(&args).json()["text"].as_str().unwrap().to_owned();
    let stop: String = full.chars().skip(4).take(2).collect();
    let cut = home.hob(&[&args[..], &["--stop", &stop]].concat()).json();
    assert_eq!(cut["text"], full.split(&stop).next().unwrap());
    assert_eq!(cut["finish_reason"], "stop");
}

#[test]
fn a_prompt_beyond_the_context_is_an_error_with_both_numbers() {
    let home = Home::new();
    let tiny = home.tiny();
    let prompt = "x".repeat(100);
    home.hob(&["run", text(&tiny), "--context", "64", &prompt])
        .fails(1, &["100 tokens", "64", "--context"]);
    home.hob_with(&["run", text(&tiny)], "y".repeat(2000).as_bytes())
        .fails(1, &["2000 tokens", "1024"]);
    home.hob(&["run", text(&tiny), "--context", "5000", "Hi"]).fails(1, &["5000", "1024"]);
}

#[test]
fn an_answer_ends_where_the_context_does() {
    let home = Home::new();
    // Heads of 32, as the Q8_0 cache wants them.
    let tiny = home.file("qwen3.gguf", &Tiny::new(Family::Qwen3).bytes());
    for kv in ["f16", "q8_0"] {
        let args = ["run", text(&tiny), "--context", "70", "--seed", "1", "--kv", kv, "--json"];
        let json = home.hob(&[&args[..], &["Hello"]].concat()).json();
        assert_eq!(json["tokens"].as_u64(), Some(65), "{json}");
        assert_eq!(json["finish_reason"], "length");
    }
}

#[test]
fn a_base_model_knows_no_system_message() {
    let home = Home::new();
    let tiny = home.tiny();
    home.hob(&["run", text(&tiny), "--system", "Be brief", "Hi"]).fails(1, &["no chat template"]);
}

#[test]
fn what_cannot_run_is_shown_but_not_run() {
    let home = Home::new();
    let mut bytes = Tiny::new(Family::Llama).bytes();
    let at = bytes.windows(5).position(|w| w == b"llama").unwrap();
    bytes[at..at + 5].copy_from_slice(b"llamb");
    let file = home.file("odd.gguf", &bytes);
    home.hob(&["run", text(&file), "Hi"])
        .fails(1, &["odd.gguf", "architecture 'llamb' is not known", "qwen3"]);
    assert!(
        home.hob(&["show", text(&file)]).ok().contains("cannot run it yet: architecture 'llamb'")
    );
}

#[test]
fn a_truncated_file_is_refused() {
    let home = Home::new();
    let bytes = Tiny::new(Family::Llama).bytes();
    let file = home.file("short.gguf", &bytes[..bytes.len() - 1000]);
    home.hob(&["run", text(&file), "Hi"]).fails(1, &["short.gguf"]);
}

#[test]
fn a_reader_that_leaves_ends_the_run_quietly() {
    let home = Home::new();
    let slow = slow(&home);
    let mut child = home.command(&["run", text(&slow), "Hello", "--seed", "4"]).spawn().unwrap();
    let mut first = [0];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let run = said(child.wait_with_output().unwrap());
    assert_eq!(run.code, Some(0));
    assert!(!run.err.contains("rror") && run.err.lines().count() == 1, "{}", run.err);
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_the_answer_with_130() {
    let home = Home::new();
    let slow = slow(&home);
    let mut child = home.command(&["run", text(&slow), "Hello", "--seed", "4"]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0];
    stdout.read_exact(&mut first).unwrap();
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    let run = said(child.wait_with_output().unwrap());
    assert_eq!(run.code, Some(130), "{}", run.err);
    assert_eq!(rest.last(), Some(&b'\n'));
    assert!(rest.len() < 4000, "it was not interrupted");
}

/// The starter model, if it was fetched.
fn smollm2() -> Option<PathBuf> {
    let cache = std::env::var_os("HOB_ASSETS").map(PathBuf::from).or_else(|| {
        std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/hob-assets"))
    })?;
    let path = cache.join("smollm2.gguf");
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: no {}; `cargo xtask assets` fetches it", path.display());
    None
}

#[test]
fn smollm2_knows_the_capital_of_france() {
    let Some(model) = smollm2() else { return };
    let home = Home::new();
    let question = "What is the capital city of France? Answer in one sentence.";
    let args = ["run", text(&model), question, "--temperature", "0", "--max-tokens", "32"];
    let answer = home.hob(&args).ok();
    assert!(
        answer.contains("Paris") && answer.ends_with(".\n") && answer.lines().count() == 1,
        "{answer}"
    );
    let system =
        home.hob(&[&args[..], &["--system", "You are a pirate.", "--json"]].concat()).json();
    let plain = home.hob(&[&args[..], &["--json"]].concat()).json();
    assert_ne!(system["prompt_tokens"], plain["prompt_tokens"]);
    assert_eq!(plain["finish_reason"], "stop");
    assert_eq!(plain["text"].as_str().unwrap(), answer.trim_end_matches('\n'));
}
