//! Searching the catalogue: every word must fit, and what it fits decides the rank. Plain containment in lower case. Deliberately
//! absent: an index (there are some hundred entries), and forgiveness of typing errors, which is `reference::near`'s.

use std::cmp::Reverse;

use super::Entry;

/// What a word may fit, by how much that says about what is wanted.
const EXACT: u32 = 16;
const VARIANT: u32 = 8;
const NAME_START: u32 = 6;
const SORT: u32 = 4;
const PART: u32 = 2;
const MENTION: u32 = 1;

/// See `Catalogue::search`.
pub(super) fn search<'a>(entries: &'a [Entry], words: &str) -> Vec<&'a Entry> {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let mut found: Vec<(u32, &Entry)> =
        entries.iter().filter_map(|entry| Some((rank(entry, &words)?, entry))).collect();
    // Stable: equal ones stay in the order of the data, which is that of families and sizes.
    found.sort_by_key(|(rank, _)| Reverse(*rank));
    found.into_iter().map(|(_, entry)| entry).collect()
}

/// The sum over the words; `None` where one of them does not fit.
fn rank(entry: &Entry, words: &[String]) -> Option<u32> {
    words.iter().map(|word| fit(entry, word)).sum()
}

fn fit(entry: &Entry, word: &str) -> Option<u32> {
    let mut tags = entry.aliases.iter().chain([&entry.tag]);
    let sorts = || entry.kinds.iter().map(|kind| kind.name()).chain([entry.family]);
    let full = entry.full_name();
    if entry.name == word || full == word {
        Some(EXACT)
    } else if tags.any(|tag| tag == word) {
        Some(VARIANT)
    } else if entry.name.starts_with(word) {
        Some(NAME_START)
    } else if sorts().any(|sort| sort == word) {
        Some(SORT)
    } else if full.contains(word) || sorts().any(|sort| sort.contains(word)) {
        Some(PART)
    } else {
        let mentions = [&entry.licence, &entry.weights, &entry.architecture];
        mentions.iter().any(|text| text.to_lowercase().contains(word)).then_some(MENTION)
    }
}
