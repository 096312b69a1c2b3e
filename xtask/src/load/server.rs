//! The servers that are measured: started on a free port for one run with their best settings for its number of streams, waited for,
//! asked how many answers they are working at, and ended. Deliberately absent: servers that only a wrapper of ours would make one.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::Target;
use super::http::Response;
use super::models::Model;
use crate::{bench, judge, sh};

/// The most sequences of a context of llama.cpp's (`LLAMA_MAX_SEQ`).
const LLAMA_SLOTS: usize = 256;
const LLAMA_RUNNING: &str = "llamacpp:requests_processing";

/// How long a server may take until it is ready, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server with its setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Who {
    /// `hob serve`
    Hob,
    /// llama.cpp's server, prebuilt
    Llama,
    /// llama.cpp's server, built from source for this processor
    LlamaNative,
}

impl Who {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Who::Hob => "hob",
            Who::Llama => "llama-server",
            Who::LlamaNative => "llama-server native",
        }
    }
}

/// What a server is started for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    pub model: &'a Model,
    /// Streams at once.
    pub streams: usize,
    pub threads: usize,
    /// Further arguments, at the end.
    pub more: &'a [String],
}

/// The programs, and a folder for their files.
pub struct Programs {
    hob: Option<PathBuf>,
    llama_peer: PathBuf,
    folder: PathBuf,
}

/// A server that runs; it is killed when this is dropped.
pub struct Server {
    child: Child,
    pub target: Target,
    who: Who,
    log: PathBuf,
}

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Answers being written.
    pub running: usize,
    /// Requests that wait for one.
    pub waiting: usize,
    /// Answers that have had a token, since the start.
    pub begun: usize,
}

impl Load {
    /// Nothing at all.
    pub fn idle(self) -> bool {
        self.running == 0 && self.waiting == 0
    }
}

impl Programs {
    /// Builds hob if it is among `who`, and makes a folder under `target`.
    pub fn new(who: &[Who]) -> Result<Programs> {
        let hob = who.contains(&Who::Hob).then(judge::build_hob).transpose()?;
        let folder = sh::root().join("target").join("load");
        fs::create_dir_all(&folder)?;
        Ok(Programs { hob, llama_peer: bench::tools_dir()?.join("llama-peer"), folder })
    }

    /// What a server says of its version.
    pub fn version(&self, who: Who) -> Result<String> {
        let mut cmd = match who {
            Who::Hob => Command::new(self.hob()?),
            Who::Llama | Who::LlamaNative => self.llama(who),
        };
        let said = sh::both_outputs(cmd.arg("--version"))?;
        let line =
            said.lines().find_map(|l| l.strip_prefix("version: ").or(l.strip_prefix("hob ")));
        Ok(line.with_context(|| format!("{} names no version", who.name()))?.trim().to_owned())
    }

    /// Starts a server and waits until it can answer.
    pub fn start(&self, who: Who, purpose: &Purpose) -> Result<Server> {
        let address = free_address()?;
        let mut cmd = match who {
            Who::Hob => self.hob_command(purpose, address)?,
            Who::Llama | Who::LlamaNative => {
                let mut cmd = self.llama(who);
                cmd.args(llama_args(purpose, address));
                cmd
            }
        };
        let log = self.folder.join(format!("{}.log", who.name().replace(' ', "-")));
        let file = File::create(&log)?;
        cmd.args(purpose.more).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = cmd.spawn().with_context(|| format!("cannot start {}", who.name()))?;
        let model = purpose.model.name.to_owned();
        let target = Target { address, model, form: purpose.model.form, from: None };
        let mut server = Server { child, target, who, log };
        server.wait_ready()?;
        Ok(server)
    }

    fn hob(&self) -> Result<&Path> {
        self.hob.as_deref().context("hob was not built")
    }

    /// hob with a store that has the model.
    fn hob_command(&self, purpose: &Purpose, address: SocketAddr) -> Result<Command> {
        let home = self.folder.join("home");
        let mut import = Command::new(self.hob()?);
        import.env("HOB_HOME", &home).arg("import").arg("--reference");
        sh::output(import.args(["--name", purpose.model.name]).arg(&purpose.model.path))?;
        let mut cmd = Command::new(self.hob()?);
        cmd.env("HOB_HOME", &home).arg("serve").args(["--host", &address.to_string()]);
        cmd.arg("--threads").arg(purpose.threads.to_string());
        // As many as hob writes at once by itself, and a queue for the rest.
        cmd.arg("--parallel").arg(purpose.streams.min(64).to_string());
        Ok(cmd)
    }

    fn llama(&self, who: Who) -> Command {
        let mut cmd = Command::new(&self.llama_peer);
        if who == Who::LlamaNative {
            cmd.env("NATIVE", "1");
        }
        cmd.arg("llama-server");
        cmd
    }
}

/// The settings of llama-server that measured best (docs/load.md): a slot per stream, each with a cache of its own.
fn llama_args(purpose: &Purpose, address: SocketAddr) -> Vec<String> {
    // It takes no more; what is beyond waits in its queue.
    let slots = purpose.streams.min(LLAMA_SLOTS);
    let numbers = [
        ("--port", usize::from(address.port())),
        ("-t", purpose.threads),
        ("-tb", purpose.threads),
        ("-np", slots),
        ("-c", slots * purpose.model.context),
        // One more than may be busy with streams: the rest look at health and slots.
        ("--threads-http", purpose.streams + 4),
    ];
    let mut args = vec!["-m".to_owned(), purpose.model.path.to_string_lossy().into_owned()];
    args.extend(
        ["--host", "127.0.0.1", "--no-webui", "--metrics", "--log-verbosity", "1"]
            .map(str::to_owned),
    );
    args.extend(numbers.into_iter().flat_map(|(name, n)| [name.to_owned(), n.to_string()]));
    args
}

impl Server {
    fn wait_ready(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                let tail: String =
                    said.chars().skip(said.chars().count().saturating_sub(2000)).collect();
                bail!("{} ended: {status}\n{tail}", self.who.name());
            }
            if get(self.target.address, "/health").is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("{} was not ready within {PATIENCE:?}", self.who.name());
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Seconds of processor time that it has used (Linux; elsewhere 0).
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default())
    }

    /// What it is doing, by its metrics.
    pub fn load(&self) -> Result<Load> {
        let (_, text) = get(self.target.address, "/metrics")?;
        let (running, waiting, begun) = match self.who {
            Who::Hob => ("hob_running", "hob_waiting", "hob_time_to_first_token_seconds_count"),
            // It does not count them.
            _ => (LLAMA_RUNNING, "llamacpp:requests_deferred", LLAMA_RUNNING),
        };
        // No samples: no model is loaded.
        let of = |name| metric(&text, name).unwrap_or(0);
        Ok(Load { running: of(running), waiting: of(waiting), begun: of(begun) })
    }

    /// Waits for its end after it was told to, and returns whether that came.
    pub fn ended_within(&mut self, time: Duration) -> Result<bool> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if self.child.try_wait()?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(false)
    }

    /// Sends it a signal, by name.
    pub fn signal(&self, name: &str) -> Result<()> {
        sh::run(Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum of a metric's samples, whatever their labels.
fn metric(text: &str, name: &str) -> Option<usize> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest.rsplit(' ').next()?.parse::<f64>().ok()?;
        rest.starts_with([' ', '{']).then_some(value as usize)
    });
    samples.fold(None, |sum, value| Some(sum.unwrap_or(0) + value))
}

/// User and system time out of `/proc/PID/stat`.
fn cpu_seconds(stat: &str) -> f64 {
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // Fields 14 and 15 of proc(5), counted from 1; the text begins behind the second. A tick is a hundredth.
    (ticks(12) + ticks(13)) / 100.0
}

/// An address that nobody listens on; the port is free a moment ago, which is as good as it gets.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Status and body of a GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut response, mut body) = (Response::default(), Vec::new());
    let mut buffer = [0; 4096];
    while !response.complete {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        response.push(&buffer[..n], |line| {
            body.extend_from_slice(line);
            body.push(b'\n');
        })?;
    }
    body.extend_from_slice(response.rest());
    let head = response.head.context("the connection ended before a head")?;
    Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_the_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 3 4 20 0 1 0 9 9 9";
        assert_eq!(cpu_seconds(stat), 3.0);
        assert_eq!(cpu_seconds(""), 0.0);
    }

    #[test]
    fn samples_of_a_metric_are_summed() {
        let text = "# TYPE a gauge\na 1\nab 7\na{model=\"x y\"} 2\nb{} 0\n";
        assert_eq!(
            (metric(text, "a"), metric(text, "b"), metric(text, "c")),
            (Some(3), Some(0), None)
        );
    }
}
