//! `hob create`: a model made of another by a Modelfile, in Ollama's format. Templates are compiled and parameters checked before anything
//! is stored.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hob_hub::{Creation, Hub, HubError, LocalModel, Overlay};
use hob_text::{GoTemplate, Modelfile, Parameter};
use serde_json::{Map, Value, json};

use crate::progress::PullBar;
use crate::pull::{self, JsonEvents, Order};
use crate::{folder, out};

/// Longest Modelfile that is read.
const MAX_MODELFILE: u64 = 8 << 20;

/// Make a model of another one by a Modelfile
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  hob create mario -f ./Modelfile\n  hob create mine   (reads ./Modelfile)\n\n\
    A Modelfile:\n  FROM qwen3:14b            a model, a GGUF file, or a folder in Hugging Face's layout\n  \
    PARAMETER temperature 0.3\n  SYSTEM \"\"\"You are Mario.\"\"\"\n  \
    TEMPLATE, MESSAGE, LICENSE, ADAPTER   as in Ollama\n\n\
    Weights are shared with the model they come from; a file is linked where the file system allows it."
)]
pub struct Args {
    /// The new model's name
    model: String,
    /// The Modelfile
    #[arg(short, long, default_value = "Modelfile")]
    file: PathBuf,
    /// Print one JSON object per event, as Ollama's API does
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let hub = Hub::open()?;
    let file = read(&args.file)?;
    let place = args.file.parent().unwrap_or(Path::new(""));
    for name in &file.deprecated {
        out::say(&format!("parameter '{name}' has no meaning any more and is passed over"));
    }
    let creation = creation(&hub, &file, place)?;
    let (mut bar, mut events) = (PullBar::new(), JsonEvents::default());
    let mut written = Ok(());
    let made =
        hub.create(&args.model, &creation, &hob_server::describe::facts, &mut |event| match args
            .json
        {
            true if written.is_ok() => written = events.show(&event),
            true => {}
            false => bar.show(event),
        });
    bar.clear();
    let made = made?;
    written?;
    match args.json {
        true => out::print_json(&json!({"status": "success", "name": made.name})),
        false => out::print(&format!("created '{}', {}\n", made.name, out::file_size(made.bytes))),
    }
}

fn read(path: &Path) -> Result<Modelfile> {
    let what = || format!("cannot read {}", path.display());
    let meta = fs::metadata(path).with_context(what)?;
    if meta.len() > MAX_MODELFILE {
        bail!("{} is longer than {MAX_MODELFILE} bytes", path.display());
    }
    let text = fs::read_to_string(path).with_context(what)?;
    Modelfile::parse(&text).with_context(|| path.display().to_string())
}

/// What the Modelfile says, with its paths resolved and its texts checked.
fn creation(hub: &Hub, file: &Modelfile, place: &Path) -> Result<Creation> {
    let [from, more @ ..] = file.from.as_slice() else { bail!("no FROM line") };
    let projector = match more {
        [] => None,
        [projector] => Some(existing(place, projector).with_context(|| {
            format!("the second FROM, '{projector}', adds a projector and is a file")
        })?),
        _ => bail!("there are {} FROM lines; at most two mean something", file.from.len()),
    };
    if let Some(template) = &file.template {
        GoTemplate::new(template).context("TEMPLATE")?;
    }
    let path = |text: &Option<String>, what: &str| -> Result<Option<PathBuf>> {
        let resolve = |text: &String| existing(place, text).with_context(|| what.to_owned());
        text.as_ref().map(resolve).transpose()
    };
    let overlay = Overlay {
        template: file.template.clone(),
        own_template: false,
        system: file.system.clone(),
        parameters: parameters(&file.parameters),
        messages: file.messages.clone(),
        licences: file.licenses.clone(),
        adapters: path(&file.adapter, "ADAPTER")?.into_iter().collect(),
        projector,
        draft: path(&file.draft, "DRAFT")?,
        renderer: file.renderer.clone(),
        parser: file.parser.clone(),
    };
    Ok(Creation { base: base(hub, from, place)?, overlay, requires: file.requires.clone() })
}

/// The model of `FROM`: a file or folder, relative to the Modelfile, or a name, which is pulled if it is not here.
fn base(hub: &Hub, from: &str, place: &Path) -> Result<LocalModel> {
    if let Ok(path) = existing(place, from) {
        let text = path.to_string_lossy();
        return match folder::is_checkpoint(&text) {
            true => folder::converted(hub, &text),
            false => Ok(LocalModel::file(from, &path)?),
        };
    }
    match hub.find(from) {
        Ok(Some(model)) => Ok(model),
        Ok(None) | Err(HubError::UnknownModel { .. }) => pull::pull(hub, from, &Order::default()),
        Err(e) => Err(e.into()),
    }
}

/// A path of the Modelfile that leads to something.
fn existing(place: &Path, text: &str) -> Result<PathBuf> {
    let path = match text.strip_prefix("~/").zip(std::env::home_dir()) {
        Some((rest, home)) => home.join(rest),
        None => place.join(text),
    };
    if !path.exists() {
        bail!("no such file: {}", path.display());
    }
    Ok(path)
}

/// As the manifest's layer has them: `stop` is a list.
fn parameters(list: &[(String, Parameter)]) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, value) in list {
        let value = match value {
            Parameter::Int(n) => Value::from(*n),
            Parameter::Float(x) => Value::from(*x),
            Parameter::Bool(b) => Value::from(*b),
            Parameter::Text(text) => Value::from(text.as_str()),
        };
        match (name.as_str(), all.get_mut(name)) {
            ("stop", Some(Value::Array(stops))) => stops.push(value),
            ("stop", _) => drop(all.insert(name.clone(), Value::from(vec![value]))),
            _ => drop(all.insert(name.clone(), value)),
        }
    }
    all
}
