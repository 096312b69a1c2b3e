//! Every vocabulary of llama.cpp's reference set, with its cases: token for token.

mod common;

use common::{assets_vocab, load};
use hob_text::EncodeOptions;

/// Cases of a `.inp` file.
const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

#[test]
fn every_reference_case_is_exact() {
    let mut names: Vec<String> = std::fs::read_dir(assets_vocab())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".gguf.inp").map(str::to_owned))
        .collect();
    names.sort();
    let mut cases = 0;
    let mut failures = Vec::new();
    for name in &names {
        let tokenizer = load(name);
        let read = |kind| {
            std::fs::read_to_string(assets_vocab().join(format!("{name}.gguf.{kind}"))).unwrap()
        };
        let (inputs, outputs) = (read("inp"), read("out"));
        let inputs = inputs.strip_suffix(SEPARATOR).unwrap_or(&inputs).split(SEPARATOR);
        let outputs = outputs.lines();
        assert_eq!(inputs.clone().count(), outputs.clone().count(), "{name}");
        for (input, output) in inputs.zip(outputs) {
            let expected: Vec<u32> =
                output.split_whitespace().map(|t| t.parse().unwrap()).collect();
            let found = tokenizer.encode(input, EncodeOptions::default());
            cases += 1;
            if found != expected {
                failures.push(format!("{name} {input:?}: {found:?}, expected {expected:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {cases} cases:\n{}", failures.len(), failures.join("\n"));
    // Facts of the reference set: fewer would mean that the assets are incomplete.
    assert_eq!((names.len(), cases), (15, 694));
}
