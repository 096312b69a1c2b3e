//! `hob verify` and `hob gc`: the store's health. What is broken is set aside so that pulling repairs it; what nobody uses is removed.

use anyhow::{Result, bail};
use hob_hub::Hub;
use serde_json::{Value, json};

use crate::out;
use crate::progress::PullBar;

/// Read every file of the store again and hold it against its sha256
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  hob verify\n  hob verify qwen3:14b\n\n\
    A broken file is set aside; `hob pull` then fetches the broken parts of it.\n\
    Exit code 1 when something is broken.")]
pub struct VerifyArgs {
    /// Names, as `hob list` shows them [default: all]
    models: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Remove files of the store that no model uses
#[derive(clap::Args)]
#[command(after_help = "Models are never removed by this; `hob rm` does that.")]
pub struct GcArgs {
    /// Also interrupted pulls that are younger than a week
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `hob verify`.
pub fn verify(args: &VerifyArgs) -> Result<()> {
    let hub = Hub::open()?;
    let mut bar = PullBar::new();
    let findings = hub.verify(&args.models, &mut |event| bar.show(event));
    bar.clear();
    let findings = findings?;
    let damaged = match args.models.is_empty() {
        true => hub.list()?.damaged,
        false => Vec::new(),
    };
    // What was set aside just now is told once.
    let known = |name: &str| findings.iter().any(|f| f.model == name);
    let damaged: Vec<_> = damaged.into_iter().filter(|d| !known(&d.name)).collect();
    if args.json {
        let found = findings.iter().map(|f| {
            json!({"model": f.model, "path": f.path, "reason": f.reason, "repairable": f.set_aside})
        });
        let unusable = damaged.iter().map(|d| json!({"model": d.name, "reason": d.reason}));
        let all: Vec<Value> = found.chain(unusable).collect();
        out::print_json(&json!({"schema": 1, "broken": all}))?;
    } else {
        for finding in &findings {
            let path = finding.path.display();
            out::print(&format!("{}: {} ({path})\n", finding.model, finding.reason))?;
        }
        for model in &damaged {
            out::print(&format!("{}: {}\n", model.name, model.reason))?;
        }
    }
    match findings.len() + damaged.len() {
        0 if args.json => Ok(()),
        0 => out::print("all files are sound\n"),
        n => bail!("{n} broken"),
    }
}

/// Runs `hob gc`.
pub fn gc(args: &GcArgs) -> Result<()> {
    let removed = Hub::open()?.gc(args.all)?;
    let freed: u64 = removed.iter().map(|garbage| garbage.bytes).sum();
    if args.json {
        let files: Vec<Value> = removed
            .iter()
            .map(|g| json!({"path": g.path, "bytes": g.bytes, "kind": g.kind}))
            .collect();
        return out::print_json(&json!({"schema": 1, "freed_bytes": freed, "removed": files}));
    }
    let files = removed.len();
    out::print(&format!("{files} files removed, {} freed\n", out::file_size(freed)))
}
