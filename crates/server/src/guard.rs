//! Who may speak to the server: the names under which it is reached, the pages that call it, the keys that callers show. Checked in front of
//! every route. A page in a browser that has rebound its name to this machine shows that name as Host, so names are what is checked, on
//! every bind; addresses that are this machine's own are safe.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::access::Record;
use crate::answer::Caller;
use crate::app::State;
use crate::error::{ApiError, Kind};

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client.
    pub peer: SocketAddr,
    /// This machine.
    pub own: SocketAddr,
}

/// Who is let in.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Further names of this server; `*.example.com` stands for all below.
    pub hosts: Vec<String>,
    /// Further origins of pages, as `https://example.com`, or `*`.
    pub origins: Vec<String>,
    /// Name of this machine.
    pub machine: Option<String>,
    /// Keys; none for everybody.
    pub keys: Keys,
}

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes {
    /// Answers, vectors, lists.
    pub infer: bool,
    /// Changing what is stored or loaded; priorities above the usual.
    pub manage: bool,
}

/// The keys, as digests.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<([u8; 32], Scopes)>);

/// What is wrong with a list of keys.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A word that is no scope.
    #[error(
        "line {line}: '{word}' is no scope; a line is KEY, then infer, manage, or nothing for both, then perhaps # and a name"
    )]
    Scope {
        /// The line, from 1.
        line: usize,
        /// The word.
        word: String,
    },
    /// A key that can be guessed.
    #[error("line {line}: a key of {length} characters can be guessed; take at least 16")]
    Short {
        /// The line, from 1.
        line: usize,
        /// Its length.
        length: usize,
    },
}

/// Shortest key of a file.
const MIN_KEY: usize = 16;

impl Keys {
    /// One key for everything.
    pub fn one(key: &str) -> Self {
        Keys(vec![(digest(key), Scopes { infer: true, manage: true })])
    }

    /// Keys of a text: a line each, `KEY [infer] [manage] [# name]`; a key without scopes has both.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            let Some(key) = words.next() else { continue };
            let line = number + 1;
            if key.len() < MIN_KEY {
                return Err(KeyError::Short { line, length: key.len() });
            }
            let mut scopes = Scopes { infer: false, manage: false };
            for word in words {
                match word {
                    "infer" => scopes.infer = true,
                    "manage" => scopes.manage = true,
                    _ => return Err(KeyError::Scope { line, word: word.to_owned() }),
                }
            }
            if !scopes.infer && !scopes.manage {
                scopes = Scopes { infer: true, manage: true };
            }
            keys.push((digest(key), scopes));
        }
        Ok(Keys(keys))
    }

    /// Both lists.
    #[must_use]
    pub fn and(mut self, other: Keys) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether everybody may come in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which key this is and what it allows. Takes as long for every text: digests are compared whole.
    fn find(&self, key: &str) -> Option<(usize, Scopes)> {
        let given = digest(key);
        let differs = |own: &[u8; 32]| own.iter().zip(given).fold(0, |d, (a, b)| d | (a ^ b));
        let mut found = None;
        for (i, (own, scopes)) in self.0.iter().enumerate() {
            if differs(own) == 0 {
                found = Some((i, *scopes));
            }
        }
        found
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The layer.
pub async fn guard(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let guard = &state.config.guard;
    let ends = request.extensions().get::<Ends>().copied();
    let origin = match guard.admits(&request, ends) {
        Ok(origin) => origin,
        Err(error) => return error.into_response(),
    };
    if request.method() == Method::OPTIONS {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return with_origin(response, origin, request.headers());
    }
    let identity = match guard.identify(&request, ends) {
        Ok(identity) => identity,
        Err(error) => return with_origin(error.into_response(), origin, request.headers()),
    };
    if let Some(record) = Record::current() {
        record.asked_by(identity.caller(request.headers()));
    }
    let response = next.run(request).await;
    with_origin(response, origin, &HeaderMap::new())
}

/// Who asks, as far as fairness is concerned.
struct Identity {
    client: String,
    /// Priorities above the usual are allowed.
    urgent: bool,
}

impl Identity {
    /// The same with the priority that the head asks for, as far as it may have it.
    fn caller(&self, headers: &HeaderMap) -> Caller {
        let mut hasher = DefaultHasher::new();
        self.client.hash(&mut hasher);
        let most = if self.urgent { MOST_PRIORITY } else { 0 };
        let caller = Caller { client: hasher.finish().max(1), priority: 0, most };
        let priority = headers.get("x-hob-priority").and_then(|v| v.to_str().ok());
        caller.asking(priority.and_then(|text| text.trim().parse().ok()))
    }
}

/// Headers in which clients, and users of one client, say who they are.
const NAMES: [&str; 5] =
    ["user-agent", "authorization", "x-api-key", "x-session-id", "x-openwebui-user-id"];

/// Highest priority that a request may have, and the lowest, negative.
pub const MOST_PRIORITY: i8 = 10;

impl Guard {
    /// Whether a request comes by a name and from a page that are let in; the page's origin, for the response.
    fn admits(
        &self,
        request: &Request,
        ends: Option<Ends>,
    ) -> Result<Option<HeaderValue>, ApiError> {
        let headers = request.headers();
        let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
        let host = host.or(request.uri().authority().map(|a| a.as_str())).unwrap_or("");
        if !self.host(host, ends) {
            return Err(ApiError::new(
                Kind::Forbidden,
                format!(
                    "the name '{}' is not one of this server; it is added with --allow-host",
                    short(host)
                ),
            ));
        }
        let origin = headers.get(header::ORIGIN);
        let cross = headers.get("sec-fetch-site").is_some_and(|v| v == "cross-site");
        let visit = request.method() == Method::GET
            && headers.get("sec-fetch-mode").is_some_and(|v| v == "navigate");
        match origin {
            Some(value) => match value.to_str().is_ok_and(|origin| self.origin(origin, host)) {
                true => Ok(Some(value.clone())),
                false => Err(ApiError::new(
                    Kind::Forbidden,
                    "pages of this origin may not use this server; they may with --allow-origin",
                )),
            },
            None if cross && !visit => {
                Err(ApiError::new(Kind::Forbidden, "pages of other sites may not use this server"))
            }
            None => Ok(None),
        }
    }

    fn host(&self, host: &str, ends: Option<Ends>) -> bool {
        let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
        if name.is_empty() {
            // HTTP/1.0 from this machine.
            return ends.is_none_or(|ends| ends.peer.ip().is_loopback());
        }
        if let Ok(ip) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
            return ends.is_some_and(|ends| ends.own.ip() == ip) || is_near(ip);
        }
        let own = self.machine.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(&name));
        own || name == "localhost"
            || name.ends_with(".localhost")
            || self.hosts.iter().any(|pattern| fits(pattern, &name))
    }

    fn origin(&self, origin: &str, host: &str) -> bool {
        let listed = |pattern: &String| pattern == "*" || pattern.eq_ignore_ascii_case(origin);
        if self.origins.iter().any(listed) {
            return true;
        }
        let Some((scheme, rest)) = origin.split_once("://") else { return false };
        match scheme {
            "http" | "https" => {
                let name = without_port(rest).to_ascii_lowercase();
                let ip = name.trim_matches(['[', ']']).parse::<IpAddr>();
                let near = ip.is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified());
                near || name == "localhost"
                    || name.ends_with(".localhost")
                    || rest.eq_ignore_ascii_case(host)
            }
            "app" | "file" | "tauri" | "vscode-webview" | "vscode-file" => true,
            "chrome-extension" | "moz-extension" | "safari-web-extension" => true,
            _ => false,
        }
    }

    /// Who asks, by key or address, if the route is open to them.
    fn identify(&self, request: &Request, ends: Option<Ends>) -> Result<Identity, ApiError> {
        let headers = request.headers();
        let said = headers.get("x-hob-client").and_then(|v| v.to_str().ok()).unwrap_or("");
        let peer = ends.map_or(String::new(), |ends| ends.peer.ip().to_string());
        let path = request.uri().path();
        if self.keys.is_empty() {
            // Programs of one machine are told apart by what they say of themselves; nobody has a reason to lie.
            let named = NAMES.iter().filter_map(|name| headers.get(*name)?.to_str().ok());
            let client = named.fold(format!("{peer} {said}"), |all, name| all + " " + name);
            return Ok(Identity { client, urgent: true });
        }
        let key = key(headers);
        match key.and_then(|key| self.keys.find(key)) {
            None if is_open(path) => Ok(Identity { client: peer, urgent: false }),
            None => {
                let message = match key {
                    Some(_) => "the key is not known",
                    None => "a key is needed: Authorization: Bearer KEY",
                };
                Err(ApiError::new(Kind::Unauthorized, message))
            }
            Some((number, scopes)) => {
                let needs = if manages(path) { scopes.manage } else { scopes.infer };
                if !needs && !is_open(path) {
                    let scope = if manages(path) { "manage" } else { "infer" };
                    let message = format!("this key lacks the scope {scope}");
                    return Err(ApiError::new(Kind::Forbidden, message));
                }
                Ok(Identity { client: format!("key {number}"), urgent: scopes.manage })
            }
        }
    }
}

/// The key that a request shows.
fn key(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let bearer = text("authorization").and_then(|v| {
        let (scheme, key) = v.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| text("x-api-key")).or_else(|| text("api-key"))
}

/// Routes that need no key: they tell nothing but that a server is there.
fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/health" | "/ready" | "/api/version")
}

/// Routes that change what is stored.
fn manages(path: &str) -> bool {
    const ROUTES: [&str; 6] =
        ["/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/"];
    ROUTES.iter().any(|route| path == *route || route.ends_with('/') && path.starts_with(route))
}

/// Whether an address can only be one of a network that this machine is in.
fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_private() || v4.is_unspecified() || v4.is_link_local()
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => {
            // An address of version 6 has colons of its own, and brackets when a port follows.
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    }
}

/// Whether a name fits a pattern: itself, or `*.example.com` for all below.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => {
            let domain = domain.to_ascii_lowercase();
            name.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
        }
        None => pattern.eq_ignore_ascii_case(name),
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// What a browser needs to hear so that an allowed page may read the response.
fn with_origin(mut response: Response, origin: Option<HeaderValue>, asked: &HeaderMap) -> Response {
    let Some(origin) = origin else { return response };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("x-request-id, x-hob-dropped-tokens, retry-after"),
    );
    if asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        let methods = HeaderValue::from_static("GET, POST, HEAD, DELETE, OPTIONS");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
        if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard {
            hosts: vec!["box.example".into(), "*.lan.example".into()],
            machine: Some("Tower".into()),
            ..Guard::default()
        }
    }

    #[test]
    fn names_that_are_not_ours_are_refused() {
        let ends = |own: &str| {
            Some(Ends { peer: "10.0.0.9:5".parse().unwrap(), own: own.parse().unwrap() })
        };
        let guard = guard();
        for host in [
            "localhost",
            "localhost:11434",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1:80",
            "[::1]:80",
            "::1",
            "192.168.3.4:11434",
            "tower:11434",
            "box.example",
            "a.b.lan.example:1",
            "8.8.4.4",
        ] {
            assert!(guard.host(host, ends("8.8.4.4:11434")), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "8.8.8.8",
            "lan.example",
            "xlan.example",
            "box.example.evil",
            "",
            "127.0.0.1.evil.example",
            "[2001:db8::1]",
        ] {
            assert!(!guard.host(host, ends("8.8.4.4:11434")), "{host}");
        }
        assert!(guard.host("", None));
    }

    #[test]
    fn pages_of_others_are_refused() {
        let guard = Guard { origins: vec!["https://chat.example".into()], ..guard() };
        for origin in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "tauri://localhost",
            "app://x",
            "vscode-webview://abc",
            "chrome-extension://abc",
            "https://chat.example",
            "http://box.example:11434",
            "http://[::1]:3000",
        ] {
            assert!(guard.origin(origin, "box.example:11434"), "{origin}");
        }
        for origin in [
            "null",
            "https://evil.example",
            "http://localhost.evil.example",
            "https://chat.example:444",
            "ftp://localhost",
            "http://192.168.3.4",
            "http://box.example:1",
        ] {
            assert!(!guard.origin(origin, "box.example:11434"), "{origin}");
        }
    }

    #[test]
    fn keys_have_scopes() {
        let text = "# ours\nabcdefghijklmnop infer # the editor\nqrstuvwxyzabcdefgh manage\n\n0123456789abcdef\n";
        let keys = Keys::parse(text).unwrap();
        let scopes = |key: &str| keys.find(key).map(|(_, s)| (s.infer, s.manage));
        assert_eq!(scopes("abcdefghijklmnop"), Some((true, false)));
        assert_eq!(scopes("qrstuvwxyzabcdefgh"), Some((false, true)));
        assert_eq!(scopes("0123456789abcdef"), Some((true, true)));
        assert_eq!((scopes("abcdefghijklmno"), scopes("")), (None, None));
        assert_eq!(Keys::parse("short").unwrap_err(), KeyError::Short { line: 1, length: 5 });
        assert!(matches!(
            Keys::parse("0123456789abcdef all"),
            Err(KeyError::Scope { line: 1, .. })
        ));
    }

    #[test]
    fn routes_need_their_scope() {
        let guard = Guard {
            keys: Keys::parse("infer-infer-infer infer\nmanage-manage-manage manage\n").unwrap(),
            ..guard()
        };
        let asked = |path: &str, name: &str, value: &str| {
            let request = Request::builder().uri(path).header(name, value).body(Body::empty());
            let identity = guard.identify(&request.unwrap(), None);
            identity.map(|i| i.urgent).map_err(|e| e.kind)
        };
        let (infer, manage) = ("Bearer infer-infer-infer", "bearer manage-manage-manage");
        assert_eq!(asked("/api/chat", "authorization", infer), Ok(false));
        assert_eq!(asked("/v1/messages", "x-api-key", "infer-infer-infer"), Ok(false));
        assert_eq!(asked("/api/pull", "authorization", infer), Err(Kind::Forbidden));
        assert_eq!(asked("/api/blobs/sha256:1", "authorization", manage), Ok(true));
        assert_eq!(asked("/api/chat", "authorization", manage), Err(Kind::Forbidden));
        assert_eq!(asked("/metrics", "x", "y"), Err(Kind::Unauthorized));
        assert_eq!(asked("/api/chat", "authorization", "Bearer wrong"), Err(Kind::Unauthorized));
        assert_eq!(asked("/health", "x", "y"), Ok(false));
    }
}
