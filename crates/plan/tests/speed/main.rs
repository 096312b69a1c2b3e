//! The speed model against measured speeds: every device of the given file is predicted by a model that was fitted without it, constants and
//! width of the interval alike. The same procedure over all rows gives the constants in use. Run with `--nocapture` for the tables.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::needless_range_loop)] // a procedure over tables of its own

mod fit;
mod rows;

use std::collections::BTreeSet;

use fit::{Speed, fit, scale, weights};
use hob_plan::speed::calibration::{Constants, decode_priors, prefill_priors};
use rows::Row;

/// A row beside what a model that never saw its device said of it.
struct Judged<'a> {
    row: &'a Row,
    /// Logarithm of measured over predicted.
    residual: f64,
    /// Unscaled.
    deviation: f64,
    /// Half of the interval, in logarithms.
    half: f64,
}

impl Judged<'_> {
    fn error(&self) -> f64 {
        (-self.residual).exp_m1().abs()
    }

    fn inside(&self) -> bool {
        self.residual.abs() <= self.half
    }
}

fn counted(rows: &[Row], speed: Speed) -> Vec<&Row> {
    rows.iter().filter(|r| r.outlier.is_none() && speed.measured(r).is_some()).collect()
}

/// The constants that all rows give, beginning with what was assumed. Prefill reads weights as fast as decoding is known to.
fn over_all(rows: &[&Row], speed: Speed) -> Constants {
    let start = match speed {
        Speed::Decode => Constants::assumed(),
        Speed::Prefill => Constants { decode: Constants::fitted().decode, ..Constants::assumed() },
    };
    fit(speed, rows, &start, 40)
}

/// Every row as a fit without its device sees it; the interval is that which the other devices' rows, so judged, ask for.
fn leave_one_out<'a>(rows: &[&'a Row], speed: Speed) -> (Vec<Judged<'a>>, f64) {
    let all = over_all(rows, speed);
    let devices: BTreeSet<&str> = rows.iter().map(|row| row.device.as_str()).collect();
    let mut judged = Vec::new();
    for device in &devices {
        let others: Vec<&Row> = rows.iter().filter(|r| r.device != *device).copied().collect();
        let constants = fit(speed, &others, &all, 8);
        for &row in rows.iter().filter(|r| r.device == *device) {
            let deviation = speed.predicted(row, &constants).1;
            let residual = speed.residual(row, &constants);
            judged.push(Judged { row, residual, deviation, half: 0.0 });
        }
    }
    let without = |device: Option<&str>| {
        let others: Vec<&Judged> =
            judged.iter().filter(|j| Some(j.row.device.as_str()) != device).collect();
        let rows: Vec<&Row> = others.iter().map(|j| j.row).collect();
        let residuals: Vec<(f64, f64)> = others.iter().map(|j| (j.residual, j.deviation)).collect();
        scale(&residuals, &weights(&rows))
    };
    let scales: Vec<(String, f64)> =
        devices.iter().map(|d| ((*d).to_owned(), without(Some(d)))).collect();
    let whole = without(None);
    for judged in &mut judged {
        let (_, scale) = scales.iter().find(|(device, _)| *device == judged.row.device).unwrap();
        judged.half = scale * judged.deviation;
    }
    (judged, whole)
}

struct Summary {
    rows: usize,
    median: f64,
    ninth: f64,
    inside: f64,
    bias: f64,
}

fn quantile(mut values: Vec<f64>, of: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = of * (values.len() - 1) as f64;
    let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

fn summary(judged: &[&Judged]) -> Summary {
    let errors: Vec<f64> = judged.iter().map(|j| j.error()).collect();
    Summary {
        rows: judged.len(),
        median: quantile(errors.clone(), 0.5),
        ninth: quantile(errors, 0.9),
        inside: judged.iter().filter(|j| j.inside()).count() as f64 / judged.len() as f64,
        bias: quantile(judged.iter().map(|j| j.residual).collect(), 0.5),
    }
}

fn print(title: &str, judged: &[Judged]) -> Summary {
    println!("\n{title}: each device by a fit without it");
    println!(
        "{:34} {:>4} {:>7} {:>7} {:>7} {:>7}",
        "device", "rows", "median", "p90", "inside", "bias"
    );
    let line = |name: &str, s: &Summary| {
        let [median, ninth, inside, bias] =
            [s.median, s.ninth, s.inside, s.bias].map(|x| 100.0 * x);
        println!("{name:34} {:4} {median:6.1}% {ninth:6.1}% {inside:6.1}% {bias:+6.1}%", s.rows);
    };
    let given: Vec<&Judged> = judged.iter().filter(|j| j.row.line.is_some()).collect();
    let devices: BTreeSet<&str> = given.iter().map(|j| j.row.device.as_str()).collect();
    for device in devices {
        let of: Vec<&Judged> = given.iter().filter(|j| j.row.device == device).copied().collect();
        line(device, &summary(&of));
    }
    let split: Vec<&Judged> = given.iter().filter(|j| j.row.segments.len() > 1).copied().collect();
    if !split.is_empty() {
        line("(of these, split with the host)", &summary(&split));
    }
    let all = summary(&given);
    line("all rows of the file", &all);
    let elsewhere: Vec<&Judged> = judged.iter().filter(|j| j.row.line.is_none()).collect();
    line("rows from elsewhere", &summary(&elsewhere));
    all
}

#[test]
fn devices_that_the_fit_never_saw_are_predicted_with_an_honest_interval() {
    let rows = rows::read();
    let given = rows.iter().filter(|row| row.line.is_some()).count();
    assert_eq!(given, 263);
    let outliers: Vec<&Row> = rows.iter().filter(|row| row.outlier.is_some()).collect();
    println!("outliers:");
    for row in &outliers {
        let why = row.outlier.as_deref().unwrap_or_default();
        let line = row.line.unwrap_or_default();
        println!(
            "  {line:3} {} {} {}: {} tok/s. {why}",
            row.device, row.model, row.recipe, row.decode
        );
    }
    assert!(outliers.len() * 20 <= given, "{} outliers", outliers.len());

    let (judged, _) = leave_one_out(&counted(&rows, Speed::Decode), Speed::Decode);
    let all = print("decode", &judged);
    assert_eq!(all.rows + outliers.len(), given);
    assert!(all.median <= 0.15, "median error {}", all.median);
    assert!(all.ninth <= 0.35, "90th percentile {}", all.ninth);
    assert!((0.70..=0.90).contains(&all.inside), "inside the interval: {}", all.inside);
    for judged in judged.iter().filter(|j| j.error() > 0.5) {
        let row = judged.row;
        println!(
            "  far off: {} {} {} {}: {} tok/s, {:+.0}%",
            row.line.unwrap_or(0),
            row.device,
            row.model,
            row.recipe,
            row.decode,
            100.0 * (-judged.residual).exp_m1()
        );
    }
}

#[test]
fn the_constants_in_use_are_those_of_the_procedure() {
    let rows = rows::read();
    let used = Constants::fitted();
    let mut found = Constants::fitted();
    let decode = counted(&rows, Speed::Decode);
    found.decode = over_all(&decode, Speed::Decode).decode;
    found.decode_scale = leave_one_out(&decode, Speed::Decode).1;
    let prefill = counted(&rows, Speed::Prefill);
    let (judged, scale) = leave_one_out(&prefill, Speed::Prefill);
    found.prefill = over_all(&prefill, Speed::Prefill).prefill;
    found.prefill_scale = scale;
    print("prefill", &judged);
    println!("\n{:62} {:>9} {:>9} {:>9}", "constant", "assumed", "fitted", "in use");
    let values = found.decode.iter().chain(&found.prefill);
    let used_values = used.decode.iter().chain(&used.prefill);
    let priors = decode_priors().iter().chain(prefill_priors());
    let mut farthest = 0.0f64;
    for ((prior, found), used) in priors.zip(values).zip(used_values) {
        println!("{:62} {:9.3e} {found:9.3e} {used:9.3e}", prior.name, prior.value);
        farthest = farthest.max((found / used).ln().abs());
    }
    println!("scale of decode {:.3}, of prefill {:.3}", found.decode_scale, found.prefill_scale);
    println!("decode: {:?}\nprefill: {:?}", found.decode, found.prefill);
    assert!(farthest < 0.01, "constants differ by {farthest}");
    assert!((found.decode_scale / used.decode_scale).ln().abs() < 0.01);
    assert!((found.prefill_scale / used.prefill_scale).ln().abs() < 0.01);
}

#[test]
fn calibration_and_use_read_the_same_numbers() {
    let mut found = 0;
    for (name, unit) in rows::units() {
        let Some(device) = hob_machine::devices::by_name(&name) else { continue };
        found += 1;
        let off = |ours: f64, table: f64| (ours / table).ln().abs();
        assert_eq!((unit.kind, unit.vendor), (device.kind, device.vendor), "{name}");
        assert!(off(unit.bandwidth, device.bandwidth) < 0.02, "{name}: {}", device.bandwidth);
        assert!(off(unit.operations, device.fp16) < 0.15, "{name}: {:e}", device.fp16);
    }
    assert!(found >= 9, "{found} of the given file's devices and hosts are in the table");
}

/// Not a test: prints a table of all rows of the file, for `bench/`.
#[test]
#[ignore = "prints a table"]
fn table() {
    let rows = rows::read();
    let (judged, _) = leave_one_out(&counted(&rows, Speed::Decode), Speed::Decode);
    println!("line,device,model,recipe,measured,low,mid,high");
    for judged in judged.iter().filter(|j| j.row.line.is_some()) {
        let (row, mid) = (judged.row, judged.row.decode / judged.residual.exp());
        let (low, high) = (mid / judged.half.exp(), mid * judged.half.exp());
        let line = row.line.unwrap_or(0);
        println!(
            "row,{line},{},{},{},{},{low:.3},{mid:.3},{high:.3}",
            row.device, row.model, row.recipe, row.decode
        );
    }
}
