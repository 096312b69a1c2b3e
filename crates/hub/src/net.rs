//! One HTTP exchange under hob's rules: redirects are followed here, step by step, so that a credential goes only to the server it
//! is for, nothing leads from https to http or to another scheme, and a public server cannot send us into a private network.
//! Retries, ranges and what a body means are the callers' business. Proxies come from the environment (`HTTPS_PROXY`, `NO_PROXY`).

use std::fmt;
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use ureq::config::Config;
use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, LOCATION, RETRY_AFTER};
use ureq::http::{HeaderMap, HeaderName, Method, Request, Uri};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, Proxy};

use crate::stop::Stop;

/// Most redirects of one request.
const MAX_HOPS: usize = 8;

/// When to give up.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// Time to find and reach the server.
    pub connect: Duration,
    /// Time without a single byte.
    pub stall: Duration,
    /// Failures in a row without progress.
    pub failures: u32,
    /// Pause after the first failure; doubles with each further one.
    pub backoff: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(8),
            stall: Duration::from_secs(30),
            failures: 5,
            backoff: Duration::from_millis(500),
        }
    }
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NetError {
    /// The server was not reached, or the connection broke; another try may do.
    #[error("{0}")]
    Broken(String),
    /// It will be the same next time: a rule of this module, or an address that means nothing.
    #[error("{0}")]
    Refused(String),
}

/// Scheme, host and port: what a credential is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    scheme: String,
    host: String,
    port: u16,
}

impl Place {
    /// The place that an address leads to; `None` for anything but http and https with a host.
    pub fn of(url: &str) -> Option<Place> {
        Place::of_uri(&url.parse().ok()?)
    }

    fn of_uri(uri: &Uri) -> Option<Place> {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let default = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let host = uri.host().filter(|h| !h.is_empty())?.to_ascii_lowercase();
        Some(Place { port: uri.port_u16().unwrap_or(default), scheme, host })
    }

    /// The host without its port.
    pub fn host(&self) -> &str {
        &self.host
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let found = (host, self.port).to_socket_addrs();
        found.map(|all| all.map(|a| a.ip()).collect()).unwrap_or_default()
    }
}

/// A value of the `Authorization` header and the only place that it is sent to.
#[derive(Clone)]
pub(crate) struct Credential {
    place: Place,
    value: String,
}

impl Credential {
    /// A bearer token for the server of `url`. `None` when the address or the token cannot be one.
    pub fn bearer(url: &str, token: &str) -> Option<Credential> {
        Credential::raw(url, format!("Bearer {token}"))
    }

    /// A whole header value for the server of `url`.
    pub fn raw(url: &str, value: String) -> Option<Credential> {
        let fits = value.bytes().all(|b| (0x20..0x7f).contains(&b));
        fits.then(|| Place::of(url)).flatten().map(|place| Credential { place, value })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential for {}", self.place.host)
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    method: Method,
    url: &'a str,
    headers: Vec<(HeaderName, String)>,
    credential: Option<&'a Credential>,
    body: &'a [u8],
    hops: usize,
    /// Where `url` is known to redirect to.
    known: Option<&'a str>,
}

impl<'a> Ask<'a> {
    /// A request without a body.
    pub fn new(method: Method, url: &'a str) -> Ask<'a> {
        Ask {
            method,
            url,
            headers: Vec::new(),
            credential: None,
            body: &[],
            hops: MAX_HOPS,
            known: None,
        }
    }

    pub fn get(url: &'a str) -> Ask<'a> {
        Ask::new(Method::GET, url)
    }

    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Ask<'a> {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends this wherever its own place is asked, and nowhere else.
    pub fn credential(mut self, credential: Option<&'a Credential>) -> Ask<'a> {
        self.credential = credential;
        self
    }

    pub fn body(mut self, body: &'a [u8]) -> Ask<'a> {
        self.body = body;
        self
    }

    /// Begins where an earlier answer came from, under the rules of a redirect from this request's own address.
    pub fn known_redirect(mut self, target: &'a str) -> Ask<'a> {
        self.known = Some(target);
        self
    }

    /// Hands redirects to the caller instead of following them.
    pub fn without_redirects(mut self) -> Ask<'a> {
        self.hops = 0;
        self
    }
}

/// What came back, its body not yet read.
pub(crate) struct Answer {
    /// The address that answered, after redirects.
    pub url: String,
    /// Whether that is another one than was asked.
    pub redirected: bool,
    status: u16,
    headers: HeaderMap,
    body: Body,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.status
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// A header's text; `None` when it is absent or no text.
    pub fn header(&self, name: impl ureq::http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// The server's wish for a pause, given as seconds or as a date (RFC 9110); a date that has passed is no pause.
    pub fn retry_after(&self) -> Option<Duration> {
        pause(self.header(RETRY_AFTER)?.trim(), SystemTime::now())
    }

    pub fn into_reader(self) -> impl Read + Send + 'static {
        self.body.into_reader()
    }

    /// The whole body.
    ///
    /// # Errors
    /// `Refused` when it is longer than `limit` bytes, `Broken` when it stops early.
    pub fn bytes(self, limit: u64) -> Result<Vec<u8>, NetError> {
        let mut bytes = Vec::new();
        let mut body = self.body.into_reader().take(limit + 1);
        body.read_to_end(&mut bytes).map_err(|e| NetError::Broken(e.to_string()))?;
        if bytes.len() as u64 > limit {
            return Err(NetError::Refused(format!("the answer is longer than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// The whole body as JSON.
    ///
    /// # Errors
    /// As `bytes`; `Refused` when it is something else.
    pub fn json<T: DeserializeOwned>(self, limit: u64) -> Result<T, NetError> {
        let malformed = |e| NetError::Refused(format!("the answer is not what was expected: {e}"));
        serde_json::from_slice(&self.bytes(limit)?).map_err(malformed)
    }
}

/// The way to all servers; connections are kept and shared.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    /// Reaches any address.
    open: Agent,
    /// Reaches public addresses only, unless a proxy does the looking up.
    guarded: Agent,
    pub patience: Patience,
    /// Whose work it is may want it to end.
    pub stop: Stop,
    names: Names,
}

impl Net {
    pub fn new(patience: Patience) -> Net {
        Net::with_names(patience, Names::default())
    }

    /// Some names lead where the caller says and count as public: for tests, which have no other public servers.
    pub fn with_names(patience: Patience, names: Names) -> Net {
        let agent = |guarded| {
            let resolver = Lookup { guarded, names: names.clone() };
            Agent::with_parts(config(&patience), DefaultConnector::new(), resolver)
        };
        let (open, guarded) = (agent(false), agent(true));
        Net { open, guarded, patience, stop: Stop::default(), names }
    }

    /// The same servers with little patience, for what is welcome and not needed.
    pub fn hasty(&self) -> Net {
        let patience = Patience {
            connect: self.patience.connect.min(Duration::from_secs(3)),
            stall: self.patience.stall.min(Duration::from_secs(5)),
            failures: 1,
            backoff: Duration::ZERO,
        };
        Net { stop: self.stop.clone(), ..Net::with_names(patience, self.names.clone()) }
    }

    /// Sends a request and follows redirects of GET and HEAD.
    pub fn send(&self, ask: &Ask) -> Result<Answer, NetError> {
        let first = parse(ask.url)?;
        let (mut uri, mut place) = first.clone();
        let mut guarded = false;
        if let Some(known) = ask.known {
            (uri, place, guarded) = self.redirected(&first.1, &uri, &place, known)?;
        }
        for hop in 0..=ask.hops {
            let mut answer = self.step(ask, &uri, &place, guarded)?;
            answer.redirected = hop > 0 || ask.known.is_some();
            let follow = matches!(ask.method, Method::GET | Method::HEAD) && ask.hops > 0;
            let target = answer.header(LOCATION).filter(|_| follow);
            let Some(target) = target.filter(|_| matches!(answer.status, 301..=303 | 307 | 308))
            else {
                return Ok(answer);
            };
            (uri, place, guarded) = self.redirected(&first.1, &uri, &place, target)?;
        }
        Err(NetError::Refused(format!("it redirects more than {} times", ask.hops)))
    }

    /// Where a redirect leads, and whether that has to be a public place.
    fn redirected(
        &self,
        first: &Place,
        uri: &Uri,
        place: &Place,
        target: &str,
    ) -> Result<(Uri, Place, bool), NetError> {
        let next = parse(&join(uri, target))?;
        if place.scheme == "https" && next.1.scheme != "https" {
            return Err(NetError::Refused(format!("it redirects from https to {target}")));
        }
        let guarded = next.1 != *first && !self.is_private(first);
        Ok((next.0, next.1, guarded))
    }

    fn step(&self, ask: &Ask, uri: &Uri, place: &Place, guarded: bool) -> Result<Answer, NetError> {
        let mut request = Request::builder().method(ask.method.clone()).uri(uri.clone());
        request = request.header(ACCEPT_ENCODING, "identity");
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if let Some(credential) = ask.credential.filter(|c| c.place == *place) {
            request = request.header(AUTHORIZATION, &credential.value);
        }
        let agent = if guarded { &self.guarded } else { &self.open };
        let bodiless = matches!(ask.method, Method::GET | Method::HEAD | Method::DELETE);
        let refused = |e: ureq::http::Error| NetError::Refused(e.to_string());
        let answer = match bodiless {
            true => agent.run(request.body(()).map_err(refused)?),
            false => agent.run(request.body(ask.body).map_err(refused)?),
        };
        let (parts, body) = answer.map_err(net_error)?.into_parts();
        let status = parts.status.as_u16();
        Ok(Answer { url: uri.to_string(), redirected: false, status, headers: parts.headers, body })
    }

    fn is_private(&self, place: &Place) -> bool {
        self.names.address(place.host()).is_none() && place.addresses().into_iter().any(is_private)
    }
}

fn config(patience: &Patience) -> Config {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_recv_response(Some(patience.stall))
        .timeout_per_read(Some(patience.stall))
        .timeout_per_write(Some(patience.stall))
        .input_buffer_size(256 << 10)
        .max_idle_connections_per_host(16)
        .user_agent(concat!("hob/", env!("CARGO_PKG_VERSION")))
        .build()
}

fn parse(url: &str) -> Result<(Uri, Place), NetError> {
    let uri: Uri =
        url.parse().map_err(|e| NetError::Refused(format!("'{url}' is no address: {e}")))?;
    match Place::of_uri(&uri) {
        Some(place) => Ok((uri, place)),
        None => Err(NetError::Refused(format!("'{url}' is neither http nor https"))),
    }
}

/// An address that an answer of `base` points to, absolute. `None` when `base` is no address itself.
pub(crate) fn absolute(base: &str, target: &str) -> Option<String> {
    Some(join(&base.parse().ok()?, target))
}

fn pause(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

/// A redirect's target, absolute. Relative ones are read as RFC 3986 says, but for `..`, which no server sends.
fn join(base: &Uri, target: &str) -> String {
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map_or("", |a| a.as_str());
    let path = base.path();
    let target = target.split('#').next().unwrap_or(target);
    match target {
        t if t.contains("://") => t.to_owned(),
        t if t.starts_with("//") => format!("{scheme}:{t}"),
        t if t.starts_with('/') => format!("{scheme}://{authority}{t}"),
        t if t.starts_with('?') => format!("{scheme}://{authority}{path}{t}"),
        // Another scheme without slashes (`file:`, `data:`), which `parse` then refuses.
        t if t.split(['/', '?']).next().is_some_and(|s| s.contains(':')) => t.to_owned(),
        t => {
            let folder = &path[..path.rfind('/').map_or(0, |at| at + 1)];
            format!("{scheme}://{authority}{folder}{t}")
        }
    }
}

fn net_error(e: ureq::Error) -> NetError {
    use ureq::Error as E;
    match e {
        E::BadUri(_)
        | E::Http(_)
        | E::Tls(_)
        | E::Rustls(_)
        | E::TlsRequired
        | E::InvalidProxyUrl => NetError::Refused(e.to_string()),
        E::Io(io) if io.kind() == std::io::ErrorKind::PermissionDenied => {
            NetError::Refused(io.to_string())
        }
        e => NetError::Broken(e.to_string()),
    }
}

/// Names with an address of the caller's choice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(pub Vec<(String, SocketAddr)>);

impl Names {
    fn address(&self, host: &str) -> Option<SocketAddr> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(host)).map(|(_, a)| *a)
    }
}

/// Looks names up and, guarded, refuses private addresses at the very look-up that the connection uses.
#[derive(Debug)]
struct Lookup {
    guarded: bool,
    names: Names,
}

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        if let Some(address) = uri.host().and_then(|host| self.names.address(host)) {
            let mut found = self.empty();
            found.push(address);
            return Ok(found);
        }
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        let proxied = config.proxy().is_some_and(|proxy: &Proxy| !proxy.is_no_proxy(uri));
        if self.guarded && !proxied && found.iter().any(|a| is_private(a.ip())) {
            let host = uri.host().unwrap_or_default();
            let reason = format!("it redirects into a private network ({host})");
            let kind = std::io::ErrorKind::PermissionDenied;
            return Err(ureq::Error::Io(std::io::Error::new(kind, reason)));
        }
        Ok(found)
    }
}

/// Loopback, link-local, private and other addresses that no public server has (RFC 6890).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || a == 0
                || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => is_private_v6(v6),
    }
}

fn is_private_v6(v6: Ipv6Addr) -> bool {
    let first = v6.segments()[0];
    v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_multicast()
        || first & 0xfe00 == 0xfc00
        || first & 0xffc0 == 0xfe80
        || v6.to_ipv4_mapped().is_some_and(|v4| is_private(IpAddr::V4(v4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_targets_become_absolute() {
        let base: Uri = "https://h.example:8/a/b?q=1".parse().unwrap();
        for (target, expected) in [
            ("https://x/y", "https://x/y"),
            ("//x/y", "https://x/y"),
            ("/y?z#f", "https://h.example:8/y?z"),
            ("c", "https://h.example:8/a/c"),
            ("?z", "https://h.example:8/a/b?z"),
            ("file:/etc/passwd", "file:/etc/passwd"),
        ] {
            assert_eq!(join(&base, target), expected);
        }
    }

    #[test]
    fn nothing_leads_from_https_to_http_or_another_scheme() {
        let net = Net::new(Patience::default());
        let at = |url: &str| parse(url).unwrap();
        let led = |from: &str, target: &str| {
            let (uri, place) = at(from);
            net.redirected(&place, &uri, &place, target).map(|(uri, _, _)| uri.to_string())
        };
        let own = "https://127.0.0.1/f";
        for target in ["http://127.0.0.1/f", "http://h.example/f", "ftp://h.example/f", "data:,x"] {
            assert!(matches!(led(own, target), Err(NetError::Refused(_))), "{target}");
            // Not even where an earlier answer is said to have led.
            let ask = Ask::get(own).known_redirect(target);
            assert!(matches!(net.send(&ask), Err(NetError::Refused(_))), "{target}");
        }
        assert_eq!(led(own, "https://h.example/f"), Ok("https://h.example/f".into()));
        assert_eq!(led(own, "//h.example/f"), Ok("https://h.example/f".into()));
        assert_eq!(led("http://127.0.0.1/f", own), Ok(own.into()));
    }

    #[test]
    fn pauses_are_seconds_or_dates() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let now = httpdate::parse_http_date(date).unwrap() - Duration::from_secs(30);
        assert_eq!(pause("7", now), Some(Duration::from_secs(7)));
        assert_eq!(pause(date, now), Some(Duration::from_secs(30)));
        assert_eq!(pause(date, now + Duration::from_secs(99)), Some(Duration::ZERO));
        assert_eq!(pause("soon", now), None);
    }

    #[test]
    fn private_addresses() {
        let private = "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 0.0.0.0 100.64.0.1 ::1 fe80::1 fd00::1 ::ffff:127.0.0.1";
        for ip in private.split(' ') {
            assert!(is_private(ip.parse().unwrap()), "{ip}");
        }
        for ip in "8.8.8.8 172.32.0.1 100.128.0.1 2001:4860:4860::8888".split(' ') {
            assert!(!is_private(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_credential_keeps_its_place_and_its_secret() {
        let c = Credential::bearer("https://hub.example/x", "hf_secret").unwrap();
        assert_eq!(c.place, Place::of("https://HUB.example:443").unwrap());
        assert_ne!(c.place, Place::of("http://hub.example").unwrap());
        assert_ne!(c.place, Place::of("https://hub.example:8443").unwrap());
        assert!(!format!("{c:?}").contains("secret"));
        assert!(Credential::bearer("https://hub.example", "a\r\nHost: b").is_none());
        assert!(Credential::bearer("ftp://hub.example", "a").is_none());
    }
}
