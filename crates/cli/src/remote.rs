//! A hob server that is running, asked over Ollama's API. It is hob only if it says so in the `server` header: a real Ollama on the port is
//! nobody to talk to. Where nothing listens, that is known at once.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use ureq::Agent;

/// Where a server listens and is looked for unless told otherwise: Ollama's port, since it takes Ollama's place.
pub const ADDRESS: &str = "127.0.0.1:11434";
/// How long a connection may take. On this machine it is made or refused at once.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a server may take to say who it is.
const HELLO: Duration = Duration::from_secs(3);
/// Longest line or answer that is read.
const MAX_BYTES: u64 = 256 << 20;

/// Which server is meant.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Host {
    /// Address of the hob server to ask [default: HOB_HOST, OLLAMA_HOST, else 127.0.0.1:11434]
    #[arg(long, value_name = "HOST:PORT")]
    host: Option<String>,
}

impl Host {
    /// The server, which has to be there.
    ///
    /// # Errors
    /// When nothing answers, or something else than hob.
    pub fn server(&self) -> Result<Server> {
        let address = self.address();
        match Server::at(&address) {
            Ok(server) => Ok(server),
            Err(Absent::Nobody(why)) => {
                bail!("no hob server at {address} ({why}); start one with `hob serve`")
            }
            Err(Absent::Other(what)) => bail!("{what} answers at {address}, and that is no hob"),
            Err(Absent::Refused(why)) => bail!("the hob server at {address} refuses: {why}"),
        }
    }

    /// The server if there is one. One that was named by `--host` has to be there.
    ///
    /// # Errors
    /// When a named one is not there, or one that is there refuses.
    pub fn server_if_any(&self) -> Result<Option<Server>> {
        if self.host.is_some() {
            return self.server().map(Some);
        }
        match Server::at(&self.address()) {
            Ok(server) => Ok(Some(server)),
            Err(Absent::Refused(_)) => self.server().map(Some),
            Err(Absent::Nobody(_) | Absent::Other(_)) => Ok(None),
        }
    }

    /// Whether one was named.
    pub fn is_named(&self) -> bool {
        self.host.is_some()
    }

    fn address(&self) -> String {
        let set = self.host.clone().or_else(|| variable("HOB_HOST"));
        let set = set.or_else(|| variable("OLLAMA_HOST"));
        base(set.as_deref().unwrap_or(ADDRESS))
    }
}

/// Where a verb works that can do without a server.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Place {
    #[command(flatten)]
    host: Host,
    /// Do it in this process, even if a hob server is running
    #[arg(long, conflicts_with = "host")]
    local: bool,
}

impl Place {
    /// The server to ask, if there is one and it shall be asked.
    ///
    /// # Errors
    /// As [`Host::server_if_any`].
    pub fn server_if_any(&self) -> Result<Option<Server>> {
        if self.local { Ok(None) } else { self.host.server_if_any() }
    }

    /// Whether a server was named.
    pub fn is_named(&self) -> bool {
        self.host.is_named()
    }
}

/// An environment variable as Ollama reads it.
pub fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    let value = value.trim().trim_matches(['"', '\'']).to_owned();
    (!value.is_empty()).then_some(value)
}

/// `HOST`, `HOST:PORT` or an address, as an address. Where a server listens on every interface, this machine is asked.
fn base(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && !host.ends_with(':') => (host, port),
        _ if text.contains("://") && scheme == "https" => (rest, "443"),
        _ => (rest, "11434"),
    };
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" | "::" => "[::1]",
        other => other,
    };
    format!("{scheme}://{host}:{port}")
}

/// Why there is no server to ask.
enum Absent {
    /// Nothing answers.
    Nobody(String),
    /// Something else than hob does.
    Other(String),
    /// hob does, and will not.
    Refused(String),
}

/// A hob server that is there.
#[derive(Clone, Debug)]
pub struct Server {
    base: String,
    key: Option<String>,
    agent: Agent,
}

impl Server {
    fn at(base: &str) -> Result<Server, Absent> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .max_redirects(0)
            // A server on this machine is not reached through a proxy.
            .proxy(None)
            .build();
        let agent = Agent::new_with_config(config);
        let key = variable("HOB_API_KEY");
        let server = Server { base: base.to_owned(), key, agent };
        let asked = server.agent.get(server.url("/api/version"));
        let asked = server.with_key(asked).config().timeout_global(Some(HELLO)).build();
        let reply = asked.call().map_err(|e| Absent::Nobody(e.to_string()))?;
        let name = reply.headers().get("server").and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !name.starts_with("hob/") {
            let name = if name.is_empty() { "something else" } else { name };
            return Err(Absent::Other(name.to_owned()));
        }
        match reply.status().as_u16() {
            401 | 403 => {
                Err(Absent::Refused("it wants another key; set it with HOB_API_KEY".to_owned()))
            }
            _ => Ok(server),
        }
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.base
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn with_key<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    /// Asks for one value.
    ///
    /// # Errors
    /// The server's own words, when it refuses.
    pub fn get(&self, path: &str) -> Result<Value> {
        let reply = self.with_key(self.agent.get(self.url(path))).call();
        whole(reply.with_context(|| format!("asking {}", self.base))?)
    }

    /// Sends a value and gets one.
    ///
    /// # Errors
    /// As `get`; `NotHere` where the model is not there.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        whole(self.send(path, body)?)
    }

    fn send(&self, path: &str, body: &Value) -> Result<ureq::http::Response<ureq::Body>> {
        let request = self.with_key(self.agent.post(self.url(path)));
        let request = request.header("content-type", "application/json");
        request.send(&body.to_string()).with_context(|| format!("asking {}", self.base))
    }

    /// Sends a value and gets lines. A thread reads them; dropping them ends the work there, once the next line comes.
    ///
    /// # Errors
    /// As `post`.
    pub fn lines(&self, path: &str, body: &Value) -> Result<Lines> {
        let (sender, received) = channel();
        let (server, path, body) = (self.clone(), path.to_owned(), body.clone());
        thread::spawn(move || {
            let reply = match server.send(&path, &body).and_then(accepted) {
                Ok(reply) => reply,
                Err(e) => return drop(sender.send(Err(e))),
            };
            let reader = reply.into_body().into_with_config().limit(u64::MAX).reader();
            for line in BufReader::new(reader).lines() {
                let value = line
                    .context("the server's answer breaks off")
                    .and_then(|line| Ok(serde_json::from_str::<Value>(&line)?))
                    .and_then(no_error);
                let failed = value.is_err();
                if sender.send(value).is_err() || failed {
                    return;
                }
            }
        });
        Ok(Lines(received))
    }

    /// Fetches a model on the server's side, telling each line.
    ///
    /// # Errors
    /// The server's own words.
    pub fn pull(&self, model: &str, mut tell: impl FnMut(&Value)) -> Result<()> {
        let lines = self.lines("/api/pull", &json!({"model": model}))?;
        while let Some(line) = lines.next()? {
            tell(&line);
        }
        Ok(())
    }
}

/// Lines that come.
pub struct Lines(Receiver<Result<Value>>);

impl Lines {
    /// The next; `None` at the end.
    ///
    /// # Errors
    /// The server's own words; a connection that breaks.
    pub fn next(&self) -> Result<Option<Value>> {
        self.0.recv().ok().transpose()
    }

    /// As `next`, but gives up waiting after a time, with `Ok(None)`; the end is `Err(None)`.
    ///
    /// # Errors
    /// See there.
    pub fn next_timeout(&self, time: Duration) -> Result<Option<Value>, Option<anyhow::Error>> {
        match self.0.recv_timeout(time) {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(e)) => Err(Some(e)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(None),
        }
    }
}

/// The server does not have it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotHere(String);

fn whole(reply: ureq::http::Response<ureq::Body>) -> Result<Value> {
    let mut reply = accepted(reply)?;
    let bytes = reply.body_mut().with_config().limit(MAX_BYTES).read_to_vec()?;
    match bytes.is_empty() {
        true => Ok(Value::Null),
        false => serde_json::from_slice(&bytes).context("the server's answer is not JSON"),
    }
}

/// An answer that is none becomes an error in the server's words.
fn accepted(
    mut reply: ureq::http::Response<ureq::Body>,
) -> Result<ureq::http::Response<ureq::Body>> {
    let status = reply.status().as_u16();
    if (200..300).contains(&status) {
        return Ok(reply);
    }
    let text = reply.body_mut().with_config().limit(1 << 20).read_to_string().unwrap_or_default();
    let said = serde_json::from_str::<Value>(&text).ok();
    let said = said.as_ref().and_then(|v| v["error"].as_str()).unwrap_or(text.trim());
    match status {
        404 => Err(NotHere(said.to_owned()).into()),
        _ if said.is_empty() => Err(anyhow!("the server answers {status}")),
        _ => Err(anyhow!("{said}")),
    }
}

/// A line with an error ends the stream.
fn no_error(line: Value) -> Result<Value> {
    match line["error"].as_str() {
        Some(error) => Err(anyhow!("{error}")),
        None => Ok(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_ask() {
        for (text, expected) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("box", "http://box:11434"),
            ("http://box/", "http://box:11434"),
            ("https://box", "https://box:443"),
            (":9000", "http://127.0.0.1:9000"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("0.0.0.0:1", "http://127.0.0.1:1"),
            ("[::]:1", "http://[::1]:1"),
        ] {
            assert_eq!(base(text), expected, "{text}");
        }
    }
}
