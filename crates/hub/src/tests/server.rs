//! A loopback HTTP server for one request per connection, whose answers the test decides.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a client asked.
pub struct Request {
    /// 0 for the first request the server got.
    pub number: usize,
    pub path: String,
    /// Start of the range asked for.
    pub from: Option<usize>,
    /// The byte behind the end of the range asked for, if it has one.
    pub to: Option<usize>,
    /// Connections at work, this one among them.
    pub busy: usize,
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
        Reply::part(data, from, data.len())
    }

    /// 206 from `from` to before `to`.
    pub fn part(data: &[u8], from: usize, to: usize) -> Reply {
        let body = data[from..to].to_vec();
        let reply = Reply { body, ..Reply::status("206 Partial Content") };
        let range = format!("Content-Range: bytes {from}-{}/{}", to - 1, data.len());
        reply.header(range).header(format!("Content-Length: {}", to - from))
    }

    /// What a decent server answers.
    pub fn proper(request: &Request, data: &[u8]) -> Reply {
        match request.from {
            Some(from) if from < data.len() => {
                Reply::part(data, from, request.to.unwrap_or(data.len()).min(data.len()))
            }
            Some(_) => Reply::status("416 Range Not Satisfiable")
                .header(format!("Content-Range: bytes */{}", data.len())),
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
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    asked: Mutex<Vec<(Option<usize>, Option<usize>)>>,
    sent: AtomicU64,
    busy: AtomicUsize,
    most: AtomicUsize,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (log, answer) = (Arc::new(Log::default()), Arc::new(answer));
        let shared = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (busy, answer) = (Busy::new(&shared), answer.clone());
                std::thread::spawn(move || serve(stream, busy, &*answer));
            }
        });
        Server { url, log }
    }

    /// Where the ranges asked for so far start; `None` for a request without one.
    pub fn asked(&self) -> Vec<Option<usize>> {
        self.log.asked.lock().unwrap().iter().map(|(from, _)| *from).collect()
    }

    /// The ranges asked for so far, with their ends.
    pub fn ranges(&self) -> Vec<(Option<usize>, Option<usize>)> {
        self.log.asked.lock().unwrap().clone()
    }

    /// Bytes of bodies handed to the network.
    pub fn sent(&self) -> u64 {
        self.log.sent.load(Ordering::SeqCst)
    }

    /// Waits until no connection is at work for a moment: those of a process that died are noticed late, and some are
    /// only then accepted.
    pub fn settle(&self) {
        let mut quiet = 0;
        while quiet < 20 {
            std::thread::sleep(Duration::from_millis(1));
            let busy = self.log.busy.load(Ordering::SeqCst) > 0;
            quiet = if busy { 0 } else { quiet + 1 };
        }
    }

    /// The most connections that were at work at a time.
    pub fn most(&self) -> usize {
        self.log.most.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, busy: Busy, answer: &dyn Fn(&Request) -> Reply) -> std::io::Result<()> {
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
    let (from, to) = match range.as_deref().and_then(|r| r.split_once('-')) {
        Some((first, last)) => (first.parse().ok(), last.parse::<usize>().ok().map(|n| n + 1)),
        None => (None, None),
    };
    let number = {
        let mut asked = busy.log.asked.lock().unwrap();
        asked.push((from, to));
        asked.len() - 1
    };
    let request = Request { number, path, from, to, busy: busy.at_start };
    let mut reply = answer(&request);
    if lines.first().is_some_and(|line| line.starts_with("HEAD ")) {
        reply.body.clear();
    }
    send(stream, reply, busy)
}

fn send(mut stream: TcpStream, reply: Reply, busy: Busy) -> std::io::Result<()> {
    let headers: String = reply.headers.iter().map(|h| format!("{h}\r\n")).collect();
    let (piece, pause) = reply.pace.unwrap_or((64 << 10, Duration::ZERO));
    let pieces: Vec<&[u8]> = reply.body.chunks(piece.max(1)).collect();
    let log = busy.log.clone();
    let mut busy = Some(busy).filter(|_| !pieces.is_empty());
    write!(stream, "HTTP/1.1 {}\r\nConnection: close\r\n{headers}\r\n", reply.status)?;
    for (i, bytes) in pieces.iter().enumerate() {
        if i + 1 == pieces.len() && reply.stall.is_zero() {
            busy.take();
        }
        // Before, so that whoever has the bytes finds them counted.
        log.sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        stream.write_all(bytes)?;
        std::thread::sleep(pause);
    }
    stream.flush()?;
    std::thread::sleep(reply.stall);
    Ok(())
}

/// Counts a connection as at work, until just before the client can know that it is not.
struct Busy {
    log: Arc<Log>,
    at_start: usize,
}

impl Busy {
    fn new(log: &Arc<Log>) -> Busy {
        let at_start = log.busy.fetch_add(1, Ordering::SeqCst) + 1;
        log.most.fetch_max(at_start, Ordering::SeqCst);
        Busy { log: log.clone(), at_start }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.log.busy.fetch_sub(1, Ordering::SeqCst);
    }
}
