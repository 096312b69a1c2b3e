//! Searching the hubs by words, all at once. What comes back is what the hubs say: counts and tags, unchecked; whether a model fits a machine is not
//! asked here. One page of results, no more.

use std::thread;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::http::Method;
use ureq::http::header::CONTENT_TYPE;

use super::hugging_face::unreachable;
use super::model_scope::opened;
use super::{Hubs, MAX_ANSWER, ask, check_repository, encoded, shown};
use crate::error::{SourceError, Tried};
use crate::name::{HUGGING_FACE, MODEL_SCOPE};
use crate::net::{Ask, Net};

/// Most results of one search.
const MOST: usize = 100;
/// Most tags that are kept of a repository.
const MAX_TAGS: usize = 64;

/// A repository that a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Host of its name: `hf.co`, `modelscope.cn`.
    pub hub: &'static str,
    /// `organisation/name`.
    pub repo: String,
    pub downloads: u64,
    pub likes: u64,
    /// Day of the last change: `2026-11-25`.
    pub updated: Option<String>,
    /// Whether the hub saw files in GGUF.
    pub gguf: bool,
    pub licence: Option<String>,
    /// Number of weights.
    pub parameters: Option<u64>,
    /// GGUF's `general.architecture`.
    pub architecture: Option<String>,
    /// Positions it was trained for.
    pub context: Option<u64>,
    pub tags: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HuggingFaceRow {
    id: String,
    #[serde(default)]
    downloads: u64,
    #[serde(default)]
    likes: u64,
    last_modified: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    gguf: Option<Gguf>,
}

/// Of a hub's reading of the first GGUF file.
#[derive(Deserialize)]
struct Gguf {
    total: Option<u64>,
    architecture: Option<String>,
    context_length: Option<u64>,
}

/// Asks all hubs at once, so that one which cannot be reached keeps nobody waiting twice. What each found, in its own order, at most
/// `limit` of each; and which hubs failed.
pub(crate) fn search(
    net: &Net,
    hubs: &Hubs,
    words: &str,
    limit: usize,
) -> (Vec<Found>, Vec<Tried>) {
    let limit = limit.clamp(1, MOST);
    let (first, second) = thread::scope(|scope| {
        let other = scope.spawn(|| on_model_scope(net, hubs, words, limit));
        let first = on_hugging_face(net, hubs, words, limit);
        let panicked = |_| Err(SourceError::Refused("the search broke off".to_owned()));
        (first, other.join().unwrap_or_else(panicked))
    });
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for (hub, result) in [("Hugging Face", first), ("ModelScope", second)] {
        match result {
            Ok(some) => found.extend(some),
            Err(error) => failed.push(Tried { source: hub.to_owned(), error }),
        }
    }
    (found, failed)
}

/// Searches Hugging Face for repositories with GGUF files, the most downloaded first.
fn on_hugging_face(
    net: &Net,
    hubs: &Hubs,
    words: &str,
    limit: usize,
) -> Result<Vec<Found>, SourceError> {
    let wanted = ["downloads", "likes", "lastModified", "tags", "gguf"];
    let expand: String = wanted.iter().map(|field| format!("&expand={field}")).collect();
    let words = encoded(words);
    // What the search's answers are read as: those about a repository of this name.
    let hub = hubs.on_hugging_face("the search", None);
    let url = format!(
        "{}/api/models?search={words}&filter=gguf&sort=downloads&direction=-1&limit={limit}{expand}",
        hub.endpoint
    );
    let credential = hub.credential();
    let answer = ask(net, &Ask::get(&url).credential(credential.as_ref())).map_err(unreachable)?;
    if answer.status() != 200 {
        return Err(hub.refusal(answer.status(), answer.headers()));
    }
    let rows: Vec<Value> = answer.json(MAX_ANSWER)?;
    Ok(rows.into_iter().filter_map(row).filter_map(from_hugging_face).take(limit).collect())
}

/// One result; what is none is passed over, so that one odd repository does not hide the others.
fn row<T: DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

fn from_hugging_face(row: HuggingFaceRow) -> Option<Found> {
    check_repository(&row.id).ok()?;
    let licence = row.tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(shown);
    let gguf = row.gguf.is_some() || row.tags.iter().any(|tag| tag == "gguf");
    let read = row.gguf.as_ref();
    Some(Found {
        hub: HUGGING_FACE,
        downloads: row.downloads,
        likes: row.likes,
        updated: row.last_modified.as_deref().and_then(day),
        gguf,
        licence,
        parameters: read.and_then(|g| g.total),
        architecture: read.and_then(|g| g.architecture.as_deref()).map(shown),
        context: read.and_then(|g| g.context_length),
        tags: row.tags.iter().take(MAX_TAGS).map(|tag| shown(tag)).collect(),
        repo: row.id,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ModelScopeSearch {
    model: ModelScopeModels,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ModelScopeModels {
    models: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ModelScopeRow {
    /// The organisation.
    path: String,
    name: String,
    downloads: Option<u64>,
    stars: Option<u64>,
    /// Seconds since 1970.
    last_updated_time: Option<u64>,
    license: Option<String>,
    /// Read from the files by the service.
    libraries: Option<Vec<String>>,
    tags: Option<Vec<Value>>,
    model_infos: Option<Value>,
}

/// Searches ModelScope by repositories' names. It cannot be asked for GGUF alone: `gguf` tells.
fn on_model_scope(
    net: &Net,
    hubs: &Hubs,
    words: &str,
    limit: usize,
) -> Result<Vec<Found>, SourceError> {
    let body = json!({"PageSize": limit, "PageNumber": 1, "SortBy": "Default", "Target": "", "Name": words,
        "SingleCriterion": []});
    let body = body.to_string();
    let url = format!("{}/api/v1/dolphin/models", hubs.model_scope);
    let request = Ask::new(Method::PUT, &url).header(CONTENT_TYPE, "application/json");
    let found: ModelScopeSearch = opened(ask(net, &request.body(body.as_bytes()))?, "the search")?;
    let rows = found.model.models.unwrap_or_default();
    Ok(rows.into_iter().filter_map(row).filter_map(from_model_scope).take(limit).collect())
}

fn from_model_scope(row: ModelScopeRow) -> Option<Found> {
    let repo = format!("{}/{}", row.path, row.name);
    check_repository(&repo).ok()?;
    let is_gguf = |text: &str| text.eq_ignore_ascii_case("gguf");
    let infos = row.model_infos.unwrap_or_default();
    let about =
        |key: &str| infos.get("gguf").or_else(|| infos.get("safetensors"))?.get(key).cloned();
    // Tags are texts, or objects with a name.
    let tag = |tag: &Value| tag.as_str().or_else(|| tag.get("Name")?.as_str()).map(shown);
    let tags: Vec<String> =
        row.tags.unwrap_or_default().iter().filter_map(tag).take(MAX_TAGS).collect();
    Some(Found {
        hub: MODEL_SCOPE,
        downloads: row.downloads.unwrap_or(0),
        likes: row.stars.unwrap_or(0),
        updated: row.last_updated_time.map(day_of_seconds),
        gguf: row.libraries.unwrap_or_default().iter().any(|l| is_gguf(l))
            || tags.iter().any(|t| is_gguf(t)),
        licence: row.license.as_deref().map(shown).filter(|l| !l.is_empty()),
        parameters: about("model_size").and_then(|v| v.as_u64()),
        architecture: about("architecture").and_then(|v| v.as_str().map(shown)),
        context: about("context_length").and_then(|v| v.as_u64()),
        tags,
        repo,
    })
}

/// The day of an RFC 3339 time.
fn day(time: &str) -> Option<String> {
    let day = time.get(..10)?;
    let fits = day.bytes().enumerate().all(|(i, b)| match i {
        4 | 7 => b == b'-',
        _ => b.is_ascii_digit(),
    });
    fits.then(|| day.to_owned())
}

/// The day of a Unix time, by counting 400-year cycles from 1 March of the year 0, where leap days come last.
fn day_of_seconds(seconds: u64) -> String {
    const CYCLE: u64 = 146_097;
    // Nothing on a hub is from after the year 9999.
    let days = (seconds / 86_400).min(2_932_896) + 719_468;
    let in_cycle = days % CYCLE;
    let year = (in_cycle - in_cycle / 1460 + in_cycle / 36_524 - in_cycle / 146_096) / 365;
    let in_year = in_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year + days / CYCLE * 400 + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_764_094_483, "2025-11-25"),
            (4_107_542_400, "2100-03-01"),
            (u64::MAX, "9999-12-31"),
        ] {
            assert_eq!(day_of_seconds(seconds), expected);
        }
        assert_eq!(day("2026-11-25T18:00:00.000Z").as_deref(), Some("2026-11-25"));
        assert_eq!(day("yesterday!"), None);
    }
}
