//! `cargo xtask expect FILE...`: what the planner expects of this machine beside what is measured on it: memory, prefill and decode, file by file.
//! The probe is taken before each file, and everything is done in several rounds, as the speed of a shared machine changes from minute to minute.
//! Deliberately absent: verdicts.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{judge, sh};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// GGUF files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Tokens that are in the context already; several with commas
    #[arg(short, long, default_value = "0,2048")]
    depth: String,
    /// Types of the cache; several with commas
    #[arg(long, value_delimiter = ',', default_value = "f16")]
    kv: Vec<String>,
    /// Measured runs of each test
    #[arg(short, long, default_value_t = 3)]
    runs: usize,
    /// Rounds: in each, every file is probed for and measured once
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// End of the CSV file's name, bench/DATE-NAME.csv
    #[arg(long, default_value = "expected")]
    name: String,
}

/// Measures, prints a table, writes the CSV file.
pub fn run(args: &Args) -> Result<()> {
    let program = judge::build_hob()?;
    let hob = || Command::new(&program);
    let commit = sh::text(Command::new("git").args(["rev-parse", "--short", "HEAD"]))?;
    let date = sh::text(Command::new("date").arg("+%F"))?;
    let (commit, date) = (commit.trim(), date.trim());
    let mut csv =
        "date,commit,processor,threads,file,recipe,kv,test,depth,measured,expected,off_percent\n"
            .to_owned();
    let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let wanted = (0..args.rounds).flat_map(|_| &args.files);
    for file in wanted {
        sh::output(hob().args(["doctor", "--probe", "--json"]))?;
        for kv in &args.kv {
            let bench = sh::output(hob().arg("bench").arg(file).args([
                "--json",
                "--kv",
                kv,
                "-d",
                &args.depth,
                "-r",
                &args.runs.to_string(),
            ]))?;
            let bench: Value = serde_json::from_slice(&bench)?;
            for (test, depth, measured, expected) in lines(&bench) {
                let off = 100.0 * (expected / measured - 1.0);
                let (model, recipe) = (text(&bench["model"]), text(&bench["recipe"]));
                println!(
                    "{model:40} {recipe:8} {kv:5} {test:8} {depth:6} {measured:14.1} {expected:14.1} {off:+6.1}%"
                );
                let name = format!("{model:40} {recipe:8} {kv:5} {test:8} {depth:6}");
                all.entry(name).or_default().push(off);
                let (processor, threads) = (text(&bench["processor"]), &bench["threads"]);
                csv += &format!(
                    "{date},{commit},{processor},{threads},{},{recipe},{kv},{test},{depth},{measured:.2},{expected:.2},{off:.1}\n",
                    file.file_name().unwrap_or_default().to_string_lossy()
                );
            }
        }
    }
    println!("middle of {} rounds:", args.rounds);
    for (name, mut off) in all {
        off.sort_by(f64::total_cmp);
        println!("{name} {:+6.1}%", off[off.len() / 2]);
    }
    let path = sh::root().join("bench").join(format!("{date}-{}.csv", args.name));
    fs::write(&path, csv).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// Test, depth, measured and expected: tokens per second, and bytes of memory.
fn lines(bench: &Value) -> Vec<(String, u64, f64, f64)> {
    let rows = bench["rows"].as_array().into_iter().flatten();
    let speeds = rows.filter_map(|row| {
        let expected = row["expected_tok_s"]["mid"].as_f64()?;
        let depth = row["depth"].as_u64().unwrap_or(0);
        Some((text(&row["test"]).to_owned(), depth, row["tok_s"].as_f64()?, expected))
    });
    let memory = bench["resident_bytes"].as_f64().zip(bench["expected_bytes"].as_f64());
    speeds.chain(memory.map(|(is, expected)| ("memory".to_owned(), 0, is, expected))).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_stands_beside_what_is_measured() {
        let bench = serde_json::json!({
            "rows": [
                {"test": "load", "depth": 0, "tok_s": null, "expected_tok_s": null},
                {"test": "decode", "depth": 64, "tok_s": 9.0, "expected_tok_s": {"low": 8.0, "mid": 10.0, "high": 12.0}},
            ],
            "resident_bytes": 1000, "expected_bytes": 990,
        });
        let expected =
            [("decode".to_owned(), 64, 9.0, 10.0), ("memory".to_owned(), 0, 1000.0, 990.0)];
        assert_eq!(lines(&bench), expected);
        assert!(lines(&serde_json::json!({})).is_empty());
    }
}
