//! `hob import`: takes a model that is on the disk into the store, by a link, a reference or a copy. What Ollama, LM Studio and the Hugging
//! Face cache keep is found without it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hob_hub::{Hub, Linking};
use serde_json::json;

use crate::out;
use crate::progress::PullBar;

/// Take a GGUF file, or a folder with one, into the store without a copy
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  hob import ./model-Q4_K_M.gguf\n  hob import ./dir --name mine:q4 --copy\n\n\
    Without a flag the file gets a second name in the store (a hard link) where both are on one file system,\n\
    else the store refers to it. Models of Ollama, LM Studio and the Hugging Face cache need no import: `hob list` shows them."
)]
pub struct Args {
    /// GGUF file, first file of a split one, or folder that holds one model
    path: PathBuf,
    /// Name in the store [default: the file's]
    #[arg(long)]
    name: Option<String>,
    /// Copy the file
    #[arg(long, conflicts_with = "reference")]
    copy: bool,
    /// Refer to the file's path, and do not keep it alive
    #[arg(long)]
    reference: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&args.path)?,
    };
    let linking = match (args.copy, args.reference) {
        (true, _) => None,
        (_, true) => Some(Linking::Symbolic),
        _ => Some(Linking::Hard),
    };
    let hub = Hub::open()?;
    let mut bar = PullBar::new();
    let mut show = |event| bar.show(event);
    let imported = hub.import(&args.path, &name, linking, &hob_server::describe::facts, &mut show);
    bar.clear();
    let model = imported?;
    if args.json {
        let (name, digest) = (&model.name, &model.digest);
        return out::print_json(&json!({"name": name, "digest": digest, "size": model.bytes}));
    }
    let size = out::file_size(model.bytes);
    out::print(&format!("{} is here: {size}, {}\n", model.name, model.path.display()))
}

/// A name made of a file's: in lower case, what no name may hold replaced by a dash.
fn name_of(path: &Path) -> Result<String> {
    let whole = path.canonicalize().with_context(|| format!("cannot open {}", path.display()))?;
    let stem = whole.file_stem().map(|s| s.to_string_lossy().to_lowercase()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = stem.chars().map(plain).collect();
    Ok(name.trim_start_matches(['-', '.']).chars().take(80).collect())
}
