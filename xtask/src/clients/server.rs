//! The server that the clients talk to: a running one, or hob built in release mode and started on a free port, with the
//! two models under the names that the scripts use. It is stopped when the value is dropped.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::place::Place;
use crate::{assets, judge, sh};

/// A server that is ready.
pub struct Server {
    /// `http://host:port`.
    pub url: String,
    child: Option<Child>,
}

/// How long a start may take; it loads nothing.
const PATIENCE: Duration = Duration::from_secs(60);

impl Server {
    /// A server that somebody else has started.
    pub fn running(url: &str) -> Result<Server> {
        let url = url.trim_end_matches('/').to_owned();
        let status = get(&url, "/ready")?;
        if status != 200 {
            bail!("{url}/ready answers {status}");
        }
        Ok(Server { url, child: None })
    }

    /// Builds hob, puts the models into its store, starts it.
    pub fn start(place: &Place, home: Option<&Path>, small: &str, coder: &str) -> Result<Server> {
        assets::run(&assets::Args::named(&["smollm2", "qwen-coder"]))?;
        let hob = judge::build_hob()?;
        let home = match home {
            Some(home) => std::path::absolute(home)?,
            None => place.root.join("home"),
        };
        fs::create_dir_all(&home)?;
        for (name, file) in [(small, "smollm2.gguf"), (coder, "qwen-coder.gguf")] {
            let mut show = Command::new(&hob);
            show.env("HOB_HOME", &home).args(["show", name]);
            if sh::output(&mut show).is_err() {
                let mut import = Command::new(&hob);
                import.env("HOB_HOME", &home).args(["import", "--name", name]);
                sh::run(import.arg(assets::dir()?.join(file)))?;
            }
        }
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log = File::create(place.logs.join("serve.log"))?;
        let mut serve = Command::new(&hob);
        serve.args(["serve", "--host", &format!("127.0.0.1:{port}")]);
        serve.env("HOB_HOME", &home).env_remove("OLLAMA_HOST").stdin(Stdio::null());
        serve.stdout(log.try_clone()?).stderr(log);
        let child = serve.spawn().context("cannot start hob serve")?;
        let mut server = Server { url: format!("http://127.0.0.1:{port}"), child: Some(child) };
        server.wait().with_context(|| format!("see {}", place.logs.join("serve.log").display()))?;
        eprintln!("ready   {}", server.url);
        Ok(server)
    }

    fn wait(&mut self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                bail!("hob serve ended with {status}");
            }
            if get(&self.url, "/ready").is_ok_and(|status| status == 200) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("hob serve is not ready after {} s", PATIENCE.as_secs())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The status of a GET: ten lines instead of an HTTP client, for a request without anything in it.
fn get(url: &str, path: &str) -> Result<u16> {
    let host = url.strip_prefix("http://").with_context(|| format!("{url} is not http://"))?;
    let mut stream = TcpStream::connect(host).with_context(|| format!("nobody is at {url}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // At once: whoever answers its first bytes might have closed before the last ones.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).with_context(|| format!("{url} doesn't answer"))?;
    let head = String::from_utf8_lossy(&head);
    let code = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.parse().ok());
    code.with_context(|| format!("{url} doesn't speak HTTP/1.1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answering(text: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(text.as_bytes());
        });
        url
    }

    #[test]
    fn only_a_server_that_says_so_is_ready() {
        let ready = answering("HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(Server::running(&format!("{ready}/")).unwrap().url, ready);
        assert!(Server::running(&answering("HTTP/1.1 503 Service Unavailable\r\n\r\n")).is_err());
        assert!(Server::running(&answering("SSH-2.0-OpenSSH_9.6\r\n")).is_err());
        assert!(Server::running("https://127.0.0.1:1").is_err());
    }
}
