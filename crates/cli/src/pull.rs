//! `hob pull`: fetches a model. What an interrupted pull left is used by the next.

use anyhow::Result;
use hob_hub::{Hub, Progress};
use serde_json::json;

use crate::{models, out};

/// Fetch a model into the store
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  hob pull smollm2:135m\n  HF_ENDPOINT=https://mirror.example hob pull smollm2:135m\n\n\
    An interrupted pull goes on where it stopped when it is started again."
)]
pub struct Args {
    /// Name in the catalogue
    #[arg(required_unless_present = "all_names")]
    model: Option<String>,
    /// Print the names that can be pulled, and stop
    #[arg(long = "names", conflicts_with = "model")]
    all_names: bool,
    /// Print one JSON object per event, as Ollama's API does
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let hub = Hub::open()?;
    let Some(model) = &args.model else {
        return names(&hub, args.json);
    };
    if args.json {
        return pull_json(&hub, model);
    }
    let local = models::pull(&hub, model)?;
    out::print(&format!(
        "{} is here: {}, {}\n",
        local.name,
        out::file_size(local.bytes),
        local.path.display()
    ))
}

fn names(hub: &Hub, json: bool) -> Result<()> {
    let names: Vec<String> = hub.catalogue().collect();
    if json { out::print_json(&names) } else { out::print(&(names.join("\n") + "\n")) }
}

fn pull_json(hub: &Hub, model: &str) -> Result<()> {
    let mut written = Ok(());
    let mut last_percent = None;
    let local = hub.pull(model, &mut |event| {
        let moved = match &event {
            Progress::Bytes { done, total } | Progress::Verifying { done, total } => {
                let percent = done.saturating_mul(100) / (*total).max(1);
                last_percent.replace(percent) != Some(percent)
            }
            _ => true,
        };
        if moved && written.is_ok() {
            written = out::print_json(&status(&event));
        }
    })?;
    written?;
    out::print_json(
        &json!({"status": "success", "name": local.name, "digest": local.digest, "size": local.bytes}),
    )
}

fn status(event: &Progress) -> serde_json::Value {
    match event {
        Progress::Waiting => json!({"status": "waiting for another pull of this model"}),
        Progress::Resolving { source } => json!({"status": format!("fetching from {source}")}),
        Progress::Bytes { done, total } => {
            json!({"status": "downloading", "completed": done, "total": total})
        }
        Progress::Verifying { done, total } => {
            json!({"status": "verifying sha256 digest", "completed": done, "total": total})
        }
        Progress::Failed { source, reason } => {
            json!({"status": format!("gave up {source}"), "reason": reason})
        }
        Progress::Done => json!({"status": "stored"}),
    }
}
