//! A loopback HTTP server for one request per connection, whose answers the test decides.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a client asked.
pub struct Request {
    /// 0 for the first request the server got.
    pub number: usize,
    pub path: String,
    /// Start of the range asked for.
    pub from: Option<usize>,
}

/// What to answer.
pub struct Reply {
    status: &'static str,
    headers: Vec<String>,
    body: Vec<u8>,
    pace: Option<(usize, Duration)>,
    stall: Duration,
}

impl Reply {
    pub fn status(status: &'static str) -> Reply {
        Reply { status, headers: vec![], body: vec![], pace: None, stall: Duration::ZERO }
    }

    /// 200 with everything.
    pub fn whole(data: &[u8]) -> Reply {
        let reply = Reply { body: data.to_vec(), ..Reply::status("200 OK") };
        reply.header(format!("Content-Length: {}", data.len()))
    }

    /// 206 from `from` on.
    pub fn rest(data: &[u8], from: usize) -> Reply {
        let reply = Reply { body: data[from..].to_vec(), ..Reply::status("206 Partial Content") };
        let range = format!("Content-Range: bytes {from}-{}/{}", data.len() - 1, data.len());
        reply.header(range).header(format!("Content-Length: {}", data.len() - from))
    }

    /// What a decent server answers.
    pub fn proper(request: &Request, data: &[u8]) -> Reply {
        match request.from {
            Some(from) if from < data.len() => Reply::rest(data, from),
            Some(_) => Reply::status("416 Range Not Satisfiable"),
            None => Reply::whole(data),
        }
    }

    pub fn header(mut self, line: String) -> Reply {
        self.headers.push(line);
        self
    }

    pub fn without_headers(mut self) -> Reply {
        self.headers.clear();
        self
    }

    /// Breaks off after this many bytes of the body.
    pub fn cut(mut self, bytes: usize) -> Reply {
        self.body.truncate(bytes);
        self
    }

    /// Keeps silent with the connection open after what there is of the body.
    pub fn stall(mut self, time: Duration) -> Reply {
        self.stall = time;
        self
    }

    /// Sends pieces of this size with pauses between them.
    pub fn paced(mut self, piece: usize, pause: Duration) -> Reply {
        self.pace = Some((piece, pause));
        self
    }
}

pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Option<usize>>>>,
    sent: Arc<AtomicU64>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, sent) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let (log, count, answer) = (asked.clone(), sent.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, count, answer) = (log.clone(), count.clone(), answer.clone());
                std::thread::spawn(move || {
                    let _ = serve(stream, &log, &count, &*answer);
                });
            }
        });
        Server { url, asked, sent }
    }

    /// The ranges asked for so far; `None` for a request without one.
    pub fn asked(&self) -> Vec<Option<usize>> {
        self.asked.lock().unwrap().clone()
    }

    /// Bytes of bodies handed to the network.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Option<usize>>>,
    count: &AtomicU64,
    answer: &dyn Fn(&Request) -> Reply,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let path = lines.first().and_then(|l| l.split(' ').nth(1)).unwrap_or("").to_owned();
    let range = lines
        .iter()
        .find_map(|l| l.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let from = range.and_then(|r| r.trim_end_matches('-').parse().ok());
    let number = {
        let mut log = log.lock().unwrap();
        log.push(from);
        log.len() - 1
    };
    send(stream, answer(&Request { number, path, from }), count)
}

fn send(mut stream: TcpStream, reply: Reply, count: &AtomicU64) -> std::io::Result<()> {
    let headers: String = reply.headers.iter().map(|h| format!("{h}\r\n")).collect();
    write!(stream, "HTTP/1.1 {}\r\nConnection: close\r\n{headers}\r\n", reply.status)?;
    let (piece, pause) = reply.pace.unwrap_or((64 << 10, Duration::ZERO));
    for bytes in reply.body.chunks(piece.max(1)) {
        stream.write_all(bytes)?;
        count.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        std::thread::sleep(pause);
    }
    stream.flush()?;
    std::thread::sleep(reply.stall);
    Ok(())
}
