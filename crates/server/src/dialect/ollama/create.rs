//! `/api/create`: a model made of another one or of uploaded files, with texts and parameters laid over it, perhaps quantized. What is wrong
//! with the request is found before anything is made. Files come by digest, never by a path of this machine.

use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};

use axum::extract::State as Shared;
use axum::response::Response;
use hob_forge::convert::{self, Conversion};
use hob_forge::quantize::{self, Plan, QuantizeError, Writing};
use hob_gguf::Gguf;
use hob_hub::{Creation, Gathered, Hub, LocalModel, Overlay, Stop};
use hob_machine::Machine;
use hob_model::Recipe;
use hob_text::GoTemplate;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{options, pull};
use crate::app::State;
use crate::describe;
use crate::error::{ApiError, Kind};
use crate::file::ModelFile;
use crate::http::body::Json;
use crate::ids;
use crate::jobs::Teller;
use crate::loaded::default_threads;
use crate::models::blocking;
use crate::sampling::Sampling;

/// Most files of one model.
const MAX_FILES: usize = 1024;
/// Longest name of a renderer, parser or version, bytes.
const MAX_NAME: usize = 256;
/// The digest of what has none yet, as Ollama writes it while it quantizes.
const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The request.
#[derive(Deserialize)]
pub struct Create {
    model: Option<String>,
    name: Option<String>,
    from: Option<String>,
    files: Option<Map<String, Value>>,
    adapters: Option<Map<String, Value>>,
    draft_files: Option<Map<String, Value>>,
    template: Option<String>,
    system: Option<String>,
    license: Option<Value>,
    parameters: Option<Map<String, Value>>,
    messages: Option<Vec<Said>>,
    #[serde(alias = "quantization")]
    quantize: Option<String>,
    draft_quantize: Option<String>,
    renderer: Option<String>,
    parser: Option<String>,
    requires: Option<String>,
    remote_host: Option<String>,
    modelfile: Option<String>,
    stream: Option<bool>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: String,
}

/// A file of the request: its name there, and its digest.
type File = (String, String);

/// A request that makes sense.
struct Order {
    name: String,
    from: Option<String>,
    files: Vec<File>,
    adapters: Vec<File>,
    draft: Vec<File>,
    overlay: Overlay,
    quantize: Option<&'static Recipe>,
    requires: Option<String>,
}

/// Handles it.
pub async fn create(
    Shared(state): Shared<State>,
    Json(request): Json<Create>,
) -> Result<Response, ApiError> {
    let streamed = request.stream;
    let hub = state.models.hub().clone();
    let checked = hub.clone();
    let order = blocking(move || {
        let order = request.order()?;
        // A damaged model of this name is replaced.
        match checked.find_named(&order.name) {
            Err(e @ hob_hub::HubError::BadName { .. }) => return Err(e.into()),
            _ => here(&checked, &order)?,
        }
        Ok::<Order, ApiError>(order)
    });
    let order = order.await??;
    // Creations are not shared: two of one name may differ.
    let key = format!("create {} {}", order.name, ids::call());
    let listener = state.jobs.join(&key, move |teller| made(&hub, order, teller));
    pull::reply(&state, listener, streamed).await
}

impl Create {
    fn order(self) -> Result<Order, ApiError> {
        let name = super::either(self.model.as_deref(), self.name.as_deref())?;
        let unsupported = |field: &'static str, why: &str| {
            Err(ApiError::field(field, format!("{field} is not supported: {why}")))
        };
        let given = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
        if given(&self.remote_host) {
            return unsupported("remote_host", "hob runs models on this machine only");
        }
        if given(&self.draft_quantize) {
            return unsupported("draft_quantize", "quantize the draft model as one of its own");
        }
        if given(&self.modelfile) {
            return unsupported("modelfile", "send from, files, template, system and the like");
        }
        let from = self.from.filter(|text| !text.is_empty());
        let files = files("files", self.files)?;
        if from.is_none() && files.is_empty() {
            return Err(ApiError::invalid("neither 'from' or 'files' was specified"));
        }
        let text = |text: Option<String>| text.filter(|t| !t.is_empty());
        let template = text(self.template);
        if let Some(template) = &template {
            let refused = |e| ApiError::field("template", format!("template error: {e}"));
            GoTemplate::new(template).map_err(refused)?;
        }
        let overlay = Overlay {
            template,
            system: self.system,
            parameters: parameters(self.parameters.unwrap_or_default())?,
            messages: messages(self.messages.unwrap_or_default())?,
            licences: licences(self.license)?,
            renderer: short("renderer", self.renderer)?,
            parser: short("parser", self.parser)?,
            ..Overlay::default()
        };
        let quantize = text(self.quantize).as_deref().map(recipe).transpose()?;
        Ok(Order {
            name,
            from,
            files,
            adapters: self::files("adapters", self.adapters)?,
            draft: self::files("draft_files", self.draft_files)?,
            overlay,
            quantize,
            requires: short("requires", self.requires)?,
        })
    }
}

/// A name that the model's small file of facts has room for; `None` for none.
fn short(field: &'static str, text: Option<String>) -> Result<Option<String>, ApiError> {
    match text {
        Some(text) if text.len() > MAX_NAME => {
            let message =
                format!("{field} has {} bytes; at most {MAX_NAME} are possible", text.len());
            Err(ApiError::field(field, message))
        }
        text => Ok(text.filter(|text| !text.is_empty())),
    }
}

fn files(field: &'static str, map: Option<Map<String, Value>>) -> Result<Vec<File>, ApiError> {
    let map = map.unwrap_or_default();
    if map.len() > MAX_FILES {
        let message = format!("{} {field}; at most {MAX_FILES} make a model", map.len());
        return Err(ApiError::field(field, message));
    }
    let mut all = Vec::new();
    for (name, digest) in map {
        let inside = |c| matches!(c, Component::Normal(_) | Component::CurDir);
        if name.is_empty() || !Path::new(&name).components().all(inside) {
            return Err(ApiError::field(field, "file path must be relative"));
        }
        let Value::String(digest) = digest else {
            return Err(ApiError::field(field, format!("the digest of {name} must be a string")));
        };
        all.push((name, digest));
    }
    Ok(all)
}

fn parameters(given: Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    let given: Map<String, Value> = given.into_iter().filter(|(_, v)| !v.is_null()).collect();
    let mut sampling = Sampling::default();
    let mut known = Map::new();
    for (name, value) in given {
        // One stop text may come as itself.
        let value = match (name.as_str(), value) {
            ("stop", text @ Value::String(_)) => Value::from(vec![text]),
            (_, value) => value,
        };
        if !options::is_known(&name) {
            return Err(ApiError::field("parameters", format!("unknown parameter '{name}'")));
        }
        known.insert(name, value);
    }
    options::apply(Some(&known), &mut sampling)?;
    Ok(known)
}

fn messages(said: Vec<Said>) -> Result<Vec<(String, String)>, ApiError> {
    let known = |m: &Said| matches!(m.role.as_str(), "system" | "user" | "assistant");
    match said.iter().all(known) {
        true => Ok(said.into_iter().map(|m| (m.role, m.content)).collect()),
        false => Err(ApiError::field(
            "messages",
            "message role must be one of \"system\", \"user\", or \"assistant\"",
        )),
    }
}

fn licences(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::field("license", "license must be a string or a list of strings");
    let text = |value| match value {
        Value::String(text) => Ok(text),
        _ => Err(wrong()),
    };
    let all = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(all)) => all.into_iter().map(text).collect::<Result<Vec<_>, _>>()?,
        Some(one) => vec![text(one)?],
    };
    Ok(all.into_iter().filter(|text| !text.is_empty()).collect())
}

fn recipe(name: &str) -> Result<&'static Recipe, ApiError> {
    // As Ollama calls it, too.
    let full = if name.eq_ignore_ascii_case("Q4_K") { "Q4_K_M" } else { name };
    Recipe::find(full).ok_or_else(|| {
        let names: Vec<&str> = Recipe::all().iter().map(|r| r.name).collect();
        let message =
            format!("unsupported quantization type \"{name}\": known are {}", names.join(", "));
        ApiError::field("quantize", message)
    })
}

/// Whether every file was uploaded.
fn here(hub: &Hub, order: &Order) -> Result<(), ApiError> {
    for (name, digest) in order.files.iter().chain(&order.adapters).chain(&order.draft) {
        let found = hub.blob(digest);
        if found.map_err(|_| ApiError::invalid("invalid digest format"))?.is_none() {
            let message = format!("blob \"{digest}\" of {name} is not here; upload it first");
            return Err(ApiError::field("files", message));
        }
    }
    Ok(())
}

/// What the new model's weights are, and what must live as long as they are not stored.
struct Base {
    local: LocalModel,
    projector: Option<PathBuf>,
    adapters: Vec<PathBuf>,
    _gathered: Vec<Gathered>,
}

fn made(hub: &Hub, mut order: Order, teller: &Teller) -> Result<(), ApiError> {
    let mut base = match order.from.clone() {
        Some(from) => of_model(hub, &from, teller)?,
        None => of_files(hub, &order.files, teller)?,
    };
    if let Some(recipe) = order.quantize {
        let under = hub.overlay(&base.local)?;
        order.overlay = std::mem::take(&mut order.overlay).over(under);
        quantized(hub, &mut base, recipe, teller)?;
    }
    let blob = |file: &File| hub.blob(&file.1).ok().flatten();
    base.adapters.extend(order.adapters.iter().filter_map(blob));
    order.overlay.projector = base.projector.clone().or(order.overlay.projector);
    order.overlay.draft = order.draft.first().and_then(blob).or(order.overlay.draft);
    if !base.adapters.is_empty() {
        order.overlay.adapters = base.adapters.clone();
    }
    let existing = base.local.keeper == hob_hub::Keeper::Hob;
    let texts = texts(&order.overlay);
    let creation = Creation { base: base.local, overlay: order.overlay, requires: order.requires };
    let made = hub.create(&order.name, &creation, &describe::facts, &mut |_| {})?;
    if let Some(digest) = &made.digest {
        let what = if existing { "using existing layer" } else { "creating new layer" };
        teller.tell(json!({"status": format!("{what} sha256:{digest}")}));
    }
    for text in texts {
        let digest = hob_hub::sha256(text.as_bytes());
        teller.tell(json!({"status": format!("creating new layer sha256:{digest}")}));
    }
    teller.tell(json!({"status": "writing manifest"}));
    teller.tell(json!({"status": "success"}));
    Ok(())
}

/// The texts that become layers of their own.
fn texts(overlay: &Overlay) -> Vec<String> {
    let Overlay { template, system, licences, .. } = overlay;
    let system = system.iter().filter(|text| !text.is_empty());
    template.iter().chain(system).chain(licences).cloned().collect()
}

/// A model that is here, or is fetched.
fn of_model(hub: &Hub, from: &str, teller: &Teller) -> Result<Base, ApiError> {
    let local = match hub.find_named(from)? {
        Some(local) => local,
        None => pull::pulled(hub, from, &pull::Order::default(), teller)?,
    };
    Ok(Base { local, projector: None, adapters: Vec::new(), _gathered: Vec::new() })
}

/// Uploaded files: GGUF, or a checkpoint in Hugging Face's layout, which is converted.
fn of_files(hub: &Hub, files: &[File], teller: &Teller) -> Result<Base, ApiError> {
    let ends = |file: &&File, end: &str| file.0.to_ascii_lowercase().ends_with(end);
    if files.iter().any(|f| ends(&f, ".safetensors")) {
        return of_checkpoint(hub, files, teller);
    }
    teller.tell(json!({"status": "parsing GGUF"}));
    if let [(_, digest)] = files {
        // A single file is taken as it lies there.
        let path = hub.blob(digest)?.ok_or_else(|| gone(digest))?;
        let local = LocalModel::file("the uploaded file", &path)?;
        Gguf::open(&path).map_err(|e| unusable(files, &e))?;
        return Ok(Base { local, projector: None, adapters: Vec::new(), _gathered: Vec::new() });
    }
    let gathered = hub.gather(files)?;
    let (mut weights, mut projector, mut adapters) = (Vec::new(), None, Vec::new());
    for path in gathered.files() {
        let gguf = Gguf::open(path).map_err(|e| unusable(files, &e))?;
        let text = |key: &str| gguf.meta().opt_str(key).ok().flatten().unwrap_or_default();
        match (text("general.type"), text("general.architecture")) {
            ("adapter", _) => adapters.push(path.clone()),
            ("mmproj", _) | (_, "clip") => projector = Some(path.clone()),
            _ => weights.push(path.clone()),
        }
    }
    weights.sort();
    let Some(first) = weights.first() else {
        return Err(ApiError::field("files", "there are no weights among the files"));
    };
    let parts = Gguf::open(first).map_or(1, |gguf| gguf.paths().len());
    if parts != weights.len() {
        return Err(ApiError::field("files", "the files hold more than one model"));
    }
    let local = LocalModel::file("the uploaded files", first)?;
    Ok(Base { local, projector, adapters, _gathered: vec![gathered] })
}

fn gone(digest: &str) -> ApiError {
    ApiError::field("files", format!("blob \"{digest}\" is not here any more; upload it again"))
}

/// A reason without the place where the file lies.
fn unusable(files: &[File], error: &dyn std::error::Error) -> ApiError {
    let names: Vec<&str> = files.iter().map(|f| f.0.as_str()).take(4).collect();
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    ApiError::field("files", format!("{} cannot be used: {cause}", names.join(", ")))
}

fn of_checkpoint(hub: &Hub, files: &[File], teller: &Teller) -> Result<Base, ApiError> {
    teller.tell(json!({"status": "converting model"}));
    let gathered = hub.gather(files)?;
    let options = convert::Options::default();
    let failed = |e: convert::ConvertError| unusable(files, &e);
    let conversion = Conversion::plan(gathered.folder(), &options).map_err(failed)?;
    let target = hub.gather(&[])?;
    let path = target.folder().join("converted.gguf");
    let total = conversion.file_bytes().map_err(failed)?;
    let writing = Writing { path: path.clone(), replace: false, threads: 1 };
    let written = conversion.write(&writing, &mut |at| {
        tell(teller, "converting model".to_owned(), at.bytes, total);
        go_on(&teller.stop)
    });
    written.map_err(failed)?;
    let local = LocalModel::file("the uploaded files", &path)?;
    Ok(Base { local, projector: None, adapters: Vec::new(), _gathered: vec![gathered, target] })
}

/// Puts a quantized file in the place of the base.
fn quantized(
    hub: &Hub,
    base: &mut Base,
    recipe: &'static Recipe,
    teller: &Teller,
) -> Result<(), ApiError> {
    let source = ModelFile::read(hub, base.local.clone(), &mut |_| {})?;
    let options = quantize::Options::new(recipe);
    let plan = Plan::new(&source.gguf, &options).map_err(refusal)?;
    let target = hub.gather(&[])?;
    let path = target.folder().join("quantized.gguf");
    let threads = Machine::host().map_or(1, |m| default_threads(&m));
    let writing = Writing { path: path.clone(), replace: false, threads };
    let total = plan.total_bytes();
    let status = format!("quantizing {} model to {}", source.recipe(), recipe.name);
    let written = plan.write(&writing, &mut |at| {
        tell(teller, status.clone(), at.bytes, total);
        go_on(&teller.stop)
    });
    written.map_err(refusal)?;
    base.local = LocalModel::file("the quantized file", &path)?;
    base._gathered.push(target);
    Ok(())
}

fn tell(teller: &Teller, status: String, completed: u64, total: u64) {
    let digest = format!("sha256:{NO_DIGEST}");
    teller
        .tell(json!({"status": status, "digest": digest, "total": total, "completed": completed}));
}

fn go_on(stop: &Stop) -> ControlFlow<()> {
    if stop.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn refusal(error: QuantizeError) -> ApiError {
    match error {
        QuantizeError::Requantize { .. } => ApiError::field(
            "quantize",
            format!("quantization is only supported for F16, BF16 and F32 models: {error}"),
        ),
        QuantizeError::NeedsImportance { .. } => ApiError::field("quantize", error.to_string()),
        other => ApiError::new(Kind::Internal, other.to_string()),
    }
}
