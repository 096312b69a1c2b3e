//! The engine against loopback servers. Parts are small here, so that a small file has many; counters on the server prove what was
//! asked and sent. Nothing here depends on how fast the machine is.

mod faults;
mod origins;
mod resume;
mod unknown;

use std::io::{Read, Write};

use tempfile::TempDir;

use super::*;
use crate::error::SourceError;
use crate::net::Patience;
use crate::tests::content;
use crate::tests::server::{Reply, Request, Server};

pub const PART: u64 = 64 << 10;
/// 16 parts, the last one not full.
pub const LEN: usize = 1_000_003;

/// A folder for partial file and map, and a job that can be run again and again.
struct Scene {
    folder: TempDir,
    bytes: Option<u64>,
    digest: Option<Digest>,
    options: Options,
    patience: Patience,
    events: Vec<Progress>,
}

impl Scene {
    /// Wants these bytes.
    fn new(data: &[u8]) -> Scene {
        Scene {
            folder: TempDir::new().unwrap(),
            bytes: Some(data.len() as u64),
            digest: Some(digest(data)),
            options: Options { connections: 4, rate: None, part: PART },
            patience: Patience {
                connect: Duration::from_secs(2),
                stall: Duration::from_secs(30),
                failures: 3,
                backoff: Duration::from_millis(5),
            },
            events: Vec::new(),
        }
    }

    fn partial(&self) -> PathBuf {
        self.folder.path().join("partial")
    }

    fn map(&self) -> PathBuf {
        self.folder.path().join("map")
    }

    /// Fetches from all of these addresses, which are called 0, 1, ...
    fn fetch(&mut self, urls: &[&str]) -> Result<Fetched, FetchError> {
        let origin = |(i, url): (usize, &&str)| Origin {
            words: i.to_string(),
            url: (*url).to_owned(),
            credential: None,
        };
        let origins: Vec<Origin> = urls.iter().enumerate().map(origin).collect();
        let job = Job {
            partial: self.partial(),
            map: self.map(),
            bytes: self.bytes,
            digest: self.digest,
            origins: &origins,
        };
        let net = Net::new(self.patience.clone());
        self.events.clear();
        fetch(&net, &job, &self.options, &mut |event| self.events.push(event))
    }

    /// What it comes to when everything goes well.
    fn right(&mut self, urls: &[&str], data: &[u8]) -> Fetched {
        let fetched = self.fetch(urls).unwrap();
        assert!(std::fs::read(self.partial()).unwrap() == data, "the bytes are wrong");
        assert_eq!((fetched.digest, fetched.bytes), (digest(data), data.len() as u64));
        fetched
    }

    /// Why the only origin was given up.
    fn reason(&mut self, url: &str) -> SourceError {
        let mut tried = self.reasons(&[url]);
        assert_eq!(tried.len(), 1);
        tried.remove(0)
    }

    /// Why each origin was given up, in their order; that was told too.
    fn reasons(&mut self, urls: &[&str]) -> Vec<SourceError> {
        match self.fetch(urls) {
            Err(FetchError::Origins(mut tried)) => {
                assert_eq!(self.failed().len(), tried.len());
                tried.sort_by(|a, b| a.source.cmp(&b.source));
                tried.into_iter().map(|t| t.error).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// The origins that were said to have failed.
    fn failed(&self) -> Vec<&str> {
        let failed = self.events.iter().filter_map(|e| match e {
            Progress::Failed { source, .. } => Some(source.as_str()),
            _ => None,
        });
        failed.collect()
    }
}

fn digest(data: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(data);
    hasher.finish()
}

/// A server with this behaviour towards a request and the right bytes.
fn server(answer: impl Fn(&Request, &[u8]) -> Reply + Send + Sync + 'static) -> Server {
    let data = content(LEN);
    Server::start(move |request| answer(request, &data))
}

fn decent() -> Server {
    server(Reply::proper)
}

#[test]
fn a_file_comes_in_parts_over_several_connections() {
    let server = server(|r, data| Reply::proper(r, data).paced(16 << 10, Duration::from_millis(2)));
    let mut scene = Scene::new(&content(LEN));
    let fetched = scene.right(&[&server.url], &content(LEN));
    assert_eq!((fetched.origin.as_str(), server.sent()), ("0", LEN as u64));
    assert!((2..=4).contains(&server.most()), "{} connections", server.most());
    // Every byte was asked for once.
    let mut ranges = server.ranges();
    ranges.sort_unstable();
    let mut at = 0;
    for (from, to) in ranges {
        assert_eq!(from, Some(at));
        at = to.unwrap();
    }
    assert_eq!(at, LEN);
    let bytes: Vec<u64> = scene
        .events
        .iter()
        .filter_map(|e| match e {
            Progress::Bytes { done, total } => (*total == LEN as u64).then_some(*done),
            _ => None,
        })
        .collect();
    assert!(bytes.windows(2).all(|w| w[0] < w[1]) && bytes.last() == Some(&(LEN as u64)));
}

#[test]
fn small_and_empty_files() {
    for len in [0, 1, PART as usize - 1, PART as usize, PART as usize + 1] {
        let data = content(len);
        let copy = data.clone();
        let server = Server::start(move |r| Reply::proper(r, &copy));
        Scene::new(&data).right(&[&server.url], &data);
        assert_eq!(server.sent(), len as u64);
    }
}

#[test]
fn a_rate_is_kept() {
    let server = decent();
    let mut scene = Scene::new(&content(LEN));
    scene.options.rate = Some(1_000_000);
    let start = Instant::now();
    scene.right(&[&server.url], &content(LEN));
    // A quarter of a second's worth may come at once, and the last bytes need not be paid for.
    assert!(start.elapsed() >= Duration::from_millis(600), "{:?}", start.elapsed());
    assert_eq!(server.most(), 1);
}

#[test]
fn a_disk_that_fills_up_is_told_at_once_and_what_is_there_stays() {
    let folder = TempDir::new().unwrap();
    let mount = |size: &str| {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(folder.path());
        mount.stderr(std::process::Stdio::null()).status().is_ok_and(|s| s.success())
    };
    if !cfg!(target_os = "linux") || !mount("size=1200k") {
        eprintln!("skipped: a small file system cannot be mounted here");
        return;
    }
    let filler = folder.path().join("filler");
    let once = std::sync::Once::new();
    let server = server(move |r, data| {
        if r.number >= 6 {
            once.call_once(|| drop(std::fs::write(&filler, vec![1; 1 << 20])));
        }
        Reply::proper(r, data)
    });
    let mut scene = Scene::new(&content(LEN));
    scene.folder = TempDir::new_in(folder.path()).unwrap();
    let result = scene.fetch(&[&server.url]);
    let full = matches!(result, Err(FetchError::Local(HubError::NoSpace { .. })));
    // Its room is free only once nobody is writing it any more.
    server.settle();
    let asked = server.asked().len();
    std::fs::remove_file(folder.path().join("filler")).unwrap();
    let sent = server.sent();
    let again = scene.fetch(&[&server.url]);
    // Too large from the start.
    let mut large = Scene::new(&content(LEN));
    large.folder = TempDir::new_in(folder.path()).unwrap();
    large.bytes = Some(2 << 20);
    let refused = matches!(large.fetch(&[&server.url]), Err(FetchError::Local(HubError::NoSpace { needed, free, .. })) if needed == 2 << 20 && free < needed);
    drop((scene, large));
    let unmounted = std::process::Command::new("umount").arg("-l").arg(folder.path()).status();
    assert!(unmounted.unwrap().success());
    assert!(full, "{result:?}");
    assert!(asked <= 6 + 4, "{asked} requests");
    assert_eq!(again.unwrap().digest, digest(&content(LEN)));
    assert!(server.sent() - sent < LEN as u64, "nothing was kept");
    assert!(refused);
}

/// Not a test of its own: what the other process of the next one does.
#[test]
#[ignore = "run by the test beside it, as another process"]
fn other_process() {
    let Ok(url) = std::env::var("HOB_TEST_URL") else { return };
    Scene::new(&content(LEN)).right(&[&url], &content(LEN));
}

/// A forward proxy that opens tunnels, all of them to one place; what it was asked for is what `asked` says.
fn proxy(target: String, asked: Arc<Mutex<Vec<String>>>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let tunnel = move |mut client: std::net::TcpStream, line: String| {
        asked.lock().unwrap().push(line);
        let mut server = std::net::TcpStream::connect(&target).unwrap();
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut server, &mut client);
        let _ = client.shutdown(std::net::Shutdown::Both);
    };
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut one = [0];
            while !head.ends_with(b"\r\n\r\n") && (&client).read_exact(&mut one).is_ok() {
                head.push(one[0]);
            }
            let line = String::from_utf8_lossy(&head).lines().next().unwrap_or("").to_owned();
            let tunnel = tunnel.clone();
            thread::spawn(move || tunnel(client, line));
        }
    });
    url
}

#[test]
fn a_proxy_from_the_environment_is_used() {
    let server = decent();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let proxy = proxy(server.url.trim_start_matches("http://").to_owned(), asked.clone());
    // A name that nobody has: whoever looks it up without the proxy fails.
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "transfer::tests::other_process", "--ignored"])
        .env("HOB_TEST_URL", "http://files.invalid/f")
        .env("HTTP_PROXY", &proxy)
        .env_remove("http_proxy")
        .env_remove("ALL_PROXY")
        .env_remove("all_proxy")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(server.sent(), LEN as u64);
    let asked = asked.lock().unwrap();
    assert!(asked.iter().all(|line| line == "CONNECT files.invalid:80 HTTP/1.1"), "{asked:?}");
}
