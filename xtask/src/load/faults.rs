//! `cargo xtask load --faults`: what a server does when its clients behave badly. Each fault gives figures and what is expected of them; the
//! forms of them that need no clock are tests (crates/cli/tests/serve_faults.rs). Deliberately absent: failing by a figure.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::{End, Reply, Target};
use super::models::Model;
use super::prompts::{Prompt, prompts};
use super::server::{Programs, Purpose, Server, Who, get};

/// What was seen of a fault.
pub struct Finding {
    pub fault: &'static str,
    pub seen: String,
    pub expected: &'static str,
}

/// Where faults are tried.
pub struct Ground<'a> {
    pub programs: &'a Programs,
    pub who: Who,
    pub model: &'a Model,
    pub threads: usize,
    pub more: &'a [String],
}

/// Tokens of an answer that nobody waits for.
const LONG: usize = 400;
/// Most time for anything here to come about.
const PATIENCE: Duration = Duration::from_secs(120);

/// Single requests beside a client with many.
const SINGLE: usize = 7;

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// 200 leave in the middle of their answers
    Vanish,
    /// 200 leave the queue
    Queued,
    /// 50 do not read
    Slow,
    /// 500 never finish their requests
    HalfOpen,
    /// The server is told to end while 8 answers run
    Terminated,
    /// The same, twice
    TerminatedTwice,
    /// One has 64 requests, another single ones
    Unfair,
}

/// Tries a fault.
pub fn run(ground: &Ground, fault: Fault) -> Result<Finding> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match fault {
            Fault::Vanish => streams_vanish(ground).await,
            Fault::Queued => queued_vanish(ground).await,
            Fault::Slow => slow_readers(ground).await,
            Fault::HalfOpen => half_open(ground).await,
            Fault::Terminated => terminated(ground, 1).await,
            Fault::TerminatedTwice => terminated(ground, 2).await,
            Fault::Unfair => unfair(ground).await,
        }
    })
}

impl Ground<'_> {
    fn start(&self, streams: usize) -> Result<Server> {
        let Ground { model, threads, more, .. } = *self;
        self.programs.start(self.who, &Purpose { model, streams, threads, more })
    }

    fn prompts(&self, count: usize) -> Vec<Prompt> {
        prompts(77, count, self.model.words.clone())
    }
}

/// Clients that wait for long answers.
struct Crowd {
    clients: JoinSet<Reply>,
    /// Tokens that have come to all of them.
    tokens: Arc<AtomicUsize>,
    /// Those of them that have a token.
    begun: Arc<AtomicUsize>,
}

impl Crowd {
    fn gather(target: &Target, prompts: &[Prompt], tokens: usize) -> Crowd {
        let mut crowd =
            Crowd { clients: JoinSet::new(), tokens: Arc::default(), begun: Arc::default() };
        for prompt in prompts {
            let (target, prompt) = (target.clone(), prompt.clone());
            let (all, begun) = (crowd.tokens.clone(), crowd.begun.clone());
            crowd.clients.spawn(async move {
                let mut had = 0;
                let note = |has: usize| {
                    all.fetch_add(has - had, Ordering::Relaxed);
                    begun.fetch_add(usize::from(had == 0 && has > 0), Ordering::Relaxed);
                    had = has;
                };
                target.ask_noting(&prompt, tokens, note).await
            });
        }
        crowd
    }

    /// Waits until so many of them have a token.
    async fn begun(&self, count: usize) -> Result<()> {
        until("streams have begun", async || Ok(self.begun.load(Ordering::Relaxed) >= count)).await
    }

    /// Closes all their connections.
    async fn vanish(mut self) {
        self.clients.shutdown().await;
    }
}

/// Waits for something to become true, looking every few milliseconds.
async fn until(what: &str, mut is: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is().await? {
        if start.elapsed() > PATIENCE {
            bail!("not within {PATIENCE:?}: {what}");
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// 200 clients leave in the middle of their answers.
async fn streams_vanish(ground: &Ground<'_>) -> Result<Finding> {
    let server = ground.start(200)?;
    let crowd = Crowd::gather(&server.target, &ground.prompts(200), LONG);
    until("work has begun", async || Ok(server.load()?.running > 0)).await?;
    crowd.begun(1).await?;
    let before = server.load()?;
    crowd.vanish().await;
    let start = Instant::now();
    until("all slots are free", async || Ok(server.load()?.idle())).await?;
    Ok(Finding {
        fault: "200 clients vanish mid-stream",
        seen: format!(
            "{} running and {} waiting; all gone after {:.0?}",
            before.running,
            before.waiting,
            start.elapsed()
        ),
        expected: "slots free within 1 s",
    })
}

/// 200 clients leave while they wait behind others.
async fn queued_vanish(ground: &Ground<'_>) -> Result<Finding> {
    let server = ground.start(2)?;
    let prompts = ground.prompts(204);
    let (busy, queued) = prompts.split_at(4);
    let first = Crowd::gather(&server.target, busy, LONG);
    first.begun(1).await?;
    let crowd = Crowd::gather(&server.target, queued, LONG);
    until("the queue is long", async || Ok(server.load()?.waiting >= 100)).await?;
    let waiting = server.load()?.waiting;
    crowd.vanish().await;
    let start = Instant::now();
    until("nobody waits", async || Ok(server.load()?.waiting <= 4)).await?;
    let gone = start.elapsed();
    first.vanish().await;
    until("all slots are free", async || Ok(server.load()?.idle())).await?;
    Ok(Finding {
        fault: "200 queued clients vanish",
        seen: format!(
            "{waiting} waited; out of the queue after {gone:.0?}, idle after {:.0?}",
            start.elapsed()
        ),
        expected: "none decoded",
    })
}

/// 50 clients that do not read, beside one that does.
async fn slow_readers(ground: &Ground<'_>) -> Result<Finding> {
    let prompts = ground.prompts(51);
    let (others, one) = prompts.split_at(50);
    let one = one.first().context("one prompt is left")?;
    // hob lets one client have 7 of 8 places: all others run, and the one is another client.
    let start = || ground.start(58);
    let server = start()?;
    let crowd = Crowd::gather(&server.target, others, LONG);
    crowd.begun(others.len()).await?;
    let beside_normal = speed(&elsewhere(&server.target).ask(one, 48).await)?;
    crowd.vanish().await;
    drop(server);

    let server = start()?;
    let before = server.load()?.begun;
    let mut slow = Vec::new();
    for prompt in others {
        slow.push(ask_and_not_read(&server.target, prompt).await?);
    }
    let all = before + others.len();
    until("slow readers have begun", async || Ok(server.load()?.begun >= all)).await?;
    let beside_slow = speed(&elsewhere(&server.target).ask(one, 48).await)?;
    drop(slow);
    Ok(Finding {
        fault: "50 slow readers beside a normal client",
        seen: format!(
            "{beside_slow:.1} tok/s; beside 50 normal ones {beside_normal:.1}: {:.0}%",
            100.0 * beside_slow / beside_normal
        ),
        expected: "at least 90%",
    })
}

/// The same server, asked from another address: another client.
fn elsewhere(target: &Target) -> Target {
    Target { from: Some(Ipv4Addr::new(127, 0, 0, 2)), ..target.clone() }
}

/// A request whose answer nobody takes; the kernel holds little for it.
async fn ask_and_not_read(target: &Target, prompt: &Prompt) -> Result<TcpStream> {
    let mut stream = target.connect_with_buffer(4096).await?;
    stream.write_all(&target.request(prompt, LONG)).await?;
    Ok(stream)
}

/// Tokens per second of an answer, its first token included.
fn speed(reply: &Reply) -> Result<f64> {
    match reply.end {
        End::Complete => Ok(reply.tokens as f64 / reply.took.as_secs_f64()),
        _ => bail!("the client that is measured was left with {:?}", reply.end),
    }
}

/// 500 connections that never finish their requests.
async fn half_open(ground: &Ground<'_>) -> Result<Finding> {
    let server = ground.start(8)?;
    let mut open = Vec::new();
    for _ in 0..500 {
        let mut stream = server.target.connect().await?;
        stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nHost: loc").await?;
        open.push(stream);
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let start = Instant::now();
        let mut stream = server.target.connect().await?;
        let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        if tokio::time::timeout(Duration::from_secs(10), read).await.is_err() {
            slowest = start.elapsed();
            break;
        }
        slowest = slowest.max(start.elapsed());
    }
    Ok(Finding {
        fault: "500 half-open connections",
        seen: format!("health answers within {slowest:.1?}"),
        expected: "100 ms",
    })
}

/// The server is told to end, once or twice, while 8 answers run.
async fn terminated(ground: &Ground<'_>, signals: usize) -> Result<Finding> {
    let mut server = ground.start(8)?;
    let crowd = Crowd::gather(&server.target, &ground.prompts(8), 96);
    crowd.begun(8).await?;
    let start = Instant::now();
    server.signal("TERM")?;
    let ready = get(server.target.address, "/ready");
    let told = start.elapsed();
    let ready = match ready {
        Ok((status, _)) => format!("/ready says {status} after {told:.0?}"),
        Err(e) => format!("/ready: {e}"),
    };
    for _ in 1..signals {
        server.signal("TERM")?;
    }
    let replies = crowd.clients.join_all().await;
    let ended = server.ended_within(PATIENCE)?;
    let count = |is: fn(&End) -> bool| replies.iter().filter(|r| is(&r.end)).count();
    let seen = format!(
        "{ready}; {} complete, {} told, {} cut; {}",
        count(|e| *e == End::Complete),
        count(|e| matches!(e, End::Failed(_))),
        count(|e| matches!(e, End::Incomplete | End::Reset)),
        if ended { format!("ended after {:.1?}", start.elapsed()) } else { "runs on".to_owned() },
    );
    Ok(match signals {
        1 => Finding {
            fault: "SIGTERM with 8 streams",
            seen,
            expected: "503 at once, streams end properly or are told",
        },
        _ => Finding { fault: "SIGTERM twice", seen, expected: "ends at once" },
    })
}

/// One client with 64 requests, and another that comes with single ones: the same prompts as on a server that has nothing else to do.
async fn unfair(ground: &Ground<'_>) -> Result<Finding> {
    let prompts = ground.prompts(64 + 1 + SINGLE);
    let (many, rest) = prompts.split_at(64);
    let (warm, late) = rest.split_at(1);
    let idle = first_tokens(&start_warm(ground, warm).await?, late).await?;
    let server = start_warm(ground, warm).await?;
    let crowd = Crowd::gather(&server.target, many, 64);
    crowd.begun(4).await?;
    let busy = first_tokens(&server, late).await?;
    crowd.vanish().await;
    let mut times: Vec<f64> = busy
        .iter()
        .zip(&idle)
        .map(|(busy, idle)| busy.as_secs_f64() / idle.as_secs_f64())
        .collect();
    times.sort_by(f64::total_cmp);
    let list = |all: &[Duration]| -> String {
        all.iter().map(|t| format!("{:.0}", t.as_secs_f64() * 1e3)).collect::<Vec<_>>().join(", ")
    };
    Ok(Finding {
        fault: "one client with 64 requests, one with a single one",
        seen: format!(
            "first token {:.1} times as late as on an idle server (median of {SINGLE}, {:.1} to {:.1}): {} ms by {} ms",
            times[SINGLE / 2],
            times[0],
            times[SINGLE - 1],
            list(&busy),
            list(&idle),
        ),
        expected: "at most 3 times",
    })
}

/// A server that has the beginning which all prompts share in its cache.
async fn start_warm(ground: &Ground<'_>, warm: &[Prompt]) -> Result<Server> {
    let server = ground.start(8)?;
    for prompt in warm {
        elsewhere(&server.target).ask(prompt, 8).await;
    }
    Ok(server)
}

/// Times to the first token of one prompt after another, from another address.
async fn first_tokens(server: &Server, prompts: &[Prompt]) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        let reply = elsewhere(&server.target).ask(prompt, 8).await;
        times.push(reply.first.with_context(|| format!("{:?}", reply.end))?);
    }
    Ok(times)
}
