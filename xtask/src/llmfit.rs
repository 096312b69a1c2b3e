//! `cargo xtask llmfit`: hob's planner beside llmfit's on the same measured rows, hob's as fitted without the row's device. llmfit is asked by a
//! program of its own in `xtask/peers/llmfit`, outside the workspace, so that hob's dependencies have nothing of it. Outliers are in the CSV file but not
//! judged. Deliberately absent: a verdict, and prefill.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::sh;

/// The measured rows; a row's name is its line here.
const ROWS: &str = "crates/plan/data/measured-decode-speed.csv";
const OUTLIERS: &str = "crates/plan/data/measured-outliers.csv";
const PEER: &str = "xtask/peers/llmfit/Cargo.toml";
/// What opens the CSV file.
const HEAD: &str = "\
# decode speeds measured by others, each predicted without its device in the fit (hob) and by llmfit-core 1.1.18 told the device, its memory, the recipe and the bandwidth of main memory; tok/s; outliers are not judged
line,device,model,recipe,measured,hob_low,hob_mid,hob_high,outlier,llmfit,llmfit_run_mode
";

/// Where the rows go.
#[derive(clap::Args)]
pub struct Args {
    /// Write every row with both predictions to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

/// Fields of a line by their column's name.
type Fields<'a> = BTreeMap<&'a str, &'a str>;

/// What hob expects: low, middle and high, as the test prints them.
type Interval = [String; 3];

/// A measured row beside what both say of it.
struct Row {
    line: usize,
    device: String,
    model: String,
    recipe: String,
    measured: String,
    outlier: bool,
    hob: Option<Interval>,
    /// Tokens per second and the run mode; none where llmfit's list lacks the model.
    llmfit: Option<(String, String)>,
}

/// Asks both, prints the summary, and writes the CSV file where one is asked for.
pub fn run(args: &Args) -> Result<()> {
    let read = |path: &str| {
        std::fs::read_to_string(sh::root().join(path)).with_context(|| path.to_owned())
    };
    let (given, outliers) = (read(ROWS)?, read(OUTLIERS)?);
    let llmfit = ask_llmfit()?;
    let hob = ask_hob()?;
    let rows = rows(&given, &outliers, &hob, &llmfit)?;
    print!("{}", summary(&rows)?);
    if let Some(path) = &args.csv {
        std::fs::write(path, csv(&rows)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

/// What llmfit's program prints; it is built first, in a folder of its own under `target`.
fn ask_llmfit() -> Result<String> {
    let mut program = sh::cargo(&["run", "--quiet", "--locked", "--manifest-path", PEER]);
    program.arg("--target-dir").arg(sh::target().join("llmfit")).args(["--", ROWS]);
    Ok(String::from_utf8(sh::output(&mut program)?)?)
}

/// What the test of the planner's speed prints when it is asked for its table.
fn ask_hob() -> Result<String> {
    let mut test = sh::cargo(&["test", "--package", "hob-plan", "--test", "speed", "table"]);
    Ok(String::from_utf8(sh::output(test.args(["--", "--ignored", "--nocapture"]))?)?)
}

fn rows(given: &str, outliers: &str, hob: &str, llmfit: &str) -> Result<Vec<Row>> {
    let outliers = by_line(outliers)?;
    let (mut hob, llmfit) = (intervals(hob)?, by_line(llmfit)?);
    let mut rows = Vec::new();
    for (index, given) in table(given)?.iter().enumerate() {
        let line = index + 2;
        let text = |name| field(given, name).map(str::to_owned);
        let theirs = llmfit.get(&line).with_context(|| format!("llmfit lacks line {line}"))?;
        let (tok_s, mode) = (field(theirs, "tok_s")?, field(theirs, "run_mode")?);
        let row = Row {
            line,
            device: text("device")?,
            model: text("model")?,
            recipe: text("recipe")?,
            measured: text("decode_tok_per_s")?,
            outlier: outliers.contains_key(&line),
            hob: hob.remove(&line),
            llmfit: (!tok_s.is_empty()).then(|| (tok_s.to_owned(), mode.to_owned())),
        };
        ensure!(row.outlier == row.hob.is_none(), "line {line}: hob judges all but outliers");
        rows.push(row);
    }
    ensure!(hob.is_empty(), "hob judges lines that are no rows: {:?}", hob.keys());
    Ok(rows)
}

/// hob's intervals by the line of the row, of the lines `row,LINE,DEVICE,MODEL,RECIPE,MEASURED,LOW,MID,HIGH`.
fn intervals(printed: &str) -> Result<BTreeMap<usize, Interval>> {
    let mut found = BTreeMap::new();
    for row in printed.lines().filter_map(|line| line.strip_prefix("row,")) {
        let &[line, _, _, _, _, low, mid, high] = row.split(',').collect::<Vec<_>>().as_slice()
        else {
            bail!("not eight fields: {row}");
        };
        found.insert(number(line)? as usize, [low, mid, high].map(str::to_owned));
    }
    ensure!(!found.is_empty(), "the test printed no rows");
    Ok(found)
}

/// The lines of a table by its column `line`.
fn by_line(text: &str) -> Result<BTreeMap<usize, Fields<'_>>> {
    table(text)?.into_iter().map(|row| Ok((number(field(&row, "line")?)? as usize, row))).collect()
}

/// All lines but the first, which names the columns. Only the last field may have commas, as reasons do.
fn table(text: &str) -> Result<Vec<Fields<'_>>> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().context("an empty table")?.split(',').collect();
    let mut rows = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.splitn(names.len(), ',').collect();
        ensure!(fields.len() == names.len(), "not {} fields: {line}", names.len());
        rows.push(names.iter().copied().zip(fields).collect());
    }
    Ok(rows)
}

/// Errors of both, on all rows that are judged and on those that llmfit knows; and the latter by how llmfit would run them.
fn summary(rows: &[Row]) -> Result<String> {
    let (mut all, mut known) = (Vec::new(), Vec::new());
    for row in rows.iter().filter(|row| !row.outlier) {
        let measured = number(&row.measured)?;
        let error = |said: &str| Ok::<_, anyhow::Error>((number(said)? / measured - 1.0).abs());
        let Some([_, mid, _]) = &row.hob else { continue };
        all.push(error(mid)?);
        if let Some((tok_s, mode)) = &row.llmfit {
            known.push((mode.as_str(), error(mid)?, error(tok_s)?));
        }
    }
    let mut text = format!("{:48} {:>4} {:>7} {:>7}\n", "", "rows", "median", "p90");
    let modes: BTreeSet<&str> = known.iter().map(|(mode, ..)| *mode).collect();
    let parts = std::iter::once(None).chain(modes.into_iter().map(Some));
    for part in parts {
        let of = |known: &[(&str, f64, f64)]| -> (Vec<f64>, Vec<f64>) {
            let wanted = known.iter().filter(|(mode, ..)| part.is_none_or(|part| part == *mode));
            wanted.map(|&(_, hob, llmfit)| (hob, llmfit)).unzip()
        };
        let (hob, llmfit) = of(&known);
        let name =
            part.map_or_else(|| "known to llmfit".to_owned(), |mode| format!("of these, {mode}"));
        errors(&mut text, &format!("hob, {name}"), hob)?;
        errors(&mut text, &format!("llmfit, {name}"), llmfit)?;
    }
    errors(&mut text, "hob, all", all)?;
    Ok(text)
}

/// A line of the summary.
fn errors(text: &mut String, name: &str, errors: Vec<f64>) -> Result<()> {
    let count = errors.len();
    let (median, ninth) = (quantile(errors.clone(), 0.5), quantile(errors, 0.9));
    let percent = |part: Option<f64>| {
        part.map_or_else(|| "-".to_owned(), |part| format!("{:.1}%", 100.0 * part))
    };
    writeln!(text, "{name:48} {count:4} {:>7} {:>7}", percent(median), percent(ninth))?;
    Ok(())
}

/// Between two values by their distance, as in the planner's own tables.
fn quantile(mut values: Vec<f64>, of: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let at = of * values.len().checked_sub(1)? as f64;
    let (low, high) = (values.get(at.floor() as usize)?, values.get(at.ceil() as usize)?);
    Some(low + (high - low) * at.fract())
}

fn csv(rows: &[Row]) -> Result<String> {
    let mut text = HEAD.to_owned();
    for row in rows {
        let Row { line, device, model, recipe, measured, .. } = row;
        let hob = row.hob.as_ref().map_or_else(|| ",,".to_owned(), |interval| interval.join(","));
        let outlier = if row.outlier { "yes" } else { "" };
        let (tok_s, mode) = row.llmfit.as_ref().map_or(("", ""), |(tok_s, mode)| (tok_s, mode));
        writeln!(
            text,
            "{line},{device},{model},{recipe},{measured},{hob},{outlier},{tok_s},{mode}"
        )?;
    }
    Ok(text)
}

fn field<'a>(row: &Fields<'a>, column: &str) -> Result<&'a str> {
    row.get(column).copied().with_context(|| format!("no column {column}"))
}

fn number(text: &str) -> Result<f64> {
    text.parse().with_context(|| format!("no number: '{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str =
        "device,model,recipe,decode_tok_per_s\nA,m,Q8_0,100\nA,n,Q8_0,50\nB,o,F16,7.10\n";
    const OUT: &str = "line,reason\n4,\"too fast, by far\"\n";
    const HOB: &str = "test table ... line,device\nrow,2,A,m,Q8_0,100,90,110,130\nrow,3,A,n,Q8_0,50,20,25,30\nok\n";
    const LLMFIT: &str = "line,tok_s,run_mode\n2,150,Gpu\n3,,\n4,70,CpuOnly\n";

    #[test]
    fn every_row_stands_beside_what_both_say() {
        let text = csv(&rows(GIVEN, OUT, HOB, LLMFIT).unwrap()).unwrap();
        let lines = "2,A,m,Q8_0,100,90,110,130,,150,Gpu\n3,A,n,Q8_0,50,20,25,30,,,\n4,B,o,F16,7.10,,,,yes,70,CpuOnly\n";
        assert_eq!(text, format!("{HEAD}{lines}"));
    }

    #[test]
    fn both_are_judged_on_the_rows_that_both_know() {
        let text = summary(&rows(GIVEN, OUT, HOB, LLMFIT).unwrap()).unwrap();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        let figures = |at: usize| lines[at].iter().rev().take(3).rev().copied().collect::<Vec<_>>();
        assert_eq!(figures(1), ["1", "10.0%", "10.0%"]);
        assert_eq!(figures(2), ["1", "50.0%", "50.0%"]);
        assert_eq!(lines.last().unwrap()[..], ["hob,", "all", "2", "30.0%", "46.0%"]);
    }

    #[test]
    fn a_row_that_one_of_them_lacks_is_an_error() {
        let without = HOB.replace("row,3,", "3,");
        assert!(rows(GIVEN, OUT, &without, LLMFIT).is_err());
        assert!(rows(GIVEN, OUT, HOB, "line,tok_s,run_mode\n2,150,Gpu\n").is_err());
        assert!(rows(GIVEN, OUT, &format!("{HOB}row,9,A,m,Q8_0,1,1,1,1\n"), LLMFIT).is_err());
        assert!(intervals("row,2,A,m\n").is_err());
        assert!(intervals("").is_err());
    }
}
