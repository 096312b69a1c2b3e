//! `hob rm`: removes models from the store. Files given by a path are the user's own and are never touched.

use anyhow::Result;
use hob_hub::Hub;
use serde_json::json;

use crate::out;

/// Remove models from the store
#[derive(clap::Args)]
#[command(after_help = "Example:\n  hob rm smollm2:135m")]
pub struct Args {
    /// Names, as `hob list` shows them
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Print one JSON object per model
    #[arg(long)]
    json: bool,
}

/// Runs the verb. Stops at the first model that cannot be removed.
pub fn run(args: &Args) -> Result<()> {
    let hub = Hub::open()?;
    for model in &args.models {
        let freed = hub.remove(model)?;
        if args.json {
            out::print_json(&json!({"deleted": model, "freed_bytes": freed}))?;
        } else {
            out::print(&format!("deleted '{model}', {} freed\n", out::file_size(freed)))?;
        }
    }
    Ok(())
}
