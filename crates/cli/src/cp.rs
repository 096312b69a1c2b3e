//! `hob cp`: a second name for a stored model. Nothing but the name is copied.

use anyhow::Result;
use hob_hub::Hub;
use serde_json::json;

use crate::out;

/// Give a model of the store a second name
#[derive(clap::Args)]
#[command(after_help = "Example:\n  hob cp smollm2:135m my-model")]
pub struct Args {
    /// Name, as `hob list` shows it
    source: String,
    /// The further name
    destination: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let copy = Hub::open()?.copy(&args.source, &args.destination)?;
    if args.json {
        return out::print_json(&json!({"source": args.source, "destination": copy.name}));
    }
    out::print(&format!("copied '{}' to '{}'\n", args.source, copy.name))
}
