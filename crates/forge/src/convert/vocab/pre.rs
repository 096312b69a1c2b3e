//! Which of GGUF's pre-tokenizers a `tokenizer.json` means, by what it says itself: the patterns that cut text, in their
//! order, and whether whole words go before merges. The ecosystem's converter encodes a text and looks the tokens' hash
//! up instead; a name found here has the same behaviour, where several have it the family's own. Deliberately absent: a
//! guess for patterns that are not in the table.

use serde_json::Value;

use crate::convert::error::ConvertError;
use crate::convert::folder::Object;

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const DEEPSEEK_CJK: &str = "[一-龥ࠀ-一가-\u{D7FF}]+";
/// Beginning of a list of some hundred ranges of letters.
const DEEPSEEK_LETTERS: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯ…";
/// How a stage of single digits is written here, and one with GPT-2's own pattern.
const DIGITS: &str = r"\p{N}";
const GPT2: &str = "gpt-2";

/// A pre-tokenizer's stages, whether words go before merges (none: either), and its names in GGUF, the commonest first.
/// A stage that ends in `…` is the beginning of one.
const KNOWN: &[(&[&str], Option<bool>, &[&str])] = &[
    (&[LLAMA3], Some(true), &["llama-bpe", "glm4", "smaug-bpe", "chatglm-bpe", "lfm2"]),
    (&[LLAMA3], Some(false), &["dbrx", "smaug-bpe", "chatglm-bpe", "lfm2"]),
    (&[QWEN2], None, &["qwen2", "deepseek-r1-qwen"]),
    (&[QWEN35], None, &["qwen35"]),
    (&[TEKKEN], None, &["tekken"]),
    (&[GPT4O], None, &["gpt-4o"]),
    (&[r"\p{N}{1,3}", "[一-龥\u{3040}-ゟ゠-ヿ]+", DEEPSEEK_V3], None, &["deepseek-v3"]),
    (
        &[r"[\r\n]", DEEPSEEK_LETTERS, r"\s?[!-/:-~…", r"\s+$", DEEPSEEK_CJK, DIGITS],
        None,
        &["deepseek-llm"],
    ),
    (&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_CJK, DIGITS], None, &["deepseek-coder"]),
    (&[DIGITS, GPT2], None, &["smollm", "starcoder", "refact", "command-r"]),
    (&[GPT2], None, &["gpt-2", "olmo"]),
];

/// Tokenizers without a `tokenizer.json`, by their class.
const CLASSES: &[(&str, &str)] = &[("Qwen2Tokenizer", "qwen2"), ("GPT2Tokenizer", "gpt-2")];

/// The name for a tokenizer. `preferred`: the family's names.
pub(super) fn name(
    tokenizer: &Object,
    preferred: &[&'static str],
) -> Result<&'static str, ConvertError> {
    let empty = Value::Null;
    let part = tokenizer.get("pre_tokenizer").unwrap_or(&empty);
    let stages = stages(part);
    let model = tokenizer.get("model");
    let whole = model.and_then(|m| m.get("ignore_merges")?.as_bool()).unwrap_or(false);
    let fits = |known: &&(&[&str], Option<bool>, _)| {
        known.1.is_none_or(|needed| needed == whole)
            && known.0.len() == stages.len()
            && known.0.iter().zip(&stages).all(|(known, stage)| is(known, stage))
    };
    let Some((_, _, names)) = KNOWN.iter().find(fits) else {
        return Err(ConvertError::Pre { found: part.to_string().chars().take(400).collect() });
    };
    let own = preferred.iter().find(|name| names.contains(name));
    Ok(own.or(names.first()).copied().unwrap_or_default())
}

/// The name for a tokenizer of `vocab.json` and `merges.txt`.
pub(super) fn of_class(class: &str) -> Result<&'static str, ConvertError> {
    let class = class.strip_suffix("Fast").unwrap_or(class);
    let known = CLASSES.iter().find(|(known, _)| *known == class);
    known.map(|(_, name)| *name).ok_or_else(|| ConvertError::Pre {
        found: format!("(no tokenizer.json; the tokenizer's class is '{class}')"),
    })
}

fn is(known: &str, stage: &str) -> bool {
    match known.strip_suffix('…') {
        Some(start) => stage.starts_with(start),
        None => known == stage,
    }
}

/// The stages that cut, as patterns. One of another kind becomes its JSON, which no known stage is.
fn stages(part: &Value) -> Vec<String> {
    let list = part.get("pretokenizers").and_then(Value::as_array);
    let list: Vec<&Value> = list.map_or_else(|| vec![part], |list| list.iter().collect());
    list.into_iter().filter_map(stage).collect()
}

fn stage(part: &Value) -> Option<String> {
    let text = |key: &str| part.get(key).and_then(Value::as_str);
    let flag = |key: &str, other| part.get(key).and_then(Value::as_bool).unwrap_or(other);
    match text("type") {
        Some("ByteLevel") if flag("add_prefix_space", true) => Some(part.to_string()),
        Some("ByteLevel") => flag("use_regex", true).then(|| GPT2.to_owned()),
        Some("Digits") if flag("individual_digits", false) => Some(DIGITS.to_owned()),
        // Matches kept apart, or gaps between matches removed where there are none: the same.
        Some("Split") if text("behavior") == Some("Isolated") || flag("invert", false) => {
            let pattern = part.get("pattern")?.get("Regex").and_then(Value::as_str);
            let pattern = pattern.map(|p| p.replace('\r', r"\r").replace('\n', r"\n"));
            Some(pattern.unwrap_or_else(|| part.to_string()))
        }
        _ => Some(part.to_string()),
    }
}
