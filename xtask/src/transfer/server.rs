//! A loopback server that speaks as much of Hugging Face's protocol as its own client needs, for one file of one repository, which the
//! kernel sends from the page cache (`io::copy` from a file to a socket is sendfile on Linux). Deliberately absent: faults, which the
//! tests of `hob-hub` have, and encryption.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use anyhow::Result;

/// The file that is offered.
#[derive(Clone)]
pub struct Offered {
    pub path: PathBuf,
    pub bytes: u64,
    /// In hexadecimal digits; Hugging Face's entity tag of a large file.
    pub sha256: String,
    pub repo: &'static str,
    pub name: &'static str,
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Serves until the program ends; returns the address.
pub fn start(offered: Offered) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let offered = Arc::new(offered);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let offered = offered.clone();
            thread::spawn(move || serve(stream, &offered));
        }
    });
    Ok(url)
}

/// Answers requests on one connection until the client leaves.
fn serve(stream: TcpStream, offered: &Offered) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut file = File::open(&offered.path)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    while let Some(request) = read(&mut reader)? {
        answer(&request, offered, &mut file, &mut out)?;
    }
    Ok(())
}

struct Request {
    method: String,
    path: String,
    /// First byte and the byte behind the last one.
    range: Option<(u64, Option<u64>)>,
}

fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut range, mut body) = (None, 0);
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let header = header.trim().to_ascii_lowercase();
        if let Some((first, last)) =
            header.strip_prefix("range: bytes=").and_then(|r| r.split_once('-'))
        {
            range = first.parse().ok().map(|first| (first, last.parse().ok().map(|l: u64| l + 1)));
        }
        if let Some(length) = header.strip_prefix("content-length: ") {
            body = length.parse().unwrap_or(0);
        }
    }
    io::copy(&mut reader.take(body), &mut io::sink())?;
    Ok(Some(Request { method, path, range }))
}

fn answer(
    request: &Request,
    offered: &Offered,
    file: &mut File,
    out: &mut TcpStream,
) -> io::Result<()> {
    let path = request.path.split('?').next().unwrap_or_default();
    let api = format!("/api/models/{}", offered.repo);
    let file_path = format!("/{}/resolve/", offered.repo);
    if path.starts_with(&file_path) && path.ends_with(offered.name) {
        return send_file(request, offered, file, out);
    }
    let json = match path.strip_prefix(&api) {
        Some(rest) if rest.starts_with("/tree/") || rest.starts_with("/paths-info/") => {
            let (name, bytes, sha) = (offered.name, offered.bytes, &offered.sha256);
            format!(
                r#"[{{"type":"file","path":"{name}","size":{bytes},"oid":"{COMMIT}","lfs":{{"oid":"{sha}","size":{bytes},"pointerSize":135}}}}]"#
            )
        }
        Some(_) => format!(
            r#"{{"_id":"1","id":"{}","modelId":"{0}","sha":"{COMMIT}","private":false,"tags":[],"siblings":[{{"rfilename":"{}"}}]}}"#,
            offered.repo, offered.name
        ),
        None => {
            return out.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        json.len()
    );
    out.write_all((head + &json).as_bytes())
}

fn send_file(
    request: &Request,
    offered: &Offered,
    file: &mut File,
    out: &mut TcpStream,
) -> io::Result<()> {
    let total = offered.bytes;
    let (from, to) = match request.range {
        Some((from, to)) => (from.min(total), to.unwrap_or(total).min(total)),
        None => (0, total),
    };
    let status = if request.range.is_some() { "206 Partial Content" } else { "200 OK" };
    let mut head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\n\
         X-Repo-Commit: {COMMIT}\r\nETag: \"{sha}\"\r\nX-Linked-Etag: \"{sha}\"\r\n\
         X-Linked-Size: {total}\r\nContent-Length: {}\r\n",
        to.saturating_sub(from),
        sha = offered.sha256,
    );
    if request.range.is_some() {
        head += &format!("Content-Range: bytes {from}-{}/{total}\r\n", to.saturating_sub(1));
    }
    out.write_all((head + "\r\n").as_bytes())?;
    if request.method == "GET" {
        file.seek(SeekFrom::Start(from))?;
        io::copy(&mut file.take(to.saturating_sub(from)), out)?;
    }
    Ok(())
}
