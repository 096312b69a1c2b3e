//! Hugging Face, or a mirror that speaks its interface. The revision is resolved to a commit first, and every address names that commit,
//! so that a push in between cannot mix two versions. Xet and Git are not spoken; plain `resolve` addresses do.

use serde::Deserialize;
use serde_json::Value;
use ureq::http::header::LINK;
use ureq::http::{HeaderMap, Method};

use super::{
    MAX_ANSWER, MAX_FILES, Offer, Origin, RemoteFile, Source, ask, check_repository, encoded,
    encoded_path, header, is_safe_path, shown,
};
use crate::error::SourceError;
use crate::net::{Answer, Ask, Credential, Net};

/// Most pages of a listing; the hub sends a thousand files on each.
const MAX_PAGES: usize = 100;
const LOG_IN: &str = "set HF_TOKEN to an access token of yours (huggingface.co/settings/tokens)";

/// A repository there. Not `Debug`: it holds a token.
#[derive(Clone)]
pub(crate) struct HuggingFace {
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// `organisation/name`.
    pub repo: String,
    /// A branch, tag or commit; `main` where none is given.
    pub revision: String,
    pub token: Option<String>,
}

#[derive(Deserialize)]
struct Info {
    sha: Option<String>,
    /// `false`, `"auto"` or `"manual"`.
    #[serde(default)]
    gated: Value,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

/// What the hub keeps outside of Git: everything large.
#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: Option<u64>,
}

impl Source for HuggingFace {
    fn words(&self) -> String {
        format!("Hugging Face {}", self.repo)
    }

    fn offer(&self, net: &Net) -> Result<Offer, SourceError> {
        check_repository(&self.repo)?;
        let (commit, gated) = self.resolve(net)?;
        let mut files = Vec::new();
        for entry in self.tree(net, &commit)? {
            // Folders, and names that only an attacker has.
            if entry.kind != "file" || !is_safe_path(&entry.path) {
                continue;
            }
            files.push(self.file(entry, &commit)?);
        }
        if let Some(file) = files.first().filter(|_| gated) {
            self.require_access(net, &file.origin)?;
        }
        Ok(Offer { words: self.words(), revision: Some(commit), files })
    }
}

impl HuggingFace {
    pub(super) fn credential(&self) -> Option<Credential> {
        Credential::bearer(&self.endpoint, self.token.as_deref()?)
    }

    /// What an answer that is no success means.
    pub fn refusal(&self, status: u16, headers: &HeaderMap) -> SourceError {
        let Self { endpoint, repo, revision, .. } = self;
        let message = shown(header(headers, "x-error-message"));
        let not_found = |what: String, help| SourceError::NotFound { what, help };
        match (header(headers, "x-error-code"), status) {
            ("GatedRepo", _) => SourceError::Gated {
                repo: repo.clone(),
                page: format!("{endpoint}/{repo}"),
                help: LOG_IN,
                message,
            },
            ("RevisionNotFound", _) => not_found(format!("revision {revision} of {repo}"), ""),
            ("EntryNotFound", _) => not_found(format!("the file in {repo}"), ""),
            (_, 401) if message.contains("Invalid") => SourceError::Denied {
                what: repo.clone(),
                help: format!("the token is not accepted: {LOG_IN}, or unset it"),
                message,
            },
            // The hub hides what one may not see.
            ("RepoNotFound", _) | (_, 401 | 404) => not_found(
                repo.clone(),
                "check its spelling; if it is private, set HF_TOKEN to an access token that may read it",
            ),
            (_, 403) => {
                SourceError::Denied { what: repo.clone(), help: LOG_IN.to_owned(), message }
            }
            (_, 429) => SourceError::Limited { help: "with HF_TOKEN set the limit is higher" },
            _ => SourceError::Status(status),
        }
    }

    fn get(&self, net: &Net, url: &str) -> Result<Answer, SourceError> {
        let credential = self.credential();
        let answer =
            ask(net, &Ask::get(url).credential(credential.as_ref())).map_err(unreachable)?;
        match answer.status() {
            200 => Ok(answer),
            status => Err(self.refusal(status, answer.headers())),
        }
    }

    /// The commit that the revision means now, and whether the repository is gated.
    fn resolve(&self, net: &Net) -> Result<(String, bool), SourceError> {
        let Self { endpoint, repo, revision, .. } = self;
        let url = format!("{endpoint}/api/models/{repo}/revision/{}", encoded(revision));
        let answer = self.get(net, &url)?;
        let named = answer.header("x-repo-commit").map(str::to_owned);
        let info: Info = answer.json(MAX_ANSWER)?;
        let commit = info.sha.or(named).filter(|c| is_commit(c));
        let commit = commit.ok_or_else(|| {
            SourceError::Refused(format!("it does not say which commit {revision} of {repo} is"))
        })?;
        Ok((commit, !matches!(info.gated, Value::Null | Value::Bool(false))))
    }

    fn tree(&self, net: &Net, commit: &str) -> Result<Vec<Entry>, SourceError> {
        let tree = format!("{}/api/models/{}/tree/{commit}", self.endpoint, self.repo);
        let mut query = "recursive=true".to_owned();
        let mut entries: Vec<Entry> = Vec::new();
        for _ in 0..MAX_PAGES {
            let answer = self.get(net, &format!("{tree}?{query}"))?;
            let next = answer.header(LINK).and_then(next_query).map(str::to_owned);
            entries.extend(answer.json::<Vec<Entry>>(MAX_ANSWER)?);
            if entries.len() > MAX_FILES {
                break;
            }
            match next {
                None => return Ok(entries),
                Some(next) if next == query => break,
                Some(next) => query = next,
            }
        }
        let reason = format!("its list of files goes beyond {MAX_FILES} or does not end");
        Err(SourceError::Refused(reason))
    }

    fn file(&self, entry: Entry, commit: &str) -> Result<RemoteFile, SourceError> {
        let Entry { path, size, lfs, .. } = entry;
        let digest = lfs.as_ref().map(|l| l.oid.parse()).transpose().map_err(|reason| {
            SourceError::Refused(format!(
                "it gives no digest of {path} but something else: {reason}"
            ))
        })?;
        let Self { endpoint, repo, .. } = self;
        let origin = Origin {
            words: self.words(),
            url: format!("{endpoint}/{repo}/resolve/{commit}/{}", encoded_path(&path)),
            credential: self.credential(),
        };
        let bytes = lfs.and_then(|l| l.size).or(size);
        Ok(RemoteFile { path, bytes, digest, origin })
    }

    /// A gated repository shows its list to everyone: whether its files are open to this user is asked before hours are planned on it.
    fn require_access(&self, net: &Net, origin: &Origin) -> Result<(), SourceError> {
        let request = Ask::new(Method::HEAD, &origin.url).credential(origin.credential.as_ref());
        let answer = ask(net, &request.without_redirects()).map_err(unreachable)?;
        match answer.status() {
            200..=399 => Ok(()),
            status => Err(self.refusal(status, answer.headers())),
        }
    }
}

/// Networks that cannot reach the hub are common enough to say what helps.
pub(super) fn unreachable(e: SourceError) -> SourceError {
    match e {
        SourceError::Unreachable(reason) => SourceError::Unreachable(format!(
            "{reason}; where Hugging Face is blocked, set HF_ENDPOINT to a mirror such as https://hf-mirror.com, \
            or take the model from modelscope.cn"
        )),
        e => e,
    }
}

/// Whether a text is a commit's number in Git.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The query of the next page in a `Link` header (RFC 8288). Only the query: mirrors pass on the hub's own host, and where to ask is
/// not for an answer to say.
fn next_query(link: &str) -> Option<&str> {
    let next = link.split(',').find(|l| l.contains("rel=\"next\"") || l.contains("rel=next"))?;
    let target = next.split_once('<')?.1.split_once('>')?.0;
    let query = target.split('#').next()?.split_once('?')?.1;
    (!query.is_empty()).then_some(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_read_from_its_link() {
        let link = r#"<https://huggingface.co/api/models/o/r/tree/main?recursive=true&cursor=Zm9v%3D>; rel="next""#;
        assert_eq!(next_query(link), Some("recursive=true&cursor=Zm9v%3D"));
        assert_eq!(next_query(&format!("<x?y=1>; rel=\"prev\", {link}")).map(str::len), Some(29));
        for none in
            ["", "<x?y>; rel=\"prev\"", "<x>; rel=\"next\"", "rel=\"next\"", "<x?>; rel=next"]
        {
            assert_eq!(next_query(none), None, "{none}");
        }
    }
}
