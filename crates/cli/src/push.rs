//! `hob push`: sends a stored model to the registry that its name says.

use anyhow::Result;
use hob_hub::Hub;
use serde_json::json;

use crate::out;
use crate::progress::PullBar;
use crate::pull::JsonEvents;

/// Send a model of the store to a registry
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  hob cp my-model registry.example/me/my-model\n  \
    hob push registry.example/me/my-model\n  hob push http://127.0.0.1:5000/me/my-model\n\n\
    The registry speaks Ollama's protocol, or is one for containers. An interrupted push goes on where it stopped.\n\
    The key that it knows you by is ~/.ollama/id_ed25519, else $HOB_HOME/id_ed25519, which is made when there is none.")]
pub struct Args {
    /// Name with the registry's host, perhaps with http:// in front
    model: String,
    /// Print one JSON object per event, as Ollama's API does
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let hub = Hub::open()?;
    if args.json {
        let (mut events, mut written) = (JsonEvents::default(), Ok(()));
        hub.push(&args.model, &mut |event| {
            if written.is_ok() {
                written = events.show(&event);
            }
        })?;
        written?;
        return out::print_json(&json!({"status": "success"}));
    }
    let mut bar = PullBar::sending();
    let pushed = hub.push(&args.model, &mut |event| bar.show(event));
    bar.clear();
    pushed?;
    out::print(&format!("{} is pushed\n", args.model))
}
