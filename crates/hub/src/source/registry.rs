//! A registry of Ollama's kind: a subset of the OCI distribution protocol, in which a model is a manifest and blobs. When it asks who is
//! there, a token is got from the registry itself, signed for with a key if there is one. A registry that sends log-ins to another
//! host is refused: a signature for one server shall not be spent at another. Passwords (`Basic`) are not supported.

use std::cell::RefCell;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};

use super::{Key, Origin, RemoteFile, ask, encoded, is_safe_path, shown};
use crate::digest::Hasher;
use crate::error::SourceError;
use crate::manifest::{Layer, MANIFEST_TYPE, MAX_MANIFEST, Manifest};
use crate::name::ModelName;
use crate::net::{Answer, Ask, Credential, Net, Place};

/// The same manifest under the name that the OCI gave it.
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Longest answer that is not a manifest: tokens and errors.
const MAX_SMALL: u64 = 256 << 10;

/// A way to send a request, with retries or without.
type Send = fn(&Net, &Ask) -> Result<Answer, SourceError>;

/// One model's repository in a registry. Keeps the token it got.
pub(crate) struct Registry<'a> {
    pub(super) net: &'a Net,
    /// Scheme and host.
    base: String,
    /// `namespace/model`.
    repository: String,
    key: Option<&'a Key>,
    token: RefCell<Option<Credential>>,
}

/// A manifest as it came.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub manifest: Manifest,
    /// Byte for byte: what is stored and what the model's digest is of.
    pub bytes: Vec<u8>,
}

impl<'a> Registry<'a> {
    /// The repository of a name; over http only when the user wants that (`insecure`).
    pub fn new(
        net: &'a Net,
        name: &ModelName,
        insecure: bool,
        key: Option<&'a Key>,
    ) -> Registry<'a> {
        let scheme = if insecure { "http" } else { "https" };
        let base = format!("{scheme}://{}", name.host);
        Registry { net, base, repository: name.repository(), key, token: RefCell::new(None) }
    }

    /// The registry and model in words.
    pub fn words(&self) -> String {
        format!("{} {}", self.host(), self.repository)
    }

    fn host(&self) -> &str {
        self.base.split_once("://").map_or(self.base.as_str(), |(_, host)| host)
    }

    /// An address below the repository's.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base, self.repository)
    }

    pub(super) fn is_own(&self, url: &str) -> bool {
        Place::of(url).is_some_and(|place| Some(place) == Place::of(&self.base))
    }

    /// The manifest of a tag.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Content` when it is not what its digest says, `Refused` when it is malformed.
    pub fn manifest(&self, tag: &str) -> Result<Fetched, SourceError> {
        let url = self.url(&format!("manifests/{tag}"));
        let accept = format!("{MANIFEST_TYPE}, {OCI_MANIFEST}");
        let answer = self.ask(&Ask::get(&url).header(ACCEPT, accept))?;
        if answer.status() != 200 {
            return Err(self.refusal(answer, &format!("{}:{tag}", self.repository)));
        }
        let told = answer.header("docker-content-digest").map(str::to_owned);
        let bytes = answer.bytes(MAX_MANIFEST)?;
        let digest = Hasher::of(&bytes);
        if let Some(expected) = told.filter(|t| t.parse() != Ok(digest)) {
            let (expected, found) = (shown(&expected), digest.to_string());
            return Err(SourceError::Content { expected, found });
        }
        let manifest = Manifest::parse(&bytes).map_err(SourceError::Refused)?;
        Ok(Fetched { manifest, bytes })
    }

    /// Where a layer's bytes are. Asked anew when its credential has expired.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Length`.
    pub fn blob(&self, layer: &Layer) -> Result<RemoteFile, SourceError> {
        let url = self.url(&format!("blobs/sha256:{}", layer.digest));
        // Not followed: addresses of storage are often signed for GET alone.
        let answer = self.ask(&Ask::new(Method::HEAD, &url).without_redirects())?;
        match (answer.status(), answer.content_length()) {
            (200, Some(found)) if found != layer.size => {
                return Err(SourceError::Length { expected: layer.size, found });
            }
            (200 | 301..=303 | 307 | 308, _) => {}
            _ => return Err(self.refusal(answer, &format!("a layer of {}", self.repository))),
        }
        let path = layer.name.clone().filter(|name| is_safe_path(name));
        let credential = self.token.borrow().clone();
        Ok(RemoteFile {
            path: path.unwrap_or_else(|| format!("sha256-{}", layer.digest)),
            bytes: Some(layer.size),
            digest: Some(layer.digest),
            origin: Origin { words: self.words(), url, credential },
        })
    }

    /// Stores a manifest under a tag.
    pub(super) fn put_manifest(&self, tag: &str, bytes: &[u8]) -> Result<(), SourceError> {
        let url = self.url(&format!("manifests/{tag}"));
        let request = Ask::new(Method::PUT, &url).header(CONTENT_TYPE, MANIFEST_TYPE).body(bytes);
        // The same bytes under the same tag: sending them twice does no harm.
        let answer = self.ask(&request)?;
        match answer.status() {
            200..=204 => Ok(()),
            _ => Err(self.refusal(answer, &format!("{}:{tag}", self.repository))),
        }
    }

    /// Sends a request that may be repeated.
    pub(super) fn ask(&self, request: &Ask) -> Result<Answer, SourceError> {
        self.exchange(request, ask)
    }

    /// Sends a request once, but for the token it may turn out to need.
    pub(super) fn send(&self, request: &Ask) -> Result<Answer, SourceError> {
        self.exchange(request, |net, ask| Ok(net.send(ask)?))
    }

    fn exchange(&self, request: &Ask, send: Send) -> Result<Answer, SourceError> {
        let token = self.token.borrow().clone();
        let answer = send(self.net, &request.clone().credential(token.as_ref()))?;
        // Only the registry itself may ask who is there, not where it redirects to.
        if answer.status() != 401 || !self.is_own(&answer.url) {
            return Ok(answer);
        }
        let all = answer.headers().get_all(WWW_AUTHENTICATE);
        let challenge = all.iter().find_map(|v| Challenge::parse(v.to_str().ok()?));
        let Some(challenge) = challenge else { return Ok(answer) };
        let token = self.token_for(&challenge)?;
        let answer = send(self.net, &request.clone().credential(Some(&token)));
        *self.token.borrow_mut() = Some(token);
        answer
    }

    fn token_for(&self, challenge: &Challenge) -> Result<Credential, SourceError> {
        if !self.is_own(&challenge.realm) {
            let host = Place::of(&challenge.realm).map_or(String::new(), |p| p.host().to_owned());
            let (own, host) = (self.host(), shown(&host));
            let reason = format!(
                "{own} sends log-ins to another server ({host}), which hob does not follow"
            );
            return Err(SourceError::Refused(reason));
        }
        let url = challenge.url(self.key.is_some())?;
        let signed = self.key.map(|key| key.signed(&to_sign(&url)));
        let signed = signed.and_then(|value| Credential::raw(&url, value));
        let request = Ask::get(&url).credential(signed.as_ref()).without_redirects();
        let answer = ask(self.net, &request)?;
        if answer.status() != 200 {
            return Err(self.refusal(answer, &self.repository));
        }
        let Token { token, access_token } = answer.json(MAX_SMALL)?;
        let token = token.or(access_token).filter(|t| !t.is_empty());
        token.and_then(|t| Credential::bearer(&self.base, &t)).ok_or_else(|| {
            SourceError::Refused(format!("{} gives no token when asked for one", self.host()))
        })
    }

    /// What an answer that is no success means.
    pub(super) fn refusal(&self, answer: Answer, what: &str) -> SourceError {
        let status = answer.status();
        let body = answer.bytes(MAX_SMALL).unwrap_or_default();
        let (code, message) = told(&body);
        let unknown = matches!(code.as_str(), "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "BLOB_UNKNOWN");
        match status {
            _ if unknown => {
                SourceError::NotFound { what: what.to_owned(), help: "check its name and tag" }
            }
            404 => SourceError::NotFound { what: what.to_owned(), help: "check its name and tag" },
            401 | 403 => {
                let (what, help) = (what.to_owned(), self.who_one_is());
                SourceError::Denied { what, help, message }
            }
            429 => SourceError::Limited { help: "" },
            400..=499 if message.to_ascii_lowercase().contains("sharded") => SourceError::Refused(
                "this registry does not serve models in several files; pull it as hf.co/ORGANISATION/REPOSITORY:RECIPE"
                    .to_owned(),
            ),
            400..=499 if !message.is_empty() => {
                SourceError::Refused(format!("{message} (status {status})"))
            }
            _ => SourceError::Status(status),
        }
    }

    fn who_one_is(&self) -> String {
        let host = self.host();
        match self.key {
            Some(key) => format!("register this machine's key with {host}: {}", key.public()),
            None => format!("{host} wants to know who you are, and there is no key here"),
        }
    }
}

/// An answer to a request for a token; registries spell it in two ways.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// What a registry wants before it answers (`WWW-Authenticate: Bearer`, RFC 6750).
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: String,
    scope: String,
}

impl Challenge {
    fn parse(header: &str) -> Option<Challenge> {
        let (scheme, mut rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, String::new(), String::new());
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match name.trim_matches([' ', ',']).to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = value.to_owned(),
                "scope" => scope = value.to_owned(),
                _ => {}
            }
            rest = after;
        }
        Some(Challenge { realm: realm?, service, scope })
    }

    /// The address to get a token from; one to be signed can be used once.
    fn url(&self, signed: bool) -> Result<String, SourceError> {
        let mut query = Vec::new();
        if signed {
            let mut nonce = [0; 16];
            getrandom::fill(&mut nonce).map_err(|e| SourceError::Refused(e.to_string()))?;
            query.push(format!("nonce={}", URL_SAFE_NO_PAD.encode(nonce)));
        }
        let scopes = self.scope.split_whitespace();
        query.extend(scopes.map(|scope| format!("scope={}", encoded(scope))));
        if !self.service.is_empty() {
            query.push(format!("service={}", encoded(&self.service)));
        }
        if signed {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            query.push(format!("ts={}", now.map_or(0, |d| d.as_secs())));
        }
        let joint = if self.realm.contains('?') { '&' } else { '?' };
        Ok(format!("{}{joint}{}", self.realm, query.join("&")))
    }
}

/// What Ollama's registry wants signed: method, address, and the digest of the body, which is empty.
fn to_sign(url: &str) -> String {
    let empty = Hasher::of(b"").to_string();
    format!("GET,{url},{}", STANDARD.encode(empty))
}

/// Code and message of an error's body: `{"errors":[{"code","message"}]}` of the OCI, `{"error"}` of others.
fn told(body: &[u8]) -> (String, String) {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<One>,
        error: Option<String>,
    }
    #[derive(Default, Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Body { errors, error }) = serde_json::from_slice(body) else {
        return Default::default();
    };
    let One { code, message } = errors.into_iter().next().unwrap_or_default();
    (code, shown(&error.unwrap_or(message)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn challenges_are_read() {
        let header = r#"Bearer realm="https://r.example/token",service="r.example",scope="repository:a/b:pull,push repository:c/d:pull""#;
        let challenge = Challenge::parse(header).unwrap();
        assert_eq!(challenge.realm, "https://r.example/token");
        let url = challenge.url(false).unwrap();
        let scope = "scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%2Fd%3Apull";
        assert_eq!(url, format!("https://r.example/token?{scope}&service=r.example"));
        let signed = challenge.url(true).unwrap();
        assert!(signed.contains("?nonce=") && signed.contains("&ts="), "{signed}");
        assert_ne!(challenge.url(true).unwrap(), signed, "a signature is for one use");
        let plain = Challenge::parse("bearer realm=https://r.example/t, service=x").unwrap();
        assert_eq!((plain.realm.as_str(), plain.service.as_str()), ("https://r.example/t", "x"));
        for none in ["", "Basic realm=\"x\"", "Bearer", "Bearer scope=\"x\"", "Bearer realm=\"x"] {
            assert_eq!(Challenge::parse(none), None, "{none}");
        }
    }

    #[test]
    fn errors_are_read() {
        let oci = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such"}]}"#;
        assert_eq!(told(oci), ("MANIFEST_UNKNOWN".into(), "no such".into()));
        assert_eq!(told(br#"{"error":"sharded"}"#), (String::new(), "sharded".into()));
        assert_eq!(told(b"<html>"), Default::default());
    }

    proptest! {
        #[test]
        fn any_challenge_is_read(text in "(Bearer )?[a-z=\",: ]{0,40}|\\PC{0,20}") {
            let _ = Challenge::parse(&text);
        }
    }
}
