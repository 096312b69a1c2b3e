//! `cargo xtask clients`: unmodified clients, each from its package, drive a server of hob: one script per client in `clients/`.
//! Environments are made once, with pip and npm, in a cache folder. A script prints one line of JSON per feature.
//! Deliberately absent: judgement of what a model says; the scripts check forms, counts, errors and that streams add up.

mod place;
mod server;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use place::{Kind, Place};
use server::Server;

/// Which clients to run, against which server.
#[derive(clap::Args)]
pub struct Args {
    /// Only scripts whose name contains this; may be repeated
    #[arg(long)]
    only: Vec<String>,
    /// A running server, e.g. http://127.0.0.1:11434; without it one is built and started
    #[arg(long)]
    url: Option<String>,
    /// HOB_HOME of the server that is started [default: a folder in the cache]
    #[arg(long, conflicts_with = "url")]
    home: Option<std::path::PathBuf>,
    /// Small model, for what needs no skill
    #[arg(long, default_value = "smollm2:135m")]
    small: String,
    /// Model for tools and for coding agents
    #[arg(long, default_value = "qwen2.5-coder:1.5b")]
    coder: String,
    /// Let coding agents send their own prompts too: 10 to 20 thousand tokens each, minutes on a CPU
    #[arg(long)]
    full: bool,
    /// Make the environments and stop
    #[arg(long)]
    setup: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One script.
struct Script {
    file: &'static str,
    kind: Kind,
    /// How long it may take, on a slow machine.
    minutes: u64,
}

const fn script(file: &'static str, kind: Kind, minutes: u64) -> Script {
    Script { file, kind, minutes }
}

const SCRIPTS: &[Script] = &[
    script("python-ollama.py", Kind::Python("sdk"), 10),
    script("python-openai.py", Kind::Python("sdk"), 10),
    script("python-anthropic.py", Kind::Python("sdk"), 10),
    script("python-litellm.py", Kind::Python("sdk"), 10),
    script("python-pydantic-ai.py", Kind::Python("sdk"), 10),
    script("python-langchain-ollama.py", Kind::Python("frameworks"), 10),
    script("python-langchain-openai.py", Kind::Python("frameworks"), 10),
    script("python-llm.py", Kind::Python("frameworks"), 10),
    script("python-instructor.py", Kind::Python("frameworks"), 10),
    script("python-open-webui.py", Kind::Python("webui"), 10),
    script("npm-ollama.mjs", Kind::Node, 10),
    script("npm-openai.mjs", Kind::Node, 10),
    script("npm-anthropic.mjs", Kind::Node, 10),
    script("npm-ai.mjs", Kind::Node, 10),
    script("agent-claude-code.py", Kind::Agent("sdk"), 60),
    script("agent-codex.py", Kind::Agent("sdk"), 60),
    script("agent-opencode.py", Kind::Agent("sdk"), 60),
    script("agent-qwen-code.py", Kind::Agent("sdk"), 60),
    script("agent-aider.py", Kind::Python("aider"), 30),
];

/// What a script tells of one feature.
#[derive(Deserialize, Serialize)]
struct Line {
    client: String,
    version: String,
    feature: String,
    result: String,
    seconds: f64,
    note: String,
}

/// Runs the scripts, prints the table; an error when a feature has failed.
pub fn run(args: &Args) -> Result<()> {
    let scripts = chosen(&args.only)?;
    let place = Place::open()?;
    for script in &scripts {
        place.prepare(script.kind).with_context(|| format!("environment of {}", script.file))?;
    }
    if args.setup {
        return Ok(());
    }
    let server = match &args.url {
        Some(url) => Server::running(url)?,
        None => Server::start(&place, args.home.as_deref(), &args.small, &args.coder)?,
    };
    let mut lines = Vec::new();
    for script in &scripts {
        eprintln!("run     {}", script.file);
        lines.extend(drive(script, &place, &server, args)?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    } else {
        print(&lines);
    }
    let count = |result| lines.iter().filter(|line| line.result == result).count();
    let (failed, skipped) = (count("failed"), count("skipped"));
    if failed > 0 {
        bail!("{failed} of {} features failed; logs are in {}", lines.len(), place.logs.display());
    }
    eprintln!("features: {}, failed: 0, skipped: {skipped}", lines.len());
    Ok(())
}

fn chosen(only: &[String]) -> Result<Vec<&'static Script>> {
    let wanted = |script: &&Script| only.is_empty() || only.iter().any(|o| script.file.contains(o));
    let scripts: Vec<_> = SCRIPTS.iter().filter(wanted).collect();
    if scripts.is_empty() {
        let names: Vec<&str> = SCRIPTS.iter().map(|script| script.file).collect();
        bail!("no script has {} in its name; there are {}", only.join(", "), names.join(", "));
    }
    Ok(scripts)
}

/// Runs one script within its time. A script that ends without a word, or too late, is a failure of its own.
fn drive(script: &Script, place: &Place, server: &Server, args: &Args) -> Result<Vec<Line>> {
    let log = place.logs.join(script.file).with_extension("log");
    let mut cmd = place.command(script.kind, script.file)?;
    cmd.env("HOB_URL", &server.url)
        .env("HOB_SMALL", &args.small)
        .env("HOB_CODER", &args.coder)
        .env("HOB_CLIENTS", &place.root)
        .env("PYTHONUNBUFFERED", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?);
    if args.full {
        cmd.env("HOB_CLIENTS_FULL", "1");
    }
    let start = Instant::now();
    let mut child = cmd.spawn().with_context(|| format!("cannot start {}", script.file))?;
    let limit = Duration::from_secs(script.minutes * 60);
    let (mut lines, trouble) = match listen(&mut child, start + limit) {
        Heard { lines, ended: true } => {
            let status = child.wait()?;
            // A script that has told of a failure ends with 1; any other end without a word of it is news.
            let told = lines.iter().any(|line| line.result == "failed");
            let bad = lines.is_empty() || (!status.success() && !told);
            (lines, bad.then(|| format!("ended with {status}; see {}", log.display())))
        }
        Heard { lines, ended: false } => {
            stop(&mut child);
            (lines, Some(format!("not done after {} minutes", script.minutes)))
        }
    };
    if let Some(note) = trouble {
        let (client, seconds) = (script.file.to_owned(), start.elapsed().as_secs_f64());
        let (version, feature, result) = (String::new(), "script".into(), "failed".into());
        lines.push(Line { client, version, feature, result, seconds, note });
    }
    Ok(lines)
}

struct Heard {
    lines: Vec<Line>,
    /// Whether the script closed its output, rather than ran out of time.
    ended: bool,
}

fn listen(child: &mut Child, deadline: Instant) -> Heard {
    let (send, receive) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
    }
    let mut lines = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receive.recv_timeout(left) {
            // What packages print besides is no matter.
            Ok(text) => {
                if let Ok(line) = serde_json::from_str::<Line>(&text) {
                    eprintln!("{:8}{}: {}", line.result, line.feature, line.note);
                    lines.push(line);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Heard { lines, ended: true },
            Err(RecvTimeoutError::Timeout) => return Heard { lines, ended: false },
        }
    }
}

fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn print(lines: &[Line]) {
    let width = |of: fn(&Line) -> &str| lines.iter().map(|l| of(l).chars().count()).max();
    let client = width(|l| &l.client).unwrap_or(0);
    let version = width(|l| &l.version).unwrap_or(0);
    let feature = width(|l| &l.feature).unwrap_or(0);
    println!(
        "{:client$}  {:version$}  {:feature$}  result   seconds",
        "client", "version", "feature"
    );
    for l in lines {
        println!(
            "{:client$}  {:version$}  {:feature$}  {:8}{:8.1}  {}",
            l.client, l.version, l.feature, l.result, l.seconds, l.note
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn every_script_is_there_and_none_is_forgotten() {
        let folder = place::scripts();
        let mut there: Vec<String> = fs::read_dir(&folder)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
            .filter(|name| name.ends_with(".py") || name.ends_with(".mjs"))
            .filter(|name| !name.starts_with("common."))
            .collect();
        there.sort();
        let mut listed: Vec<&str> = SCRIPTS.iter().map(|script| script.file).collect();
        listed.sort();
        assert_eq!(there, listed);
        for script in SCRIPTS {
            if let Some(group) = script.kind.python() {
                let file = folder.join(format!("requirements-{group}.txt"));
                assert!(file.exists(), "{}", file.display());
            }
        }
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(chosen(&[]).unwrap().len(), SCRIPTS.len());
        let files = |only: &str| chosen(&[only.to_owned()]).map(|s| s.len());
        assert_eq!(files("agent-").unwrap(), 5);
        assert!(files("olama").is_err());
    }

    fn shell(text: &str) -> Child {
        Command::new("sh").args(["-c", text]).stdout(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_script_is_heard_line_by_line_and_not_longer_than_its_time() {
        let line =
            r#"{"client":"c","version":"1","feature":"f","result":"ok","seconds":0.1,"note":""}"#;
        let mut talks = shell(&format!("echo noise; echo '{line}'"));
        let heard = listen(&mut talks, Instant::now() + Duration::from_secs(60));
        assert!(heard.ended);
        assert_eq!(heard.lines.len(), 1);
        talks.wait().unwrap();

        let mut hangs = shell("exec sleep 600");
        let heard = listen(&mut hangs, Instant::now());
        assert!(!heard.ended);
        stop(&mut hangs);
    }
}
