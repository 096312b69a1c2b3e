//! How long making a file takes, hob and llama.cpp in turn; medians of several rounds. Both read the source from the
//! page cache and write to the same folder.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;

use super::judged::{Bench, Maker};
use super::{commit, constants, today, write_csv};

const MAKERS: [Maker; 2] = [Maker::Hob, Maker::LlamaCpp];

/// Times all recipes, prints the table, writes the CSV file.
pub fn run(bench: &Bench, recipes: &[String], rounds: u32) -> Result<()> {
    let mut lines = Vec::new();
    for round in 1..=rounds.max(1) {
        for recipe in recipes {
            for maker in MAKERS {
                let file = bench.folder.join(format!("time-{}.gguf", maker.name()));
                let seconds = bench.make(maker, recipe, &file)?;
                fs::remove_file(&file)?;
                eprintln!("{round}/{rounds}  {recipe:8} {:10} {seconds:7.1} s", maker.name());
                lines.push((recipe.as_str(), maker, round, seconds));
            }
        }
    }
    let median = |recipe: &str, maker: Maker| {
        let of = lines.iter().filter(|l| l.0 == recipe && l.1 == maker).map(|l| l.3);
        let mut of: Vec<f64> = of.collect();
        of.sort_by(f64::total_cmp);
        of[of.len() / 2]
    };
    println!("| recipe | hob, s | llama.cpp, s | times faster |\n|---|---|---|---|");
    for recipe in recipes {
        let [ours, theirs] = MAKERS.map(|maker| median(recipe, maker));
        println!("| {recipe} | {ours:.1} | {theirs:.1} | {:.2} |", theirs / ours);
    }
    let constants = constants(bench)?;
    let names: Vec<&str> = constants.iter().map(|c| c.0).collect();
    let values: Vec<String> = constants.iter().map(|c| format!("\"{}\"", c.1)).collect();
    let mut csv = format!("date,commit,{},recipe,maker,round,seconds\n", names.join(","));
    let (date, commit) = (today()?, commit()?);
    for (recipe, maker, round, seconds) in &lines {
        let _ = writeln!(
            csv,
            "{date},{commit},{},{recipe},{},{round},{seconds:.2}",
            values.join(","),
            maker.name()
        );
    }
    write_csv("quantize-time", &csv)
}
