//! `cargo xtask quants`: every recipe made by hob and by llama.cpp from one F16 file with one importance matrix, then both
//! judged by the same engine. What was measured is kept per recipe and maker in the asset cache, so that a run goes on
//! where the last one ended and llama.cpp's half is measured once. `--time` measures the making alone, in turn.

mod judged;
mod source;
mod table;
mod time;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{assets, bench, judge, sh};
use judged::{Bench, Maker};
use table::Row;

/// The quantized recipes of the table in `shared/data/qwen3-14b-quants.csv`.
const RECIPES: &str = "Q8_0,Q6_K_L,Q6_K,Q5_K_L,Q5_K_M,Q5_K_S,Q4_K_L,Q4_1,Q4_K_M,Q3_K_XL,Q4_K_S,Q4_0,IQ4_NL,IQ4_XS,\
    Q3_K_L,Q3_K_M,IQ3_M,Q3_K_S,Q2_K_L,IQ3_XS,IQ3_XXS,Q2_K,IQ2_M,IQ2_S,IQ2_XS";
/// Those whose making is timed.
const TIMED: &str = "Q4_K_M,Q6_K,IQ4_XS,IQ3_XXS,IQ2_XS";
/// The file that becomes the source.
const MODEL: &str = "qwen-coder";

/// What to make and judge.
#[derive(clap::Args)]
pub struct Args {
    /// Recipes [default: the 25 of the table; with --time, five of them]
    #[arg(value_delimiter = ',')]
    recipes: Vec<String>,
    /// Measure hob's files again, though they were
    #[arg(long)]
    fresh: bool,
    /// Time the making, in turn with llama.cpp's, and judge nothing
    #[arg(long)]
    time: bool,
    /// With --time: rounds
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Make and judge llama.cpp's files only
    #[arg(long)]
    peer_only: bool,
    /// Begin no recipe after this many minutes; the rest is for the next run
    #[arg(long)]
    minutes: Option<u64>,
    /// Threads
    #[arg(short, default_value_t = 2)]
    threads: u32,
}

/// Makes, judges, prints the table, writes the CSV file; fails when a limit is passed.
pub fn run(args: &Args) -> Result<()> {
    let bench = prepare(args.threads)?;
    let default = if args.time { TIMED } else { RECIPES };
    let mut recipes = args.recipes.clone();
    if recipes.is_empty() {
        recipes = default.split(',').map(str::to_owned).collect();
    }
    if args.time {
        return time::run(&bench, &recipes, args.rounds);
    }
    let begun = std::time::Instant::now();
    let mut rows = Vec::new();
    let mut left = 0;
    for recipe in &recipes {
        let late = args.minutes.is_some_and(|m| begun.elapsed().as_secs() >= 60 * m);
        if late && !bench.has_both(recipe, args.fresh) {
            left += 1;
            continue;
        }
        let theirs = bench.judged(Maker::LlamaCpp, recipe, false)?;
        if args.peer_only {
            continue;
        }
        let ours = bench.judged(Maker::Hob, recipe, args.fresh)?;
        rows.push(Row { recipe: recipe.clone(), ours, theirs });
        eprint!("{}", table::line(&rows[rows.len() - 1]));
    }
    if args.peer_only {
        return Ok(());
    }
    print!("{}", table::markdown(&rows));
    write_csv("quants", &table::csv(&rows, &constants(&bench)?))?;
    if left > 0 {
        bail!("{left} recipes are left for the next run");
    }
    table::verdict(&rows)
}

/// Programs, source, importance matrix and reference; each is made where it is missing.
fn prepare(threads: u32) -> Result<Bench> {
    let tools = bench::tools_dir()?;
    assets::run(&assets::Args::named(&[MODEL, "texts"]))?;
    let cache = assets::dir()?;
    let folder = cache.join("quants");
    fs::create_dir_all(&folder)?;
    let bench = Bench {
        hob: judge::build_hob()?,
        llama: tools.join("llama-peer"),
        text: cache.join("texts/mixed.txt"),
        source: folder.join("source.gguf"),
        imatrix: folder.join("imatrix.gguf"),
        reference: folder.join("reference.kld"),
        folder,
        threads,
    };
    let make = |path: &Path, what: &dyn Fn(&Path) -> Result<()>| -> Result<()> {
        if path.exists() {
            return Ok(());
        }
        eprintln!("making  {}", path.display());
        what(path).with_context(|| format!("cannot make {}", path.display()))
    };
    make(&bench.source, &|to| source::write(&cache.join(format!("{MODEL}.gguf")), to))?;
    let calibration = bench.folder.join("calibration.txt");
    make(&calibration, &|to| source::calibration(&cache.join("texts"), to))?;
    make(&bench.reference, &|to| bench.refer(to))?;
    make(&bench.imatrix, &|to| bench.observe(&calibration, to))?;
    Ok(bench)
}

/// What is the same in every line.
fn constants(bench: &Bench) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("cpu", bench::cpuinfo("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())),
        ("isa", bench::isa(&bench::cpuinfo("flags").unwrap_or_default())),
        ("llama_cpp", judge::peer_version(&bench.llama)?),
        ("threads", bench.threads.to_string()),
    ])
}

/// The commit at hand; with a plus sign when files differ from it.
fn commit() -> Result<String> {
    let git = |args: &[&str]| sh::text(Command::new("git").args(args).current_dir(sh::root()));
    let dirty = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Ok(git(&["rev-parse", "--short=12", "HEAD"])? + if dirty { "+" } else { "" })
}

fn today() -> Result<String> {
    sh::text(Command::new("date").args(["-u", "+%F"]))
}

fn write_csv(name: &str, csv: &str) -> Result<()> {
    let path: PathBuf = sh::root().join("bench").join(format!("{}-{name}.csv", today()?));
    fs::write(&path, csv).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
