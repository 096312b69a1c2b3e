//! `cargo xtask load`: many clients at once against `hob serve` and llama.cpp's server, round after round in turn, each server started
//! anew on the same file with the same threads. The client is one thread of ours. Deliberately absent: verdicts; docs/load.md has them.

mod client;
mod faults;
mod figures;
mod http;
mod models;
mod prompts;
mod server;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;
use tokio::task::JoinSet;

use crate::bench::{cpuinfo, isa};
use crate::sh;
use client::{Reply, Target};
use faults::Fault;
use figures::Run;
use models::{Model, Name};
use prompts::{Prompt, prompts};
use server::{Programs, Purpose, Who};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Models
    #[arg(long, value_enum, value_delimiter = ',', default_value = "stories15m,smollm2")]
    models: Vec<Name>,
    /// Servers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "hob,llama")]
    servers: Vec<Who>,
    /// Streams at once
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,128,512")]
    streams: Vec<usize>,
    /// Rounds: in each, every server runs once with every number of streams
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Threads of a server
    #[arg(short, default_value_t = 2)]
    threads: usize,
    /// Tokens of an answer; with 512 streams a quarter of that
    #[arg(short = 'n', default_value_t = 64)]
    tokens: usize,
    /// Try what happens when clients behave badly, instead: all of it, or --faults=unfair,terminated
    #[arg(long, value_enum, num_args = 0.., require_equals = true, value_delimiter = ',')]
    faults: Option<Vec<Fault>>,
    /// End of the CSV file's name, bench/DATE-NAME.csv
    #[arg(long, default_value = "load")]
    name: String,
    /// Further arguments for the servers, for trying their settings one server at a time
    #[arg(last = true)]
    more: Vec<String>,
}

/// Measures, prints the table, writes the CSV file.
pub fn run(args: &Args) -> Result<()> {
    let programs = Programs::new(&args.servers)?;
    if let Some(faults) = &args.faults {
        return try_faults(args, &programs, faults);
    }
    let constants = constants(args, &programs)?;
    let mut runs = Vec::new();
    for name in &args.models {
        let model = name.model()?;
        for round in 1..=args.rounds {
            for &streams in &args.streams {
                for &who in &args.servers {
                    let run = measure(args, &programs, &model, who, streams, round)?;
                    show(args, &run);
                    runs.push(run);
                }
            }
        }
    }
    print!("{}", figures::markdown(&runs));
    let date = constants.first().map_or("", |(_, date)| date);
    let path = sh::root().join("bench").join(format!("{date}-{}.csv", args.name));
    fs::write(&path, figures::csv(&runs, &constants))
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// All faults, where none is named.
fn try_faults(args: &Args, programs: &Programs, faults: &[Fault]) -> Result<()> {
    let all = if faults.is_empty() { Fault::value_variants() } else { faults };
    for name in &args.models {
        let model = name.model()?;
        for &who in &args.servers {
            let (threads, more) = (args.threads, args.more.as_slice());
            let ground = faults::Ground { programs, who, model: &model, threads, more };
            for &fault in all {
                let f = faults::run(&ground, fault)?;
                let (model, who) = (model.name, who.name());
                println!("| {model} | {who} | {} | {} | {} |", f.fault, f.seen, f.expected);
            }
        }
    }
    Ok(())
}

fn show(args: &Args, run: &Run) {
    eprintln!(
        "{}/{}  {:12}{:5} streams  {:22}{:9.1} tok/s, {} of {} complete{}",
        run.round,
        args.rounds,
        run.model,
        run.streams,
        run.who.name(),
        run.speed(),
        run.complete(),
        run.replies.len(),
        run.failure().map_or(String::new(), |why| format!(", {why}")),
    );
}

/// One run of a server: warmed up, then `streams` clients, each with its requests one after the other.
fn measure(
    args: &Args,
    programs: &Programs,
    model: &Model,
    who: Who,
    streams: usize,
    round: usize,
) -> Result<Run> {
    let purpose = Purpose { model, streams, threads: args.threads, more: &args.more };
    let server = programs.start(who, &purpose)?;
    let each = requests_each(streams);
    let max_tokens = if streams >= 512 { args.tokens.div_ceil(4) } else { args.tokens };
    let seed = (round * 10_000 + streams) as u64;
    let prompts = prompts(seed, streams * each, model.words.clone());
    // A single thread, which is what is left of the machine's time as far as it can be.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let warm = warm_up(model);
    runtime.block_on(server.target.ask(&warm, 8));
    let (cpu, start) = (server.cpu_seconds(), Instant::now());
    let replies = runtime.block_on(clients(&server.target, &prompts, each, max_tokens));
    let seconds = start.elapsed().as_secs_f64();
    let cpu_seconds = server.cpu_seconds() - cpu;
    Ok(Run { model: model.name, who, streams, round, max_tokens, seconds, cpu_seconds, replies })
}

/// A prompt that no run has.
fn warm_up(model: &Model) -> Prompt {
    prompts(0, 1, model.words.clone()).remove(0)
}

/// Requests of each client: enough that a run is no matter of seconds, and few where there are many clients.
fn requests_each(streams: usize) -> usize {
    match streams {
        0..=3 => 6,
        4..=15 => 3,
        16..=63 => 2,
        _ => 1,
    }
}

/// Lets a client for every `each` prompts ask one after the other.
async fn clients(target: &Target, prompts: &[Prompt], each: usize, tokens: usize) -> Vec<Reply> {
    let target = Arc::new(target.clone());
    let mut clients = JoinSet::new();
    for prompts in prompts.chunks(each) {
        let (target, prompts) = (target.clone(), prompts.to_vec());
        clients.spawn(async move {
            let mut replies = Vec::new();
            for prompt in &prompts {
                replies.push(target.ask(prompt, tokens).await);
            }
            replies
        });
    }
    clients.join_all().await.concat()
}

/// What is the same in every line: when, what, where.
fn constants(args: &Args, programs: &Programs) -> Result<Vec<(&'static str, String)>> {
    let git = |args: &[&str]| sh::text(Command::new("git").args(args).current_dir(sh::root()));
    let dirty =
        if git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() { "" } else { "+" };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let versions = args
        .servers
        .iter()
        .map(|&who| programs.version(who).map(|version| format!("{} {version}", who.name())));
    Ok(vec![
        ("date", sh::text(Command::new("date").args(["-u", "+%F"]))?),
        ("commit", git(&["rev-parse", "--short=12", "HEAD"])? + dirty),
        ("cpu", cpuinfo("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())),
        ("isa", isa(&cpuinfo("flags").or_else(|| cpuinfo("Features")).unwrap_or_default())),
        ("versions", versions.collect::<Result<Vec<_>>>()?.join("; ")),
        ("load", load.split(' ').next().unwrap_or_default().to_owned()),
        ("threads", args.threads.to_string()),
    ])
}
