//! `cargo xtask judge`: is hob right? On 10k tokens of mixed text, hob may be 1.25 times as far from llama.cpp as
//! llama.cpp with a step of one token is from itself with a step of 512 (the yardstick); and a small F32 model must
//! answer with the same tokens. The reference's files and logs are kept in the asset cache and used again, since
//! they take long. Deliberately absent: speed.

mod peer;
mod stories;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{assets, bench, sh};
use peer::{Build, Figures, Peer};
pub use peer::{perplexity, version as peer_version};

/// Most that mean KL and top-1 disagreement may be, as multiples of the yardstick.
const MOST_TIMES: f64 = 1.25;
/// Most that the perplexity may differ, as a part of the reference's.
const MOST_PERPLEXITY: f64 = 0.005;
/// Models, by the name of their file in the asset cache.
const MODELS: &[&str] = &["smollm2", "qwen-coder"];

/// What to judge.
#[derive(clap::Args)]
pub struct Args {
    /// Models to compare, or stories for the greedy answers
    #[arg(default_values = ["stories", "smollm2", "qwen-coder"], value_parser = ["stories", "smollm2", "qwen-coder"])]
    what: Vec<String>,
    /// Builds of llama.cpp
    #[arg(long, value_enum, value_delimiter = ',', default_value = "native,prebuilt")]
    builds: Vec<Build>,
    /// Threads
    #[arg(short, default_value_t = 2)]
    threads: u32,
    /// Chunks of 512 tokens of the text
    #[arg(long, default_value_t = 20)]
    chunks: u32,
    /// Compare with the reference at a step of one token too, for information
    #[arg(long)]
    both: bool,
    /// Run the reference again, even where its files are there
    #[arg(long)]
    fresh: bool,
    /// Write the golden answers of stories instead of comparing with them
    #[arg(long)]
    write: bool,
}

/// One comparison with a base file.
struct Row {
    model: String,
    build: Build,
    /// Step of the reference that wrote the base.
    base_step: u32,
    base_perplexity: f64,
    hob: Figures,
    /// The reference against itself; absent where it is for information only.
    yardstick: Option<Figures>,
}

/// Judges, prints the table, writes the CSV file; fails when hob is too far off.
pub fn run(args: &Args) -> Result<()> {
    let tools = bench::tools_dir()?;
    if args.what.iter().any(|w| w == "stories") {
        stories::judge(&tools.join("llama-peer"), args.write)?;
    }
    let models: Vec<&str> =
        MODELS.iter().copied().filter(|m| args.what.iter().any(|w| w == m)).collect();
    if models.is_empty() {
        return Ok(());
    }
    let hob = build_hob()?;
    let mut rows = Vec::new();
    for model in models {
        for &build in &args.builds {
            judge(args, &tools, &hob, model, build, &mut rows)?;
        }
    }
    print!("{}", markdown(&rows));
    write_csv(&rows, &tools)?;
    match rows.iter().filter(|row| !row.passes()).count() {
        0 => Ok(()),
        failed => bail!("{failed} comparisons are beyond the limits"),
    }
}

fn judge(
    args: &Args,
    tools: &Path,
    hob: &Path,
    model: &str,
    build: Build,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let assets = assets::dir()?;
    let peer = Peer {
        program: tools.join("llama-peer"),
        build,
        model: asset(&assets, &format!("{model}.gguf"))?,
        text: asset(&assets, "texts/mixed.txt")?,
        folder: assets.join("judge"),
        threads: args.threads,
        chunks: args.chunks,
        fresh: args.fresh,
    };
    fs::create_dir_all(&peer.folder)?;
    let base = peer.base(512)?;
    let yardstick = Some(peer.against(&base, 1)?);
    rows.push(Row {
        model: model.to_owned(),
        build,
        base_step: 512,
        base_perplexity: base.perplexity,
        hob: eval(hob, &peer, &base.path)?,
        yardstick,
    });
    if args.both {
        let base = peer.base(1)?;
        let hob = eval(hob, &peer, &base.path)?;
        let base_perplexity = base.perplexity;
        rows.push(Row {
            model: model.to_owned(),
            build,
            base_step: 1,
            base_perplexity,
            hob,
            yardstick: None,
        });
    }
    Ok(())
}

fn asset(assets: &Path, name: &str) -> Result<PathBuf> {
    let path = assets.join(name);
    if !path.exists() {
        bail!("there is no {}; run `cargo xtask assets --all`", path.display());
    }
    Ok(path)
}

/// Builds hob as it is shipped.
pub fn build_hob() -> Result<PathBuf> {
    sh::run(&mut sh::cargo(&["build", "--release", "--package", "hob-cli"]))?;
    Ok(hob())
}

/// Where [`build_hob`] puts it.
pub fn hob() -> PathBuf {
    sh::target().join("release").join("hob")
}

/// What is read of `hob eval --json`.
#[derive(Deserialize)]
struct HobEval {
    perplexity: f64,
    kl: HobKl,
    top1_agreement: f64,
}

#[derive(Deserialize)]
struct HobKl {
    mean: f64,
    p99: f64,
}

/// hob against a base, on the text itself, so that the tokens are compared too.
fn eval(hob: &Path, peer: &Peer, base: &Path) -> Result<Figures> {
    let mut cmd = Command::new(hob);
    cmd.arg("eval").arg(&peer.model).arg(&peer.text).arg("--against").arg(base);
    cmd.args(["--json", "-t", &peer.threads.to_string()]);
    let found: HobEval =
        serde_json::from_slice(&sh::output(&mut cmd)?).context("what hob eval printed")?;
    let HobEval { perplexity, kl, top1_agreement } = found;
    Ok(Figures { perplexity, kl: kl.mean, kl_p99: kl.p99, disagreement: 1.0 - top1_agreement })
}

impl Row {
    /// Multiples of the yardstick: mean KL, top-1 disagreement.
    fn times(&self) -> Option<(f64, f64)> {
        let yard = self.yardstick?;
        Some((self.hob.kl / yard.kl, self.hob.disagreement / yard.disagreement))
    }

    /// How much larger hob's perplexity is, as a part of the reference's own. What a base file's codes come to is no
    /// measure: they end 16 below a row's largest logit.
    fn perplexity_off(&self) -> f64 {
        self.hob.perplexity / self.base_perplexity - 1.0
    }

    fn passes(&self) -> bool {
        let near = self.perplexity_off().abs() <= MOST_PERPLEXITY;
        // A comparison with no number in it fails.
        self.times().is_none_or(|(kl, top)| near && kl <= MOST_TIMES && top <= MOST_TIMES)
    }
}

fn markdown(rows: &[Row]) -> String {
    let mut out = String::from(
        "| model | llama.cpp | base -ub | perplexity | hob's | mean KL: yardstick | hob | ratio | top-1 differs: yardstick | hob | ratio | |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let verdict = if row.yardstick.is_none() {
            ""
        } else if row.passes() {
            "ok"
        } else {
            "TOO FAR"
        };
        let or_none = |value: Option<String>| value.unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.4} | {:+.3}% | {} | {:.6} | {} | {} | {:.3}% | {} | {verdict} |",
            row.model,
            row.build.name(),
            row.base_step,
            row.base_perplexity,
            100.0 * row.perplexity_off(),
            or_none(row.yardstick.map(|y| format!("{:.6}", y.kl))),
            row.hob.kl,
            or_none(row.times().map(|t| format!("{:.2}", t.0))),
            or_none(row.yardstick.map(|y| format!("{:.3}%", 100.0 * y.disagreement))),
            100.0 * row.hob.disagreement,
            or_none(row.times().map(|t| format!("{:.2}", t.1))),
        );
    }
    out
}

fn csv(rows: &[Row], constants: &[(&str, String)]) -> String {
    let quote = |s: &str| format!("\"{}\"", s.replace('"', "\"\""));
    let names: Vec<&str> = constants.iter().map(|c| c.0).collect();
    let values: Vec<String> = constants.iter().map(|c| quote(&c.1)).collect();
    let mut out = format!(
        "{},model,build,base_step,who,perplexity,kl_mean,kl_p99,top1_disagreement\n",
        names.join(",")
    );
    for row in rows {
        let base =
            Figures { perplexity: row.base_perplexity, kl: 0.0, kl_p99: 0.0, disagreement: 0.0 };
        let all =
            [("base", Some(base)), ("llama.cpp -ub 1", row.yardstick), ("hob", Some(row.hob))];
        for (who, f) in all.into_iter().filter_map(|(who, f)| Some((who, f?))) {
            let _ = writeln!(
                out,
                "{},{},{},{},{who},{:.6},{:.8},{:.8},{:.6}",
                values.join(","),
                row.model,
                row.build.name(),
                row.base_step,
                f.perplexity,
                f.kl,
                f.kl_p99,
                f.disagreement
            );
        }
    }
    out
}

fn write_csv(rows: &[Row], tools: &Path) -> Result<()> {
    let git = |args: &[&str]| sh::text(Command::new("git").args(args).current_dir(sh::root()));
    let date = sh::text(Command::new("date").args(["-u", "+%F"]))?;
    let constants = [
        ("date", date.clone()),
        ("commit", git(&["rev-parse", "--short=12", "HEAD"])?),
        ("cpu", bench::cpuinfo("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())),
        ("isa", bench::isa(&bench::cpuinfo("flags").unwrap_or_default())),
        ("llama_cpp", peer::version(&tools.join("llama-peer"))?),
    ];
    let path = sh::root().join("bench").join(format!("{date}-judge.csv"));
    fs::write(&path, csv(rows, &constants))
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(perplexity: f64, kl: f64, disagreement: f64) -> Figures {
        Figures { perplexity, kl, kl_p99: 0.0, disagreement }
    }

    fn row(hob: Figures) -> Row {
        let yardstick = Some(figures(10.0, 0.004, 0.04));
        Row {
            model: "m".to_owned(),
            build: Build::Native,
            base_step: 512,
            base_perplexity: 10.0,
            hob,
            yardstick,
        }
    }

    #[test]
    fn each_limit_counts() {
        assert!(row(figures(10.04, 0.005, 0.05)).passes());
        assert!(!row(figures(10.06, 0.001, 0.01)).passes());
        assert!(!row(figures(10.0, 0.0051, 0.01)).passes());
        assert!(!row(figures(10.0, 0.001, 0.051)).passes());
        assert!(!row(figures(10.0, f64::NAN, 0.01)).passes());
        assert!(markdown(&[row(figures(10.0, 0.0051, 0.01))]).contains("TOO FAR"));
    }

    #[test]
    fn the_csv_has_a_line_for_each_who() {
        let text = csv(&[row(figures(10.0, 0.004, 0.04))], &[("cpu", "a \"b\"".to_owned())]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(
            lines[3],
            "\"a \"\"b\"\"\",m,native,512,hob,10.000000,0.00400000,0.00000000,0.040000"
        );
    }
}
