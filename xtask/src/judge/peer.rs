//! The reference: `llama-perplexity`, which writes its log-probabilities and compares itself with them. What it
//! prints is kept as a log beside the file; a log that lacks its figures is not kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How llama.cpp was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Build {
    /// For this processor, from source.
    Native,
    /// A distribution's packages.
    Prebuilt,
}

impl Build {
    /// As it stands in tables and file names.
    pub fn name(self) -> &'static str {
        match self {
            Build::Native => "native",
            Build::Prebuilt => "prebuilt",
        }
    }
}

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    pub perplexity: f64,
    /// Mean Kullback-Leibler divergence, nats.
    pub kl: f64,
    /// Its 99th percentile.
    pub kl_p99: f64,
    /// Part of the predictions whose likeliest token differs.
    pub disagreement: f64,
}

/// Stored log-probabilities.
pub struct Base {
    pub path: PathBuf,
    pub perplexity: f64,
    /// Step with which they were made.
    step: u32,
}

/// llama.cpp with one model and text.
pub struct Peer {
    pub program: PathBuf,
    pub build: Build,
    pub model: PathBuf,
    pub text: PathBuf,
    /// Where files and logs are kept.
    pub folder: PathBuf,
    pub threads: u32,
    pub chunks: u32,
    pub fresh: bool,
}

impl Peer {
    /// The log-probabilities with a step of `step` tokens.
    pub fn base(&self, step: u32) -> Result<Base> {
        let path = self.file(&format!("ub{step}"), "kld");
        let mut cmd = self.command(step);
        cmd.arg("-f").arg(&self.text).arg("--chunks").arg(self.chunks.to_string());
        cmd.arg("--kl-divergence-base").arg(&path);
        let fresh = self.fresh || !path.exists();
        let log = self.log(&format!("ub{step}"), fresh, &mut cmd, "Final estimate: PPL =")?;
        Ok(Base { path, perplexity: perplexity(&log)?, step })
    }

    /// llama.cpp with another step against a base.
    pub fn against(&self, base: &Base, step: u32) -> Result<Figures> {
        let mut cmd = self.command(step);
        cmd.arg("--kl-divergence").arg("--kl-divergence-base").arg(&base.path);
        let name = format!("ub{step}-against-ub{}", base.step);
        let log = self.log(&name, self.fresh, &mut cmd, "Same top p:")?;
        figures(&log).with_context(|| format!("what llama-perplexity printed for {name}"))
    }

    fn command(&self, step: u32) -> Command {
        let mut cmd = Command::new(&self.program);
        if self.build == Build::Native {
            cmd.env("NATIVE", "1");
        } else {
            cmd.env_remove("NATIVE");
        }
        cmd.arg("llama-perplexity").arg("-m").arg(&self.model);
        // One sequence at a time, as long as the batch.
        cmd.args([
            "-c",
            "512",
            "-b",
            "512",
            "-ub",
            &step.to_string(),
            "-t",
            &self.threads.to_string(),
        ]);
        cmd
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        let model = self.model.file_stem().unwrap_or_default().to_string_lossy();
        self.folder.join(format!(
            "{model}-{}-{}x512-{name}.{extension}",
            self.build.name(),
            self.chunks
        ))
    }

    /// The log of a command: kept from earlier, or written now.
    fn log(&self, name: &str, fresh: bool, cmd: &mut Command, last: &str) -> Result<String> {
        let path = self.file(name, "log");
        let kept = if fresh { None } else { fs::read(&path).ok() };
        if let Some(log) = kept.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            && log.contains(last)
        {
            return Ok(log);
        }
        eprintln!("run     llama-perplexity into {}", path.display());
        let file =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let status = cmd.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).status()?;
        let log = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        if !status.success() || !log.contains(last) {
            // It does not always finish writing its log before it ends.
            bail!(
                "llama-perplexity ended with {status} before it printed \"{last}\"; see {}, or try again",
                path.display()
            );
        }
        Ok(log)
    }
}

fn figures(log: &str) -> Result<Figures> {
    Ok(Figures {
        perplexity: figure(log, "Mean PPL(Q)                   :")?,
        kl: figure(log, "Mean    KLD:")?,
        kl_p99: figure(log, "99.0%   KLD:")?,
        disagreement: 1.0 - figure(log, "Same top p:")? / 100.0,
    })
}

/// The perplexity in what `llama-perplexity` printed.
pub fn perplexity(log: &str) -> Result<f64> {
    figure(log, "Final estimate: PPL =")
}

/// The number behind a label.
fn figure(log: &str, label: &str) -> Result<f64> {
    let (_, after) = log.split_once(label).with_context(|| format!("there is no \"{label}\""))?;
    let number = after.split_whitespace().next().unwrap_or_default().trim_end_matches('%');
    number.parse().with_context(|| format!("\"{number}\" behind \"{label}\""))
}

/// The version of the native build, which it says on its error output.
pub fn version(program: &Path) -> Result<String> {
    let out = Command::new(program)
        .env("NATIVE", "1")
        .args(["llama-perplexity", "--version"])
        .output()?;
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    let version = said.lines().find_map(|line| line.strip_prefix("version: "));
    Ok(version.context("llama-perplexity --version names no version")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
Mean PPL(Q)                   :  15.992941 ±   0.668185
Mean PPL(base)                :  16.022102 ±   0.670043
Mean    KLD:   0.004122 ±   0.000079
99.9%   KLD:   0.079711
99.0%   KLD:   0.024099
Same top p: 96.176 ± 0.269 %
";

    #[test]
    fn figures_are_found_by_their_labels() {
        let f = figures(LOG).unwrap();
        assert_eq!((f.perplexity, f.kl, f.kl_p99), (15.992941, 0.004122, 0.024099));
        assert!((f.disagreement - 0.03824).abs() < 1e-9);
        assert!(figures(&LOG.replace("Same top", "Other")).is_err());
        assert_eq!(
            figure("x Final estimate: PPL = 14.4184 +/- 0.6", "Final estimate: PPL =").unwrap(),
            14.4184
        );
    }
}
