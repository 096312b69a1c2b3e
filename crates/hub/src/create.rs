//! A model made of another: its weights, taken over by digest, and small layers laid over them. Everything is prepared first; the manifest is
//! the one step that makes the model appear. What the texts mean is the caller's to check.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::digest::Hasher;
use crate::error::HubError;
use crate::local::{Facts, Keeper, LocalModel, OWN_TEMPLATE, Overlay};
use crate::manifest::{Config, Kind, Layer, Manifest};
use crate::name::ModelName;
use crate::store::{Locks, Store, Stored};
use crate::{Progress, import};

/// What a new model is made of.
#[derive(Clone, Debug)]
pub struct Creation {
    /// The model whose weights it takes, and whose layers it keeps where it has none of its own.
    pub base: LocalModel,
    /// What is laid over it. Paths are files to be taken in.
    pub overlay: Overlay,
    /// The least version that a server must have.
    pub requires: Option<String>,
}

impl Overlay {
    /// These layers over those of another model. Parameters are replaced one by one, messages and licences as a whole.
    #[must_use]
    pub fn over(self, base: Overlay) -> Overlay {
        let own = self;
        let mut parameters = base.parameters;
        parameters.extend(own.parameters);
        let either = |own: Vec<String>, base| if own.is_empty() { base } else { own };
        Overlay {
            own_template: own.template.is_some() || base.own_template,
            template: own.template.or(base.template),
            system: own.system.or(base.system).filter(|text| !text.is_empty()),
            parameters,
            messages: if own.messages.is_empty() { base.messages } else { own.messages },
            licences: either(own.licences, base.licences),
            adapters: if own.adapters.is_empty() { base.adapters } else { own.adapters },
            projector: own.projector.or(base.projector),
            draft: own.draft.or(base.draft),
            renderer: own.renderer.or(base.renderer),
            parser: own.parser.or(base.parser),
        }
    }
}

/// Stores the model under this name. `stored` is the base if the store has it, `base` what that carries beside its weights.
pub(crate) fn create(
    store: &Store,
    name: &ModelName,
    creation: &Creation,
    (stored, base): (Option<Stored>, Overlay),
    describe: &dyn Fn(&[PathBuf]) -> Option<Facts>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Stored, HubError> {
    let overlay = creation.overlay.clone().over(base);
    let (locks, mut layers) = weights(store, creation, stored.as_ref(), &overlay, progress)?;
    let mut config = config(creation, stored, describe);
    config.renderer = overlay.renderer.clone();
    config.parser = overlay.parser.clone();
    config.requires = creation.requires.clone().or(config.requires);
    let small = small(&overlay);
    let digests: Vec<_> = small.iter().map(|(_, content)| Hasher::of(content)).collect();
    let locked = store.lock(&[digests, vec![config.layer().digest]].concat(), || ())?;
    for (kind, content) in &small {
        layers.push(store.add(&locked, *kind, content)?);
    }
    store.add_as(&locked, &config.layer(), &config.to_bytes())?;
    let mut manifest = Manifest::new(config.layer(), layers);
    if overlay.own_template {
        manifest.annotations.insert(OWN_TEMPLATE.to_owned(), "yes".to_owned());
    }
    store.commit(&locks.with(locked), name, &manifest.to_bytes())
}

/// The layers of weights, here and locked: those of a stored base as they are, others taken in.
fn weights(
    store: &Store,
    creation: &Creation,
    stored: Option<&Stored>,
    overlay: &Overlay,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Locks, Vec<Layer>), HubError> {
    let mut more: Vec<(Kind, PathBuf)> = Vec::new();
    more.extend(overlay.projector.iter().map(|path| (Kind::Projector, path.clone())));
    more.extend(overlay.adapters.iter().map(|path| (Kind::Adapter, path.clone())));
    more.extend(overlay.draft.iter().map(|path| (Kind::Draft, path.clone())));
    let Some(stored) = stored else {
        let base = Some(creation.base.path.as_path());
        return import::take_all(store, base, &more, progress);
    };
    // A blob of the store is taken over by its digest, which its name tells.
    let kept: Vec<Layer> = stored.manifest.of(Kind::Model).cloned().collect();
    let digests: Vec<_> = kept.iter().map(|layer| layer.digest).collect();
    let locks = store.lock(&digests, || progress(Progress::Waiting))?;
    if let Some(layer) = kept.iter().find(|layer| !store.has(layer)) {
        let reason = format!("its file {} is gone", layer.digest);
        return Err(HubError::Damaged { name: stored.name.to_string(), reason });
    }
    let (further, taken) = import::take_all(store, None, &more, progress)?;
    Ok((locks.with(further), [kept, taken].concat()))
}

fn config(
    creation: &Creation,
    stored: Option<Stored>,
    describe: &dyn Fn(&[PathBuf]) -> Option<Facts>,
) -> Config {
    if let Some(stored) = stored {
        return stored.config;
    }
    let known = creation.base.facts.clone().unwrap_or_default();
    let found = describe(&creation.base.parts).unwrap_or_default();
    let source = match creation.base.keeper {
        Keeper::User => "file".to_owned(),
        keeper => format!("{} {}", keeper.name(), creation.base.name),
    };
    crate::pull::config(&known, &found, &source)
}

/// The small layers, in Ollama's order.
fn small(overlay: &Overlay) -> Vec<(Kind, Vec<u8>)> {
    let text = |kind, text: &String| (kind, text.clone().into_bytes());
    let mut layers = Vec::new();
    layers.extend(overlay.template.iter().map(|t| text(Kind::Template, t)));
    layers.extend(overlay.system.iter().map(|t| text(Kind::System, t)));
    layers.extend(overlay.licences.iter().map(|t| text(Kind::License, t)));
    if !overlay.parameters.is_empty() {
        let parameters = Value::Object(overlay.parameters.clone());
        layers.push((Kind::Params, parameters.to_string().into_bytes()));
    }
    if !overlay.messages.is_empty() {
        let message =
            |(role, content): &(String, String)| json!({"role": role, "content": content});
        let messages: Vec<Value> = overlay.messages.iter().map(message).collect();
        layers.push((Kind::Messages, Value::from(messages).to_string().into_bytes()));
    }
    layers
}
