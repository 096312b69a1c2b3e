//! `hob pull`: fetches a model. What an interrupted pull left is used by the next.

use anyhow::Result;
use hob_hub::{Hub, LocalModel, Progress, Wishes};
use serde_json::json;

use crate::out;
use crate::progress::PullBar;
use hob_server::{Chooser, describe};

/// Fetch a model into the store
#[derive(clap::Args)]
#[command(after_help = "MODEL is\n  \
    qwen3:14b                     a name of the catalogue; the recipe is chosen for this machine\n  \
    qwen3:14b-q8_0                with a recipe of your choice\n  \
    hf.co/org/repo:Q4_K_M         a repository of Hugging Face, or modelscope.cn/org/repo;\n                                \
    @REVISION before the ':' pins a branch, tag or commit\n  \
    https://host/dir/model.gguf   a file\n  \
    registry.host/space/name:tag  a registry that speaks Ollama's protocol; so are names not in the catalogue\n\n\
    An interrupted pull goes on where it stopped when it is started again.\n\n\
    Examples:\n  hob pull qwen3:14b\n  hob pull modelscope.cn/unsloth/Qwen3-14B-GGUF --recipe Q8_0\n\n\
    Environment, or lines NAME=value in $HOB_HOME/settings:\n  \
    HF_ENDPOINT, MODELSCOPE_DOMAIN, HOB_REGISTRY  mirrors\n  \
    HF_TOKEN, MODELSCOPE_API_TOKEN                access to gated models\n  \
    HOB_HUB=modelscope                            ask ModelScope first\n  \
    HOB_RATE=10M, HOB_CONNECTIONS=8               bytes per second, connections\n  \
    HTTPS_PROXY, NO_PROXY                         proxies")]
pub struct Args {
    /// What to fetch
    #[arg(required_unless_present = "all_names")]
    model: Option<String>,
    /// The recipe, or the name of a file in the repository [default: what fits this machine and is fast on it]
    #[arg(long)]
    recipe: Option<String>,
    /// Ask the source again even if the model is here
    #[arg(long)]
    update: bool,
    /// Also put the files into the cache of Hugging Face's libraries (hf.co/... only)
    #[arg(long)]
    hf_cache: bool,
    /// Print the names of the catalogue, and stop
    #[arg(long = "names", conflicts_with = "model")]
    all_names: bool,
    /// Print one JSON object per event, as Ollama's API does
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let hub = Hub::open()?;
    let Some(model) = &args.model else {
        return names(&hub, args.json);
    };
    if args.json {
        return pull_json(&hub, model, args);
    }
    let order = Order::of(args);
    let local = pull(&hub, model, &order)?;
    out::print(&format!(
        "{} is here: {}, {}\n",
        local.name,
        out::file_size(local.bytes),
        local.path.display()
    ))
}

/// Fetches a model with a progress bar, in the recipe that is wanted or fits.
pub fn pull(hub: &Hub, reference: &str, order: &Order) -> Result<LocalModel> {
    let mut bar = PullBar::new();
    let mut show = |event| bar.show(event);
    let pulled = with_choice(hub, reference, order, &mut show, &|line| out::say(line));
    bar.clear();
    pulled
}

/// What is wanted beside the model itself.
#[derive(Default)]
pub struct Order {
    recipe: Option<String>,
    update: bool,
    hugging_face_cache: bool,
}

impl Order {
    fn of(args: &Args) -> Order {
        let Args { recipe, update, hf_cache, .. } = args;
        Order { recipe: recipe.clone(), update: *update, hugging_face_cache: *hf_cache }
    }
}

fn with_choice(
    hub: &Hub,
    reference: &str,
    order: &Order,
    progress: &mut dyn FnMut(Progress),
    tell: &dyn Fn(&str),
) -> Result<LocalModel> {
    let chooser = Chooser::new(hub, reference);
    let choose = |name: &str, choices: &[hob_hub::Choice]| {
        let picked = chooser.choose(name, choices)?;
        chooser.reason().iter().for_each(|line| tell(line));
        Ok(picked)
    };
    let Order { recipe, update, hugging_face_cache } = order;
    let wishes = Wishes {
        recipe: recipe.clone(),
        update: *update,
        hugging_face_cache: *hugging_face_cache,
        choose: &choose,
        describe: &describe::facts,
    };
    Ok(hub.pull(reference, &wishes, progress)?)
}

fn names(hub: &Hub, json: bool) -> Result<()> {
    let names: Vec<String> = hub.search("").iter().map(|model| model.full_name()).collect();
    if json { out::print_json(&names) } else { out::print(&(names.join("\n") + "\n")) }
}

fn pull_json(hub: &Hub, model: &str, args: &Args) -> Result<()> {
    let mut written = Ok(());
    let mut printer = JsonEvents::default();
    let mut show = |event| {
        if written.is_ok() {
            written = printer.show(&event);
        }
    };
    let tell = |line: &str| {
        let _ = out::print_json(&json!({"status": line}));
    };
    let local = with_choice(hub, model, &Order::of(args), &mut show, &tell)?;
    written?;
    out::print_json(
        &json!({"status": "success", "name": local.name, "digest": local.digest, "size": local.bytes}),
    )
}

/// Events as Ollama's API streams them, one object for each percent.
#[derive(Default)]
pub struct JsonEvents {
    percent: Option<u64>,
}

impl JsonEvents {
    /// Prints an event, unless it moves by less than a percent.
    pub fn show(&mut self, event: &Progress) -> Result<()> {
        let moved = match event {
            Progress::Bytes { done, total } | Progress::Verifying { done, total } => {
                let percent = done.saturating_mul(100) / (*total).max(1);
                self.percent.replace(percent) != Some(percent)
            }
            _ => true,
        };
        if moved { out::print_json(&status(event)) } else { Ok(()) }
    }
}

fn status(event: &Progress) -> serde_json::Value {
    match event {
        Progress::Waiting => json!({"status": "waiting for another pull of this model"}),
        Progress::Resolving { source } => json!({"status": format!("asking {source}")}),
        Progress::File { digest, bytes, here, .. } => {
            let name = digest.as_deref().and_then(|d| d.get(..12)).unwrap_or("a file");
            let digest = digest.as_ref().map(|digest| format!("sha256:{digest}"));
            let completed = if *here { *bytes } else { Some(0) };
            json!({"status": format!("pulling {name}"), "digest": digest, "total": bytes, "completed": completed})
        }
        Progress::Bytes { done, total } => {
            json!({"status": "downloading", "completed": done, "total": total})
        }
        Progress::Verifying { done, total } => {
            json!({"status": "verifying sha256 digest", "completed": done, "total": total})
        }
        Progress::Failed { source, reason } => {
            json!({"status": format!("gave up {source}"), "reason": reason})
        }
        Progress::Done => json!({"status": "stored"}),
    }
}
