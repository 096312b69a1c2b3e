//! One file, made and judged: who made it, how long that took, its tensors, its divergence from the source, and the
//! perplexity that each of the two engines finds for it. The file is deleted then; the figures are kept as JSON.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use hob_gguf::Gguf;
use serde::{Deserialize, Serialize};

use super::{commit, today};
use crate::{judge, sh};

/// Chunks of 512 tokens: 10k tokens for the divergence, 4k for the perplexities.
const CHUNKS: &str = "20";
const FEW_CHUNKS: &str = "8";
/// Hubs' names for a recipe whose embedding and output are Q8_0, and what llama.cpp calls the rest.
const LARGE: [(&str, &str); 5] = [
    ("Q6_K_L", "Q6_K"),
    ("Q5_K_L", "Q5_K_M"),
    ("Q4_K_L", "Q4_K_M"),
    ("Q3_K_XL", "Q3_K_L"),
    ("Q2_K_L", "Q2_K"),
];

/// Who made a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    Hob,
    LlamaCpp,
}

impl Maker {
    /// As it stands in tables and file names.
    pub fn name(self) -> &'static str {
        match self {
            Maker::Hob => "hob",
            Maker::LlamaCpp => "llama.cpp",
        }
    }
}

/// Programs and files.
pub struct Bench {
    pub hob: PathBuf,
    pub llama: PathBuf,
    pub text: PathBuf,
    pub source: PathBuf,
    pub imatrix: PathBuf,
    pub reference: PathBuf,
    /// Where files are made and figures kept.
    pub folder: PathBuf,
    pub threads: u32,
}

/// Name, type and bytes of a tensor.
pub type Tensor = (String, String, u64);

/// The figures of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub date: String,
    pub commit: String,
    /// Seconds that making it took, whatever else ran beside.
    pub seconds: f64,
    pub file_bytes: u64,
    pub tensors: Vec<Tensor>,
    /// On 10k tokens, against the source.
    pub kl: Kl,
    pub top1_agreement: f64,
    pub perplexity: f64,
    /// On 4k tokens.
    pub perplexity_hob: f64,
    pub perplexity_llama: f64,
}

/// Kullback-Leibler divergence, nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kl {
    pub mean: f64,
    pub median: f64,
    pub p99: f64,
}

/// What `hob eval --json` prints, as far as it counts here.
#[derive(Deserialize)]
struct Eval {
    perplexity: f64,
    kl: Option<Kl>,
    top1_agreement: Option<f64>,
}

impl Bench {
    /// hob's importance matrix of the source.
    pub fn observe(&self, text: &Path, to: &Path) -> Result<()> {
        let mut cmd = self.hob("imatrix", &self.source);
        sh::run(cmd.arg(text).arg("-o").arg(to))
    }

    /// The source's own log-probabilities.
    pub fn refer(&self, to: &Path) -> Result<()> {
        let mut cmd = self.hob("eval", &self.source);
        sh::run(cmd.arg(&self.text).args(["--chunks", CHUNKS, "--save"]).arg(to))
    }

    /// Whether both makers' figures are there.
    pub fn has_both(&self, recipe: &str, fresh: bool) -> bool {
        !fresh && [Maker::Hob, Maker::LlamaCpp].iter().all(|&m| self.kept(m, recipe).exists())
    }

    /// The figures of a recipe's file: those kept, or measured now.
    pub fn judged(&self, maker: Maker, recipe: &str, fresh: bool) -> Result<Judged> {
        let kept = self.kept(maker, recipe);
        if !fresh && let Ok(bytes) = fs::read(&kept) {
            return serde_json::from_slice(&bytes).with_context(|| kept.display().to_string());
        }
        eprintln!("making  {recipe} by {}", maker.name());
        let file = self.folder.join(format!("{}-{recipe}.gguf", maker.name()));
        let seconds = self.make(maker, recipe, &file)?;
        let judged = self.judge(&file, seconds).with_context(|| file.display().to_string())?;
        fs::remove_file(&file)?;
        let part = kept.with_extension("part");
        fs::write(&part, serde_json::to_vec_pretty(&judged)?)?;
        fs::rename(part, kept)?;
        Ok(judged)
    }

    /// Makes a recipe's file and returns the seconds it took.
    pub fn make(&self, maker: Maker, recipe: &str, to: &Path) -> Result<f64> {
        let mut cmd = match maker {
            Maker::Hob => {
                let mut cmd = self.hob("quantize", &self.source);
                cmd.arg(to).arg(recipe).arg("--force").arg("--imatrix").arg(&self.imatrix);
                cmd
            }
            Maker::LlamaCpp => {
                let mut cmd = self.llama("llama-quantize");
                let large = LARGE.iter().find(|(name, _)| *name == recipe);
                cmd.arg("--imatrix").arg(&self.imatrix);
                if large.is_some() {
                    cmd.args(["--output-tensor-type", "q8_0", "--token-embedding-type", "q8_0"]);
                }
                cmd.arg(&self.source).arg(to).arg(large.map_or(recipe, |(_, rest)| rest));
                cmd.arg(self.threads.to_string());
                cmd
            }
        };
        let begun = Instant::now();
        sh::output(&mut cmd)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    fn judge(&self, file: &Path, seconds: f64) -> Result<Judged> {
        let mut cmd = self.hob("eval", file);
        let long = eval(cmd.arg("--against").arg(&self.reference))?;
        let mut cmd = self.hob("eval", file);
        let short = eval(cmd.arg(&self.text).args(["--chunks", FEW_CHUNKS]))?;
        let gguf = Gguf::open(file)?;
        let tensor = |t: &hob_gguf::TensorInfo| (t.name.clone(), t.ty.name().to_owned(), t.bytes());
        Ok(Judged {
            date: today()?,
            commit: commit()?,
            seconds,
            file_bytes: gguf.file_bytes(),
            tensors: gguf.tensors().iter().map(tensor).collect(),
            kl: long.kl.context("a divergence")?,
            top1_agreement: long.top1_agreement.context("an agreement")?,
            perplexity: long.perplexity,
            perplexity_hob: short.perplexity,
            perplexity_llama: self.llama_perplexity(file)?,
        })
    }

    fn llama_perplexity(&self, file: &Path) -> Result<f64> {
        let mut cmd = self.llama("llama-perplexity");
        cmd.arg("-m").arg(file).arg("-f").arg(&self.text).args(["--chunks", FEW_CHUNKS]);
        cmd.args(["-c", "512", "-b", "512", "-ub", "512", "-t", &self.threads.to_string()]);
        judge::perplexity(&sh::both_outputs(&mut cmd)?)
    }

    fn kept(&self, maker: Maker, recipe: &str) -> PathBuf {
        self.folder.join(format!("{}-{recipe}.json", maker.name()))
    }

    fn hob(&self, verb: &str, model: &Path) -> Command {
        let mut cmd = Command::new(&self.hob);
        // What is measured here is not the user's to remember.
        cmd.env("HOB_HOME", self.folder.join("home"));
        cmd.arg(verb).arg(model).args(["--threads", &self.threads.to_string()]);
        cmd
    }

    fn llama(&self, program: &str) -> Command {
        let mut cmd = Command::new(&self.llama);
        cmd.env("NATIVE", "1").arg(program);
        cmd
    }
}

fn eval(cmd: &mut Command) -> Result<Eval> {
    serde_json::from_slice(&sh::output(cmd.arg("--json"))?).context("what hob eval printed")
}
