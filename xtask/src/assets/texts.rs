//! Texts for perplexity, tokenizers and importance matrices: English prose, short English pieces, Chinese,
//! code, and a mixture in which every prefix is mixed. Made without a random choice: the same bytes anywhere.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Cache, Pin, fetch};

pub const PINS: &[Pin] = &[
    (
        "texts/english.txt",
        1_481_926,
        "923ab1ff11b0110e1ee1a3ca7d831806469854fe24233174313b79ac19fe6345",
    ),
    (
        "texts/fortunes.txt",
        2_432_799,
        "5dfdc2f12cc17f4cc3a835a7e5c9a77d2b27a6f0849b7f29a93af44d5c10c8fe",
    ),
    (
        "texts/chinese.txt",
        2_008_761,
        "037bb0f75d6cd7fddd5e844497a86f237cdda5caf14fab256162a6d15386e8e4",
    ),
    ("texts/code.txt", 103_288, "b007dbbbd5fd135418a44e0813acc32afe33844388d5aa22a6becca7d85c5c5d"),
    (
        "texts/mixed.txt",
        122_113,
        "271ed35ae6b75354289235bc5690f6be845e767fec0ab4262380ed318ad69c15",
    ),
];

/// Where the Jargon File's prose begins: after its table of contents.
const JARGON_START: &str = "\nChapter 1. Hacker Slang and Hacker Culture\n";
/// C++, Python and TypeScript, from the package that holds llama.cpp.
const CODE: &[&str] = &[
    "/vendor/llama.cpp/common/jinja/parser.cpp",
    "/llama_cpp/_internals.py",
    "/vendor/llama.cpp/tools/ui/src/lib/services/chat.service.ts",
];
/// The mixture: rounds, and bytes of English, Chinese and code in each (cut at the next line's end).
const ROUNDS: usize = 20;
const ROUND: [usize; 3] = [3000, 1000, 2000];

/// Makes all texts.
pub fn build(cache: &Cache) -> Result<Vec<PathBuf>> {
    let english = english(cache)?;
    let fortunes = fortunes(cache, "fortunes")?;
    let chinese = fortunes_zh(cache)?;
    let code = code(cache)?;
    let mixed = mixed([&english, &chinese, &code]);
    let texts = [
        ("english", english),
        ("fortunes", fortunes),
        ("chinese", chinese),
        ("code", code),
        ("mixed", mixed),
    ];
    let write = |(name, text): (&str, String)| {
        cache.write(&format!("texts/{name}.txt"), |out| Ok(out.write_all(text.as_bytes())?))
    };
    texts.into_iter().map(write).collect()
}

/// The Jargon File, without its contents and tables.
fn english(cache: &Cache) -> Result<String> {
    let packed = fetch::one_file(cache.debian("jargon-text")?, "/jargon.txt.gz")?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text)?;
    let text = text.replace('\u{a0}', " ");
    let (_, prose) = text.split_once(JARGON_START).context("the Jargon File has no chapter 1")?;
    let framed = |line: &&str| line.contains(|c| ('\u{2500}'..='\u{257f}').contains(&c));
    Ok(paragraphs(prose.lines().filter(|line| !framed(line))))
}

/// Chinese: everything of fortunes-zh, the poems at the end.
fn fortunes_zh(cache: &Cache) -> Result<String> {
    fortunes(cache, "fortunes-zh").map(|text| without_colours(&text))
}

/// The files of a fortunes package, in the order of their names.
fn fortunes(cache: &Cache, package: &str) -> Result<String> {
    let mut files = Vec::new();
    fetch::each_file(cache.debian(package)?, |path, content| {
        if let Some((_, name)) = path.split_once("/games/fortunes/")
            && !name.ends_with(".dat")
        {
            let mut text = String::new();
            content.read_to_string(&mut text).with_context(|| path.to_owned())?;
            files.push((name.to_owned(), text));
        }
        Ok(())
    })?;
    files.sort();
    let lines = files.iter().flat_map(|(_, text)| text.lines());
    Ok(without_overstrikes(&paragraphs(lines.map(|line| if line == "%" { "" } else { line }))))
}

/// Some source files, as they are.
fn code(cache: &Cache) -> Result<String> {
    let mut found = vec![String::new(); CODE.len()];
    fetch::each_file(cache.llama_sdist()?, |path, content| {
        if let Some(i) = CODE.iter().position(|end| path.ends_with(end)) {
            content.read_to_string(&mut found[i])?;
        }
        Ok(())
    })?;
    Ok(found.concat())
}

/// Lines without what surrounds them, runs of empty lines as one.
fn paragraphs<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for line in lines.map(str::trim) {
        if !(line.is_empty() && (out.is_empty() || out.ends_with("\n\n"))) {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Without the terminal's escape sequences for colours (ESC `[` digits `m`).
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    out
}

/// As a terminal shows it: a backspace takes the character before it (underlining of the typewriter's age).
fn without_overstrikes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\u{8}' {
            out.pop();
        } else {
            out.push(c);
        }
    }
    out
}

/// Pieces of all texts in turn.
fn mixed(mut texts: [&str; 3]) -> String {
    let mut out = String::new();
    for _ in 0..ROUNDS {
        for (text, bytes) in texts.iter_mut().zip(ROUND) {
            let (piece, rest) = cut_after(text, bytes);
            out.push_str(piece);
            out.push('\n');
            *text = rest;
        }
    }
    out
}

/// Splits a text behind the first line that reaches `bytes`.
fn cut_after(text: &str, bytes: usize) -> (&str, &str) {
    let newline = text.bytes().enumerate().position(|(i, b)| b == b'\n' && i + 1 >= bytes);
    text.split_at(newline.map_or(text.len(), |at| at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_with_a_line() {
        assert_eq!(cut_after("ab\ncd\nef\n", 4), ("ab\ncd\n", "ef\n"));
        assert_eq!(cut_after("ab\ncd\nef\n", 3), ("ab\n", "cd\nef\n"));
        assert_eq!(cut_after("诗\n词", 1), ("诗\n", "词"));
        assert_eq!(cut_after("词", 1), ("词", ""));
    }

    #[test]
    fn colours_and_overstrikes_go_and_empty_lines_join() {
        assert_eq!(without_colours("\u{1b}[32m《诗》\u{1b}[m\n作者"), "《诗》\n作者");
        assert_eq!(without_overstrikes("the ____\u{8}\u{8}\u{8}\u{8}LAST"), "the LAST");
        let text = paragraphs("\n  a \n\n\nb\n".lines());
        assert_eq!(text, "a\n\nb\n");
    }

    #[test]
    fn a_mixture_takes_from_each_text_in_turn() {
        let long = |c: &str| format!("{c}\n").repeat(40_000);
        let (a, b, c) = (long("a"), long("诗"), long("c"));
        let mixed = mixed([&a, &b, &c]);
        let head: String = mixed.chars().take(3000 + 1 + 2).collect();
        assert!(head.ends_with("a\n\n诗\n"), "{:?}", &head[2990..]);
        assert!(mixed.len() > ROUNDS * 6000 && mixed.len() < ROUNDS * 6020);
    }
}
