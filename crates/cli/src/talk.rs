//! Who answers: a model in this process, or one that a running hob server has. `run` and its chat speak to either alike.

use std::path::Path;

use anyhow::{Result, bail};
use hob_hub::Hub;
use hob_server::{ModelFile, Sampling, describe};
use hob_text::{ChatEvent, Message};

use crate::answer::{Answer, Kv, LoadFlags, Local, Think};
use crate::remote::Place;
use crate::there::There;
use crate::{folder, show};

/// A model to talk to.
pub enum Model {
    /// In this process.
    Here(Box<Local>),
    /// In a server.
    There(Box<There>),
}

/// How models are found and loaded.
#[derive(Clone, Debug)]
pub struct Way {
    /// Here, or in a server.
    pub place: Place,
    /// What is wished of the loading.
    pub load: LoadFlags,
    /// How long a server keeps the model, as Ollama writes it.
    pub keep: Option<String>,
}

/// What gets pieces of an answer as they become certain.
pub type Pieces<'a> = &'a mut dyn FnMut(&ChatEvent) -> Result<()>;

impl Model {
    /// Loads a model, fetching it first if need be.
    ///
    /// # Errors
    /// When it cannot be had or loaded; when a server was named for what only this process can do.
    pub fn open(hub: &Hub, name: &str, way: &Way) -> Result<Model> {
        let reason = needs_this_process(name, &way.load);
        if let Some(reason) = reason.filter(|_| way.place.is_named()) {
            bail!("{reason}; leave out --host");
        }
        let server = match reason {
            Some(_) => None,
            None => way.place.server_if_any()?,
        };
        match server {
            Some(server) => Ok(Model::There(Box::new(There::open(server, name, way)?))),
            None => {
                let file = crate::models::open_or_pull(hub, name)?;
                Ok(Model::Here(Box::new(Local::load(file, &way.load)?)))
            }
        }
    }

    /// The same model, loaded in another way.
    ///
    /// # Errors
    /// When that does not work; this one is as it was.
    pub fn again(&self, way: &Way) -> Result<Model> {
        match self {
            Model::There(there) => {
                if let Some(reason) = needs_this_process(there.name(), &way.load) {
                    bail!("{reason}; start `hob run` with --local");
                }
                Ok(Model::There(Box::new(there.again(way)?)))
            }
            Model::Here(local) => {
                let file = &local.0.file;
                let file = ModelFile {
                    local: file.local.clone(),
                    gguf: file.gguf.clone(),
                    overlay: file.overlay.clone(),
                };
                Ok(Model::Here(Box::new(Local::load(file, &way.load)?)))
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Model::Here(local) => &local.0.file.local.name,
            Model::There(there) => there.name(),
        }
    }

    /// What was chosen for it and why: its context, where it is, and how fast that is expected to be by what the store knows of this machine.
    pub fn line(&self, store: &Path) -> String {
        match self {
            Model::Here(local) => local.0.line(store),
            Model::There(there) => there.line(),
        }
    }

    /// Tokens of prompt and answer together.
    pub fn context(&self) -> usize {
        match self {
            Model::Here(local) => local.0.context.tokens,
            Model::There(there) => there.context(),
        }
    }

    /// Whether it knows roles.
    pub fn has_template(&self) -> bool {
        match self {
            Model::Here(local) => local.has_template(),
            Model::There(there) => there.template().is_some(),
        }
    }

    /// How its tokens are chosen where nobody says otherwise.
    ///
    /// # Errors
    /// When its file or store has a parameter that cannot be.
    pub fn sampling(&self) -> Result<Sampling> {
        match self {
            Model::Here(local) => Ok(Sampling::of_model(&local.0.file)?),
            Model::There(there) => there.sampling(),
        }
    }

    /// Its own system prompt.
    pub fn system(&self) -> Option<String> {
        match self {
            Model::Here(local) => local.0.file.overlay.system.clone(),
            Model::There(there) => there.system(),
        }
    }

    /// Its chat template.
    pub fn template(&self) -> Option<String> {
        match self {
            Model::Here(local) => describe::template(&local.0.file),
            Model::There(there) => there.template(),
        }
    }

    /// Its licence.
    pub fn licence(&self) -> Option<String> {
        match self {
            Model::Here(local) => describe::licence(&local.0.file),
            Model::There(there) => there.licence(),
        }
    }

    /// What it is.
    ///
    /// # Errors
    /// When its file has a parameter that cannot be.
    pub fn overview(&self) -> Result<String> {
        match self {
            Model::Here(local) => show::overview(&local.0.file),
            Model::There(there) => there.overview(),
        }
    }

    /// Answers a conversation. Ctrl-C ends the answer early, which is no error.
    ///
    /// # Errors
    /// When the template refuses it, it does not fit, thinking is asked of a model that has none, or the engine fails.
    pub fn chat(
        &self,
        messages: &[Message],
        think: Option<Think>,
        sampling: &Sampling,
        pieces: Pieces<'_>,
    ) -> Result<Answer> {
        match self {
            Model::Here(local) => {
                local.answer(local.chat_prompt(messages, think)?, sampling, pieces)
            }
            Model::There(there) => there.chat(messages, think, sampling, pieces),
        }
    }

    /// Continues a text.
    ///
    /// # Errors
    /// When it does not fit, or the engine fails.
    pub fn text(&self, text: &str, sampling: &Sampling, pieces: Pieces<'_>) -> Result<Answer> {
        match self {
            Model::Here(local) => local.answer(local.text_prompt(text)?, sampling, pieces),
            Model::There(there) => there.text(text, sampling, pieces),
        }
    }
}

/// Why a server is not asked: files of this user, and wishes that are the server's own business.
fn needs_this_process(name: &str, load: &LoadFlags) -> Option<&'static str> {
    let on_hub =
        ["hf.co/", "huggingface.co/", "modelscope.cn/"].iter().any(|h| name.starts_with(h));
    let gguf = name.to_ascii_lowercase().ends_with(".gguf") && !on_hub;
    let path =
        name.starts_with(['/', '.', '\\']) || (name.contains('/') && Path::new(name).exists());
    if gguf || path || folder::is_checkpoint(name) {
        return Some("a file is loaded in this process, not by a server");
    }
    if load.threads.is_some() || load.kv != Kv::default() {
        return Some("--threads and --kv are for a model in this process, a server has its own");
    }
    None
}
