//! A loaded model: engine, tokenizer, template, and what its file and store say about sampling. `hob run` uses one in its own process, the
//! server several; both ask it for prompts and put them to its engine.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hob_engine::grammar::{GrammarError, Grammars};
use hob_engine::{Embed, Engine, EngineConfig, LoadOptions, Runner, Speculate};
use hob_machine::Machine;
use hob_model::{Head, KvType, Model};
use hob_plan::placement::{self, Job};
use hob_plan::{Conditions, Context, STEP_ROWS};
use hob_text::{Capabilities, ChatTemplate, EncodeOptions, GoTemplate, Template, Token, Tokenizer};
use serde_json::Value;

use crate::error::{ApiError, LoadError};
use crate::file::ModelFile;
use crate::here;
use crate::sampling::Sampling;

/// How a model is to be loaded.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Tokens of prompt and answer together; `None` for the model's own, or what memory allows.
    pub context: Option<usize>,
    /// The context where nothing is asked for, if the model has that many.
    pub usual_context: usize,
    /// Threads; `None` for one per core.
    pub threads: Option<usize>,
    /// Type of the cache.
    pub kv: KvType,
    /// Sequences that may run at once.
    pub sequences: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// Rows of prompts in a step while somebody decodes.
    pub mixed_rows: usize,
    /// Whether answers are drafted where a request says nothing.
    pub speculate: Speculate,
    /// Bytes of memory that it may take.
    pub available: u64,
}

impl Wishes {
    /// For one conversation at a time, with all of the memory that is free.
    pub fn alone(available: u64) -> Self {
        Wishes {
            context: None,
            usual_context: usize::MAX,
            threads: None,
            kv: KvType::F16,
            sequences: 1,
            queue: 1,
            mixed_rows: STEP_ROWS,
            speculate: Speculate::Auto,
            available,
        }
    }
}

/// Threads for a computation that is bound by memory and by arithmetic units: one per core, of those that may be used.
pub fn default_threads(machine: &Machine) -> usize {
    machine.cpu.physical_cores.min(machine.cpu.usable_cores).max(1)
}

/// A model, ready to answer.
pub struct Loaded {
    /// Its file.
    pub file: ModelFile,
    /// Its description.
    pub model: Model,
    /// The context it was given.
    pub context: Context,
    /// How long loading took.
    pub load_time: Duration,
    /// What it takes of memory: weights, cache and buffers.
    pub memory: u64,
    /// How its tokens are chosen where a request says nothing.
    pub sampling: Sampling,
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// What makes a prompt of a conversation, unless it is a base model.
    pub template: Option<Template>,
    /// What computes.
    pub engine: Engine,
    /// Whether answers are drafted where a request says nothing.
    pub speculate: Speculate,
    threads: usize,
    whose: Whose,
    insert: OnceLock<Option<Infill>>,
    pub(crate) grammars: OnceLock<Result<Grammars, GrammarError>>,
}

/// Whose wish a context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Of whoever loads it.
    Asked,
    /// Of the parameters beside the file.
    Parameters,
    /// What a server gives where nobody asks.
    Usual,
    /// Nobody's: as much as there is.
    Model,
}

impl Whose {
    fn text(self) -> &'static str {
        match self {
            Whose::Asked => "as asked",
            Whose::Parameters => "as the model's parameters say",
            Whose::Usual => "the usual",
            Whose::Model => "all of the model's",
        }
    }
}

/// The tokens between which a model is to fill in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Infill {
    /// Before the text that precedes.
    pub prefix: Token,
    /// Before the text that follows.
    pub suffix: Token,
    /// Before the answer.
    pub middle: Token,
}

impl Loaded {
    /// Loads a file.
    ///
    /// # Errors
    /// When hob cannot run it, or there is not enough memory for what is wished.
    pub fn load(file: ModelFile, wishes: &Wishes) -> Result<Loaded, LoadError> {
        let start = Instant::now();
        let name = file.local.name.clone();
        if !file.overlay.adapters.is_empty() {
            return Err(LoadError::Adapter { name });
        }
        file.gguf.advise_willneed();
        let model = file.describe()?;
        let tokenizer = Arc::new(Tokenizer::from_gguf(file.meta())?);
        let template = template(&file, &tokenizer)?;
        let sampling = Sampling::of_model(&file)?;
        let (conditions, whose) = conditions(&file, &model, wishes);
        let context = conditions.choose_shared()?;
        let memory = hob_model::footprint(&model, &context.limits, file.weight_bytes()).total();
        let threads = match wishes.threads {
            Some(threads) => threads,
            None => default_threads(&Machine::host()?),
        };
        let options = LoadOptions { threads, limits: context.limits };
        let refused = |source| LoadError::Engine { name: name.clone(), source };
        let runner = Runner::load(file.gguf.clone(), &options).map_err(refused)?;
        let config = EngineConfig {
            context: context.tokens,
            sequences: context.limits.sequences,
            queue: wishes.queue,
            mixed_rows: wishes.mixed_rows,
        };
        let engine = Engine::start(runner, tokenizer.clone(), config).map_err(refused)?;
        let load_time = start.elapsed();
        Ok(Loaded {
            file,
            model,
            context,
            load_time,
            memory,
            sampling,
            tokenizer,
            template,
            engine,
            speculate: wishes.speculate,
            threads,
            whose,
            insert: OnceLock::new(),
            grammars: OnceLock::new(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.file.local.name
    }

    /// What was chosen for it and why, in one line: its context, what computes it, and the speed that the planner expects of that; with what was
    /// measured of this machine by the store's account, else by the table. Nothing is measured for it.
    pub fn line(&self, store: &Path) -> String {
        let mut line = self.context.line(&self.model);
        if !self.context.memory_bound {
            line += &format!(", {}", self.whose.text());
        }
        let plural = if self.threads == 1 { "" } else { "s" };
        line += &format!("; on the CPU with {} thread{plural}", self.threads);
        if let Some(speed) = self.expected(store) {
            line += &format!(", {speed}");
        }
        line
    }

    /// The expected speed. Not with an unusual number of threads, of which neither probe nor table tells anything.
    fn expected(&self, store: &Path) -> Option<String> {
        let machine = Machine::host().ok()?;
        if self.threads != default_threads(&machine) {
            return None;
        }
        let rig = here::cores(store, &machine);
        let weights = self.file.weights(&self.model).ok()?;
        let wishes = placement::Wishes::new(self.context.tokens);
        let wishes = placement::Wishes { kv: self.context.limits.kv, ..wishes };
        let job = Job { model: &self.model, weights: &weights, wishes };
        let placement = job.on_cores(&rig);
        let (decode, prefill) = (job.decode(&rig, &placement, 0), job.prefill(&rig, &placement));
        let speed = here::speed(&self.model, decode, prefill);
        Some(match rig.host.probe {
            Some(_) => speed,
            None => format!("{speed}, by the table until hob doctor measures"),
        })
    }

    /// Whether it only makes vectors of texts.
    pub fn embeds_only(&self) -> bool {
        matches!(self.model.head, Head::Pool(_))
    }

    /// Whether it may think before it answers.
    pub fn thinks(&self) -> bool {
        self.template.as_ref().is_some_and(|t| t.format().thinks())
    }

    /// What its template knows besides conversations.
    pub fn capabilities(&self) -> Capabilities {
        let mut can = match &self.template {
            Some(Template::Jinja(template)) => template.capabilities(),
            Some(Template::Go(template)) => template.capabilities(),
            None => Capabilities { tools: false, thinking: false, insert: false },
        };
        can.insert |= self.infill().is_some();
        can
    }

    /// The tokens for filling in, where its vocabulary has them.
    pub fn infill(&self) -> Option<Infill> {
        *self.insert.get_or_init(|| infill(&self.tokenizer))
    }

    /// The tokens of a text, control tokens by their names, begun as the model expects it.
    pub fn tokens(&self, text: &str) -> Vec<Token> {
        let options = EncodeOptions { add_special: false, parse_special: true };
        let mut tokens = self.tokenizer.encode(text, options);
        // Templates that write the begin token themselves must not get a second one.
        if self.tokenizer.add_bos()
            && let Some(bos) = self.tokenizer.bos()
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        tokens
    }

    /// A vector for each text, and the number of their tokens. Waits.
    ///
    /// # Errors
    /// When a text is longer than the context, or the engine fails.
    pub fn embed(
        &self,
        texts: &[String],
        normalize: bool,
    ) -> Result<(Vec<Vec<f32>>, usize), ApiError> {
        let special = EncodeOptions { add_special: true, parse_special: false };
        let texts: Vec<Vec<Token>> =
            texts.iter().map(|text| self.tokenizer.encode(text, special)).collect();
        let count = texts.iter().map(Vec::len).sum();
        let request = Embed { texts, normalize, ..Embed::default() };
        Ok((self.engine.embed(request)?.wait()?, count))
    }
}

/// The context that a file would get.
///
/// # Errors
/// When hob cannot run it, or it does not fit.
pub(crate) fn plan(file: &ModelFile, wishes: &Wishes) -> Result<Context, LoadError> {
    Ok(conditions(file, &file.describe()?, wishes).0.choose_shared()?)
}

/// What its context depends on, and whose wish it is.
fn conditions<'m>(file: &ModelFile, model: &'m Model, wishes: &Wishes) -> (Conditions<'m>, Whose) {
    let trained = model.context as usize;
    let set = file.overlay.parameters.get("num_ctx").and_then(Value::as_u64);
    let set = set.map(|n| n as usize).filter(|n| (2..=trained).contains(n));
    let conditions = Conditions {
        model,
        weights: file.weight_bytes(),
        available: wishes.available,
        kv: wishes.kv,
        sequences: wishes.sequences,
        asked: wishes.context.or(set),
    };
    // The usual context is a wish that gives way to memory, so it is asked for only where it fits.
    let usual = Conditions { asked: Some(wishes.usual_context.max(2)), ..conditions };
    match (wishes.context, set) {
        (Some(_), _) => (conditions, Whose::Asked),
        (None, Some(_)) => (conditions, Whose::Parameters),
        (None, None) if wishes.usual_context < trained && usual.choose().is_ok() => {
            (usual, Whose::Usual)
        }
        (None, None) => (conditions, Whose::Model),
    }
}

/// The template that counts: of the file, or of the layer beside it.
fn template(file: &ModelFile, tokenizer: &Tokenizer) -> Result<Option<Template>, LoadError> {
    let jinja = ChatTemplate::from_gguf(file.meta(), tokenizer)?;
    let go = file.overlay.template.as_deref().map(GoTemplate::new).transpose()?;
    let always = std::env::var("OLLAMA_GO_TEMPLATE").is_ok_and(|v| !v.is_empty() && v != "0");
    Ok(Template::choose(jinja, go, file.overlay.own_template || always))
}

/// Spellings of the three tokens in the vocabularies of Qwen, DeepSeek, StarCoder, CodeLlama, CodeGemma, Codestral and Granite.
pub(crate) const INFILL: [[&str; 3]; 6] = [
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],
    ["<PRE>", "<SUF>", "<MID>"],
];

fn infill(tokenizer: &Tokenizer) -> Option<Infill> {
    let token = |piece| tokenizer.token_id(piece);
    INFILL.iter().find_map(|[prefix, suffix, middle]| {
        Some(Infill { prefix: token(prefix)?, suffix: token(suffix)?, middle: token(middle)? })
    })
}
