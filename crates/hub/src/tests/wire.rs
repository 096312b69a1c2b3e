//! A loopback HTTP server whose answers the test decides, request by request, and which remembers what it was asked: method, path,
//! query, headers, body. One request per connection. Beside it, a `Net` for which such servers are public hosts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::net::{Names, Net, Patience};

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: String,
    /// As sent, without the query.
    pub path: String,
    pub query: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// Earlier calls with the same method and path.
    pub earlier: usize,
}

impl Call {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The value of a parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.find(|(n, _)| *n == name)?.1.replace('+', " ");
        Some(percent_encoding::percent_decode_str(&value).decode_utf8().unwrap().into_owned())
    }

    /// `METHOD /path`, to be matched.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub struct Said {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Breaks off without any answer.
    dead: bool,
    /// Breaks off after this many bytes of the body.
    cut: Option<usize>,
    /// Keeps silent with the connection open after what there is of the body.
    stall: Duration,
}

impl Said {
    pub fn status(status: u16) -> Said {
        let (cut, stall) = (None, Duration::ZERO);
        Said { status, headers: Vec::new(), body: Vec::new(), dead: false, cut, stall }
    }

    pub fn dead() -> Said {
        Said { dead: true, ..Said::status(0) }
    }

    pub fn json(value: impl serde::Serialize) -> Said {
        Said::status(200)
            .body(serde_json::to_vec(&value).unwrap())
            .header("Content-Type", "application/json")
    }

    pub fn redirect(to: &str) -> Said {
        Said::status(302).header("Location", to)
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Said {
        self.body = body.into();
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Said {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn with_status(mut self, status: u16) -> Said {
        self.status = status;
        self
    }

    /// Breaks off after this many bytes of the body.
    pub fn cut(mut self, bytes: usize) -> Said {
        self.cut = Some(bytes);
        self
    }

    /// Keeps silent after what there is of the body.
    pub fn stall(mut self, time: Duration) -> Said {
        self.stall = time;
        self
    }

    /// The bytes, or those of the range asked for.
    pub fn bytes(call: &Call, data: &[u8]) -> Said {
        let range = call.header("range").strip_prefix("bytes=").and_then(|r| r.split_once('-'));
        let Some((from, to)) = range else { return Said::status(200).body(data) };
        let from: usize = from.parse().unwrap();
        let to = to.parse().map_or(data.len(), |to: usize| (to + 1).min(data.len()));
        let told = format!("bytes {from}-{}/{}", to - 1, data.len());
        Said::status(206).header("Content-Range", told).body(&data[from..to])
    }
}

pub struct Wire {
    pub address: SocketAddr,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    calls: Mutex<Vec<Call>>,
    sent: AtomicU64,
}

impl Wire {
    pub fn start(answer: impl Fn(&Call) -> Said + Send + Sync + 'static) -> Wire {
        Wire::start_on("127.0.0.1", answer)
    }

    /// On another loopback address than the others: another host, for whoever counts hosts.
    pub fn start_on(host: &str, answer: impl Fn(&Call) -> Said + Send + Sync + 'static) -> Wire {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (log, answer) = (Arc::new(Log::default()), Arc::new(answer));
        let shared = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (shared.clone(), answer.clone());
                std::thread::spawn(move || {
                    let _ = serve(stream, &log, &*answer);
                });
            }
        });
        Wire { address, url: format!("http://{address}"), log }
    }

    /// Everything asked so far.
    pub fn calls(&self) -> Vec<Call> {
        self.log.calls.lock().unwrap().clone()
    }

    /// Bytes of bodies handed to the network.
    pub fn sent(&self) -> u64 {
        self.log.sent.load(Ordering::SeqCst)
    }

    /// `METHOD /path` of everything asked so far.
    pub fn lines(&self) -> Vec<String> {
        self.calls().iter().map(Call::line).collect()
    }
}

fn serve(stream: TcpStream, log: &Log, answer: &dyn Fn(&Call) -> Said) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let own = |s: &str| s.to_owned();
    let mut call =
        Call { method: own(method), path: own(path), query: own(query), headers, body, earlier: 0 };
    {
        let mut calls = log.calls.lock().unwrap();
        call.earlier = calls.iter().filter(|c| c.line() == call.line()).count();
        calls.push(call.clone());
    }
    let said = answer(&call);
    if said.dead {
        return Ok(());
    }
    send(stream, &said, method == "HEAD", log)
}

fn send(mut stream: TcpStream, said: &Said, head: bool, log: &Log) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", said.status);
    if said.status != 204 && !said.headers.iter().any(|(n, _)| n == "Content-Length") {
        text += &format!("Content-Length: {}\r\n", said.body.len());
    }
    for (name, value) in &said.headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    if !head {
        let body = said.body.get(..said.cut.unwrap_or(said.body.len())).unwrap_or(&said.body);
        log.sent.fetch_add(body.len() as u64, Ordering::SeqCst);
        stream.write_all(body)?;
    }
    stream.flush()?;
    std::thread::sleep(said.stall);
    Ok(())
}

/// Not patient, for servers that answer at once.
pub fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(2),
        stall: Duration::from_secs(10),
        failures: 3,
        backoff: Duration::from_millis(2),
    }
}

/// A network on which these servers have public names; loopback addresses are private as ever.
pub fn net(hosts: &[(&str, &Wire)]) -> Net {
    let names = hosts.iter().map(|(name, wire)| ((*name).to_owned(), wire.address)).collect();
    Net::with_names(patience(), Names(names))
}
