//! Searching the hubs by words, all at once. What comes back is what the hubs say: counts and tags, unchecked. Whether a model fits a
//! machine is not asked here. One page of results, no more.

use std::thread;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::hugging_face::unreachable;
use super::model_scope::refusal;
use super::{Hubs, MAX_ANSWER, ask, check_repository, encoded, shown};
use crate::error::{SourceError, Tried};
use crate::name::{HUGGING_FACE, MODEL_SCOPE};
use crate::net::{Ask, Credential, Net};

/// Most results of one search.
const MOST: usize = 100;
/// Most of one page of ModelScope's.
const MODEL_SCOPE_PAGE: usize = 50;
/// Most tags that are kept of a repository.
const MAX_TAGS: usize = 64;

/// A repository that a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Host of its name: `hf.co`, `modelscope.cn`.
    pub hub: &'static str,
    /// `organisation/name`.
    pub repo: String,
    /// As the hub counts them.
    pub downloads: u64,
    /// Users who like it.
    pub likes: u64,
    /// Day of the last change: `2026-11-25`.
    pub updated: Option<String>,
    /// Whether the hub saw files in GGUF.
    pub gguf: bool,
    /// As the repository states it.
    pub licence: Option<String>,
    /// Number of weights.
    pub parameters: Option<u64>,
    /// GGUF's `general.architecture`.
    pub architecture: Option<String>,
    /// Positions it was trained for.
    pub context: Option<u64>,
    /// As the repository states them.
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
        "{}/api/models?search={words}&filter=gguf&sort=downloads&limit={limit}{expand}",
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

/// An answer of ModelScope's open interface; it names things otherwise than the one that lists files.
#[derive(Deserialize)]
struct ModelScopeAnswer {
    #[serde(default)]
    success: bool,
    message: Option<String>,
    data: Option<ModelScopePage>,
}

#[derive(Deserialize)]
struct ModelScopePage {
    models: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct ModelScopeRow {
    id: String,
    downloads: Option<u64>,
    likes: Option<u64>,
    /// An RFC 3339 time or seconds since 1970.
    #[serde(default)]
    last_modified: Value,
    license: Option<String>,
    params: Option<u64>,
    tags: Option<Vec<String>>,
}

/// Searches ModelScope, the most downloaded first. It cannot be asked for GGUF alone, so the word is added; if nothing has that in its
/// name too, the words alone have to do, and `gguf` tells.
fn on_model_scope(
    net: &Net,
    hubs: &Hubs,
    words: &str,
    limit: usize,
) -> Result<Vec<Found>, SourceError> {
    if !words.to_ascii_lowercase().contains("gguf") {
        let found = page_of_model_scope(net, hubs, &format!("{words} gguf"), limit)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    page_of_model_scope(net, hubs, words, limit)
}

fn page_of_model_scope(
    net: &Net,
    hubs: &Hubs,
    words: &str,
    limit: usize,
) -> Result<Vec<Found>, SourceError> {
    let (size, words) = (limit.min(MODEL_SCOPE_PAGE), encoded(words));
    let url = format!(
        "{}/openapi/v1/models?search={words}&sort=downloads&page_number=1&page_size={size}",
        hubs.model_scope
    );
    let token = hubs.model_scope_token.as_deref();
    let credential = token.and_then(|token| Credential::bearer(&hubs.model_scope, token));
    let answer = ask(net, &Ask::get(&url).credential(credential.as_ref()))?;
    if answer.status() != 200 {
        return Err(refusal(answer.status(), "the search", String::new()));
    }
    let answer: ModelScopeAnswer = answer.json(MAX_ANSWER)?;
    let Some(page) = answer.data.filter(|_| answer.success) else {
        let message = shown(&answer.message.unwrap_or_default());
        return Err(SourceError::Refused(format!("its search fails: {message}")));
    };
    let rows = page.models.unwrap_or_default();
    Ok(rows.into_iter().filter_map(row).filter_map(from_model_scope).take(limit).collect())
}

fn from_model_scope(row: ModelScopeRow) -> Option<Found> {
    check_repository(&row.id).ok()?;
    let tags = row.tags.unwrap_or_default();
    let gguf = row.id.to_ascii_lowercase().contains("gguf")
        || tags.iter().any(|tag| tag.eq_ignore_ascii_case("gguf"));
    let time = &row.last_modified;
    Some(Found {
        hub: MODEL_SCOPE,
        downloads: row.downloads.unwrap_or(0),
        likes: row.likes.unwrap_or(0),
        updated: time.as_str().and_then(day).or_else(|| time.as_u64().map(day_of_seconds)),
        gguf,
        licence: row.license.as_deref().map(shown).filter(|l| !l.is_empty()),
        parameters: row.params.filter(|n| *n > 0),
        architecture: None,
        context: None,
        tags: tags.iter().take(MAX_TAGS).map(|tag| shown(tag)).collect(),
        repo: row.id,
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
