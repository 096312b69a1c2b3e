//! Who has which file where. A source is asked over HTTP and answers with an offer: files, their lengths and digests as far as it
//! knows them, and the address of each. Names and digests from a server are checked here, before anyone makes a path of them.
//! Bytes of models are not fetched here, and local files are no source.

pub(crate) mod hubs;
mod hugging_face;
mod key;
mod model_scope;
mod push;
mod registry;
mod search;
mod url;
mod variants;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::HeaderMap;

use crate::digest::Digest;
use crate::error::SourceError;
use crate::net::{Answer, Ask, Net, NetError};

pub(crate) use hubs::Hubs;
pub(crate) use hugging_face::{HuggingFace, is_commit};
pub(crate) use key::Key;
pub(crate) use model_scope::ModelScope;
#[cfg(test)]
pub(crate) use push::push_in_parts;
pub(crate) use push::{Pushed, push};
pub(crate) use registry::Registry;
pub use search::Found;
pub(crate) use search::search;
pub(crate) use url::Url;
pub(crate) use variants::{
    Listed, Variant, recipe_named, select, select_of, variants, variants_of,
};

pub(crate) use crate::transfer::Origin;

/// Longest answer of a hub's interface. A page of search results carries the chat template of every model.
const MAX_ANSWER: u64 = 16 << 20;
/// Most files of one repository.
const MAX_FILES: usize = 20_000;
/// Longest path of a file within a repository, and longest part of it.
const MAX_PATH: usize = 512;
const MAX_PATH_PART: usize = 255;
/// Longest token: what hubs give out is shorter than 100 characters.
const MAX_TOKEN: u64 = 8 << 10;
/// No server's wish to wait longer than this is honoured.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// A file that a source has.
#[derive(Clone, Debug)]
pub(crate) struct RemoteFile {
    /// Path within the repository, with `/` between its parts; safe to use below a folder.
    pub path: String,
    pub bytes: Option<u64>,
    pub digest: Option<Digest>,
    pub origin: Origin,
}

/// What a source has.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// The source in words.
    pub words: String,
    /// The commit that all addresses are pinned to, where there is such a thing.
    pub revision: Option<String>,
    pub files: Vec<RemoteFile>,
}

/// Something that has files.
pub(crate) trait Source {
    /// The source for people: `Hugging Face org/repo`.
    fn words(&self) -> String;

    /// Asks what is there.
    fn offer(&self, net: &Net) -> Result<Offer, SourceError>;
}

/// Whether a path from a server stays below the folder it is put in, on every operating system, and can be shown to people.
pub(crate) fn is_safe_path(path: &str) -> bool {
    let safe =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= MAX_PATH_PART;
    let hostile = |c: char| c.is_control() || matches!(c, '\\' | ':');
    path.len() <= MAX_PATH && !path.contains(hostile) && path.split('/').all(safe)
}

/// A repository is `organisation/name`; Hugging Face's oldest have no organisation.
pub(crate) fn check_repository(repo: &str) -> Result<(), SourceError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if is_safe_path(repo) && repo.matches('/').count() <= 1 && repo.chars().all(plain) {
        return Ok(());
    }
    let name: String = repo.chars().filter(|c| !c.is_control()).take(MAX_PATH).collect();
    Err(SourceError::Refused(format!("'{name}' is not the name of a repository")))
}

/// What an address's path may hold as it is (RFC 3986, unreserved).
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PLAIN_PATH: AsciiSet = PLAIN.remove(b'/');

/// One part of an address.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, &PLAIN).to_string()
}

/// A path within an address.
fn encoded_path(path: &str) -> String {
    utf8_percent_encode(path, &PLAIN_PATH).to_string()
}

/// Sends a request that may be repeated, and repeats it if the server is busy. What cannot be reached is tried twice only: blocked networks
/// let each try run into its time limit.
fn ask(net: &Net, request: &Ask) -> Result<Answer, SourceError> {
    let patience = &net.patience;
    let (mut busy, mut broken) = (0, 0);
    loop {
        let wait = match net.send(request) {
            Ok(answer) if matches!(answer.status(), 408 | 429 | 500 | 502..=504) => {
                busy += 1;
                if busy >= patience.failures {
                    return Ok(answer);
                }
                answer.retry_after()
            }
            Ok(answer) => return Ok(answer),
            Err(NetError::Broken(_)) if broken == 0 && patience.failures > 1 => {
                broken = 1;
                None
            }
            Err(e) => return Err(e.into()),
        };
        let backoff = patience.backoff.saturating_mul(1 << busy.min(6));
        thread::sleep(wait.unwrap_or(backoff).min(MAX_WAIT));
    }
}

/// A text from a server, fit to be shown: one line, no control characters, not long.
fn shown(text: &str) -> String {
    const MOST: usize = 300;
    let line: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect();
    line.trim_end().to_owned()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// Reads a small file of secrets; nothing when it is absent.
fn small_file(path: &Path) -> Option<String> {
    let small = fs::metadata(path).is_ok_and(|m| m.len() <= MAX_TOKEN);
    small.then(|| fs::read_to_string(path).ok()).flatten()
}

impl From<NetError> for SourceError {
    fn from(e: NetError) -> SourceError {
        match e {
            NetError::Broken(reason) => SourceError::Unreachable(reason),
            NetError::Refused(reason) => SourceError::Refused(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_paths_are_known() {
        for path in
            ["a", "a/b c.gguf", "…/é", ".hidden", "a..b", "UD-Q4_K_XL/x-00001-of-00002.gguf"]
        {
            assert!(is_safe_path(path), "{path}");
        }
        let long = "a".repeat(256);
        let deep = "a/".repeat(300) + "a";
        for path in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/..",
            "./a",
            "a//b",
            "a/",
            "a\0b",
            "a\\b",
            "C:",
            "C:/x",
            "c:x",
            "a\nb",
            "a\u{1b}[2J",
            &long,
            &deep,
        ] {
            assert!(!is_safe_path(path), "{path:?}");
        }
    }

    #[test]
    fn repositories_are_checked() {
        for repo in ["gpt2", "org/repo", "O.rg/Re_po-1.5"] {
            assert!(check_repository(repo).is_ok(), "{repo}");
        }
        for repo in ["", "/", "a/b/c", "../b", "a/..", "a b", "a?b", "a/b#c", "a%2fb", "é/b"] {
            assert!(check_repository(repo).is_err(), "{repo}");
        }
    }

    #[test]
    fn texts_of_servers_are_tamed() {
        assert_eq!(shown("  a\r\n\u{1b}[31mb  "), "a   [31mb");
        assert_eq!(shown(&"x".repeat(1000)).len(), 300);
    }

    proptest! {
        #[test]
        fn a_safe_path_stays_below_its_folder(path in "[a./\\\\:\\PC\0]{0,12}") {
            if is_safe_path(&path) {
                let joined = Path::new("folder").join(&path);
                let mut parts = joined.components();
                prop_assert_eq!(parts.next().unwrap().as_os_str(), "folder");
                prop_assert!(parts.all(|p| matches!(p, std::path::Component::Normal(_))));
            }
        }
    }
}
