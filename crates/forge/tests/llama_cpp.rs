//! Evaluation beside llama.cpp's: two tiny random models, one reference file written by `llama-perplexity` for the
//! first, and the figures it printed for the second against that file. Made anew with, in an empty folder T:
//!
//!     HOB_TINY=T cargo test -p hob-forge --test llama_cpp -- --ignored write_models
//!     llama-perplexity -m T/a.gguf -f T/text.txt -c 64 --kl-divergence-base tests/data/tiny.kld
//!     llama-perplexity -m T/b.gguf -c 64 --kl-divergence-base tests/data/tiny.kld --kl-divergence
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hob_engine::{LoadOptions, Runner};
use hob_forge::eval::{
    Against, EvalError, EvalText, Evaluation, Progress, Reference, ReferenceWriter, Report, limits,
};
use hob_gguf::Gguf;
use hob_testkit::{Family, Tiny};
use hob_text::Tokenizer;

const CONTEXT: usize = 64;
const CHUNKS: usize = 4;
/// More than four chunks of bytes, less than five.
const TEXT: &str = "A hob is the warm shelf by a fireplace, and in northern English folklore the helpful \
    spirit that lives there. 炉边温暖的架子；在英格兰北部的民间传说里，是住在那里的好心精灵。\n\
    fn main() { println!(\"{}\", 6 * 7); } // and so on, until there are enough tokens for it all";

/// The first model. An odd vocabulary, so that rows of the file are padded.
fn first() -> Vec<u8> {
    Tiny { vocab: 273, ..Tiny::new(Family::Llama) }.bytes()
}

/// The second model: the first, with what one feed-forward adds made larger.
fn second() -> Vec<u8> {
    let mut bytes = first();
    let gguf = Gguf::from_bytes(bytes.clone()).unwrap();
    let place = gguf.tensor_place(gguf.tensor("blk.0.ffn_down.weight").unwrap()).unwrap();
    for weight in bytes[place.start as usize..place.end as usize].as_chunks_mut().0 {
        *weight = (1.25 * f32::from_le_bytes(*weight)).to_le_bytes();
    }
    bytes
}

fn reference_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny.kld")
}

fn runner(model: Vec<u8>, step_rows: usize) -> Runner {
    let options = LoadOptions { threads: 1, limits: limits(CONTEXT, step_rows) };
    Runner::load(Arc::new(Gguf::from_bytes(model).unwrap()), &options).unwrap()
}

fn text() -> EvalText {
    let gguf = Gguf::from_bytes(first()).unwrap();
    EvalText::new(TEXT, &Tokenizer::from_gguf(gguf.meta()).unwrap(), CONTEXT, None).unwrap()
}

fn evaluate(runner: &mut Runner, against: Against<'_>, save: Option<ReferenceWriter>) -> Report {
    let text = text();
    let evaluation = Evaluation { runner, text: &text, against, save, threads: 2 };
    evaluation.run(&mut |_| ControlFlow::Continue(())).unwrap()
}

fn near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found}, expected {expected} ± {tolerance}");
}

#[test]
#[ignore = "writes the models from which the fixture is made"]
fn write_models() {
    let folder = PathBuf::from(std::env::var_os("HOB_TINY").expect("HOB_TINY names a folder"));
    std::fs::write(folder.join("a.gguf"), first()).unwrap();
    std::fs::write(folder.join("b.gguf"), second()).unwrap();
    std::fs::write(folder.join("text.txt"), TEXT).unwrap();
}

#[test]
fn perplexity_is_that_of_llama_cpp() {
    for step_rows in [1, 7, 512] {
        let report = evaluate(&mut runner(first(), step_rows), Against::Nothing, None);
        assert_eq!((report.tokens, report.context, report.chunks), (124, CONTEXT, CHUNKS));
        near(report.perplexity.value, 800.4925, 0.5);
        near(report.perplexity.error, 91.17361, 0.1);
        assert!(report.divergence.is_none());
    }
}

#[test]
fn divergence_is_that_of_llama_cpp() {
    let mut reference = Reference::open(&reference_path()).unwrap();
    let report = evaluate(&mut runner(second(), 512), Against::File(&mut reference), None);
    near(report.perplexity.value, 782.313528, 0.5);
    let d = report.divergence.unwrap();
    near(d.base_perplexity.value, 800.497647, 1e-3);
    near(d.base_perplexity.error, 91.174020, 1e-3);
    near(d.perplexity_ratio.value, 0.977284, 5e-4);
    near(d.perplexity_ratio.error, 0.021360, 5e-5);
    near(d.kl.mean.value, 0.024848, 5e-5);
    near(d.kl.mean.error, 0.000892, 5e-6);
    near(d.kl.median, 0.021956, 1e-4);
    near(d.kl.p90, 0.040601, 2e-4);
    near(d.kl.p99, 0.047621, 2e-4);
    near(d.kl.max, 0.051158, 2e-4);
    near(d.top1_agreement.value, 0.75806, 0.01); // one near tie may fall the other way
    near(d.top1_agreement.error, 0.03861, 1e-3);
    near(d.delta_p.value, 0.00015, 1e-5);
    near(d.delta_p_rms, 0.00172, 1e-5);
}

#[test]
fn the_first_model_agrees_with_its_own_reference() {
    let mut reference = Reference::open(&reference_path()).unwrap();
    let report = evaluate(&mut runner(first(), 512), Against::File(&mut reference), None);
    let d = report.divergence.unwrap();
    assert!(d.kl.max < 1e-4 && d.delta_p_rms < 1e-4, "{d:?}");
}

#[test]
fn a_live_reference_gives_the_figures_of_a_stored_one() {
    let mut reference = Reference::open(&reference_path()).unwrap();
    let stored = evaluate(&mut runner(second(), 512), Against::File(&mut reference), None);
    // The smaller of the two devices bounds the steps.
    let live = evaluate(&mut runner(second(), 512), Against::Model(&mut runner(first(), 5)), None);
    let (stored, live) = (stored.divergence.unwrap(), live.divergence.unwrap());
    near(live.kl.mean.value, stored.kl.mean.value, 5e-5);
    near(live.base_perplexity.value, stored.base_perplexity.value, 0.5);
    near(live.delta_p_rms, stored.delta_p_rms, 1e-5);
}

#[test]
fn what_is_saved_is_llama_cpps_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.kld");
    let writer = ReferenceWriter::create(&path, &text(), 273).unwrap();
    evaluate(&mut runner(first(), 512), Against::Nothing, Some(writer));
    let (own, theirs) = (std::fs::read(&path).unwrap(), std::fs::read(reference_path()).unwrap());
    let head = 20 + 4 * CONTEXT * CHUNKS;
    assert_eq!((own.len(), &own[..head]), (theirs.len(), &theirs[..head]));
    let row = 8 + 2 * 274;
    for (own, theirs) in own[head..].chunks(row).zip(theirs[head..].chunks(row)) {
        let float = |row: &[u8], at: usize| f32::from_le_bytes(row[at..at + 4].try_into().unwrap());
        near(float(own, 0).into(), float(theirs, 0).into(), 1e-6);
        near(float(own, 4).into(), float(theirs, 4).into(), 1e-2);
        for (own, theirs) in own[8..].chunks(2).zip(theirs[8..].chunks(2)).take(273) {
            let code = |c: &[u8]| f64::from(u16::from_le_bytes([c[0], c[1]]));
            near(code(own), code(theirs), 50.0); // 0.012 in the logarithm
        }
    }
}

#[test]
fn a_stopped_evaluation_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.kld");
    let (text, mut runner) = (text(), runner(first(), 512));
    let save = Some(ReferenceWriter::create(&path, &text, 273).unwrap());
    let evaluation = Evaluation {
        runner: &mut runner,
        text: &text,
        against: Against::Nothing,
        save,
        threads: 1,
    };
    let mut last = None;
    let result = evaluation.run(&mut |at: Progress| {
        last = Some(at);
        if at.chunks == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(result, Err(EvalError::Stopped)));
    let last = last.unwrap();
    assert!(
        last.total == CHUNKS * (CONTEXT - 1) && last.done < last.total && last.perplexity.is_some()
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_reference_of_another_text_or_model_is_refused() {
    let refused = |text: &EvalText, model: Vec<u8>| {
        let mut reference = Reference::open(&reference_path()).unwrap();
        let (mut runner, against) = (runner(model, 512), Against::File(&mut reference));
        let evaluation = Evaluation { runner: &mut runner, text, against, save: None, threads: 1 };
        evaluation.run(&mut |_| ControlFlow::Continue(())).unwrap_err()
    };
    let mut tokens = text().tokens().to_vec();
    tokens[70] ^= 1;
    let other = EvalText::of_tokens(tokens.clone(), CONTEXT, None, None).unwrap();
    assert!(matches!(refused(&other, first()), EvalError::OtherText { at: 70 }));
    let shorter = EvalText::of_tokens(tokens.clone(), 32, None, None).unwrap();
    assert!(matches!(
        refused(&shorter, first()),
        EvalError::Mismatch { found: 64, expected: 32, .. }
    ));
    let longer =
        EvalText::of_tokens([tokens.clone(), tokens].concat(), CONTEXT, None, None).unwrap();
    assert!(matches!(refused(&longer, first()), EvalError::Chunks { asked: 8, found: 4 }));
    let wider = Tiny::new(Family::Llama).bytes();
    assert!(matches!(
        refused(&text(), wider),
        EvalError::Mismatch { found: 273, expected: 272, .. }
    ));
}

/// Opens a file with these bytes.
fn open(bytes: &[u8]) -> Result<Reference, EvalError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    Reference::open(file.path())
}

#[test]
fn every_truncation_and_every_absurd_number_is_an_error() {
    let whole = std::fs::read(reference_path()).unwrap();
    for end in (0..20).chain([21, 1043, 1044, whole.len() - 1]) {
        let error = open(&whole[..end]).unwrap_err();
        let typed = matches!(error, EvalError::NoReference(_) | EvalError::Size { .. });
        assert!(typed, "{end} bytes: {error}");
    }
    assert!(matches!(open(&[&whole[..], &[0]].concat()), Err(EvalError::Size { .. })));
    for at in [8, 12, 16] {
        for number in [0, 1, 3, 255, 65_536, i32::MAX as u32, 1 << 31, u32::MAX - 1, u32::MAX] {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            let error = open(&bytes).unwrap_err();
            let typed = matches!(error, EvalError::Header { .. } | EvalError::Size { .. });
            assert!(typed, "{number} at {at}: {error}");
        }
    }
    let mut bytes = whole.clone();
    bytes[20..24].copy_from_slice(&273u32.to_le_bytes());
    assert!(matches!(open(&bytes), Err(EvalError::Header { what: "a token", found: 273, .. })));
}
