//! The table of all recipes: hob's file beside llama.cpp's, and what must hold of each pair and of all together.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::judged::{Judged, Maker, Tensor};

/// Most that one recipe's divergence may be, and that of all (geometric mean), as multiples of llama.cpp's.
const MOST_ONE: f64 = 1.05;
const MOST_ALL: f64 = 1.0;
/// Most that the two engines' perplexities of one file may differ, as a part.
const MOST_PERPLEXITY: f64 = 0.01;

/// A recipe, made twice.
pub struct Row {
    pub recipe: String,
    pub ours: Judged,
    pub theirs: Judged,
}

impl Row {
    /// Mean divergence of hob's file over that of llama.cpp's.
    fn ratio(&self) -> f64 {
        self.ours.kl.mean / self.theirs.kl.mean
    }

    /// What does not hold.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(difference) = difference(&self.ours.tensors, &self.theirs.tensors) {
            faults.push(difference);
        }
        // A figure that is no number is a fault too.
        if !matches!(self.ratio().partial_cmp(&MOST_ONE), Some(o) if o.is_le()) {
            faults.push(format!("divergence {:.4} times", self.ratio()));
        }
        for (file, judged) in [("hob's", &self.ours), ("llama.cpp's", &self.theirs)] {
            let off = perplexity_off(judged);
            if off.is_nan() || off.abs() > MOST_PERPLEXITY {
                faults.push(format!("perplexity of {file} file {:+.2}%", 100.0 * off));
            }
        }
        faults
    }
}

/// How much higher hob finds a file's perplexity than llama.cpp does.
fn perplexity_off(file: &Judged) -> f64 {
    file.perplexity_hob / file.perplexity_llama - 1.0
}

/// The first tensor that differs in type or bytes, or is in one file only.
fn difference(ours: &[Tensor], theirs: &[Tensor]) -> Option<String> {
    let find = |list: &[Tensor], name: &str| list.iter().find(|t| t.0 == name).cloned();
    let names = ours.iter().chain(theirs).map(|t| &t.0);
    let pairs = names.map(|name| (name, find(ours, name), find(theirs, name)));
    let mut different = pairs.filter(|(_, a, b)| a != b);
    let show =
        |t: Option<Tensor>| t.map_or("absent".to_owned(), |t| format!("{} of {} bytes", t.1, t.2));
    different.next().map(|(name, a, b)| format!("{name} is {}, llama.cpp's {}", show(a), show(b)))
}

/// Geometric mean of the ratios.
fn mean(rows: &[Row]) -> f64 {
    (rows.iter().map(|row| row.ratio().ln()).sum::<f64>() / rows.len() as f64).exp()
}

/// Fails when a limit is passed.
pub fn verdict(rows: &[Row]) -> Result<()> {
    let mut faults: Vec<String> = rows
        .iter()
        .flat_map(|row| row.faults().into_iter().map(|fault| format!("{}: {fault}", row.recipe)))
        .collect();
    if !matches!(mean(rows).partial_cmp(&MOST_ALL), Some(o) if o.is_le()) {
        faults.push(format!("geometric mean of the divergences {:.4} times", mean(rows)));
    }
    if !faults.is_empty() {
        bail!("beyond the limits:\n{}", faults.join("\n"));
    }
    Ok(())
}

/// One row as Markdown.
pub fn line(row: &Row) -> String {
    let (a, b) = (&row.ours, &row.theirs);
    let faults = row.faults();
    let verdict = if faults.is_empty() { "ok".to_owned() } else { faults.join("; ") };
    format!(
        "| {} | {:.3} | {:.6} / {:.6} | {:.3} | {:.4} / {:.4} | {:.2}% / {:.2}% | {:+.2}% / {:+.2}% | {:.0} / {:.0} | {verdict} |\n",
        row.recipe,
        a.file_bytes as f64 / 1e9,
        a.kl.mean,
        b.kl.mean,
        row.ratio(),
        a.kl.p99,
        b.kl.p99,
        100.0 * a.top1_agreement,
        100.0 * b.top1_agreement,
        100.0 * perplexity_off(a),
        100.0 * perplexity_off(b),
        a.seconds,
        b.seconds,
    )
}

/// All rows.
pub fn markdown(rows: &[Row]) -> String {
    let mut out = String::from(
        "hob / llama.cpp\n\n| recipe | GB | mean KL | ratio | KL 99% | same top-1 | perplexity by hob over by llama.cpp | seconds | |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    rows.iter().for_each(|row| out += &line(row));
    let _ = writeln!(out, "\ngeometric mean of {} ratios: {:.4}", rows.len(), mean(rows));
    out
}

/// A line for each file.
pub fn csv(rows: &[Row], constants: &[(&str, String)]) -> String {
    let quote = |s: &str| format!("\"{}\"", s.replace('"', "\"\""));
    let names: Vec<&str> = constants.iter().map(|c| c.0).collect();
    let values: Vec<String> = constants.iter().map(|c| quote(&c.1)).collect();
    let mut out = format!(
        "date,commit,{},recipe,maker,file_bytes,seconds,kl_mean,kl_median,kl_p99,top1_agreement,perplexity,\
         perplexity_4k_hob,perplexity_4k_llama_cpp,kl_ratio,same_tensors\n",
        names.join(",")
    );
    for row in rows {
        let same = difference(&row.ours.tensors, &row.theirs.tensors).is_none();
        for (maker, f) in [(Maker::Hob, &row.ours), (Maker::LlamaCpp, &row.theirs)] {
            let _ = writeln!(
                out,
                "{},{},{},{},{},{},{:.1},{:.8},{:.8},{:.8},{:.6},{:.6},{:.6},{:.6},{:.5},{same}",
                f.date,
                f.commit,
                values.join(","),
                row.recipe,
                maker.name(),
                f.file_bytes,
                f.seconds,
                f.kl.mean,
                f.kl.median,
                f.kl.p99,
                f.top1_agreement,
                f.perplexity,
                f.perplexity_hob,
                f.perplexity_llama,
                row.ratio(),
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::judged::Kl;
    use super::*;

    fn judged(kl: f64, hob: f64, llama: f64) -> Judged {
        Judged {
            date: String::new(),
            commit: String::new(),
            seconds: 1.0,
            file_bytes: 1,
            tensors: vec![("a".to_owned(), "Q4_K".to_owned(), 144)],
            kl: Kl { mean: kl, median: kl, p99: kl },
            top1_agreement: 1.0,
            perplexity: hob,
            perplexity_hob: hob,
            perplexity_llama: llama,
        }
    }

    fn row(ours: Judged) -> Row {
        Row { recipe: "r".to_owned(), ours, theirs: judged(0.1, 10.0, 10.0) }
    }

    #[test]
    fn each_limit_counts() {
        assert!(verdict(&[row(judged(0.1, 10.0, 10.05))]).is_ok());
        assert!(verdict(&[row(judged(0.104, 10.0, 10.0)), row(judged(0.09, 10.0, 10.0))]).is_ok());
        assert!(verdict(&[row(judged(0.104, 10.0, 10.0))]).is_err());
        assert!(verdict(&[row(judged(0.106, 10.0, 10.0)), row(judged(0.01, 10.0, 10.0))]).is_err());
        assert!(verdict(&[row(judged(0.1, 10.0, 10.2))]).is_err());
        assert!(verdict(&[row(judged(f64::NAN, 10.0, 10.0))]).is_err());
        let mut other = judged(0.1, 10.0, 10.0);
        other.tensors[0].1 = "Q5_K".to_owned();
        let fault = verdict(&[row(other.clone())]).unwrap_err().to_string();
        assert!(fault.contains("a is Q5_K of 144 bytes, llama.cpp's Q4_K of 144 bytes"), "{fault}");
        other.tensors.clear();
        assert!(verdict(&[row(other)]).is_err());
    }

    #[test]
    fn the_csv_has_a_line_for_each_file() {
        let text = csv(&[row(judged(0.05, 10.0, 10.0))], &[("cpu", "a \"b\"".to_owned())]);
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().nth(1).is_some_and(|l| l.ends_with("0.50000,true")), "{text}");
    }
}
