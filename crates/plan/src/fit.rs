//! Every recipe of a model on a rig, or every file that is offered of it: bytes, placement, longest context, speeds, and which to take. `hob fit`
//! and `hob pull` ask the same rule. Deliberately absent: measured quality, which belongs to files (`cli`), and tables for people.

use hob_model::{FileSize, Head, Model, Recipe, RecipeOptions};
use hob_quant::GgmlType;

use crate::memory::{Weights, bits_per_weight};
use crate::placement::{Job, Placement, Share, Wishes};
use crate::rig::Rig;
use crate::speed::Interval;
use crate::units::memory_size;

/// Tokens per second that people read along with.
pub const READING_SPEED: f64 = 10.0;
/// Bits per weight from which on a file answers nearly as the published weights do (the recipes around Q4).
pub const GOOD_BITS: f64 = 4.0;
/// Bits per weight above which nothing is gained that people could tell (Q6_K has 6.6).
pub const ENOUGH_BITS: f64 = 6.9;
/// The architecture whose experts are published in MXFP4: files of more bits hold nothing more.
pub const PUBLISHED_IN_MXFP4: &str = "gpt-oss";
/// What is enough for it is the recipe of that name, and how much longer than ours the files of others are.
const MXFP4: (&str, f64) = ("MXFP4_MOE", 0.002);
/// The same of models that make vectors: they are small, and errors add up in distances (Q8_0 has 8.5).
const ENOUGH_OF_VECTORS: f64 = 9.0;
/// The recipe that people take who do not choose: where even that is slow, more bits would only be slower. Publishers' own mixes of the kind have a
/// little more.
const USUAL: (&str, f64) = ("Q4_K_M", 0.03);

/// A model whose files are to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its description.
    pub model: &'a Model,
    /// The part of its file that no recipe changes.
    pub size: &'a FileSize,
    /// How its files are made.
    pub options: &'a RecipeOptions,
    /// Bits per weight above which more are of no use.
    enough_bits: f64,
    /// The same where none is fast.
    usual_bits: f64,
}

/// A file of it, there or not.
struct Made {
    recipe: &'static Recipe,
    types: Vec<GgmlType>,
    weights: Weights,
    /// `None` beyond 64 bits.
    bytes: Option<u64>,
}

/// Whether it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fits {
    /// There is no room, on any device or several.
    No,
    /// Cores do what does not fit a faster device.
    Partial,
    /// Where it is fastest.
    Full,
}

impl Fits {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Fits::No => "no",
            Fits::Partial => "partial",
            Fits::Full => "full",
        }
    }
}

/// Speeds of a placement, in tokens per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speeds {
    /// Reading the prompt.
    pub prefill: Interval,
    /// One sequence at the asked depth.
    pub decode: Interval,
    /// One sequence when the asked context is full.
    pub decode_full: Interval,
    /// All users' sequences together at the asked depth.
    pub decode_all: Interval,
}

/// One recipe of a model.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The recipe.
    pub recipe: &'static Recipe,
    /// Types of the tensors, by [`hob_model::WeightId`].
    pub types: Vec<GgmlType>,
    /// Bytes of its file; `None` beyond 64 bits.
    pub file_bytes: Option<u64>,
    /// Bits per weight of the tensor data.
    pub bits: f64,
    /// Memory at the asked context: of the placement, or of all in main memory where nothing fits.
    pub memory: Share,
    /// Whether it fits.
    pub fits: Fits,
    /// Where its parts go.
    pub placement: Option<Placement>,
    /// The same in a line; or what is needed and what is there.
    pub line: String,
    /// The longest context with which it fits wholly; 0 if none.
    pub max_context: usize,
    /// How fast.
    pub speeds: Option<Speeds>,
    /// Whether it can be made: some recipes need an importance matrix.
    pub makeable: bool,
    /// Bits per weight above which more are of no use.
    pub enough_bits: f64,
    /// The same where none is fast: those of Q4_K_M.
    pub usual_bits: f64,
}

/// Why the best is the best; from the most to the least that one can wish for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Fits wholly, at a good number of bits, and is fast.
    Whole,
    /// Fits partly, at a good number of bits, and is fast.
    Partly,
    /// Fits wholly at a good number of bits, and is slow. Fewer bits in the same memory would be faster by no more than they are fewer.
    Slow,
    /// Fits wholly and is fast, with few bits.
    FewBits,
    /// Fits partly at a good number of bits, and is slow.
    SlowPartly,
    /// Whatever fits.
    Last,
}

impl Why {
    /// In one sentence.
    pub fn text(self) -> &'static str {
        match self {
            Why::Whole => "the most bits of any use that fit wholly and read at 10 tok/s or more",
            Why::Partly => {
                "none of 4 bits or more fits wholly; with a part on the CPU this is the fastest of them"
            }
            Why::Slow => {
                "the most bits, up to those of Q4_K_M, that fit wholly; none of 4 bits or more reads at 10 tok/s"
            }
            Why::FewBits => {
                "the most bits that fit wholly and read at 10 tok/s or more; none of 4 bits or more fits wholly"
            }
            Why::SlowPartly => {
                "none of 4 bits or more fits wholly; the fastest with a part on the CPU"
            }
            Why::Last => "the only kind that fits; expect poor answers",
        }
    }
}

impl<'a> Subject<'a> {
    /// A described model, whose files are made with these options.
    pub fn new(model: &'a Model, size: &'a FileSize, options: &'a RecipeOptions) -> Self {
        let (enough_bits, usual_bits) = (ENOUGH_BITS, ENOUGH_BITS);
        let subject = Subject { model, size, options, enough_bits, usual_bits };
        let bits = |(recipe, margin): (&str, f64)| {
            let bytes = Recipe::find(recipe).and_then(|recipe| subject.bytes(recipe));
            subject.bits(bytes) * (1.0 + margin)
        };
        let enough_bits = match (&model.head, model.arch) {
            (Head::Pool(_), _) => ENOUGH_OF_VECTORS,
            (Head::Logits(_), PUBLISHED_IN_MXFP4) => bits(MXFP4),
            (Head::Logits(_), _) => ENOUGH_BITS,
        };
        Subject { enough_bits, usual_bits: bits(USUAL).min(enough_bits), ..subject }
    }

    /// Bytes of the file that a recipe makes; `None` beyond 64 bits.
    pub fn bytes(&self, recipe: &Recipe) -> Option<u64> {
        self.size.file_bytes(self.model, &recipe.tensor_types(self.model, self.options))
    }

    /// Bits per weight of a file's tensor data.
    fn bits(&self, file: Option<u64>) -> f64 {
        let data = file.map_or(u64::MAX, |bytes| bytes.saturating_sub(self.size.header()));
        bits_per_weight(self.model, data)
    }

    fn made(&self, recipe: &'static Recipe) -> Made {
        let types = recipe.tensor_types(self.model, self.options);
        let weights = Weights::of(self.model, &types);
        let bytes = self.size.file_bytes(self.model, &types);
        Made { recipe, types, weights, bytes }
    }
}

/// All recipes on a rig, in their order.
pub fn fit(subject: &Subject, rig: &Rig, wishes: &Wishes) -> Vec<Fit> {
    Recipe::all().iter().map(|recipe| fit_one(subject, recipe, rig, wishes)).collect()
}

/// One recipe on a rig.
pub fn fit_one(subject: &Subject, recipe: &'static Recipe, rig: &Rig, wishes: &Wishes) -> Fit {
    judged(subject, subject.made(recipe), rig, wishes)
}

/// A file that somebody offers, of so many bytes, whose mix is about that of a recipe.
pub fn fit_file(
    subject: &Subject,
    recipe: &'static Recipe,
    bytes: u64,
    rig: &Rig,
    wishes: &Wishes,
) -> Fit {
    let made = subject.made(recipe);
    let weights = made.weights.scaled(bytes.saturating_sub(subject.size.header()));
    judged(subject, Made { weights, bytes: Some(bytes), ..made }, rig, wishes)
}

fn judged(subject: &Subject, made: Made, rig: &Rig, wishes: &Wishes) -> Fit {
    let model = subject.model;
    let Made { recipe, types, weights, bytes } = made;
    let job = Job { model, weights: &weights, wishes: *wishes };
    let placement = job.place(rig);
    let memory = placement.as_ref().map_or_else(|| job.alone(rig), Placement::total);
    let fits = match &placement {
        None => Fits::No,
        Some(placement) if placement.whole => Fits::Full,
        Some(_) => Fits::Partial,
    };
    let line = match &placement {
        Some(placement) => placement.describe(rig).to_string(),
        None => lack(&memory, rig),
    };
    Fit {
        recipe,
        file_bytes: bytes,
        bits: subject.bits(bytes),
        memory,
        fits,
        line,
        max_context: job.longest(rig),
        speeds: placement.as_ref().map(|p| speeds(&job, rig, p)),
        placement,
        types,
        makeable: subject.options.importance || !recipe.needs_importance(),
        enough_bits: subject.enough_bits,
        usual_bits: subject.usual_bits,
    }
}

fn speeds(job: &Job, rig: &Rig, placement: &Placement) -> Speeds {
    let Wishes { depth, context, .. } = job.wishes;
    Speeds {
        prefill: job.prefill(rig, placement),
        decode: job.decode(rig, placement, depth),
        decode_full: job.decode(rig, placement, context.saturating_sub(1)),
        decode_all: job.decode_all(rig, placement, depth),
    }
}

fn lack(memory: &Share, rig: &Rig) -> String {
    format!(
        "does not fit: {} needed, {} there",
        memory_size(memory.total()),
        memory_size(rig.room())
    )
}

/// The recipe to take, and why. The rule, in this order: four bits or more, wholly in the fastest memory and at reading speed: the most bits, as far
/// as bits are of use. Else four bits or more at reading speed with a part on the CPU: the fastest. Else four bits or more wholly, slowly: the most
/// bits, as far as those of Q4_K_M. Else wholly and at reading speed: the most bits. Else four bits or more partly, slowly: the fastest. Else
/// whatever fits: the most bits.
pub fn best(fits: &[Fit]) -> Option<(usize, Why)> {
    let speed = |fit: &Fit| fit.speeds.map_or(0.0, |s| s.decode.mid);
    let of = |why: Why| {
        let good = |fit: &Fit| fit.bits >= GOOD_BITS;
        let fast = |fit: &Fit| speed(fit) >= READING_SPEED;
        let whole = |fit: &Fit| fit.fits == Fits::Full;
        let fits_in = move |fit: &Fit| match why {
            Why::Whole => whole(fit) && good(fit) && fast(fit),
            Why::Partly => fit.fits == Fits::Partial && good(fit) && fast(fit),
            Why::Slow => whole(fit) && good(fit),
            Why::FewBits => whole(fit) && fast(fit),
            Why::SlowPartly => fit.fits == Fits::Partial && good(fit),
            Why::Last => fit.fits != Fits::No,
        };
        fits.iter().enumerate().filter(move |(_, fit)| fit.makeable && fits_in(fit))
    };
    // Bits, of which more than enough are worth no more than fewer.
    let bits = |fit: &Fit, enough: f64| match fit.bits > enough {
        true => enough - fit.bits,
        false => fit.bits,
    };
    let order = [Why::Whole, Why::Partly, Why::Slow, Why::FewBits, Why::SlowPartly, Why::Last];
    order.into_iter().find_map(|why| {
        let worth = |fit: &Fit| match why {
            Why::Partly | Why::SlowPartly => speed(fit),
            Why::Slow => bits(fit, fit.usual_bits),
            Why::Whole | Why::FewBits | Why::Last => bits(fit, fit.enough_bits),
        };
        let best = of(why).reduce(|a, b| if worth(b.1) > worth(a.1) { b } else { a });
        best.map(|(index, _)| (index, why))
    })
}
