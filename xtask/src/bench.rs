//! `cargo xtask bench`: hob against llama.cpp on this machine, round after round in turn (a machine's speed
//! drifts, so only ratios within a round's neighbourhood count), on models with a real shape and random
//! weights. Deliberately absent: claims about quality, and other peers.

mod runs;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{assets, judge, sh};
use runs::{Contender, Load, Programs};
use table::Table;

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// File types of the model
    #[arg(long, value_delimiter = ',', default_value = "Q8_0,Q4_0,Q4_K_M,Q6_K")]
    types: Vec<String>,
    /// Shape of the model, one that make-model.py knows
    #[arg(long, default_value = "qwen3-0.6b")]
    shape: String,
    /// Threads
    #[arg(short, default_value_t = 2)]
    threads: u32,
    /// Tokens of the prompt
    #[arg(short, default_value_t = 512)]
    prompt: u32,
    /// Tokens to generate
    #[arg(short = 'n', default_value_t = 64)]
    generate: u32,
    /// Rounds: in each, every contender runs once on every model
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Repetitions within one run
    #[arg(short, default_value_t = 1)]
    repeats: u32,
    /// Measure llama.cpp only
    #[arg(long)]
    peer_only: bool,
    /// End of the CSV file's name, bench/DATE-NAME.csv; the shape's without one
    #[arg(long)]
    name: Option<String>,
}

/// Measures, prints the table, writes the CSV file.
pub fn run(args: &Args) -> Result<()> {
    let tools = tools_dir()?;
    let programs = Programs { llama_peer: tools.join("llama-peer"), hob: build_hob(args)? };
    let models = args
        .types
        .iter()
        .map(|ty| model(&tools, &args.shape, ty).map(|path| (format!("{}-{ty}", args.shape), path)))
        .collect::<Result<Vec<_>>>()?;
    let constants = constants(args, &programs)?;
    let load = Load {
        threads: args.threads,
        prompt: args.prompt,
        generate: args.generate,
        repeats: args.repeats,
    };
    let mut contenders: Vec<Contender> =
        [false, true].map(|repack| Contender::Peer { repack }).to_vec();
    if !args.peer_only {
        contenders.push(Contender::Hob);
    }

    let mut table = Table::default();
    for round in 1..=args.rounds {
        for (name, path) in &models {
            for who in &contenders {
                for (test, tok_s) in programs.run(*who, path, &load)? {
                    let (who_name, test_name) = (who.name(), test.name());
                    eprintln!(
                        "{round}/{}  {name}  {test_name:8}{who_name:22}{tok_s:9.1}",
                        args.rounds
                    );
                    table.add(name, test, *who, tok_s);
                }
            }
        }
    }
    print!("{}", table.markdown());
    write_csv(args, &table.csv(&constants), &constants)
}

/// The folder of the tools that measure peers and make models.
pub fn tools_dir() -> Result<PathBuf> {
    let dir = match std::env::var_os("HOB_TOOLS") {
        Some(dir) => PathBuf::from(dir),
        None => sh::root().join("../shared/tools"),
    };
    if !dir.join("llama-peer").is_file() {
        bail!(
            "there is no llama-peer in {}; set HOB_TOOLS to the folder with llama-peer and make-model.py",
            dir.display()
        );
    }
    Ok(dir)
}

/// Says which peers can be measured here, without fetching or building one.
pub fn describe_peers() -> Result<()> {
    let tools = tools_dir()?;
    let home = sh::cache_dir("HOB_PEERS", "hob-peers")?;
    let builds = [
        ("prebuilt", "debian/usr/bin", "llama-peer setup"),
        ("native", "native/build/bin", "llama-peer setup-native"),
    ];
    for (name, bin, setup) in builds {
        if home.join(bin).join("llama-bench").exists() {
            eprintln!("ok      peers: llama.cpp, {name}");
        } else {
            eprintln!(
                "absent  peers: llama.cpp, {name}; get it with {setup} in {}",
                tools.display()
            );
        }
    }
    Ok(())
}

/// Builds hob as it is shipped; with `--peer-only` nothing is built or run.
fn build_hob(args: &Args) -> Result<PathBuf> {
    if args.peer_only {
        return Ok(judge::hob());
    }
    judge::build_hob()
}

/// The model file of a type, made where it is missing.
fn model(tools: &Path, shape: &str, ty: &str) -> Result<PathBuf> {
    let assets = assets::dir()?;
    let path = assets.join("bench").join(format!("{shape}-{ty}.gguf"));
    if path.exists() {
        return Ok(path);
    }
    let vocab = assets.join("vocab/ggml-vocab-qwen2.gguf");
    if !vocab.exists() {
        bail!("there is no {}; run `cargo xtask assets vocab`", vocab.display());
    }
    fs::create_dir_all(assets.join("bench"))?;
    let part = path.with_extension("part");
    let mut cmd = sh::python(&["gguf==0.19.0"])?;
    cmd.arg(tools.join("make-model.py")).args(["--preset", shape, "--type", ty]);
    cmd.arg("--vocab-gguf").arg(vocab).arg("-o").arg(&part);
    sh::output(&mut cmd)?;
    fs::rename(part, &path)?;
    Ok(path)
}

/// What is the same in every line: when, what, where.
fn constants(args: &Args, programs: &Programs) -> Result<Vec<(&'static str, String)>> {
    let git = |args: &[&str]| sh::text(Command::new("git").args(args).current_dir(sh::root()));
    let dirty =
        if git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() { "" } else { "+" };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    if load.parse::<f64>().is_ok_and(|load| load > 0.5) {
        eprintln!(
            "warning: other programs are running (load {load}); figures will be low and uneven"
        );
    }
    Ok(vec![
        ("date", sh::text(Command::new("date").args(["-u", "+%F"]))?),
        ("commit", git(&["rev-parse", "--short=12", "HEAD"])? + dirty),
        ("cpu", cpuinfo("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())),
        ("isa", isa(&cpuinfo("flags").or_else(|| cpuinfo("Features")).unwrap_or_default())),
        ("llama_cpp", programs.peer_version()?),
        ("load", load),
        ("threads", args.threads.to_string()),
        ("prompt", args.prompt.to_string()),
        ("generate", args.generate.to_string()),
    ])
}

/// The first value of a key in Linux's description of the processors.
pub fn cpuinfo(key: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|k| k.trim() == key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The instruction sets that matter for kernels, of all that a processor has.
pub fn isa(flags: &str) -> String {
    const KNOWN: &[&str] = &[
        "avx2",
        "fma",
        "f16c",
        "avx_vnni",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512_vnni",
        "avx512_bf16",
        "amx_int8",
        "asimd",
        "asimdhp",
        "asimddp",
        "i8mm",
        "bf16",
        "sve",
    ];
    let found = flags.split_whitespace().filter(|flag| KNOWN.contains(flag));
    found.collect::<Vec<_>>().join(" ")
}

fn write_csv(args: &Args, csv: &str, constants: &[(&str, String)]) -> Result<()> {
    let date = constants.first().map_or("", |(_, date)| date);
    let name = args.name.as_deref().unwrap_or(&args.shape);
    let path = sh::root().join("bench").join(format!("{date}-{name}.csv"));
    fs::create_dir_all(sh::root().join("bench"))?;
    fs::write(&path, csv).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_instruction_sets_are_named() {
        assert_eq!(isa("fpu sse2 avx avx2 bmi2 avx512f avx512_vnni"), "avx2 avx512f avx512_vnni");
    }
}
