//! Encoding then decoding gives back the text: ten megabytes of mixed UTF-8, on real vocabularies, in linear time.

mod common;

use std::time::{Duration, Instant};

use common::load;
use hob_text::{EncodeOptions, Tokenizer};

/// A small deterministic generator (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(limit)) >> 32) as u32
    }

    fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len() as u32) as usize]
    }

    /// Any character but U+2581, which SentencePiece's vocabularies use for a space.
    fn character(&mut self) -> char {
        let (start, end) = self.pick(&[
            &(0, 0x80),
            &(0x80, 0x250),
            &(0x250, 0x3000),
            &(0x3000, 0xD800),
            &(0xE000, 0x10000),
            &(0x1F300, 0x1FB00),
            &(0x10000, 0x40000),
        ]);
        let c = char::from_u32(start + self.below(end - start)).expect("no surrogate");
        if c == '\u{2581}' { 'x' } else { c }
    }

    /// Mixed text: unicode noise, code, Chinese, emoji sequences, combining marks, runs of whitespace.
    fn text(&mut self, bytes: usize) -> String {
        let code = include_str!("round_trip.rs");
        let mut text = String::with_capacity(bytes + 4096);
        while text.len() < bytes {
            let count = 1 + self.below(40);
            match self.below(7) {
                0 => text.extend((0..count).map(|_| self.character())),
                1 => {
                    let from = code.floor_char_boundary(self.below(code.len() as u32) as usize);
                    let to = code.floor_char_boundary((from + 400).min(code.len()));
                    text.push_str(&code[from..to]);
                }
                2 => {
                    text.extend((0..count).map(|_| {
                        char::from_u32(0x4E00 + self.below(0x5000)).expect("no surrogate")
                    }))
                }
                3 => (0..count)
                    .for_each(|_| text.push_str(self.pick(&["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇨🇳", "🚀"]))),
                4 => (0..count).for_each(|_| {
                    text.push_str(self.pick(&[
                        "e\u{301}",
                        "ा\u{93f}",
                        "a\u{308}\u{323}",
                        "\u{20d7}",
                    ]))
                }),
                5 => (0..count).for_each(|_| {
                    text.push_str(self.pick(&[" ", " ", "\n", "\t", "\r\n", "\u{3000}", "\u{a0}"]))
                }),
                _ => (0..count).for_each(|_| {
                    text.push_str(self.pick(&[
                        "I'm ",
                        "we'LL ",
                        "12345",
                        " 3.14",
                        "Hello, ",
                        "naïve ",
                        "</s>",
                        "<|im_end|>",
                    ]))
                }),
            }
        }
        text
    }
}

fn assert_round_trip(tokenizer: &Tokenizer, text: &str) {
    let tokens = tokenizer.encode(text, EncodeOptions::default());
    let decoded = tokenizer.decode(&tokens);
    if decoded != text {
        let at = decoded.bytes().zip(text.bytes()).position(|(a, b)| a != b).unwrap_or(0);
        let near = |s: &str| {
            s[s.floor_char_boundary(at.saturating_sub(20))..].chars().take(40).collect::<String>()
        };
        panic!("at byte {at}: {:?} became {:?}", near(text), near(&decoded));
    }
    let mut stream = tokenizer.detokenizer().from_start();
    let mut streamed = String::new();
    tokens.iter().for_each(|&t| streamed.push_str(stream.push(t)));
    streamed.push_str(&stream.finish());
    assert!(streamed == decoded, "the stream differs from decode");
}

#[test]
fn ten_megabytes_of_mixed_text() {
    let text = Random(0x9E37_79B9_7F4A_7C15).text(10_000_000);
    assert_round_trip(&load("ggml-vocab-qwen2"), &text);
}

#[test]
fn the_other_lossless_vocabularies() {
    // Not here: falcon, starcoder and refact have no token for some bytes, the BERTs normalize.
    for name in [
        "llama-bpe",
        "llama-spm",
        "phi-3",
        "baichuan",
        "gemma-4",
        "gpt-2",
        "deepseek-llm",
        "qwen35",
        "command-r",
    ] {
        let text = Random(name.len() as u64 + 77).text(200_000);
        assert_round_trip(&load(&format!("ggml-vocab-{name}")), &text);
    }
}

#[test]
fn a_long_run_of_one_character_is_linear() {
    for name in ["llama-bpe", "deepseek-llm", "gemma-4", "llama-spm", "bert-bge", "nomic-bert-moe"]
    {
        let tokenizer = load(&format!("ggml-vocab-{name}"));
        for unit in ["a", " ", "\n", "7", "!", "世", " \t", "\u{301}"] {
            let text = unit.repeat(200_000 / unit.len());
            let start = Instant::now();
            let tokens = tokenizer.encode(&text, EncodeOptions::default());
            // Quadratic time would be minutes.
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "{name} {unit:?}: {:?}",
                start.elapsed()
            );
            if !name.contains("bert") {
                assert_eq!(tokenizer.decode(&tokens), text, "{name} {unit:?}");
            }
        }
    }
}
