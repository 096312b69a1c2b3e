//! How `hob fit` shows what it found: a table for the width at hand, the tensor types, JSON (docs/fit.md). Deliberately absent: the sentences
//! (`words`); JSON has them in English.

use std::collections::BTreeMap;

use hob_plan::fit::{Fit, Speeds};
use hob_plan::placement::{Seat, Share};
use hob_plan::speed::Interval;
use hob_quant::GgmlType;
use serde_json::{Map, Value, json};

use super::{Report, words};
use crate::doctor::lang::Lang;
use crate::grid::{self, Align};
use crate::hardware::words::placement;
use crate::out;

/// The report as JSON: the schema is documented, fields are only added.
pub fn json(report: &Report) -> Value {
    let model = &report.subject.model;
    let best = report.best.and_then(|(index, why)| Some((report.fits.get(index)?, why)));
    json!({
        "schema": 1,
        "model": report.subject.name,
        "architecture": model.arch,
        "parameters": model.parameters(),
        "active_parameters": model.active_parameters(),
        "device": report.rig.name,
        "context": report.wishes.context,
        "model_context": model.context,
        "users": report.wishes.users,
        "kv_type": report.wishes.kv.name(),
        "depth": report.wishes.depth,
        "prompt": report.wishes.prompt,
        "importance": report.importance,
        "header_bytes": report.subject.size.header(),
        "header_exact": report.subject.exact,
        "rig": report.rig,
        "recipes": report.fits.iter().map(|fit| recipe_json(report, fit)).collect::<Vec<_>>(),
        "best": best.map(|(fit, _)| fit.recipe.name),
        "best_reason": best.map(|(_, why)| why.text()),
        "notes": words::notes(Lang::En, report),
    })
}

fn recipe_json(report: &Report, fit: &Fit) -> Value {
    let Share { weights, kv, buffers, .. } = fit.memory;
    let speed = |of: fn(&Speeds) -> Interval| fit.speeds.as_ref().map(|s| interval_json(of(s)));
    json!({
        "recipe": fit.recipe.name,
        "file_bytes": fit.file_bytes,
        "bits_per_weight": (fit.bits * 1e4).round() / 1e4,
        "needs_importance": fit.recipe.needs_importance(),
        "tensor_types": types_json(fit),
        "memory_bytes": {"weights": weights, "kv": kv, "buffers": buffers, "total": fit.memory.total()},
        "fits": fit.fits.name(),
        "placement": fit.line,
        "shares": shares_json(report, fit),
        "max_context": fit.max_context,
        "prefill_tok_s": speed(|s| s.prefill),
        "decode_tok_s": speed(|s| s.decode),
        "decode_full_tok_s": speed(|s| s.decode_full),
        "decode_all_tok_s": speed(|s| s.decode_all),
        "quality": quality(report, fit),
    })
}

fn interval_json(interval: Interval) -> Value {
    let Interval { low, mid, high } = interval;
    json!({"low": rounded(low), "mid": rounded(mid), "high": rounded(high)})
}

/// To a thousandth: more digits are noise.
fn rounded(speed: f64) -> f64 {
    (speed * 1e3).round() / 1e3
}

fn types_json(fit: &Fit) -> Map<String, Value> {
    counted(fit).into_iter().map(|(ty, n)| (ty.name().to_owned(), n.into())).collect()
}

fn counted(fit: &Fit) -> BTreeMap<GgmlType, usize> {
    let mut tensors = BTreeMap::new();
    fit.types.iter().for_each(|ty| *tensors.entry(*ty).or_default() += 1);
    tensors
}

fn shares_json(report: &Report, fit: &Fit) -> Vec<Value> {
    let shares = fit.placement.iter().flat_map(|placement| &placement.shares);
    let share = |(seat, share): (&Seat, &Share)| {
        let (kind, name) = match seat {
            Seat::Card(index) => {
                ("gpu", report.rig.cards.get(*index).map_or("", |c| c.name.as_str()))
            }
            Seat::Chip => ("gpu", report.rig.host.name.as_str()),
            Seat::Cores => ("cpu", report.rig.host.name.as_str()),
        };
        json!({
            "kind": kind, "name": name, "layers": share.blocks, "expert_layers": share.experts,
            "weights": share.weights, "kv": share.kv, "buffers": share.buffers, "total": share.total(),
        })
    };
    shares.map(share).collect()
}

/// What was measured of a file of this recipe.
fn quality(report: &Report, fit: &Fit) -> Value {
    let same = |(recipe, _): &&(String, Value)| recipe == fit.recipe.name;
    report.subject.measured.iter().find(same).map_or(Value::Null, |(_, value)| value.clone())
}

/// The table of fits, what is best and where that goes, and what the columns mean.
pub fn text(report: &Report, lang: Lang, width: usize) -> String {
    let paragraph = |text: &str| grid::paragraph(text, width, 2);
    let mut text = paragraph(&words::heading(lang, report));
    text += &paragraph(&words::asked(lang, report));
    let (mut table, mut intervals) = (table_of(report, lang, true), true);
    if !grid::fits(&table, width) {
        (table, intervals) = (table_of(report, lang, false), false);
    }
    text += &format!("\n{table}\n");
    match report.best.and_then(|(index, why)| Some((report.fits.get(index)?, why))) {
        Some((fit, why)) => {
            let mark = lang.pick(": ", "：");
            text += &paragraph(&format!("* {}{mark}{}", fit.recipe.name, words::why(lang, why)));
            let at = fit.placement.as_ref().map(|p| placement(lang, &p.describe(&report.rig)));
            text += &at.map_or(String::new(), |at| grid::indented(&at, width, 2));
        }
        None => text += &paragraph(&words::nothing(lang, report)),
    }
    text += &paragraph(&words::legend(lang, report, intervals));
    words::notes(lang, report).iter().for_each(|note| text += &paragraph(note));
    text + &paragraph(&words::made(lang, report))
}

/// A line for each recipe; speeds with their intervals, or without.
fn table_of(report: &Report, lang: Lang, intervals: bool) -> String {
    use Align::{Left, Right};
    const ALIGN: [Align; 9] = [Left, Right, Right, Right, Left, Right, Right, Right, Right];
    let columns = ALIGN.len() - usize::from(report.subject.measured.is_empty());
    let mut rows = vec![words::columns(lang).map(str::to_owned).to_vec()];
    for (index, fit) in report.fits.iter().enumerate() {
        let best = report.best.is_some_and(|(best, _)| best == index);
        let none = || "-".to_owned();
        let speed = |of: fn(&Speeds) -> Interval| {
            fit.speeds.as_ref().map_or_else(none, |s| speed_text(of(s), intervals))
        };
        rows.push(vec![
            format!("{}{}", fit.recipe.name, if best { " *" } else { "" }),
            fit.file_bytes.map_or_else(none, size),
            format!("{:.2}", fit.bits),
            out::memory_size(fit.memory.total()),
            words::fits(lang, fit.fits).to_owned(),
            if fit.max_context > 0 { fit.max_context.to_string() } else { none() },
            speed(|s| s.decode),
            speed(|s| s.prefill),
            quality(report, fit)["kl"].as_f64().map_or_else(none, |kl| format!("{kl:.4}")),
        ]);
    }
    rows.iter_mut().for_each(|row| row.truncate(columns));
    grid::table(&rows, &ALIGN[..columns])
}

/// Tokens per second; with the interval where there is room.
fn speed_text(interval: Interval, whole: bool) -> String {
    let [low, mid, high] = interval.texts();
    if whole { format!("{mid} ({low}-{high})") } else { mid }
}

/// The types of the tensors.
pub fn tensors(report: &Report, lang: Lang, width: usize) -> String {
    use Align::{Left, Right};
    /// A space at which no line breaks.
    const TOGETHER: char = '\u{a0}';
    let mut rows = vec![words::tensor_columns(lang).map(str::to_owned).to_vec()];
    for fit in &report.fits {
        // A number stays with its type.
        let each = |(ty, n): (&GgmlType, &usize)| format!("{n}{TOGETHER}{ty}");
        let tensors: Vec<String> = counted(fit).iter().map(each).collect();
        let needed = if fit.recipe.needs_importance() { words::needed(lang) } else { "" };
        rows.push(vec![
            fit.recipe.name.to_owned(),
            fit.file_bytes.map_or("-".to_owned(), size),
            format!("{:.2}", fit.bits),
            needed.to_owned(),
            tensors.join(", "),
        ]);
    }
    let table = grid::table_within(&rows, &[Left, Right, Right, Left, Left], width);
    let table = table.replace(TOGETHER, " ");
    let [heading, made] = [words::heading(lang, report), words::made(lang, report)]
        .map(|text| grid::paragraph(&text, width, 2));
    format!("{heading}\n{table}\n{made}")
}

/// Two decimals, as the hubs list files.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.2} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
