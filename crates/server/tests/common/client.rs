//! A client for tests: one connection for each request, written by hand so that nothing is smoothed over. A body is read whole, or line by
//! line as it comes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::Server;

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A whole response.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// A response whose body is read as it comes. Dropping it closes the connection.
pub struct Stream {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    body: Box<dyn BufRead + Send>,
}

impl Server {
    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], None).whole()
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_text(path, &body.to_string())
    }

    /// A body that need not be JSON.
    pub fn post_text(&self, path: &str, body: &str) -> Reply {
        self.send("POST", path, &[], Some(body)).whole()
    }

    pub fn delete(&self, path: &str, body: Option<&Value>) -> Reply {
        self.send("DELETE", path, &[], body.map(Value::to_string).as_deref()).whole()
    }

    pub fn stream(&self, path: &str, body: &Value) -> Stream {
        self.send("POST", path, &[], Some(&body.to_string()))
    }

    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Reply {
        self.send(method, path, headers, body).whole()
    }

    /// Sends a request and reads the head of its response.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Stream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request += &format!("host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body {
            request +=
                &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        request = request + "\r\n" + body.unwrap_or_default();
        // A server that refuses a request need not have read it.
        let _ = stream.write_all(request.as_bytes());
        Stream::read(BufReader::new(stream), method == "HEAD")
    }
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The JSON of a response with this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.json()
    }

    /// The JSON of a response that is fine.
    #[track_caller]
    pub fn ok(&self) -> Value {
        self.expect(200)
    }
}

impl Stream {
    fn read(mut from: BufReader<TcpStream>, no_body: bool) -> Stream {
        let status = line(&mut from);
        let status = status.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.expect("a status line");
        let mut headers = Vec::new();
        loop {
            let line = line(&mut from);
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let length = header(&headers, "content-length").and_then(|n| n.parse().ok());
        let chunked = header(&headers, "transfer-encoding") == Some("chunked");
        let body: Box<dyn BufRead + Send> = match (length, chunked) {
            _ if no_body => Box::new(std::io::empty()),
            (Some(length), _) => Box::new(from.take(length)),
            (None, true) => Box::new(BufReader::new(Chunked { from, left: 0, over: false })),
            (None, false) => Box::new(from),
        };
        Stream { status, headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// All of the body.
    pub fn whole(mut self) -> Reply {
        let mut body = String::new();
        self.body.read_to_string(&mut body).unwrap();
        Reply { status: self.status, headers: self.headers, body }
    }

    /// The next line without its end; `None` at the end of the body.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let n = self.body.read_line(&mut line).unwrap();
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        (n > 0).then_some(line)
    }

    /// The next line of JSON.
    pub fn json_line(&mut self) -> Option<Value> {
        let line = self.line()?;
        Some(serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}")))
    }

    /// The next server-sent event: its name and data. Comments are passed over.
    pub fn event(&mut self) -> Option<(Option<String>, String)> {
        let (mut name, mut data) = (None, None);
        loop {
            let line = self.line()?;
            if let Some(value) = line.strip_prefix("event: ") {
                name = Some(value.to_owned());
            } else if let Some(value) = line.strip_prefix("data: ") {
                data = Some(value.to_owned());
            } else if line.is_empty() {
                if let Some(data) = data.take() {
                    return Some((name, data));
                }
            } else {
                assert!(line.starts_with(':'), "{line}");
            }
        }
    }

    /// The data of all events that come, as JSON, and whether `[DONE]` was the last.
    pub fn events(mut self) -> (Vec<Value>, bool) {
        let (mut all, mut done) = (Vec::new(), false);
        while let Some((_, data)) = self.event() {
            assert!(!done, "after [DONE]: {data}");
            match data.as_str() {
                "[DONE]" => done = true,
                _ => {
                    all.push(serde_json::from_str(&data).unwrap_or_else(|e| panic!("{e}: {data}")))
                }
            }
        }
        (all, done)
    }
}

fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// A line of a head.
fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    line
}

/// A body in chunks; one that breaks off is an error.
struct Chunked {
    from: BufReader<TcpStream>,
    left: usize,
    over: bool,
}

impl Read for Chunked {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.over {
            return Ok(0);
        }
        if self.left == 0 {
            let size = line(&mut self.from);
            self.left = usize::from_str_radix(&size, 16).map_err(std::io::Error::other)?;
            if self.left == 0 {
                self.over = true;
                return Ok(0);
            }
        }
        let most = into.len().min(self.left);
        let n = self.from.read(&mut into[..most])?;
        self.left -= n;
        if self.left == 0 {
            line(&mut self.from);
        }
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(n)
    }
}
