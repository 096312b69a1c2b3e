//! Pulls from hostile servers by a process of its own under strace: the right bytes or an error in words, a bounded number of requests,
//! nothing written outside the store, nobody called but the two hosts that take part, no secret sent to the wrong one. Run by
//! `cargo xtask pulls`. What needs public hosts (redirects into private networks, https to http) is tested in-process: `hubs`, `net`.
#![cfg(unix)]

mod cases;
mod trace;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use tempfile::TempDir;

use super::names_in;
use super::wire::{Call, Wire};
use crate::source::Key;
use cases::{Case, Outcome};
use trace::{CALLS, Trace};

/// Pulls at a time: most of them wait most of the time.
const THREADS: usize = 4;
const HUB_SECRET: &str = "hub-secret";
const THEIRS: &[u8] = b"not hob's";

/// What became of a case.
struct Row {
    case: String,
    outcome: String,
    requests: usize,
    sent: u64,
    outside: usize,
    complaints: Vec<String>,
}

#[test]
#[ignore = "needs strace and the example pull_once: cargo xtask pulls"]
fn hostile_servers_are_survived() {
    let program = program();
    let cases = cases::all();
    let (next, rows) = (Mutex::new(cases.iter().enumerate()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let Some((at, case)) = next.lock().unwrap().next() else { return };
            let row = run(&program, case);
            println!("{:60} {}", row.case, row.outcome);
            rows.lock().unwrap().push((at, row));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(at, _)| *at);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    if let Some(path) = std::env::var_os("HOB_PULLS_CSV") {
        write_csv(Path::new(&path), &rows);
    }
    let bad = |row: &Row| row.complaints.iter().map(|c| format!("{}: {c}\n", row.case)).collect();
    let complaints: Vec<String> = rows.iter().map(bad).collect();
    println!("{} cases, {} bad", rows.len(), complaints.iter().filter(|c| !c.is_empty()).count());
    assert!(complaints.iter().all(String::is_empty), "\n{}", complaints.concat());
}

/// The example, which cargo builds beside the tests' folder.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/pull_once");
    assert!(program.exists(), "cargo build -p hob-hub --example pull_once has to come first");
    program
}

fn write_csv(path: &Path, rows: &[Row]) {
    let mut text = b"case,outcome,requests,bytes_sent,writes_outside\n".to_vec();
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    for row in rows {
        let (case, outcome) = (quoted(&row.case), quoted(&row.outcome));
        writeln!(text, "{case},{outcome},{},{},{}", row.requests, row.sent, row.outside).unwrap();
    }
    fs::write(path, text).unwrap();
}

/// One pull and everything that can be said against it.
fn run(program: &Path, case: &Case) -> Row {
    // Without `.` and links, as the trace shows paths.
    let folder = TempDir::new().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let [home, user, traces] = ["store", "user", "traces"].map(|name| root.join(name));
    for path in [&home, &user, &traces, &user.join(".ollama")] {
        fs::create_dir(path).unwrap();
    }
    Key::generate(&user.join(".ollama/id_ed25519")).unwrap();
    fs::write(root.join("theirs"), THEIRS).unwrap();
    (case.before)(&home, &root);
    let hosts = Hosts::start(case);
    let before = names_beside(&root);
    let output = pull(program, case, &hosts, &root);
    let trace = Trace::read(&traces);
    let outside: Vec<String> =
        trace.outside(&home).iter().map(|p| p.display().to_string()).collect();
    let mut complaints = Vec::new();
    let mut expect = |holds: bool, complaint: String| {
        if !holds {
            complaints.push(complaint);
        }
    };
    let (outcome, fits) = judge(case, &output, &home);
    expect(fits, format!("{outcome}; expected {}", words(&case.outcome)));
    expect(trace.calls >= 20, format!("the trace has {} calls", trace.calls));
    expect(outside.is_empty(), format!("written outside: {outside:?}"));
    let mut strangers = trace.called.iter().filter(|to| !hosts.are(to));
    let stranger = strangers.next();
    expect(stranger.is_none(), format!("called {stranger:?}"));
    let requests = hosts.hub.calls().len() + hosts.elsewhere.calls().len();
    expect(requests <= case.most, format!("{requests} requests, more than {}", case.most));
    let asked = hosts.elsewhere.calls();
    expect(case.leaves || asked.is_empty(), format!("asked elsewhere {} times", asked.len()));
    let leaked = asked.iter().find(|call| has_secret(call));
    expect(leaked.is_none(), format!("a secret went elsewhere: {leaked:?}"));
    let theirs = fs::read(root.join("theirs")).is_ok_and(|bytes| bytes == THEIRS);
    expect(theirs && names_beside(&root) == before, "a file beside the store changed".to_owned());
    let sent = hosts.hub.sent() + hosts.elsewhere.sent();
    Row { case: case.name.clone(), outcome, requests, sent, outside: outside.len(), complaints }
}

fn names_beside(root: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        ["", "user", "user/.ollama"].iter().flat_map(|f| names_in(&root.join(f))).collect();
    names.sort();
    names
}

/// Runs the program under strace with nothing in its environment but what the case needs.
fn pull(program: &Path, case: &Case, hosts: &Hosts, root: &Path) -> Output {
    let hub = &hosts.hub.url;
    let reference = case.reference.replace("{hub}", &hosts.hub.address.to_string());
    Command::new("strace")
        .args(["-f", "-ff", "-qq", "-y", "-s", "0", "-e", CALLS, "-e", "signal=none", "-o"])
        .arg(root.join("traces/t"))
        .arg(program)
        .arg(reference)
        .env_clear()
        .env("HOME", root.join("user"))
        .env("HOB_HOME", root.join("store"))
        .env("HF_ENDPOINT", hub)
        .env("MODELSCOPE_ENDPOINT", hub)
        .env("HOB_REGISTRY", hub)
        .env("HF_TOKEN", HUB_SECRET)
        .env("MODELSCOPE_API_TOKEN", HUB_SECRET)
        .current_dir(root)
        .output()
        .unwrap()
}

/// The outcome in words, and whether it is the one expected.
fn judge(case: &Case, output: &Output, home: &Path) -> (String, bool) {
    let [out, err] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
    let listing = crate::Hub::at(home.to_owned()).unwrap().list().unwrap();
    let why = match &case.outcome {
        Outcome::Error(words) => words,
        Outcome::Right(_) => "",
    };
    let said = reason(&err, why, home.parent().unwrap());
    match (&case.outcome, output.status.code()) {
        (Outcome::Right(data), Some(0)) => {
            let right = fs::read(out.trim()).is_ok_and(|bytes| bytes == *data);
            let listed = listing.models.len() == 1 && listing.damaged.is_empty();
            let outcome = if right { "right bytes" } else { "wrong bytes" };
            (outcome.to_owned(), right && listed)
        }
        (Outcome::Error(words), Some(1)) => {
            let fits = err.starts_with("error: ") && err.contains(words);
            (said, fits && listing == crate::Listing::default())
        }
        (_, Some(0)) => ("a model".to_owned(), false),
        (_, code) => (format!("exit code {code:?}: {said}"), false),
    }
}

/// The line that says why, or the first one, without what differs from run to run.
fn reason(err: &str, why: &str, root: &Path) -> String {
    let line = err.lines().find(|line| !why.is_empty() && line.contains(why));
    let line = line.or(err.lines().next()).unwrap_or_default();
    let line = line.replace(&root.display().to_string(), "");
    let mut shown = String::new();
    for word in line.trim_start_matches("  - ").split_inclusive(' ') {
        let Some((before, after)) = word.split_once("127.0.0.") else {
            shown.push_str(word);
            continue;
        };
        let port = |c: char| c.is_ascii_digit() || c == ':';
        let end = after.trim_start_matches(port);
        let colon = if after.ends_with(": ") { ":" } else { "" };
        shown.push_str(&format!("{before}HOST{colon}{end}"));
    }
    let end = shown.char_indices().nth(110).map_or(shown.len(), |(at, _)| at);
    shown[..end].trim().to_owned()
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Right(_) => "the right bytes".to_owned(),
        Outcome::Error(words) => format!("an error with '{words}'"),
    }
}

struct Hosts {
    hub: Wire,
    elsewhere: Wire,
}

impl Hosts {
    fn start(case: &Case) -> Hosts {
        let (hub, elsewhere) = (case.hub.clone(), case.elsewhere.clone());
        let elsewhere = Wire::start_on("127.0.0.2", move |call| elsewhere(call));
        let url = elsewhere.url.clone();
        Hosts { hub: Wire::start(move |call| hub(call, &url)), elsewhere }
    }

    fn are(&self, to: &Result<std::net::SocketAddr, String>) -> bool {
        to.as_ref().is_ok_and(|to| [self.hub.address, self.elsewhere.address].contains(to))
    }
}

/// A token, a key or a signature. `Basic` holds what an address itself says before its `@`: hob has no passwords.
fn has_secret(call: &Call) -> bool {
    let all = format!("{:?} {} {}", call.headers, call.query, String::from_utf8_lossy(&call.body));
    let shown = call.header("authorization");
    !(shown.is_empty() || shown.starts_with("Basic ")) || all.contains("secret")
}
