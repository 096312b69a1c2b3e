//! `hob serve`: the server in the foreground. Settings come from flags, else from `HOB_*` variables, else from Ollama's where the meaning is the
//! same.

use std::io::IsTerminal;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use hob_engine::Speculate;
use hob_hub::Hub;
use hob_machine::Machine;
use hob_server::{Config, Guard, KeepAlive, Keys, PoolSettings, State, Wishes};
use tracing_subscriber::EnvFilter;

use crate::answer::{Kv, at_least_one};
use crate::out;
use crate::remote::{ADDRESS, variable};

/// Serve models to programs, in the dialects of Ollama, OpenAI and Anthropic
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  hob serve\n  hob serve --host 127.0.0.1:8080 --context 8192\n\n\
    On one port: Ollama's /api/*, OpenAI's /v1/*, Anthropic's /v1/messages.\n\
    Ctrl-C ends it in order: what runs may finish; a second one ends it at once."
)]
pub struct Args {
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", env = "HOB_HOST")]
    host: Option<String>,
    /// Tokens of prompt and answer together, where neither request nor model says it [default: up to 32768]
    #[arg(long, value_name = "N", env = "HOB_CONTEXT")]
    context: Option<usize>,
    /// Threads [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = at_least_one(1024), env = "HOB_THREADS")]
    threads: Option<usize>,
    /// Type of the cache; q8_0 takes half the memory
    #[arg(long, value_enum, default_value_t, env = "HOB_KV")]
    kv: Kv,
    /// Answers that are written at once, for each model
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one(4096), env = "HOB_PARALLEL")]
    parallel: usize,
    /// Requests that may wait, for each model; more are refused
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one(1 << 20), env = "HOB_QUEUE")]
    queue: usize,
    /// How long a model stays loaded after its last request: 5m, 1h30m, -1 for always
    #[arg(long, value_name = "TIME", value_parser = keep_alive, env = "HOB_KEEP_ALIVE")]
    keep_alive: Option<KeepAlive>,
    /// Models that may be loaded at once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one(1024), env = "HOB_MAX_MODELS")]
    max_models: usize,
    /// Memory for all models together, in MiB [default: what is free]
    #[arg(long, value_name = "MIB", env = "HOB_MEMORY")]
    memory: Option<u64>,
    /// Draft tokens from what stood before, where that is faster; answers do not depend on it
    #[arg(long, value_enum, default_value_t, env = "HOB_SPECULATE")]
    speculate: Drafting,
    /// A further name of this server, or *.example.com for all below; may be given several times
    #[arg(long, value_name = "NAME", env = "HOB_ALLOW_HOSTS", value_delimiter = ',')]
    allow_host: Vec<String>,
    /// A further origin of pages that may use it, as https://example.com, or *; may be given several times
    #[arg(long, value_name = "ORIGIN", env = "HOB_ALLOW_ORIGINS", value_delimiter = ',')]
    allow_origin: Vec<String>,
    /// File of keys, a line each: KEY [infer] [manage] [# name]; HOB_API_KEY is a key, too
    #[arg(long, value_name = "FILE", env = "HOB_API_KEY_FILE")]
    api_key_file: Option<PathBuf>,
    /// Listen beyond this machine without a key: everybody who reaches the port may use it
    #[arg(long)]
    no_key: bool,
    /// What is told on stderr: error, warn, info, debug, or a filter of tracing's
    #[arg(long, value_name = "FILTER", default_value = "info", env = "HOB_LOG")]
    log: String,
    /// Tell it as JSON
    #[arg(long, env = "HOB_LOG_JSON")]
    log_json: bool,
    /// Seconds that running answers have when the server goes down
    #[arg(long, value_name = "SECONDS", default_value_t = 30, env = "HOB_GRACE")]
    grace: u64,
}

impl Args {
    /// Seconds that running answers have at the end.
    pub fn grace(&self) -> u64 {
        self.grace
    }

    /// Whether these flags mean the same to a service, which runs in another folder.
    ///
    /// # Errors
    /// For a file that is not named from the root on.
    pub fn check_for_service(&self) -> Result<()> {
        match &self.api_key_file {
            Some(path) if !path.is_absolute() => {
                let why = format!("--api-key-file {} must be an absolute path", path.display());
                Err(out::Usage(why).into())
            }
            _ => Ok(()),
        }
    }
}

/// [`Speculate`] by its name.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default)]
enum Drafting {
    /// Never
    Off,
    /// Always
    On,
    /// Where it was measured to be faster
    #[default]
    Auto,
}

impl From<Drafting> for Speculate {
    fn from(drafting: Drafting) -> Self {
        match drafting {
            Drafting::Off => Speculate::Off,
            Drafting::On => Speculate::On,
            Drafting::Auto => Speculate::Auto,
        }
    }
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let host = args.host.clone().or_else(|| variable("OLLAMA_HOST"));
    let address = address(host.as_deref().unwrap_or(ADDRESS))?;
    log(args)?;
    let config = config(args)?;
    if !address.ip().is_loopback() && config.guard.keys.is_empty() && !args.no_key {
        bail!(
            "{address} can be reached from other machines, and there is no key: set HOB_API_KEY or give --api-key-file, \
            or --no-key if everybody may use it"
        );
    }
    let hub = Hub::open()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let served = runtime.block_on(serve(address, State::new(hub, config)));
    // A load or a transfer that still runs is not waited for; the store is sound at every moment.
    runtime.shutdown_background();
    served
}

async fn serve(address: SocketAddr, state: State) -> Result<()> {
    let signals = Signals::new().context("cannot wait for signals")?;
    let listener = hob_server::bind(address).await?;
    out::say(&format!("hob listens on http://{}", listener.local_addr()?));
    tokio::spawn(end_on_signal(signals, state.clone()));
    hob_server::serve(listener, state).await;
    Ok(())
}

/// The first signal ends the server in order, the second at once.
async fn end_on_signal(mut signals: Signals, state: State) {
    signals.next().await;
    let grace = state.config.grace;
    out::say(&format!("going down: running answers have {} seconds", grace.as_secs()));
    tokio::select! {
        () = state.shutdown.begin(grace) => {}
        () = signals.next() => state.shutdown.now(),
    }
}

/// Signals that ask a server to end.
#[cfg(unix)]
struct Signals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

/// Ctrl-C, elsewhere.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals)
    }

    async fn next(&mut self) {
        // Without it, nobody asks.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn config(args: &Args) -> Result<Config> {
    let available = match args.memory {
        Some(mib) => mib << 20,
        None => Machine::host()?.memory.available_bytes,
    };
    let set = variable("OLLAMA_CONTEXT_LENGTH").and_then(|n| n.parse().ok()).filter(|&n| n > 0);
    let keep = args.keep_alive.or_else(|| keep_alive(&variable("OLLAMA_KEEP_ALIVE")?).ok());
    Ok(Config {
        models: PoolSettings {
            wishes: Wishes {
                usual_context: args.context.or(set).unwrap_or(32768),
                threads: args.threads,
                kv: args.kv.into(),
                sequences: args.parallel,
                queue: args.queue,
                mixed_rows: 64,
                speculate: args.speculate.into(),
                ..Wishes::alone(available)
            },
            keep_alive: keep.unwrap_or(KeepAlive::For(Duration::from_secs(300))),
            most: args.max_models,
        },
        guard: guard(args)?,
        grace: Duration::from_secs(args.grace),
    })
}

fn guard(args: &Args) -> Result<Guard> {
    let keys = match &args.api_key_file {
        None => Keys::default(),
        Some(path) => {
            let text = read_private(path)?;
            Keys::parse(&text).with_context(|| path.display().to_string())?
        }
    };
    let own = std::env::var("HOB_API_KEY").ok().filter(|key| !key.is_empty());
    let own = own.map_or_else(Keys::default, |key| Keys::one(&key));
    let theirs = variable("OLLAMA_ORIGINS").unwrap_or_default();
    let theirs = theirs.split(',').map(str::trim).filter(|o| !o.is_empty()).map(str::to_owned);
    Ok(Guard {
        hosts: args.allow_host.clone(),
        origins: args.allow_origin.iter().cloned().chain(theirs).collect(),
        machine: hob_machine::host_name(),
        keys: keys.and(own),
    })
}

/// A file that only its owner may read.
fn read_private(path: &Path) -> Result<String> {
    let what = || format!("cannot read {}", path.display());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).with_context(what)?.permissions().mode();
        if mode & 0o077 != 0 {
            bail!(
                "{} can be read by others (mode {:o}); chmod 600 it",
                path.display(),
                mode & 0o777
            );
        }
    }
    std::fs::read_to_string(path).with_context(what)
}

fn log(args: &Args) -> Result<()> {
    let filter = EnvFilter::try_new(&args.log)
        .with_context(|| format!("'{}' is no filter of logs", args.log))?;
    let told = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let told = told.with_ansi(std::io::stderr().is_terminal());
    let set = match args.log_json {
        true => told.json().try_init(),
        false => told.with_target(false).try_init(),
    };
    set.map_err(|e| anyhow!("cannot tell what happens: {e}"))
}

fn keep_alive(text: &str) -> Result<KeepAlive, String> {
    KeepAlive::parse(text)
        .ok_or_else(|| "expected a time like 5m, 1h30m, or -1 for always".to_owned())
}

/// `HOST:PORT`, `HOST`, `:PORT`, with or without a scheme.
fn address(text: &str) -> Result<SocketAddr> {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split('/').next().unwrap_or(bare);
    let (host, port) = match bare.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') || host.starts_with('[') => {
            let port = port.parse().with_context(|| format!("'{text}' has no valid port"))?;
            (host, port)
        }
        _ => (bare, 11434),
    };
    let host = host.trim_matches(['[', ']']);
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let mut found = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("cannot find the address of '{host}'"))?;
    found.next().ok_or_else(|| anyhow!("'{host}' has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
            ("127.0.0.1", "127.0.0.1:11434"),
            (":9000", "127.0.0.1:9000"),
            ("0.0.0.0", "0.0.0.0:11434"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), expected, "{text}");
        }
        assert!(address("127.0.0.1:port").is_err());
        assert!(address("127.0.0.1:70000").is_err());
    }
}
