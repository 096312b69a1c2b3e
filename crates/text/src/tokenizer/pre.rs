//! Pre-tokenizers of byte-level BPE: how text is cut into words before merging.
//! Each is data: a list of stages, every stage cutting the pieces of the one before. The patterns are those of the models' own
//! `tokenizer.json`, run by the linear-time `regex` crate; its missing look-ahead is replaced by one rule on whitespace runs.
//! Absent on purpose: a default for unknown names, since a wrong split silently degrades every answer.

use regex::Regex;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::TextError;

/// Contractions in any case, as GPT-4's pattern and its descendants write them.
macro_rules! contractions {
    () => {
        "'(?i-u:[sdmt]|ll|ve|re)"
    };
}
/// What most patterns since GPT-4 share after words and numbers: punctuation with its line ends, line ends, other whitespace.
macro_rules! rest {
    () => {
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
    };
}
/// As `rest`, with a slash kept at the end of punctuation (GPT-4o's family).
macro_rules! rest_slash {
    () => {
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
    };
}
/// Capitalized-or-lower words of GPT-4o's family; the argument is the optional suffix.
macro_rules! cased_words {
    ($suffix:expr) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $suffix,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $suffix
        )
    };
}

const GPT2: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const LLAMA3: &str = concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}", rest!());
const QWEN2: &str = concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}", rest!());
const QWEN35: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const UFAKZEKA: &str = concat!(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}", rest!());
const MINICPM5: &str = concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+", rest!());
const SEED_CODER: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+"
);
const BAILING: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+"
);
const EXAONE_MOE: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+"
);
const GPT4O: &str =
    concat!(cased_words!("(?:'(?i-u:[sdmt]|ll|ve|re))?"), r"|\p{N}{1,3}", rest_slash!());
const TEKKEN: &str = concat!(cased_words!(""), r"|\p{N}", rest_slash!());
const YOUTU: &str = concat!(cased_words!("(?:'(?i-u:[sdmt]|ll|ve|re))?"), r"|\p{N}", rest_slash!());
const KIMI_K2: &str = concat!(
    r"\p{Han}+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&\P{Han}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&\P{Han}]+(?:'(?i-u:[sdmt]|ll|ve|re))?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&\P{Han}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&\P{Han}]*(?:'(?i-u:[sdmt]|ll|ve|re))?",
    r"|\p{N}{1,3}",
    rest!()
);
const DEEPSEEK_V3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const SPARK: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+|[\r\n]|\s+"
);
const CJK: &str = "[一-龥぀-ゟ゠-ヿ]+";
/// Letters of cased scripts, as DeepSeek-LLM lists them.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1F7D}ᾀ-ᾴᾶ-ᾼ",
    r"\x{1FBE}ῂ-ῄῆ-ῌῐ-\x{1FD3}ῖ-\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ",
    r"𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
);
const DEEPSEEK_PUNCTUATION: &str = "\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+";
const DEEPSEEK_CJK: &str = "[一-龥ࠀ-一가-\u{D7FF}]+";
const AFMOE_SCRIPTS: &str = "[一-\u{9FFF}㐀-\u{4DBF}\u{F900}-\u{FAFF}぀-ゟ゠-ヿ･-ﾟ⼀-\u{2FDF}เ-\u{0E7F}\u{0E80}-\u{0EFF}ក-\u{17FF}က-႟ꩠ-ꩿꧠ-\u{A9FF}가-\u{D7AF}ᄀ-ᇿ]+";
const YOUTU_SCRIPTS: &str = "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

/// One cutting step, as written in the table below.
enum Rule {
    /// Matches and the gaps between them are pieces.
    Split(&'static str),
    /// As `Split`; a run of whitespace that a word follows leaves its last character to that word: what `\s+(?!\S)|\s+` means.
    Words(&'static str),
    /// As `Words`, with runs of whitespace then cut into powers of two (Jais 2).
    WordsPowers(&'static str),
    /// Runs of digits grouped by three from the right; `bounded` runs only where no letter follows.
    Digits { class: &'static str, bounded: bool },
}

/// What a pre-tokenizer's name stands for.
struct Recipe {
    rules: &'static [Rule],
    /// A word that is a vocabulary entry is that token, whatever the merges say.
    ignore_merges: bool,
    /// Begin-of-text is added unless the file says otherwise.
    add_bos: bool,
}

use Rule::{Digits, Split, Words, WordsPowers};

const fn plain(rules: &'static [Rule]) -> Recipe {
    Recipe { rules, ignore_merges: false, add_bos: false }
}

const fn whole_words(rules: &'static [Rule]) -> Recipe {
    Recipe { rules, ignore_merges: true, add_bos: false }
}

/// The table: `tokenizer.ggml.pre` to its recipe.
fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "default" => plain(&[
            Split(r"[\p{P}\$\+<=>\^~\|]+"),
            Words(GPT2),
            Split(r"\p{N}+"),
            Split("[0-9][0-9][0-9]"),
        ]),
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "jina-v1-en" | "jina-v2-es" | "jina-v2-de"
        | "jina-v2-code" | "roberta-bpe" | "gigachat" | "a.x-4.0" | "mellum" | "modern-bert"
        | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling" | "exaone4" => {
            plain(&[Words(GPT2)])
        }
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b"
        | "mellum2" => plain(&[Split(r"\p{N}"), Words(GPT2)]),
        "falcon" => {
            plain(&[Split(r"[\p{P}\$\+<=>\^~\|`]+"), Words(GPT2), Split("[0-9][0-9][0-9]")])
        }
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
        | "lfm2" | "jina-v5-nano" => {
            Recipe { rules: &[Words(LLAMA3)], ignore_merges: true, add_bos: true }
        }
        "dbrx" | "smaug-bpe" | "chatglm-bpe" => plain(&[Words(LLAMA3)]),
        "glm4" | "glm5" => whole_words(&[Words(LLAMA3)]),
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "stablelm2" | "hunyuan" | "megrez"
        | "solar-open" | "grok-2" => plain(&[Words(QWEN2)]),
        "qwen35" => plain(&[Words(QWEN35)]),
        "ufakzeka" => plain(&[Words(UFAKZEKA)]),
        "laguna" => plain(&[Split(r"\n+"), Words(QWEN2)]),
        "minicpm5" => whole_words(&[Split(r"\p{N}{1,3}"), Words(MINICPM5)]),
        "seed-coder" => plain(&[Words(SEED_CODER)]),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => plain(&[Words(BAILING)]),
        "exaone-moe" => plain(&[Words(EXAONE_MOE)]),
        "jais-2" => plain(&[WordsPowers(LLAMA3)]),
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => plain(&[Words(GPT4O)]),
        "granite-embed-multi-97m" => whole_words(&[Words(GPT4O)]),
        "tekken" => Recipe { rules: &[Words(TEKKEN)], ignore_merges: true, add_bos: true },
        "kimi-k2" => plain(&[Words(KIMI_K2)]),
        "tiny_aya" | "cohere2moe" => {
            plain(&[Digits { class: r"\d+", bounded: true }, Words(GPT4O)])
        }
        "superbpe" => plain(&[Digits { class: r"\p{N}+", bounded: false }]),
        "deepseek-llm" => plain(&[
            Split(r"[\r\n]"),
            Split(DEEPSEEK_LETTERS),
            Split(DEEPSEEK_PUNCTUATION),
            Split(r"\s+$"),
            Split(DEEPSEEK_CJK),
            Split(r"\p{N}+"),
        ]),
        "deepseek-coder" => plain(&[
            Split(r"[\r\n]"),
            Split(r"\s?\p{L}+"),
            Split(r"\s?\p{P}+"),
            Split(DEEPSEEK_CJK),
            Split(r"\p{N}"),
        ]),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => {
            plain(&[Split(r"\p{N}{1,3}"), Split(CJK), Words(DEEPSEEK_V3)])
        }
        "spark2_5" => plain(&[Split(r"\p{N}{1,3}"), Split(CJK), Words(SPARK), Split(r"\p{N}")]),
        "youtu" => whole_words(&[Split(YOUTU_SCRIPTS), Words(YOUTU)]),
        "afmoe" => plain(&[
            Digits { class: r"\p{N}+", bounded: false },
            Split(AFMOE_SCRIPTS),
            Words(DEEPSEEK_V3),
        ]),
        "poro-chat" | "bloom" | "gpt3-finnish" => plain(&[Split(BLOOM)]),
        "viking" => plain(&[Split(BLOOM), Split(r"\p{N}")]),
        "chameleon" => Recipe {
            rules: &[
                Split("<sentinel:[0-9]+>"),
                Split("IMGIMG[A-I]{1,4}Z"),
                Split(r"[\t\n]|    |  "),
                Split(r"\p{N}"),
                Split(r"[\p{P}!-/:-@\[-`{-~]"),
                Words(GPT2),
            ],
            ignore_merges: false,
            add_bos: true,
        },
        "gemma4" | "granite-embed-multi-311m" | "sarvam-moe" => plain(&[Split(r"\n+")]),
        _ => return None,
    })
}

/// Whether the name means SentencePiece-style BPE on raw UTF-8 (`▁` for spaces, `<0xNN>` for bytes) instead of byte-level BPE.
pub(super) fn is_raw_utf8(name: &str) -> bool {
    matches!(name, "gemma4" | "granite-embed-multi-311m" | "sarvam-moe")
}

#[derive(Debug)]
enum Stage {
    Split(Regex),
    Words { regex: Regex, powers: bool, newlines: bool },
    Digits { regex: Regex, bounded: bool },
}

/// A compiled pre-tokenizer.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    stages: Vec<Stage>,
    pub(super) ignore_merges: bool,
    pub(super) add_bos: bool,
}

impl PreTokenizer {
    /// Compiles the pre-tokenizer called `name` in `tokenizer.ggml.pre`.
    pub(super) fn new(name: &str) -> Result<Self, TextError> {
        let unknown = || TextError::UnknownPreTokenizer(name.to_owned());
        let recipe = recipe(name).ok_or_else(unknown)?;
        let stages = recipe.rules.iter().map(compile).collect::<Result<_, _>>();
        let stages = stages.map_err(|e| TextError::Pattern(Box::new(e)))?;
        Ok(Self { stages, ignore_merges: recipe.ignore_merges, add_bos: recipe.add_bos })
    }

    /// Calls `word` with each piece of `text`, in order and without gaps.
    pub(super) fn split<'t>(&self, text: &'t str, word: &mut dyn FnMut(&'t str)) {
        run(&self.stages, text, word);
    }
}

fn compile(rule: &Rule) -> Result<Stage, regex::Error> {
    // Large character classes need more than the default 10 MB while compiling.
    let regex = |p: &str| regex::RegexBuilder::new(p).size_limit(64 << 20).build();
    let words = |p: &str, powers| {
        Ok(Stage::Words { regex: regex(p)?, powers, newlines: p.contains(r"|\s*[\r\n]") })
    };
    match *rule {
        Rule::Split(p) => Ok(Stage::Split(regex(p)?)),
        Rule::Words(p) => words(p, false),
        Rule::WordsPowers(p) => words(p, true),
        Rule::Digits { class, bounded } => Ok(Stage::Digits { regex: regex(class)?, bounded }),
    }
}

fn run<'t>(stages: &[Stage], text: &'t str, word: &mut dyn FnMut(&'t str)) {
    let Some((stage, rest)) = stages.split_first() else { return word(text) };
    let mut at = 0;
    let mut piece = |end: usize| {
        if end > at {
            run(rest, &text[at..end], word);
            at = end;
        }
    };
    match stage {
        Stage::Split(regex) => {
            for found in regex.find_iter(text) {
                piece(found.start());
                piece(found.end());
            }
        }
        Stage::Words { regex, powers, newlines } => {
            split_words(regex, *powers, *newlines, text, &mut piece);
        }
        Stage::Digits { regex, bounded } => {
            for found in regex.find_iter(text) {
                if *bounded && text[found.end()..].starts_with(is_word_char) {
                    continue;
                }
                piece(found.start());
                group_digits(found.as_str(), found.start(), &mut piece);
            }
        }
    }
    piece(text.len());
}

/// Cuts by `regex`; whitespace that is followed by more text gives its last character back.
fn split_words(
    regex: &Regex,
    powers: bool,
    newlines: bool,
    text: &str,
    piece: &mut impl FnMut(usize),
) {
    let mut from = 0;
    while let Some(found) = regex.find_at(text, from) {
        let (start, mut end) = (found.start(), found.end());
        piece(start);
        // Where the pattern takes line ends first, a match that ends in one was not the `\s+` alternative.
        let blank = |c: char| c.is_whitespace() && !(newlines && matches!(c, '\r' | '\n'));
        let last = found.as_str().chars().next_back().filter(|&c| blank(c));
        if let Some(last) = last {
            let single = end - start == last.len_utf8();
            if end < text.len() && !single {
                end -= last.len_utf8();
            }
            if powers {
                cut_powers(&text[start..end], start, piece);
            }
        }
        piece(end);
        from = end;
    }
}

/// Whitespace in the largest of 512, 256, ..., 4 characters that fit, then 2 or 1.
fn cut_powers(run: &str, base: usize, piece: &mut impl FnMut(usize)) {
    let ends: Vec<usize> = run.char_indices().map(|(i, c)| base + i + c.len_utf8()).collect();
    let mut done = 0;
    while done < ends.len() {
        let left = ends.len() - done;
        done += if left > 1 { 1 << left.ilog2().min(9) } else { 1 };
        piece(ends[done - 1]);
    }
}

/// Threes from the right: 1234567 is 1, 234, 567.
fn group_digits(run: &str, base: usize, piece: &mut impl FnMut(usize)) {
    let count = run.chars().count();
    for (i, (offset, _)) in run.char_indices().enumerate() {
        if i > 0 && (count - i).is_multiple_of(3) {
            piece(base + offset);
        }
    }
    piece(base + run.len());
}

/// `\w` without digits: what makes the end of a digit run no word boundary.
fn is_word_char(c: char) -> bool {
    let connector = c.general_category() == GeneralCategory::ConnectorPunctuation;
    c.is_alphabetic() || connector || c.general_category_group() == GeneralCategoryGroup::Mark
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(name: &str, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        PreTokenizer::new(name).unwrap().split(text, &mut |w| words.push(w.to_owned()));
        words
    }

    #[test]
    fn whitespace_before_a_word_gives_back_its_last_character() {
        assert_eq!(split("gpt-2", "a   b \n\n c  "), ["a", "  ", " b", " \n\n", " c", "  "]);
        assert_eq!(split("llama-bpe", "a   b \n\n  c"), ["a", "  ", " b", " \n\n", " ", " c"]);
        assert_eq!(split("qwen2", "x  1234"), ["x", " ", " ", "1", "2", "3", "4"]);
        assert_eq!(split("llama-bpe", "x\u{3000}\u{3000}é"), ["x", "\u{3000}", "\u{3000}é"]);
    }

    #[test]
    fn contractions_follow_the_case_rule_of_their_pattern() {
        assert_eq!(split("gpt-2", "I'LL we'll"), ["I", "'", "LL", " we", "'ll"]);
        assert_eq!(split("llama-bpe", "I'LL we'll"), ["I", "'LL", " we", "'ll"]);
        assert_eq!(split("gpt-4o", "I'LL we'll"), ["I'LL", " we'll"]);
    }

    #[test]
    fn digits_are_grouped_from_the_right() {
        assert_eq!(split("superbpe", "a 1234567"), ["a ", "1", "234", "567"]);
        assert_eq!(split("tiny_aya", "1234567 1234x"), ["1", "234", "567", " ", "123", "4", "x"]);
    }

    #[test]
    fn jais_cuts_whitespace_into_powers_of_two() {
        let words = split("jais-2", &format!("a{}b", " ".repeat(8)));
        assert_eq!(words, ["a", "    ", "  ", " ", " b"]);
    }

    #[test]
    fn pieces_cover_the_text_for_every_recipe() {
        let text = "Mixed:\tte\u{301}xt 12345 你好，世界！ ನ್ನ I'VE\r\n\n   end  \u{a0}\u{3000}🚀  ";
        for name in [
            "default",
            "gpt-2",
            "starcoder",
            "falcon",
            "llama3",
            "glm4",
            "qwen2",
            "qwen35",
            "laguna",
            "minicpm5",
            "seed-coder",
            "bailingmoe",
            "exaone-moe",
            "jais-2",
            "gpt-4o",
            "tekken",
            "kimi-k2",
            "tiny_aya",
            "superbpe",
            "deepseek-llm",
            "deepseek-coder",
            "deepseek-v3",
            "spark2_5",
            "youtu",
            "afmoe",
            "bloom",
            "viking",
            "chameleon",
            "gemma4",
            "ufakzeka",
        ] {
            let words = split(name, text);
            assert_eq!(words.concat(), text, "{name}");
            assert!(words.iter().all(|w| !w.is_empty()), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_it() {
        let error = PreTokenizer::new("qwen9").unwrap_err();
        assert!(error.to_string().contains("qwen9"), "{error}");
    }
}
