//! `hob serve` with one model, `m`, from a store of its own, on a port that was free; it ends with its value.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::sh;

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(900);

/// A running server.
pub struct Server {
    child: Child,
    address: String,
    home: PathBuf,
}

impl Server {
    /// Imports the model and starts the server.
    pub fn start(hob: &Path, model: &Path) -> Result<Server> {
        let home = std::env::temp_dir().join(format!("hob-schemas-{}", std::process::id()));
        std::fs::create_dir_all(&home)?;
        let hob = || {
            let mut cmd = Command::new(hob);
            cmd.env("HOB_HOME", &home);
            cmd
        };
        sh::output(hob().arg("import").arg(model).args(["--name", "m"]))?;
        let mut cmd = hob();
        cmd.args(["serve", "--host", "127.0.0.1:0", "--context", "2048", "--keep-alive=-1"]);
        let mut child =
            cmd.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no output of hob serve")?;
        let stderr = child.stderr.take().context("no errors of hob serve")?;
        let (sender, lines) = std::sync::mpsc::channel();
        for from in [Box::new(stdout) as Box<dyn Read + Send>, Box::new(stderr)] {
            let sender = sender.clone();
            // Reads to the end, so that the server never waits for a reader.
            std::thread::spawn(move || {
                BufReader::new(from)
                    .lines()
                    .map_while(Result::ok)
                    .for_each(|line| drop(sender.send(line)));
            });
        }
        drop(sender);
        let mut server = Server { child, address: String::new(), home };
        let mut said = Vec::new();
        for line in lines {
            if let Some((_, address)) = line.split_once("http://") {
                server.address = address.trim().to_owned();
                return Ok(server);
            }
            said.push(line);
        }
        bail!("hob serve did not start: {}", said.join("\n"))
    }

    /// Status and body of a response.
    pub fn post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        let (head, body) = reply.split_once("\r\n\r\n").context("no HTTP response")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = serde_json::from_str(body).with_context(|| format!("no JSON: {body}"))?;
        Ok((status.context("no status")?, body))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What cannot be ended or removed any more is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
