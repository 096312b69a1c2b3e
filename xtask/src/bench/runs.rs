//! Who is measured and what they report: `hob bench --json` and `llama-bench -o json`, reduced to one speed
//! per test. Each run is one process, so that nobody profits from what another left in memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::sh;

/// Prompt evaluation, or generation of one token after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Test {
    Prefill,
    Decode,
}

impl Test {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Test::Prefill => "prefill",
            Test::Decode => "decode",
        }
    }
}

/// A program with its setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// llama.cpp, with its weights repacked at load or not: the better one counts.
    Peer {
        repack: bool,
    },
    Hob,
}

impl Contender {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Peer { repack: false } => "llama.cpp --repack 0",
            Contender::Peer { repack: true } => "llama.cpp --repack 1",
            Contender::Hob => "hob",
        }
    }
}

/// What every contender is asked to do.
pub struct Load {
    pub threads: u32,
    pub prompt: u32,
    pub generate: u32,
    pub repeats: u32,
}

/// Where the programs are.
pub struct Programs {
    pub llama_peer: PathBuf,
    pub hob: PathBuf,
}

impl Programs {
    /// One run of a contender: tokens per second of each test.
    pub fn run(&self, who: Contender, model: &Path, load: &Load) -> Result<Vec<(Test, f64)>> {
        let json = sh::output(&mut self.command(who, model, load))?;
        let speeds = match who {
            Contender::Hob => read_hob(&json, load),
            Contender::Peer { .. } => read_llama_bench(&json, load),
        };
        speeds.with_context(|| format!("what {} printed", who.name()))
    }

    fn command(&self, who: Contender, model: &Path, load: &Load) -> Command {
        let mut cmd = match who {
            Contender::Hob => {
                let mut cmd = Command::new(&self.hob);
                cmd.arg("bench").arg(model).arg("--json");
                cmd
            }
            Contender::Peer { repack } => {
                let mut cmd = self.llama_bench();
                cmd.args(["-o", "json", "--repack", if repack { "1" } else { "0" }, "-m"]);
                cmd.arg(model);
                cmd
            }
        };
        let options = [
            ("-t", load.threads),
            ("-p", load.prompt),
            ("-n", load.generate),
            ("-r", load.repeats),
        ];
        for (option, value) in options {
            cmd.arg(option).arg(value.to_string());
        }
        cmd
    }

    /// llama-bench, built for this processor.
    fn llama_bench(&self) -> Command {
        let mut cmd = Command::new(&self.llama_peer);
        cmd.env("NATIVE", "1").arg("llama-bench");
        cmd
    }

    /// What llama-bench says of its version, which it does on its error output.
    pub fn peer_version(&self) -> Result<String> {
        let out = self.llama_bench().arg("--version").output()?;
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        let version = said.lines().find_map(|line| line.strip_prefix("version: "));
        Ok(version.context("llama-bench --version names no version")?.to_owned())
    }
}

#[derive(Deserialize)]
struct LlamaBenchRow {
    n_prompt: u32,
    n_gen: u32,
    avg_ts: f64,
}

fn read_llama_bench(json: &[u8], load: &Load) -> Result<Vec<(Test, f64)>> {
    let rows: Vec<LlamaBenchRow> = serde_json::from_slice(json)?;
    let of = |test, prompt, generate| {
        let row = rows.iter().find(|r| (r.n_prompt, r.n_gen) == (prompt, generate));
        speed(test, row.map(|r| r.avg_ts))
    };
    Ok(vec![of(Test::Prefill, load.prompt, 0)?, of(Test::Decode, 0, load.generate)?])
}

#[derive(Deserialize)]
struct HobBench {
    schema: u32,
    rows: Vec<HobRow>,
}

#[derive(Deserialize)]
struct HobRow {
    test: String,
    tokens: u32,
    depth: u32,
    batch: u32,
    tok_s: Option<f64>,
}

fn read_hob(json: &[u8], load: &Load) -> Result<Vec<(Test, f64)>> {
    let bench: HobBench = serde_json::from_slice(json)?;
    ensure!(bench.schema == 1, "schema {}, expected 1", bench.schema);
    let of = |test: Test, tokens| {
        let row = bench
            .rows
            .iter()
            .find(|r| r.test == test.name() && (r.tokens, r.depth, r.batch) == (tokens, 0, 1));
        speed(test, row.and_then(|r| r.tok_s))
    };
    Ok(vec![of(Test::Prefill, load.prompt)?, of(Test::Decode, load.generate)?])
}

fn speed(test: Test, tok_s: Option<f64>) -> Result<(Test, f64)> {
    let tok_s = tok_s.with_context(|| format!("no {} of the size asked for", test.name()))?;
    ensure!(tok_s.is_finite() && tok_s > 0.0, "{} at {tok_s} tokens per second", test.name());
    Ok((test, tok_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { threads: 2, prompt: 512, generate: 64, repeats: 1 };

    #[test]
    fn llama_bench_is_read() {
        let json = br#"[
            {"n_prompt": 512, "n_gen": 0, "n_depth": 0, "avg_ts": 205.5, "samples_ts": [205.5]},
            {"n_prompt": 0, "n_gen": 64, "n_depth": 0, "avg_ts": 55.25, "samples_ts": [55.25]}]"#;
        let speeds = read_llama_bench(json, &LOAD).unwrap();
        assert_eq!(speeds, [(Test::Prefill, 205.5), (Test::Decode, 55.25)]);
        assert!(read_llama_bench(json, &Load { prompt: 128, ..LOAD }).is_err());
        assert!(read_llama_bench(b"error: no model", &LOAD).is_err());
    }

    #[test]
    fn hob_bench_is_read() {
        let json = |decode: &str| {
            format!(
                r#"{{"schema":1,"model":"m","recipe":"Q4_0","threads":2,"isa":"avx2","device":"cpu","rows":[
                {{"test":"load","tokens":0,"depth":0,"batch":1,"tok_s":null,"seconds":0.8,"runs":[0.8]}},
                {{"test":"prefill","tokens":512,"depth":0,"batch":1,"tok_s":300.0,"seconds":1.7,"runs":[300.0]}},
                {{"test":"decode","tokens":64,"depth":4096,"batch":1,"tok_s":20.0,"seconds":3.2,"runs":[20.0]}},
                {{"test":"decode","tokens":64,"depth":0,"batch":1,"tok_s":{decode},"seconds":1.1,"runs":[60.0]}}],
                "peak_rss_bytes":1}}"#
            )
        };
        let speeds = read_hob(json("60.0").as_bytes(), &LOAD).unwrap();
        assert_eq!(speeds, [(Test::Prefill, 300.0), (Test::Decode, 60.0)]);
        assert!(read_hob(json("0.0").as_bytes(), &LOAD).is_err());
        let other = json("60.0").replace("\"schema\":1", "\"schema\":2");
        assert!(read_hob(other.as_bytes(), &LOAD).is_err());
    }
}
