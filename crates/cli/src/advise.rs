//! `hob advise`: what to buy or to run, under constraints: over hardware, the catalogue's models, recipes and engines. The choice is `plan`'s; here
//! the catalogue becomes its data, and answers become words and commands.

mod command;
mod words;

use anyhow::{Result, bail};
use clap::ValueEnum;
use hob_hub::{CatalogueModel, Hub, Kind as ModelKind};
use hob_model::hf::HfConfig;
use hob_plan::advise::{
    self, Candidate, Choice, Constraints, Offer, Purpose, offer_of_devices, offer_of_machine,
    offers,
};
use hob_plan::speed::Interval;
use serde_json::{Value, json};

use crate::answer::{MOST_TOKENS, MOST_USERS, at_least_one};
use crate::doctor::lang::{self, Lang};
use crate::hardware::Hardware;
use crate::out;
use crate::out::Usage;

/// Answers of the list.
const MOST: usize = 7;

/// Advise what to buy or to run
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  hob advise\n  hob advise --budget 2000 --for code\n  hob advise --max-watts 500 --os windows\n  \
    hob advise --portable --for chat --lang zh\n  hob advise --device \"RTX 5090\" --for long-context\n  \
    hob advise --device \"2x A100 80GB\" --users 32 --json\n\n\
    Without --device, --budget, --max-watts and --portable it is about this machine. Quality is an estimate\n\
    from size, age and bits of a model, not a measurement: `hob eval` measures."
)]
pub struct Args {
    /// US dollars for the whole computer
    #[arg(long, value_name = "USD", value_parser = clap::value_parser!(u32).range(1..))]
    budget: Option<u32>,
    /// Watts of the whole computer under load
    #[arg(long, value_name = "WATTS", value_parser = clap::value_parser!(u32).range(1..))]
    max_watts: Option<u32>,
    /// Only what one carries about
    #[arg(long)]
    portable: bool,
    #[command(flatten)]
    hardware: Hardware,
    /// Only hardware for this system
    #[arg(long, value_enum)]
    os: Option<Os>,
    /// What it is for
    #[arg(long = "for", value_enum, default_value_t = For::Chat)]
    purpose: For,
    /// Tokens per second that every user gets at least [default: by purpose]
    #[arg(long, value_name = "TOKENS", value_parser = speed)]
    min_speed: Option<f64>,
    /// Tokens of context for every user [default: by purpose]
    #[arg(long, value_parser = at_least_one(MOST_TOKENS))]
    context: Option<usize>,
    /// Users at the same time
    #[arg(long, default_value_t = 1, value_parser = at_least_one(MOST_USERS))]
    users: usize,
    #[command(flatten)]
    spoken: lang::Asked,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// [`Purpose`] by its name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum For {
    Chat,
    Code,
    Reasoning,
    Embedding,
    Rag,
    LongContext,
}

/// [`advise::Os`] by its name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Os {
    Linux,
    Windows,
    Macos,
}

/// What was asked, and over what.
struct Question {
    constraints: Constraints,
    offers: Vec<Offer>,
    candidates: Vec<Candidate>,
    /// Whether the hardware is what there is.
    given: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok().filter(|s| s.is_finite() && *s >= 0.0);
    speed.ok_or_else(|| format!("'{text}' is no speed; give tokens per second"))
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let question = question(args)?;
    let answer =
        advise::advise(&question.offers, &question.candidates, &question.constraints, MOST);
    if args.json {
        return out::print_json(&json_of(&question, &answer));
    }
    let lang = args.spoken.lang();
    let width = crate::doctor::width();
    match answer {
        Ok(list) => out::print(&words::answers(lang, &question, &list, width)),
        Err(nothing) => {
            out::print(&words::nothing(lang, &question, &nothing, width))?;
            bail!(words::none(lang))
        }
    }
}

fn question(args: &Args) -> Result<Question> {
    let constraints = Constraints {
        budget: args.budget,
        max_watts: args.max_watts,
        portable: args.portable,
        os: args.os.map(os),
        purpose: purpose(args.purpose),
        min_speed: args.min_speed,
        context: args.context,
        users: args.users,
    };
    let hub = Hub::open()?;
    let candidates = candidates(&hub.search(""));
    let buying = args.budget.is_some() || args.max_watts.is_some() || args.portable;
    let named = args.hardware.named()?;
    let (offers, given) = match &named {
        Some(wanted) => {
            let offer = offer_of_devices(wanted);
            (vec![Offer { rig: args.hardware.given(offer.rig), ..offer }], true)
        }
        None if buying => (offers(), false),
        None => (vec![offer_of_machine(args.hardware.rig()?)], true),
    };
    if given && named.is_none() && args.os.is_some() {
        bail!(Usage(
            "--os chooses among hardware: give --budget, --max-watts or --portable, too".into()
        ));
    }
    Ok(Question { constraints, offers, candidates, given })
}

/// The catalogue's models that have a description.
fn candidates(models: &[&CatalogueModel]) -> Vec<Candidate> {
    models.iter().filter_map(|model| candidate(model, models)).collect()
}

fn candidate(entry: &CatalogueModel, all: &[&CatalogueModel]) -> Option<Candidate> {
    let config = HfConfig::parse(&entry.published()?.config.to_string()).ok()?;
    // Sizes whose date is not known came out with their sisters.
    let sisters = || all.iter().filter(|m| m.name == entry.name).filter_map(|m| month(&m.released));
    Some(Candidate {
        name: entry.full_name(),
        parameters: entry.parameters,
        active: entry.active_parameters.unwrap_or(entry.parameters),
        purposes: entry.kinds.iter().filter_map(|kind| made_for(*kind)).collect(),
        released: month(&entry.released).or_else(|| sisters().min()),
        repository: entry.weights.clone(),
        gguf: entry.repositories.hugging_face().next().map(str::to_owned),
        model: config.describe().ok()?,
    })
}

/// `2025-04` as numbers.
fn month(date: &Option<String>) -> Option<(u16, u8)> {
    let (year, month) = date.as_deref()?.split_once('-')?;
    Some((year.parse().ok()?, month.parse().ok()?))
}

fn made_for(kind: ModelKind) -> Option<Purpose> {
    match kind {
        ModelKind::Chat => Some(Purpose::Chat),
        ModelKind::Code => Some(Purpose::Code),
        ModelKind::Reasoning => Some(Purpose::Reasoning),
        ModelKind::Embedding => Some(Purpose::Embedding),
        ModelKind::Vision => None,
    }
}

fn purpose(purpose: For) -> Purpose {
    match purpose {
        For::Chat => Purpose::Chat,
        For::Code => Purpose::Code,
        For::Reasoning => Purpose::Reasoning,
        For::Embedding => Purpose::Embedding,
        For::Rag => Purpose::Rag,
        For::LongContext => Purpose::LongContext,
    }
}

fn os(os: Os) -> advise::Os {
    match os {
        Os::Linux => advise::Os::Linux,
        Os::Windows => advise::Os::Windows,
        Os::Macos => advise::Os::Macos,
    }
}

/// The answer as JSON: the schema is documented, fields are only added.
fn json_of(question: &Question, answer: &Result<Vec<Choice>, advise::Nothing>) -> Value {
    let c = &question.constraints;
    let choices = answer.as_deref().unwrap_or(&[]);
    let nearest = |(limit, choice): &(advise::Limit, Choice)| json!({"constraint": words::limit_name(*limit), "nearest": choice_json(question, choice)});
    let without: Vec<Value> = match answer {
        Ok(_) => Vec::new(),
        Err(nothing) => nothing.without.iter().map(nearest).collect(),
    };
    json!({
        "schema": 1,
        "for": c.purpose.name(),
        "context": c.context.unwrap_or(c.purpose.context()),
        "users": c.users,
        "min_speed": c.min_speed.unwrap_or(c.purpose.speed()),
        "budget_usd": c.budget,
        "max_watts": c.max_watts,
        "portable": c.portable,
        "choices": choices.iter().map(|choice| choice_json(question, choice)).collect::<Vec<_>>(),
        "excluded_by": without,
        "quality_is": "a proxy from parameters, date of release and bits per weight, not a measurement",
    })
}

fn choice_json(question: &Question, choice: &Choice) -> Value {
    let offer = question.offers.get(choice.offer);
    let candidate = question.candidates.get(choice.candidate);
    let cost = offer.and_then(|o| o.cost.as_ref());
    let Interval { low, mid, high } = choice.speed;
    let rounded = |x: f64| (x * 1e3).round() / 1e3;
    json!({
        "hardware": offer.map(|o| &o.name),
        "model": candidate.map(|c| &c.name),
        "recipe": choice.recipe,
        "engine": command::engine_name(choice.engine),
        "context": choice.context,
        "quality_proxy": rounded(choice.quality),
        "tok_s": {"low": rounded(low), "mid": rounded(mid), "high": rounded(high)},
        "tok_s_all": rounded(choice.speed_all),
        "memory_bytes": choice.memory,
        "placement": choice.placement.to_string(),
        "fits": if choice.whole { "full" } else { "partial" },
        "price": cost.map(|c| json!({"usd": c.usd, "cny": c.cny, "date": c.date, "assumed_computer_usd": c.around})),
        "watts": choice.watts,
        "tokens_per_joule": choice.tokens_per_joule.map(rounded),
        "reasons": choice.reasons.iter().map(|r| words::reason(Lang::En, *r)).collect::<Vec<_>>(),
        "notes": offer.map(|o| &o.rig.notes),
        "command": command::of(question, choice),
    })
}
