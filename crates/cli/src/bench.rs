//! `hob bench`: how fast a model is read, reads and writes here. Steps the runner by hand on random tokens, so that neither sampling nor
//! scheduling is measured; every sequence has pages of its own, filled by a real prefill, since shared or empty ones would stay in a
//! processor's cache. Figures are medians over all runs, which are reported too.

mod expected;

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use hob_cpu::IsaKind;
use hob_engine::{LoadOptions, Runner};
use hob_hub::Hub;
use hob_machine::Machine;
use hob_model::{Batch, Limits, Model, Output, PAGE, Place, footprint};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::answer::{Kv, at_least_one};
use crate::out;
use hob_plan::Conditions;
use hob_plan::speed::Interval;
use hob_server::ModelFile;
use hob_server::default_threads;

use expected::Expected;

/// Tokens decoded before the first measured run.
const WARM_UP: usize = 4;

/// Measure the speed of a model on this machine
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  hob bench smollm2:135m\n  hob bench model.gguf -t 8 -p 512 -n 64 -r 5\n  \
    hob bench model.gguf -d 0,4096 -b 1,8 --json"
)]
pub struct Args {
    /// Name in the store, or path to a GGUF file
    model: String,
    /// Threads [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = at_least_one(1024))]
    threads: Option<usize>,
    /// Tokens to read; 0 leaves the test out
    #[arg(short, long, value_name = "N", default_value_t = 512)]
    prompt: usize,
    /// Tokens to write; 0 leaves the test out
    #[arg(short = 'n', long, value_name = "N", default_value_t = 64)]
    generate: usize,
    /// Tokens that are in the context already; several with commas
    #[arg(short, long, value_name = "N,..", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,
    /// Sequences that write at the same time; several with commas
    #[arg(short, long, value_name = "N,..", value_delimiter = ',', default_value = "1", value_parser = at_least_one(256))]
    batch: Vec<usize>,
    /// Measured runs of each test
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = at_least_one(1000))]
    runs: usize,
    /// Type of the cache
    #[arg(long, value_enum, default_value_t)]
    kv: Kv,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One line of the result.
struct Row {
    test: &'static str,
    tokens: usize,
    depth: usize,
    batch: usize,
    /// Seconds of each run.
    seconds: Vec<f64>,
    /// Tokens per second that the planner expects, where this machine was measured.
    expected: Option<Interval>,
}

/// What a loaded model takes.
struct Memory {
    /// By the planner.
    needed: u64,
    /// What is there.
    resident: Option<u64>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let hub = Hub::open()?;
    let file = crate::models::open(&hub, &args.model)?;
    let machine = Machine::host()?;
    let threads = args.threads.unwrap_or_else(|| default_threads(&machine));
    let (model, weights) = (file.describe()?, file.weight_bytes());
    let limits = limits(args, &model, weights, &machine)?;
    let needed = footprint(&model, &limits, weights).total();
    let expected = Expected::of(&file, model, hub.root(), &machine, args.kv.into())?;
    let start = Instant::now();
    file.gguf.prefault();
    let runner = Runner::load(file.gguf.clone(), &LoadOptions { threads, limits })
        .with_context(|| format!("cannot load {}", file.local.name))?;
    let loaded = start.elapsed().as_secs_f64();
    let seconds = vec![loaded];
    let mut rows =
        vec![Row { test: "load", tokens: 0, depth: 0, batch: 1, seconds, expected: None }];
    let mut bench = Bench::new(runner, args);
    bench.measure(args, &mut rows)?;
    // While it is loaded, and its cache is as full as it becomes.
    let memory = Memory { needed, resident: resident(weights) };
    drop(bench);
    // The probe is of as many threads as are usual.
    if let Some(expected) = expected.filter(|_| threads == default_threads(&machine)) {
        rows.iter_mut().for_each(|row| row.expected = row.expect(&expected));
    }
    if args.json {
        return out::print_json(&to_json(&file, &machine, threads, &rows, &memory));
    }
    out::say(&format!(
        "{}, {}, {threads} threads, {}",
        file.local.name,
        file.recipe(),
        IsaKind::best().name()
    ));
    out::print(&table(&rows, &memory))
}

/// What the runner is built for: the deepest and widest of the tests.
fn limits(args: &Args, model: &Model, weights: u64, machine: &Machine) -> Result<Limits> {
    let depth = args.depth.iter().copied().max().unwrap_or(0);
    let sequences = args.batch.iter().copied().max().unwrap_or(1);
    let Some(context) = depth.checked_add(args.prompt.max(args.generate)).filter(|&n| n > 0) else {
        bail!("nothing to measure: -p and -n are both 0, or too large");
    };
    let conditions = Conditions {
        model,
        weights,
        available: machine.memory.available_bytes,
        kv: args.kv.into(),
        sequences,
        asked: Some(context),
    };
    Ok(conditions.choose()?.limits.keeping_windows())
}

struct Bench {
    runner: Runner,
    batch: Batch,
    /// Pages of each sequence.
    pages: Vec<Vec<u32>>,
    /// Positions of each sequence that hold keys and values.
    filled: Vec<usize>,
    /// State of the random tokens.
    random: u64,
    /// What is going on, on a terminal.
    status: ProgressBar,
}

impl Bench {
    fn new(runner: Runner, args: &Args) -> Bench {
        let sequences = args.batch.iter().copied().max().unwrap_or(1);
        let each = runner.limits().pages / sequences;
        let pages = (0..sequences)
            .map(|s| (s * each..(s + 1) * each).map(|page| page as u32).collect())
            .collect();
        let status = ProgressBar::new_spinner();
        Bench { runner, batch: Batch::new(), pages, filled: vec![0; sequences], random: 1, status }
    }

    /// All tests, by rising depth, so that what one filled serves the next.
    fn measure(&mut self, args: &Args, rows: &mut Vec<Row>) -> Result<()> {
        let mut depths = args.depth.clone();
        depths.sort_unstable();
        depths.dedup();
        for &depth in &depths {
            if args.prompt > 0 {
                self.fill(1, depth)?;
                self.status.set_message(format!("prefill of {} at {depth}", args.prompt));
                self.prefill(depth, args.prompt)?;
                let seconds = self.timed(args.runs, |b| b.prefill(depth, args.prompt))?;
                rows.push(Row {
                    test: "prefill",
                    tokens: args.prompt,
                    depth,
                    batch: 1,
                    seconds,
                    expected: None,
                });
            }
            for &batch in &args.batch {
                if args.generate > 0 {
                    self.fill(batch, depth)?;
                    let what = format!("decode of {} at {depth}, {batch} at once", args.generate);
                    self.status.set_message(what);
                    self.decode(batch, depth, args.generate.min(WARM_UP))?;
                    let seconds =
                        self.timed(args.runs, |b| b.decode(batch, depth, args.generate))?;
                    let (test, tokens) = ("decode", args.generate);
                    rows.push(Row { test, tokens, depth, batch, seconds, expected: None });
                }
            }
        }
        self.status.finish_and_clear();
        Ok(())
    }

    fn timed(
        &mut self,
        runs: usize,
        mut test: impl FnMut(&mut Bench) -> Result<()>,
    ) -> Result<Vec<f64>> {
        let mut seconds = Vec::with_capacity(runs);
        for _ in 0..runs {
            self.status.tick();
            let start = Instant::now();
            test(self)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(seconds)
    }

    /// Brings the first `sequences` to this depth.
    fn fill(&mut self, sequences: usize, depth: usize) -> Result<()> {
        for sequence in 0..sequences {
            let filled = self.filled[sequence];
            if filled < depth {
                self.status
                    .set_message(format!("sequence {sequence}: reading {depth} tokens first"));
                self.read(sequence, filled, depth - filled)?;
                self.filled[sequence] = depth;
            }
        }
        Ok(())
    }

    fn prefill(&mut self, depth: usize, tokens: usize) -> Result<()> {
        self.read(0, depth, tokens)
    }

    /// Reads a prompt in steps, and the logits of its last token.
    fn read(&mut self, sequence: usize, start: usize, count: usize) -> Result<()> {
        let rows = self.runner.limits().rows;
        for at in (start..start + count).step_by(rows) {
            let end = (start + count).min(at + rows);
            let last = end == start + count;
            let tokens = self.tokens(end - at);
            self.batch.clear();
            let output = if last { Output::Last } else { Output::None };
            let pages = &self.pages[sequence][..end.div_ceil(PAGE)];
            let place = Place { tables: &[pages], state: sequence as u32 };
            self.batch.push_at(&tokens, at as u32, &place, output)?;
            self.runner.step(&self.batch)?;
        }
        self.runner.logits(0..1)?;
        Ok(())
    }

    /// Writes `count` tokens in each of the first `sequences`.
    fn decode(&mut self, sequences: usize, depth: usize, count: usize) -> Result<()> {
        for at in depth..depth + count {
            let tokens = self.tokens(sequences);
            self.batch.clear();
            for (state, (token, pages)) in (0..).zip(tokens.chunks(1).zip(&self.pages)) {
                let place = Place { tables: &[&pages[..(at + 1).div_ceil(PAGE)]], state };
                self.batch.push_at(token, at as u32, &place, Output::Last)?;
            }
            self.runner.step(&self.batch)?;
            self.runner.logits(0..sequences)?;
        }
        Ok(())
    }

    /// Random tokens (xorshift), the same in every program run.
    fn tokens(&mut self, count: usize) -> Vec<u32> {
        let vocab = u64::from(self.runner.model().vocab);
        let next = |_| {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            (self.random % vocab) as u32
        };
        (0..count).map(next).collect()
    }
}

impl Row {
    fn median_seconds(&self) -> f64 {
        median(&self.seconds)
    }

    /// Tokens per second of all sequences together; none for loading.
    fn speed(&self, seconds: f64) -> Option<f64> {
        (self.tokens > 0).then(|| (self.tokens * self.batch) as f64 / seconds)
    }

    fn expect(&self, expected: &Expected) -> Option<Interval> {
        match self.test {
            "prefill" => expected.prefill(self.tokens, self.depth),
            "decode" => expected.decode(self.tokens, self.depth, self.batch),
            _ => None,
        }
    }

    fn to_json(&self) -> Value {
        let runs: Vec<f64> = self.seconds.iter().map(|&s| self.speed(s).unwrap_or(s)).collect();
        json!({
            "test": self.test,
            "tokens": self.tokens,
            "depth": self.depth,
            "batch": self.batch,
            "tok_s": self.speed(self.median_seconds()),
            "seconds": self.median_seconds(),
            "runs": runs,
            "expected_tok_s": self.expected,
        })
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    (sorted[low] + sorted[high]) / 2.0
}

fn to_json(
    file: &ModelFile,
    machine: &Machine,
    threads: usize,
    rows: &[Row],
    memory: &Memory,
) -> Value {
    json!({
        "schema": 1,
        "model": file.local.name,
        "recipe": file.recipe(),
        "threads": threads,
        "isa": IsaKind::best().name(),
        "device": "cpu",
        "processor": machine.cpu.brand,
        "rows": rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        "peak_rss_bytes": peak_rss(),
        "expected_bytes": memory.needed,
        "resident_bytes": memory.resident,
    })
}

fn table(rows: &[Row], memory: &Memory) -> String {
    let mut cells = vec![
        ["TEST", "TOKENS", "DEPTH", "BATCH", "SECONDS", "TOKENS/S", "RANGE", "EXPECTED"]
            .map(String::from),
    ];
    for row in rows {
        let speed = |s: f64| row.speed(s).map_or("-".to_owned(), |v| format!("{v:.1}"));
        let (least, most) =
            row.seconds.iter().fold((f64::MAX, 0.0f64), |(a, b), &s| (a.min(s), b.max(s)));
        let range = if row.tokens == 0 {
            "-".to_owned()
        } else {
            format!("{} to {}", speed(most), speed(least))
        };
        let n = |n: usize| n.to_string();
        let seconds = format!("{:.3}", row.median_seconds());
        let test = row.test.to_owned();
        cells.push([
            test,
            n(row.tokens),
            n(row.depth),
            n(row.batch),
            seconds,
            speed(row.median_seconds()),
            range,
            row.expected.map_or("-".to_owned(), |e| format!("{:.1} to {:.1}", e.low, e.high)),
        ]);
    }
    let mut text = out::table(&cells);
    if let Some(bytes) = peak_rss() {
        let (peak, needed) = (out::memory_size(bytes), out::memory_size(memory.needed));
        text.push_str(&format!("peak memory {peak}, expected {needed}\n"));
    }
    text
}

/// The most memory this process ever held, mapped weights included; only Linux says.
fn peak_rss() -> Option<u64> {
    status("VmHWM:")
}

/// Memory that the model costs: what is not of files, and the tensors, which are read in place.
fn resident(weights: u64) -> Option<u64> {
    Some(status("RssAnon:")? + weights)
}

/// A line of this process' status, in bytes.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn speeds_count_every_sequence() {
        let row = Row {
            test: "decode",
            tokens: 64,
            depth: 0,
            batch: 8,
            seconds: vec![2.0, 4.0, 1.0],
            expected: None,
        };
        let json = row.to_json();
        assert_eq!((json["tok_s"].as_f64(), json["seconds"].as_f64()), (Some(256.0), Some(2.0)));
        assert_eq!(json["runs"], json!([256.0, 128.0, 512.0]));
        let load =
            Row { test: "load", tokens: 0, depth: 0, batch: 1, seconds: vec![0.5], expected: None }
                .to_json();
        assert!(load["tok_s"].is_null() && load["runs"] == json!([0.5]));
    }

    #[test]
    fn memory_is_known_on_linux() {
        assert_eq!(peak_rss().is_some_and(|b| b > 1 << 20), cfg!(target_os = "linux"));
    }
}
