//! `cargo xtask transfer`: how fast `hob pull` and Hugging Face's own client fetch a large file from a loopback server, round after round
//! in turn, each into a fresh folder on the same disk. hob verifies the file and has it on the disk when it ends; the other does
//! neither, so it runs a second time with a `sync` behind it. Deliberately absent: real networks, whose speed is not ours.

mod server;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::bench::cpuinfo;
use crate::{judge, sh};
use server::Offered;

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Size of the file in GiB; source and copy should fit in memory together
    #[arg(long, default_value_t = 4)]
    gib: u64,
    /// Rounds: in each, every contender fetches the file once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Folder for the file and its copies, on the disk to measure; what this command puts there it removes
    #[arg(long, default_value = "target/transfer")]
    folder: PathBuf,
    /// Measure hob only
    #[arg(long)]
    hob_only: bool,
    /// End of the CSV file's name, bench/DATE-NAME.csv
    #[arg(long, default_value = "transfer")]
    name: String,
}

/// huggingface_hub as pip installs it, hf_xet among its dependencies.
const CLIENT: &str = "huggingface_hub";
const REPO: &str = "org/model";
const NAME: &str = "model.gguf";

/// Measures, prints a table, writes the CSV file.
pub fn run(args: &Args) -> Result<()> {
    let folder = sh::root().join(&args.folder);
    fs::create_dir_all(&folder)?;
    let contenders = contenders(args)?;
    let path = folder.join("source");
    let bytes = args.gib << 30;
    let sha256 = make(&path, bytes)?;
    let offered = Offered { path, bytes, sha256, repo: REPO, name: NAME };
    let url = server::start(offered.clone())?;
    let mut runs: Vec<Vec<Run>> = contenders.iter().map(|_| Vec::new()).collect();
    let mut disk = Vec::new();
    let measured = (|| {
        for round in 1..=args.rounds {
            disk.push(write_speed(&folder, bytes)?);
            for (contender, runs) in contenders.iter().zip(&mut runs) {
                let run = contender.run(&folder, &url, &offered)?;
                let (speed, cpu) = (bytes as f64 / run.seconds / 1e6, run.cpu_seconds);
                eprintln!(
                    "{round}/{}  {:24}{speed:8.0} MB/s{cpu:8.1} s of CPU",
                    args.rounds, contender.name
                );
                runs.push(run);
            }
        }
        anyhow::Ok(())
    })();
    fs::remove_dir_all(&folder)?;
    measured?;
    write_csv(args, &contenders, &runs, &mut disk, bytes)
}

/// Someone who fetches the file.
struct Contender {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    /// Whether it counts as done only when the file is on the disk.
    synced: bool,
}

/// One fetch.
struct Run {
    seconds: f64,
    cpu_seconds: f64,
}

impl Contender {
    /// Fetches the file into a fresh folder, sees that it is right, and removes it.
    fn run(&self, folder: &Path, url: &str, offered: &Offered) -> Result<Run> {
        let into = folder.join("copy");
        fs::create_dir_all(&into)?;
        let mut cmd = Command::new(&self.program);
        cmd.args(&self.args)
            .env("HF_ENDPOINT", url)
            .env("HF_HOME", into.join("home"))
            .env("HF_HUB_DISABLE_TELEMETRY", "1")
            .env("HOB_HOME", &into)
            .env("MODELSCOPE_DOMAIN", url);
        if self.args.iter().any(|a| a == "download") {
            cmd.arg("--local-dir").arg(&into);
        }
        let (before, start) = (children_cpu(), Instant::now());
        sh::output(&mut cmd)?;
        if self.synced {
            sh::run(Command::new("sync").arg("-f").arg(&into))?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let cpu_seconds = children_cpu() - before;
        let blob = into.join(format!("blobs/sha256-{}", offered.sha256));
        let file = [into.join(NAME), blob].into_iter().find_map(|path| fs::metadata(path).ok());
        let len = file.map_or(0, |meta| meta.len());
        fs::remove_dir_all(&into)?;
        if len != offered.bytes {
            bail!("{} left {len} bytes", self.name);
        }
        // What is still on its way to the disk shall not slow down the next one.
        sh::run(&mut Command::new("sync"))?;
        Ok(Run { seconds, cpu_seconds })
    }
}

fn contenders(args: &Args) -> Result<Vec<Contender>> {
    let hob = Contender {
        name: "hob".into(),
        program: judge::build_hob()?,
        args: vec!["pull".into(), format!("hf.co/{REPO}:{NAME}")],
        // As it is.
        synced: false,
    };
    if args.hob_only {
        return Ok(vec![hob]);
    }
    let venv = sh::cache_dir("HOB_PEERS", "hob-peers")?.join("huggingface");
    let hf = venv.join("bin/hf");
    if !hf.exists() {
        sh::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        sh::run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", CLIENT]))?;
    }
    let version = sh::text(Command::new(&hf).arg("version"))?;
    let version = version.split_whitespace().last().unwrap_or("?").to_owned();
    let download = |name: &str, synced| Contender {
        name: format!("hf download {version}{name}"),
        program: hf.clone(),
        args: ["download", REPO, NAME].map(str::to_owned).into(),
        synced,
    };
    Ok(vec![hob, download("", false), download(" and sync", true)])
}

/// Writes a file without structure; returns its digest. It ends up in the page cache, from where it will be served.
fn make(path: &Path, bytes: u64) -> Result<String> {
    let mut file = fs::File::create(path)?;
    let (mut hasher, mut state) = (Sha256::new(), 0x9e37_79b9_7f4a_7c15_u64);
    let mut block = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block)?;
        hasher.update(&block);
    }
    file.sync_all()?;
    Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Bytes per second that the disk takes, waited for.
fn write_speed(folder: &Path, bytes: u64) -> Result<f64> {
    let path = folder.join("zeros");
    let count = format!("count={}", bytes >> 22);
    let start = Instant::now();
    let mut dd = Command::new("dd");
    dd.args(["if=/dev/zero", "bs=4M", "conv=fsync", "status=none", &count]);
    sh::output(dd.arg(format!("of={}", path.display())))?;
    let seconds = start.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(bytes as f64 / seconds)
}

/// Seconds of processor time of all children that have ended (Linux; elsewhere 0).
fn children_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // Fields 16 and 17 of proc(5), counted from 1, of which two stand before the bracket; a tick is a hundredth.
    (ticks(13) + ticks(14)) / 100.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn write_csv(
    args: &Args,
    contenders: &[Contender],
    runs: &[Vec<Run>],
    disk: &mut [f64],
    bytes: u64,
) -> Result<()> {
    let git = |args: &[&str]| sh::text(Command::new("git").args(args).current_dir(sh::root()));
    let dirty =
        if git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() { "" } else { "+" };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])? + dirty;
    let date = sh::text(Command::new("date").args(["-u", "+%F"]))?;
    let cpu = cpuinfo("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let disk = median(disk) / 1e6;
    let mut csv = String::from(
        "date,commit,cpu,cores,load,bytes,rounds,disk MB/s,who,median MB/s,least,most,CPU seconds\n",
    );
    for (contender, runs) in contenders.iter().zip(runs) {
        let mut speeds: Vec<f64> = runs.iter().map(|r| bytes as f64 / r.seconds / 1e6).collect();
        let mut cpus: Vec<f64> = runs.iter().map(|r| r.cpu_seconds).collect();
        let (middle, cpu_seconds) = (median(&mut speeds), median(&mut cpus));
        let (least, most) = (speeds.first().unwrap_or(&0.0), speeds.last().unwrap_or(&0.0));
        csv += &format!(
            "{date},{commit},{cpu},{cores},{load},{bytes},{},{disk:.0},{},{middle:.0},{least:.0},{most:.0},{cpu_seconds:.1}\n",
            args.rounds, contender.name
        );
    }
    print!("{csv}");
    let path = sh::root().join("bench").join(format!("{date}-{}.csv", args.name));
    fs::write(&path, csv).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
