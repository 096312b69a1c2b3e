//! ModelScope (modelscope.cn), as its Python library asks it. It does not tell the commit of a branch: files are pinned by their SHA-256
//! alone. Its listing ends silently at 3000 entries; such a repository is refused and not taken for complete.

use serde::Deserialize;
use serde_json::Value;

use super::{
    MAX_ANSWER, Offer, Origin, RemoteFile, Source, ask, check_repository, encoded, encoded_path,
    is_safe_path, shown,
};
use crate::error::SourceError;
use crate::net::{Answer, Ask, Credential, Net};

/// The service's own limit of a listing.
const LISTING: usize = 3000;
const LOG_IN: &str = "set MODELSCOPE_API_TOKEN to an access token (modelscope.cn/my/myaccesstoken)";

/// A repository there. Not `Debug`: it holds a token.
#[derive(Clone)]
pub(crate) struct ModelScope {
    /// The service's address, without a slash at its end.
    pub endpoint: String,
    /// `organisation/name`.
    pub repo: String,
    /// A branch or tag; `master` where none is given.
    pub revision: String,
    pub token: Option<String>,
}

/// What every answer is wrapped in.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope<T> {
    code: i64,
    #[serde(default)]
    message: Option<String>,
    data: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listing {
    files: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    path: String,
    #[serde(rename = "Type")]
    kind: String,
    size: Option<u64>,
    #[serde(default)]
    sha256: Option<String>,
}

impl Source for ModelScope {
    fn words(&self) -> String {
        format!("ModelScope {}", self.repo)
    }

    fn offer(&self, net: &Net) -> Result<Offer, SourceError> {
        check_repository(&self.repo)?;
        let Self { endpoint, repo, revision, .. } = self;
        let revision = encoded(revision);
        let url = format!(
            "{endpoint}/api/v1/models/{repo}/repo/files?Revision={revision}&Recursive=True"
        );
        let credential = self.credential();
        let answer = ask(net, &Ask::get(&url).credential(credential.as_ref()))?;
        let listing: Listing = opened(answer, repo)?;
        let entries = listing.files.unwrap_or_default();
        if entries.len() >= LISTING {
            let reason = format!("it lists only the first {LISTING} files of {repo}");
            return Err(SourceError::Refused(reason));
        }
        let mine = |e: &Entry| e.kind == "blob" && is_safe_path(&e.path);
        let files =
            entries.into_iter().filter(mine).map(|e| self.file(e)).collect::<Result<_, _>>()?;
        Ok(Offer { words: self.words(), revision: None, files })
    }
}

impl ModelScope {
    fn credential(&self) -> Option<Credential> {
        Credential::bearer(&self.endpoint, self.token.as_deref()?)
    }

    fn file(&self, entry: Entry) -> Result<RemoteFile, SourceError> {
        let Entry { path, size, sha256, .. } = entry;
        let sha256 = sha256.filter(|s| !s.is_empty());
        let digest = sha256.map(|s| s.parse()).transpose().map_err(|reason| {
            SourceError::Refused(format!(
                "it gives no digest of {path} but something else: {reason}"
            ))
        })?;
        let Self { endpoint, repo, revision, .. } = self;
        let (revision, file) = (encoded(revision), encoded_path(&path));
        let origin = Origin {
            words: self.words(),
            url: format!("{endpoint}/models/{repo}/resolve/{revision}/{file}"),
            credential: self.credential(),
        };
        Ok(RemoteFile { path, bytes: size, digest, origin })
    }
}

/// The content of an answer. Failures come with a status, or as success with another code inside.
fn opened<T: for<'a> Deserialize<'a>>(answer: Answer, what: &str) -> Result<T, SourceError> {
    let status = answer.status();
    if status == 200 {
        let envelope: Envelope<T> = answer.json(MAX_ANSWER)?;
        let message = shown(envelope.message.as_deref().unwrap_or_default());
        return match envelope.data {
            Some(data) if envelope.code == 200 => Ok(data),
            _ => Err(refusal(u16::try_from(envelope.code).unwrap_or(0), what, message)),
        };
    }
    let told = answer.json::<Envelope<Value>>(MAX_ANSWER).ok().and_then(|e| e.message);
    Err(refusal(status, what, shown(&told.unwrap_or_default())))
}

/// What a status or code that is no success means.
pub(super) fn refusal(code: u16, what: &str, message: String) -> SourceError {
    let help = LOG_IN.to_owned();
    match code {
        404 => SourceError::NotFound {
            what: what.to_owned(),
            help: "check its spelling; if it is private, set MODELSCOPE_API_TOKEN to an access token that may read it",
        },
        401 | 403 => SourceError::Denied { what: what.to_owned(), help, message },
        429 => SourceError::Limited { help: "" },
        500..=599 => SourceError::Status(code),
        _ if message.is_empty() => SourceError::Refused(format!("it does not show {what}")),
        _ => SourceError::Refused(message),
    }
}
