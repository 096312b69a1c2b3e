//! `hob stop`: lets a running server put a model out of memory, once whoever uses it is done.

use anyhow::Result;
use serde_json::json;

use crate::out;
use crate::remote::Host;

/// Have a running server unload a model
#[derive(clap::Args)]
#[command(after_help = "Example:\n  hob stop smollm2:135m")]
pub struct Args {
    /// Name, as `hob ps` shows it
    model: String,
    #[command(flatten)]
    host: Host,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let request = json!({"model": args.model, "prompt": "", "keep_alive": 0, "stream": false});
    args.host.server()?.post("/api/generate", &request)?;
    match args.json {
        true => out::print_json(&json!({"stopped": args.model})),
        false => Ok(()),
    }
}
