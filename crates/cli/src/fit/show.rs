//! What `hob fit` says: a table for the width at hand, the tensor types, JSON (docs/fit.md).

use std::collections::BTreeMap;

use hob_model::KvType;
use hob_plan::fit::{Fit, Fits, Speeds};
use hob_plan::placement::{Seat, Share};
use hob_plan::speed::Interval;
use hob_plan::units;
use hob_quant::GgmlType;
use serde_json::{Map, Value, json};
use unicode_width::UnicodeWidthStr;

use super::Report;
use crate::grid::{self, Align};
use crate::{hardware, out};

/// Width from which intervals are shown, and from which placements are.
const WITH_INTERVALS: usize = 100;
const WITH_PLACEMENT: usize = 120;

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
        "kv_type": kv(report),
        "depth": report.wishes.depth,
        "prompt": report.wishes.prompt,
        "importance": report.importance,
        "header_bytes": report.subject.size.header(),
        "header_exact": report.subject.exact,
        "rig": report.rig,
        "recipes": report.fits.iter().map(|fit| recipe_json(report, fit)).collect::<Vec<_>>(),
        "best": best.map(|(fit, _)| fit.recipe.name),
        "best_reason": best.map(|(_, why)| why.text()),
        "notes": notes(report),
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

fn kv(report: &Report) -> &'static str {
    match report.wishes.kv {
        KvType::F32 => "f32",
        KvType::F16 => "f16",
        KvType::Q8_0 => "q8_0",
    }
}

fn notes(report: &Report) -> Vec<String> {
    let mut notes = report.rig.notes.clone();
    notes.extend(hardware::limit_note(&report.rig));
    if report.rig.has_gpu() {
        notes.push(hardware::GPU_SPEEDS.to_owned());
    }
    if let Some(Fit { recipe, speeds: Some(speeds), .. }) = &report.pulled {
        notes.push(format!(
            "So `hob pull` chooses for the CPU: {}, {}.",
            recipe.name, speeds.decode
        ));
    }
    notes
}

fn heading(report: &Report) -> String {
    let model = &report.subject.model;
    let (all, active) = (model.parameters(), model.active_parameters());
    let mut text =
        format!("{}: {}, {} parameters", report.subject.name, model.arch, out::count(all));
    if active != all {
        text += &format!(", {} of them active", out::count(active));
    }
    text
}

/// The table of fits, what is best, and what the columns mean.
pub fn text(report: &Report, width: usize) -> String {
    let wishes = &report.wishes;
    let users = if wishes.users > 1 {
        format!(" for each of {} users", wishes.users)
    } else {
        String::new()
    };
    let on = format!(
        "On {}: context {}{users}, {} cache",
        report.rig.name,
        wishes.context,
        kv(report).to_uppercase()
    );
    let mut text = heading(report) + "\n" + &grid::paragraph(&on, width, 2) + "\n";
    text += &table(report, width);
    text.push('\n');
    match report.best.and_then(|(index, why)| Some((report.fits.get(index)?, why))) {
        Some((fit, why)) => {
            text += &grid::paragraph(&format!("* {}: {}", fit.recipe.name, why.text()), width, 2);
            text += &grid::indented(&fit.line, width, 2);
        }
        None => text += &grid::paragraph(&nothing(report), width, 2),
    }
    let notes = [legend(report)].into_iter().chain(notes(report)).chain([made(report)]);
    notes.for_each(|note| text += &grid::paragraph(&note, width, 2));
    text
}

/// With the placements, if they do not make it too wide.
fn table(report: &Report, width: usize) -> String {
    let whole = |text: &String| text.lines().all(|line| line.width() <= width);
    let with = (width >= WITH_PLACEMENT).then(|| columns(report, width, true));
    with.filter(whole).unwrap_or_else(|| columns(report, width, false))
}

fn columns(report: &Report, width: usize, placements: bool) -> String {
    use Align::{Left, Right};
    let mut head = vec!["RECIPE", "FILE", "BITS", "MEMORY", "FITS", "CONTEXT", "DECODE", "PREFILL"];
    let mut align = vec![Left, Right, Right, Right, Left, Right, Right, Right];
    let measured = !report.subject.measured.is_empty();
    if measured {
        head.push("KL");
        align.push(Right);
    }
    if placements {
        head.push("PLACEMENT");
        align.push(Left);
    }
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for (index, fit) in report.fits.iter().enumerate() {
        let best = report.best.is_some_and(|(best, _)| best == index);
        let speed = |of: fn(&Speeds) -> Interval| {
            fit.speeds.as_ref().map_or("-".to_owned(), |s| speed_text(of(s), width))
        };
        let mut row = vec![
            format!("{}{}", fit.recipe.name, if best { " *" } else { "" }),
            fit.file_bytes.map_or("-".to_owned(), size),
            format!("{:.2}", fit.bits),
            out::memory_size(fit.memory.total()),
            fit.fits.name().to_owned(),
            if fit.max_context > 0 { fit.max_context.to_string() } else { "-".to_owned() },
            speed(|s| s.decode),
            speed(|s| s.prefill),
        ];
        if measured {
            let kl = quality(report, fit)["kl"].as_f64();
            row.push(kl.map_or("-".to_owned(), |kl| format!("{kl:.4}")));
        }
        if placements {
            row.push(if fit.fits == Fits::No { "-".to_owned() } else { fit.line.clone() });
        }
        rows.push(row);
    }
    grid::table(&rows, &align)
}

/// Tokens per second with as many digits as they deserve; with the interval where there is room.
fn speed_text(interval: Interval, width: usize) -> String {
    match width >= WITH_INTERVALS {
        true => {
            let [low, mid, high] = [interval.low, interval.mid, interval.high].map(units::speed);
            format!("{mid} ({low}-{high})")
        }
        false => units::speed(interval.mid),
    }
}

fn nothing(report: &Report) -> String {
    let smallest = report.fits.iter().min_by_key(|fit| fit.memory.total());
    let needed = smallest.map_or(String::new(), |fit| {
        format!(" Even {} needs {}.", fit.recipe.name, out::memory_size(fit.memory.total()))
    });
    format!("No recipe fits: {} are free.{needed}", out::memory_size(report.rig.room()))
}

fn legend(report: &Report) -> String {
    let depth = match report.wishes.depth {
        0 => "at the start of a conversation".to_owned(),
        depth => format!("after {depth} tokens"),
    };
    format!(
        "MEMORY: weights, cache at this context, buffers. CONTEXT: the longest that fits wholly. DECODE, PREFILL: tokens per second, of one answer \
        {depth} and of a prompt of {} tokens; eight of ten measurements lie within the interval that a wider terminal or --json shows.",
        report.wishes.prompt
    )
}

fn made(report: &Report) -> String {
    let with = if report.importance { "with" } else { "without" };
    let counted = if report.subject.exact { "exact" } else { "estimated" };
    format!(
        "Files made {with} an importance matrix; each holds {} of metadata ({counted}).",
        out::file_size(report.subject.size.header())
    )
}

/// The types of the tensors.
pub fn tensors(report: &Report) -> String {
    let header = ["RECIPE", "FILE", "BITS", "IMATRIX", "TENSORS"].map(str::to_owned);
    let lines = report.fits.iter().map(|fit| {
        let tensors: Vec<String> = counted(fit).iter().map(|(ty, n)| format!("{n} {ty}")).collect();
        let needed = if fit.recipe.needs_importance() { "needed" } else { "" };
        [
            fit.recipe.name.to_owned(),
            fit.file_bytes.map_or("-".to_owned(), size),
            format!("{:.2}", fit.bits),
            needed.to_owned(),
            tensors.join(", "),
        ]
    });
    let table: Vec<[String; 5]> = std::iter::once(header).chain(lines).collect();
    format!("{}\n\n{}\n{}\n", heading(report), out::table(&table), made(report))
}

/// Two decimals, as the hubs list files.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.2} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
