//! What to buy or to run: over hardware, models, recipes and engines, those that no other beats in everything, in an order of preference, each with
//! its reasons. Quality is a proxy (`quality`), never a measurement. Deliberately absent: words for people, which have languages (`cli`).

mod offers;
mod quality;
mod rank;
mod served;

use hob_model::{KvType, Model, Recipe, RecipeOptions};

use crate::fit::PUBLISHED_IN_MXFP4;
use crate::memory::{Weights, bits_per_weight};
use crate::placement::{Job, Seat, Share, Where, Wishes};
use crate::speed::Interval;

pub use offers::{Cost, Offer, offer_of_devices, offer_of_machine, offers};
pub use quality::quality;
pub use rank::pareto;

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Conversation.
    Chat,
    /// Programs.
    Code,
    /// Thinking before the answer.
    Reasoning,
    /// Vectors of texts.
    Embedding,
    /// Answers from documents that are found first.
    Rag,
    /// Whole books at once.
    LongContext,
}

/// The system that is to run on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Os {
    /// Linux.
    Linux,
    /// Windows.
    Windows,
    /// macOS.
    Macos,
}

/// What the advice must keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constraints {
    /// US dollars for everything.
    pub budget: Option<u32>,
    /// Watts of everything under load.
    pub max_watts: Option<u32>,
    /// Only what one carries about.
    pub portable: bool,
    /// Only what runs this system.
    pub os: Option<Os>,
    /// What it is for.
    pub purpose: Purpose,
    /// Tokens per second of every user; by purpose if not given.
    pub min_speed: Option<f64>,
    /// Tokens of every user; by purpose if not given.
    pub context: Option<usize>,
    /// Users at the same time.
    pub users: usize,
}

/// One of the constraints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Of money.
    Budget,
    /// Of power.
    Watts,
    /// Of size.
    Portable,
    /// Of systems.
    Os,
    /// Of speed.
    Speed,
    /// Of context.
    Context,
    /// Of users.
    Users,
}

/// A model that may be advised: what a catalogue says of it, and its description.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name in the catalogue.
    pub name: String,
    /// Parameters.
    pub parameters: u64,
    /// Those that a token meets.
    pub active: u64,
    /// What it is made for.
    pub purposes: Vec<Purpose>,
    /// Year and month of its publication.
    pub released: Option<(u16, u8)>,
    /// Repository of the published weights.
    pub repository: String,
    /// A repository of GGUF files.
    pub gguf: Option<String>,
    /// Its description.
    pub model: Model,
}

/// What runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// hob, on the cores.
    Hob,
    /// A program of llama.cpp's kind on a GPU, until hob computes there itself.
    LlamaCpp,
    /// vLLM, with tensors over so many cards.
    Vllm {
        /// Cards.
        parallel: usize,
    },
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Index of the hardware in the list that was given.
    pub offer: usize,
    /// Index of the model.
    pub candidate: usize,
    /// The recipe; with vLLM the precision that it stands for.
    pub recipe: &'static str,
    /// What runs it.
    pub engine: Engine,
    /// The proxy of quality; a point more is like twice the parameters.
    pub quality: f64,
    /// Tokens per second of one user: of the answer, or of the text where vectors are made.
    pub speed: Interval,
    /// Of all users together.
    pub speed_all: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// Where it goes.
    pub placement: Where,
    /// Layers, and what of them the cores do.
    pub layers: usize,
    /// What lies in main memory.
    pub cores: Share,
    /// Whether nothing of it is left to slower cores.
    pub whole: bool,
    /// Tokens of every user.
    pub context: usize,
    /// US dollars, watts.
    pub usd: Option<u32>,
    /// Watts of everything under load.
    pub watts: Option<u32>,
    /// Tokens of all users per joule.
    pub tokens_per_joule: Option<f64>,
    /// What it is the best of all in.
    pub reasons: Vec<Reason>,
}

/// What an answer is the best in, among those that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Quality.
    Quality,
    /// Speed.
    Speed,
    /// Price.
    Price,
    /// Watts.
    Watts,
    /// Tokens per joule.
    Efficiency,
    /// Many users at once on cards of a data centre.
    ManyUsers,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub struct Nothing {
    /// Constraints each of which excludes everything, with the nearest that would do without it.
    pub without: Vec<(Limit, Choice)>,
}

impl Purpose {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Chat => "chat",
            Purpose::Code => "code",
            Purpose::Reasoning => "reasoning",
            Purpose::Embedding => "embedding",
            Purpose::Rag => "rag",
            Purpose::LongContext => "long-context",
        }
    }

    /// Tokens of context that it takes.
    pub fn context(self) -> usize {
        match self {
            Purpose::Embedding => 512,
            Purpose::Chat => 8192,
            Purpose::Code | Purpose::Reasoning | Purpose::Rag => 16_384,
            Purpose::LongContext => 65_536,
        }
    }

    /// Tokens per second below which it is no pleasure.
    pub fn speed(self) -> f64 {
        match self {
            Purpose::Embedding => 100.0,
            Purpose::Chat | Purpose::Rag => 10.0,
            Purpose::Code | Purpose::Reasoning => 15.0,
            Purpose::LongContext => 5.0,
        }
    }

    fn takes(self, candidate: &Candidate) -> bool {
        let made_for = |purpose: Purpose| candidate.purposes.contains(&purpose);
        match self {
            Purpose::Rag | Purpose::LongContext => {
                (made_for(Purpose::Chat) || made_for(Purpose::Reasoning))
                    && candidate.model.context as usize >= self.context()
            }
            other => made_for(other),
        }
    }
}

impl Constraints {
    /// What is asked of every model.
    fn wishes(&self) -> Wishes {
        let context = self.context.unwrap_or(self.purpose.context());
        Wishes {
            users: self.users.max(1),
            kv: KvType::F16,
            // Speeds are those in the middle of a conversation.
            depth: context / 2,
            ..Wishes::new(context)
        }
    }

    fn needed_speed(&self) -> f64 {
        self.min_speed.unwrap_or(self.purpose.speed())
    }

    fn allow(&self, offer: &Offer) -> bool {
        let budget =
            self.budget.is_none_or(|most| offer.cost.as_ref().is_some_and(|c| c.usd <= most));
        let watts = self.max_watts.is_none_or(|most| offer.watts.is_some_and(|w| w <= most));
        let portable = !self.portable || offer.portable;
        budget && watts && portable && self.os.is_none_or(|os| offer.runs(os))
    }

    fn without(&self, limit: Limit) -> Option<Constraints> {
        let mut less = *self;
        match limit {
            Limit::Budget => less.budget = None,
            Limit::Watts => less.max_watts = None,
            Limit::Portable => less.portable = false,
            Limit::Os => less.os = None,
            Limit::Speed => less.min_speed = Some(0.0),
            Limit::Context => less.context = Some(2048),
            Limit::Users => less.users = 1,
        }
        (less != *self).then_some(less)
    }
}

/// Recipes that are worth advising, from many bits to few: what they are called in the answer, and the recipe.
const RECIPES: &[(&str, &str)] = &[
    ("Q8_0", "Q8_0"),
    ("Q6_K", "Q6_K"),
    ("Q5_K_M", "Q5_K_M"),
    ("Q4_K_M", "Q4_K_M"),
    ("IQ4_XS", "IQ4_XS"),
    ("Q3_K_M", "Q3_K_M"),
    ("IQ2_M", "IQ2_M"),
];
/// For models that are published in MXFP4.
const PUBLISHED_4: &[(&str, &str)] = &[("MXFP4_MOE", "MXFP4_MOE")];
/// For embeddings, which are small.
const SMALL: &[(&str, &str)] = &[("F16", "F16"), ("Q8_0", "Q8_0")];
/// Most answers of one hardware that are looked at: better ones come first, and the rest would only be faster still.
const MOST_OF_ONE: usize = 10;

/// What of a stated bandwidth nothing exceeds.
const BEYOND: f64 = 1.2;

/// A model in one recipe.
struct Made {
    candidate: usize,
    label: &'static str,
    weights: Weights,
    /// Bytes that a token reads at least.
    read: f64,
    quality: f64,
}

/// One of them on one hardware.
#[derive(Clone, Copy)]
struct Case<'a> {
    offer: (usize, &'a Offer),
    made: &'a Made,
    candidate: &'a Candidate,
    constraints: &'a Constraints,
}

/// What an engine makes of it.
struct Run {
    engine: Engine,
    speed: Interval,
    speed_all: f64,
    memory: u64,
    placement: Where,
    cores: Share,
    whole: bool,
}

/// The short list: at most `most` answers, the preferred first.
///
/// # Errors
/// [`Nothing`], when no combination keeps to the constraints.
pub fn advise(
    offers: &[Offer],
    candidates: &[Candidate],
    constraints: &Constraints,
    most: usize,
) -> Result<Vec<Choice>, Nothing> {
    let made = made(candidates, constraints.purpose);
    let found = choices(offers, candidates, &made, constraints);
    if found.is_empty() {
        return Err(nothing(offers, candidates, &made, constraints));
    }
    Ok(rank::short_list(found, offers, constraints.needed_speed(), most))
}

/// All models for a purpose in all recipes, the best first.
fn made(candidates: &[Candidate], purpose: Purpose) -> Vec<Made> {
    made_in(candidates, purpose, |candidate| match purpose {
        Purpose::Embedding => SMALL,
        _ if candidate.model.arch == PUBLISHED_IN_MXFP4 => PUBLISHED_4,
        _ => RECIPES,
    })
}

/// The same in recipes of the caller's, with any engine.
fn made_in(
    candidates: &[Candidate],
    purpose: Purpose,
    recipes: impl Fn(&Candidate) -> &'static [(&'static str, &'static str)],
) -> Vec<Made> {
    let options = RecipeOptions { importance: true, ..RecipeOptions::default() };
    let mut all: Vec<Made> = Vec::new();
    for (index, candidate) in candidates.iter().enumerate().filter(|(_, c)| purpose.takes(c)) {
        for &(label, recipe) in recipes(candidate) {
            let Some(recipe) = Recipe::find(recipe) else { continue };
            let types = recipe.tensor_types(&candidate.model, &options);
            let weights = Weights::of(&candidate.model, &types);
            let bits = match candidate.model.arch {
                // Nothing is lost of what was published.
                PUBLISHED_IN_MXFP4 => 16.0,
                _ => bits_per_weight(&candidate.model, weights.total()),
            };
            let Candidate { parameters, active, released, .. } = *candidate;
            let quality = quality(parameters, active, released, bits);
            let parts = weights.blocks.iter().flat_map(|b| [&b.dense, &b.experts]);
            let parts = parts.chain([&weights.head]).flat_map(|part| part.read.values());
            let read = parts.map(|bytes| *bytes as f64).sum();
            all.push(Made { candidate: index, label, weights, read, quality });
        }
    }
    all.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    all
}

fn choices(
    offers: &[Offer],
    candidates: &[Candidate],
    made: &[Made],
    constraints: &Constraints,
) -> Vec<Choice> {
    let mut all = Vec::new();
    let allowed = || offers.iter().enumerate().filter(|(_, offer)| constraints.allow(offer));
    let served = match allowed().any(|(_, offer)| served::is_case(offer, constraints)) {
        true => served::made(candidates, constraints.purpose),
        false => Vec::new(),
    };
    for (index, offer) in allowed() {
        let cases = |made| cases((index, offer), candidates, made, constraints);
        if served::is_case(offer, constraints) {
            all.extend(cases(&served).filter_map(served::choice).take(served::MOST));
        }
        all.extend(cases(made).filter_map(choice).take(MOST_OF_ONE));
    }
    all
}

/// All of them on one hardware.
fn cases<'a>(
    offer: (usize, &'a Offer),
    candidates: &'a [Candidate],
    made: &'a [Made],
    constraints: &'a Constraints,
) -> impl Iterator<Item = Case<'a>> {
    made.iter().filter_map(move |made| {
        let candidate = candidates.get(made.candidate)?;
        Some(Case { offer, made, candidate, constraints })
    })
}

impl Case<'_> {
    /// The answer that it is, if that is fast enough.
    fn choice(&self, run: Run) -> Option<Choice> {
        let Case { offer: (index, offer), made, candidate, constraints } = *self;
        if run.speed.mid < constraints.needed_speed() {
            return None;
        }
        Some(Choice {
            offer: index,
            candidate: made.candidate,
            recipe: made.label,
            engine: run.engine,
            quality: made.quality,
            speed: run.speed,
            speed_all: run.speed_all,
            memory: run.memory,
            placement: run.placement,
            layers: candidate.model.blocks.len(),
            cores: run.cores,
            whole: run.whole,
            context: constraints.wishes().context,
            usd: offer.cost.as_ref().map(|c| c.usd),
            watts: offer.watts,
            tokens_per_joule: offer.watts.map(|w| run.speed_all / f64::from(w.max(1))),
            reasons: Vec::new(),
        })
    }
}

/// With hob or a program of llama.cpp's kind.
fn choice(case: Case) -> Option<Choice> {
    let Case { offer: (_, offer), made, candidate, constraints } = case;
    let wishes = constraints.wishes();
    let too_long = wishes.context > candidate.model.context as usize;
    // No device reads much faster than its data sheet says: what could not be fast enough need not be placed.
    let wanted = made.read * constraints.needed_speed();
    let too_slow =
        constraints.purpose != Purpose::Embedding && wanted > BEYOND * offer.rig.bandwidth();
    if too_long || too_slow || made.weights.total() > offer.rig.room() {
        return None;
    }
    let job = Job { model: &candidate.model, weights: &made.weights, wishes };
    let placement = job.place(&offer.rig)?;
    let (speed, speed_all) = match constraints.purpose {
        Purpose::Embedding => {
            let speed = job.prefill(&offer.rig, &placement);
            (speed, speed.mid)
        }
        _ => {
            let all = job.decode_all(&offer.rig, &placement, wishes.depth);
            (each(all, wishes.users), all.mid)
        }
    };
    case.choice(Run {
        engine: if placement.on_cores() { Engine::Hob } else { Engine::LlamaCpp },
        speed,
        speed_all,
        memory: placement.total().total(),
        placement: placement.describe(&offer.rig),
        cores: placement.shares.get(&Seat::Cores).copied().unwrap_or_default(),
        whole: placement.whole,
    })
}

/// What each of several users gets.
fn each(all: Interval, users: usize) -> Interval {
    let users = users.max(1) as f64;
    Interval { low: all.low / users, mid: all.mid / users, high: all.high / users }
}

/// Which constraints exclude everything, each with the nearest answer there would be without it.
fn nothing(
    offers: &[Offer],
    candidates: &[Candidate],
    made: &[Made],
    constraints: &Constraints,
) -> Nothing {
    let limits = [
        Limit::Budget,
        Limit::Watts,
        Limit::Portable,
        Limit::Os,
        Limit::Speed,
        Limit::Context,
        Limit::Users,
    ];
    let nearest = |limit: Limit| {
        let found = choices(offers, candidates, made, &constraints.without(limit)?);
        rank::nearest(found, limit).map(|choice| (limit, choice))
    };
    Nothing { without: limits.into_iter().filter_map(nearest).collect() }
}
