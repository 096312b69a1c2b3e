//! `hob serve`: the server in the foreground. Settings come from flags, else from `HOB_*` variables, else from Ollama's where the meaning is the
//! same.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use hob_hub::Hub;
use hob_machine::Machine;
use hob_server::{Config, KeepAlive, PoolSettings, State, Wishes};
use tokio::signal::unix::{SignalKind, signal};

use crate::answer::{Kv, at_least_one};
use crate::out;

/// Where a server listens unless told otherwise: Ollama's port, since it takes Ollama's place.
const ADDRESS: &str = "127.0.0.1:11434";

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
    /// Seconds that running answers have when the server goes down
    #[arg(long, value_name = "SECONDS", default_value_t = 30, env = "HOB_GRACE")]
    grace: u64,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let host = args.host.clone().or_else(|| variable("OLLAMA_HOST"));
    let address = address(host.as_deref().unwrap_or(ADDRESS))?;
    let config = config(args)?;
    let hub = Hub::open()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(serve(address, State::new(hub, config)))
}

async fn serve(address: SocketAddr, state: State) -> Result<()> {
    let listener = hob_server::bind(address).await?;
    out::say(&format!("hob listens on http://{}", listener.local_addr()?));
    tokio::spawn(end_on_signal(state.clone()));
    hob_server::serve(listener, state).await;
    Ok(())
}

/// The first signal ends the server in order, the second at once.
async fn end_on_signal(state: State) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    next().await;
    let grace = state.config.grace;
    out::say(&format!("going down: running answers have {} seconds", grace.as_secs()));
    tokio::select! {
        () = state.shutdown.begin(grace) => {}
        () = next() => state.shutdown.now(),
    }
    Ok(())
}

fn config(args: &Args) -> Result<Config> {
    let available = match args.memory {
        Some(mib) => mib << 20,
        None => Machine::detect()?.memory.available_bytes,
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
                ..Wishes::alone(available)
            },
            keep_alive: keep.unwrap_or(KeepAlive::For(Duration::from_secs(300))),
            most: args.max_models,
        },
        grace: Duration::from_secs(args.grace),
    })
}

/// An environment variable as Ollama reads it.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    let value = value.trim().trim_matches(['"', '\'']).to_owned();
    (!value.is_empty()).then_some(value)
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
