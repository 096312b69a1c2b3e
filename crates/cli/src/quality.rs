//! Measured quality: what `hob eval` found of a file, remembered by its hash, and shown wherever the file is. A result is replaced by
//! one of the same text, context and reference; the last one counts where there is room for one only.

use std::time::SystemTime;

use hob_forge::eval::EvalText;
use hob_hub::{Hub, LocalModel};
use serde_json::{Value, json};

use crate::out;
use crate::progress::PullBar;
use hob_server::ModelFile;

/// What makes two results comparable.
const SAME: [&str; 4] = ["text_sha256", "context", "tokens", "against"];

/// Remembers what `hob eval` printed of a model. A result that cannot be kept is still a result.
pub fn remember(hub: &Hub, file: &ModelFile, text: &EvalText, name: &str, mut result: Value) {
    let tokens: Vec<u8> = text.tokens().iter().flat_map(|t| t.to_le_bytes()).collect();
    result["text"] = json!(name);
    result["text_sha256"] = json!(hob_hub::sha256(&tokens));
    result["date"] = json!(out::timestamp(SystemTime::now()));
    let new = result.clone();
    let replaces = move |old: &Value| SAME.iter().all(|&key| old[key] == new[key]);
    let mut bar = PullBar::new();
    let parts = file.gguf.paths();
    let kept = hub.remember(&file.local, parts, result, &replaces, &mut |event| bar.show(event));
    bar.clear();
    if let Err(e) = kept {
        out::say(&format!("the result is not remembered: {e}"));
    }
}

/// A line per remembered result: what, and how much.
pub fn rows(results: &[Value]) -> Vec<[String; 2]> {
    results.iter().flat_map(row).collect()
}

fn row(result: &Value) -> Option<[String; 2]> {
    let number = |value: &Value| value.as_f64();
    let text = result["text"].as_str().unwrap_or("a text");
    let tokens = result["tokens"].as_u64()?;
    let mut value = format!(
        "perplexity {:.3} ± {:.3}",
        number(&result["perplexity"])?,
        number(&result["perplexity_error"])?
    );
    if let (Some(kl), Some(against)) = (number(&result["kl"]["mean"]), result["against"].as_str()) {
        let top = number(&result["top1_agreement"]).unwrap_or(f64::NAN);
        value += &format!(
            ", KL divergence {kl:.5} and same likeliest token {:.2} % against {against}",
            100.0 * top
        );
    }
    Some([format!("{text}, {tokens} tokens"), value])
}

/// The last result in a word, divergences before perplexities; `None` if nothing was measured.
pub fn brief(results: &[Value]) -> Option<String> {
    let last = |key: &'static str| results.iter().rev().find_map(move |r| number_at(r, key));
    let kl = last("/kl/mean").map(|kl| format!("KL {kl:.4}"));
    kl.or_else(|| last("/perplexity").map(|p| format!("perplexity {p:.2}")))
}

/// What was measured of a model's files, by recipe: of the model itself, and of those that are stored under its name.
pub fn of_recipes(hub: &Hub, local: &LocalModel) -> Vec<(String, Value)> {
    let own = measured(hub, local);
    own.into_iter().chain(of_name(hub, &local.name)).collect()
}

/// The same of the models that are stored under a name, `name:tag` or `name:tag-recipe`.
pub fn of_name(hub: &Hub, name: &str) -> Vec<(String, Value)> {
    let stored = hub.list().map(|listing| listing.models).unwrap_or_default();
    let prefix = format!("{name}-");
    let theirs = stored.iter().filter(|m| m.name == name || m.name.starts_with(&prefix));
    theirs.filter_map(|model| measured(hub, model)).collect()
}

/// The last divergence and the last perplexity of a file, with its recipe.
fn measured(hub: &Hub, local: &LocalModel) -> Option<(String, Value)> {
    let results = hub.measured(local);
    let last = |key: &'static str| results.iter().rev().find_map(move |r| number_at(r, key));
    let (kl, perplexity) = (last("/kl/mean"), last("/perplexity"));
    if kl.is_none() && perplexity.is_none() {
        return None;
    }
    let file = ModelFile::peek(hub, local.clone()).ok()?;
    Some((file.recipe().to_owned(), json!({"kl": kl, "perplexity": perplexity})))
}

fn number_at(result: &Value, pointer: &str) -> Option<f64> {
    result.pointer(pointer).and_then(Value::as_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_what_there_is() {
        let mut result = json!({
            "text": "a.txt", "tokens": 255, "perplexity": 16.0, "perplexity_error": 0.5, "kl": null,
            "against": null,
        });
        let rows_of = |result: &Value| rows(std::slice::from_ref(result));
        assert_eq!(
            rows_of(&result),
            [["a.txt, 255 tokens", "perplexity 16.000 ± 0.500"].map(str::to_owned)]
        );
        result["kl"] = json!({"mean": 0.25});
        result["top1_agreement"] = json!(0.75);
        result["against"] = json!("full.gguf");
        let found = rows_of(&result);
        assert!(
            found[0][1].ends_with(
                "KL divergence 0.25000 and same likeliest token 75.00 % against full.gguf"
            )
        );
        assert!(rows_of(&json!({"tokens": "many"})).is_empty());
    }
}
