//! `hob ps`: the models that a running server has loaded, in Ollama's columns; as JSON, its `/api/ps`.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde_json::Value;

use crate::out;
use crate::remote::Host;

/// List the models that a running server has loaded
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  hob ps\n  hob ps --host 192.168.1.5:11434 --json")]
pub struct Args {
    /// Only names that start so
    prefix: Option<String>,
    #[command(flatten)]
    host: Host,
    /// Print JSON, as Ollama's /api/ps answers
    #[arg(long)]
    json: bool,
}

/// What is kept for longer is kept for ever: as far ahead as a duration goes in Ollama's API.
const FOREVER: Duration = Duration::from_secs(50 * 365 * 86400);

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let mut reply = args.host.server()?.get("/api/ps")?;
    let prefix = args.prefix.as_deref().unwrap_or("").to_lowercase();
    if let Some(models) = reply["models"].as_array_mut() {
        models.retain(|m| text(m, "name").to_lowercase().starts_with(&prefix));
    }
    if args.json {
        return out::print_json(&reply);
    }
    let head = ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"].map(str::to_owned);
    let rows = reply["models"].as_array().into_iter().flatten().map(row);
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
    out::print(&out::table(&rows))
}

fn row(model: &Value) -> [String; 6] {
    let (size, vram) = (number(model, "size"), number(model, "size_vram"));
    [
        text(model, "name").to_owned(),
        text(model, "digest").get(..12).unwrap_or("-").to_owned(),
        out::file_size(size),
        processor(size, vram),
        number(model, "context_length").to_string(),
        until(out::time(text(model, "expires_at")), SystemTime::now()),
    ]
}

fn text<'a>(model: &'a Value, key: &str) -> &'a str {
    model[key].as_str().unwrap_or_default()
}

fn number(model: &Value, key: &str) -> u64 {
    model[key].as_u64().unwrap_or_default()
}

/// Where it lies, as Ollama says it.
fn processor(size: u64, vram: u64) -> String {
    match vram {
        _ if size == 0 => "Unknown".to_owned(),
        0 => "100% CPU".to_owned(),
        n if n >= size => "100% GPU".to_owned(),
        n => {
            let cpu = (100.0 * (size - n) as f64 / size as f64).round();
            format!("{cpu}%/{}% CPU/GPU", 100.0 - cpu)
        }
    }
}

fn until(expires: Option<SystemTime>, now: SystemTime) -> String {
    let Some(expires) = expires else { return "-".to_owned() };
    match expires.duration_since(now) {
        Err(_) => "Stopping...".to_owned(),
        Ok(left) if left > FOREVER => "Forever".to_owned(),
        Ok(left) => format!("{} from now", out::roughly(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_and_for_how_long() {
        assert_eq!(processor(10, 0), "100% CPU");
        assert_eq!(processor(10, 10), "100% GPU");
        assert_eq!(processor(100, 59), "41%/59% CPU/GPU");
        assert_eq!(processor(0, 0), "Unknown");
        let now = SystemTime::now();
        let after = |seconds| until(Some(now + Duration::from_secs(seconds)), now);
        assert_eq!(after(299), "4 minutes from now");
        assert_eq!(after(60 * 365 * 86400), "Forever");
        assert_eq!(until(Some(now - Duration::from_secs(1)), now), "Stopping...");
    }
}
