//! How many tokens a sequence may have: the model's own context, or what the memory allows, or what the user asks for and gets.
//! Pure arithmetic on `hob_model::footprint`, by which the backend allocates too.

use hob_model::{CacheLayout, Head, KvType, Limits, Model, PAGE, footprint};

use crate::units::memory_size;

/// Rows of the largest step: a longer prompt is read in several.
pub const STEP_ROWS: usize = 512;
/// Rows of logits that are computed at once, at least: a sequence's last token and a draft behind it.
const DRAFTED: usize = 9;
/// Part of the free memory that is left to everything else: one sixteenth.
const RESERVE: u64 = 16;
/// Recurrent states that are kept after prefixes, at most; and the part of what the model leaves that they may take.
const CHECKPOINTS: u64 = 8;
const CHECKPOINT_PART: u64 = 32;

/// What the choice depends on.
pub struct Conditions<'a> {
    /// The model.
    pub model: &'a Model,
    /// Bytes of its tensors. They are mapped, but a speed worth having needs them in memory, so they count in full.
    pub weights: u64,
    /// Bytes that this machine can give.
    pub available: u64,
    /// Element type of the cache.
    pub kv: KvType,
    /// Sequences that are to have this context at the same time.
    pub sequences: usize,
    /// What the user wants, if anything.
    pub asked: Option<usize>,
}

/// A context that fits.
#[derive(Debug, PartialEq, Eq)]
pub struct Context {
    /// Tokens of a sequence, prompt and answer together.
    pub tokens: usize,
    /// What the backend is built for.
    pub limits: Limits,
    /// Bytes of the cache when it is full.
    pub cache: u64,
    /// Whether memory, not the model, is what bounds it.
    pub memory_bound: bool,
}

/// Why there is no such context: found, expected, what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct NoContext(String);

impl std::fmt::Display for NoContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoContext {}

/// What of the free memory a model may take.
pub(crate) fn budget(available: u64) -> u64 {
    available - available / RESERVE
}

/// The longest context, in whole pages and at most the model's own, that `fits`; 0 if none does. By halving: windows do not grow for
/// ever, so this is no division.
pub(crate) fn most_tokens(model: &Model, fits: impl Fn(usize) -> bool) -> usize {
    let (mut fit, mut most) = (0, (model.context as usize).div_ceil(PAGE));
    while fit < most {
        let middle = most - (most - fit) / 2;
        match fits(middle * PAGE) {
            true => fit = middle,
            false => most = middle - 1,
        }
    }
    fit * PAGE
}

impl Conditions<'_> {
    /// The context that these conditions allow.
    ///
    /// # Errors
    /// More was asked for than the model or the memory has, or the memory holds not one page.
    pub fn choose(&self) -> Result<Context, NoContext> {
        let trained = self.model.context as usize;
        if let Some(asked) = self.asked {
            self.check(asked, trained, self.fitting_tokens(0))?;
        }
        // A context of our own choice leaves room for the states of prefixes; one that is asked for goes before them.
        let fits = self.fitting_tokens(self.kept_bytes());
        if self.asked.is_none() && fits == 0 {
            return Err(NoContext(format!(
                "not enough memory: the model's weights take {}, {} are available; close other programs or take a smaller model",
                memory_size(self.weights),
                memory_size(self.available)
            )));
        }
        let tokens = self.asked.unwrap_or(trained.min(fits));
        Ok(Context {
            tokens,
            limits: self.limits(tokens),
            cache: self.cache(tokens),
            memory_bound: self.asked.is_none() && fits < trained,
        })
    }

    /// A context for sequences of different lengths that share one cache: one of them may have all of it, and up to `sequences` run at once
    /// as far as their lengths allow. Beyond one whole sequence the cache takes at most half of the memory that is left.
    ///
    /// # Errors
    /// As [`Conditions::choose`], for one sequence.
    pub fn choose_shared(&self) -> Result<Context, NoContext> {
        let alone = Conditions { sequences: 1, ..*self }.choose()?;
        let each = alone.tokens.div_ceil(PAGE);
        let total = |limits: &Limits| footprint(self.model, limits, self.weights).total();
        let room = self.budget().saturating_sub(total(&alone.limits)) / 2;
        let most = total(&alone.limits).saturating_add(room);
        // Fewer at once, where buffers, windows and states of so many would not fit.
        let mut sequences = self.sequences.max(1);
        let limits = |sequences: usize, pages: usize| {
            let these = Conditions { sequences, ..*self };
            Limits { pages, ..these.limits(alone.tokens) }
        };
        while sequences > 1 && total(&limits(sequences, each)) > most {
            sequences /= 2;
        }
        let (mut fit, mut bound) = (each, each * sequences);
        while fit < bound {
            let middle = bound - (bound - fit) / 2;
            match total(&limits(sequences, middle)) <= most {
                true => fit = middle,
                false => bound = middle - 1,
            }
        }
        let limits = limits(sequences, fit);
        Ok(Context { limits, cache: footprint(self.model, &limits, 0).kv, ..alone })
    }

    fn check(&self, asked: usize, trained: usize, fits: usize) -> Result<(), NoContext> {
        if asked > trained {
            return Err(NoContext(format!(
                "a context of {asked} tokens is more than the {trained} that the model was made for; ask for {trained} or less"
            )));
        }
        if asked > fits {
            let need = footprint(self.model, &self.limits(asked), self.weights).total();
            return Err(NoContext(format!(
                "a context of {asked} tokens needs {} of memory (cache {}), {} are available; ask for {fits} or less{}",
                memory_size(need),
                memory_size(self.cache(asked)),
                memory_size(self.budget()),
                if self.kv == KvType::F16 { ", or for half the cache with --kv q8_0" } else { "" }
            )));
        }
        Ok(())
    }

    pub(crate) fn budget(&self) -> u64 {
        budget(self.available)
    }

    /// Tokens per sequence that fit beside weights, buffers and `kept` bytes, in whole pages; more than the model has are not looked for.
    fn fitting_tokens(&self, kept: u64) -> usize {
        let budget = self.budget().saturating_sub(kept);
        most_tokens(self.model, |tokens| self.lean_total(tokens) <= budget)
    }

    /// What the backend is built for: with states that are kept after prefixes, as far as the memory allows.
    pub(crate) fn limits(&self, tokens: usize) -> Limits {
        let limits = self.lean(tokens);
        match CacheLayout::of(self.model).state_bytes() {
            0 => limits,
            each => {
                let left = self.budget().saturating_sub(self.lean_total(tokens));
                let kept = self.kept_bytes().min(left) / each;
                Limits { states: limits.states + kept as usize, ..limits }
            }
        }
    }

    /// The least that this context takes: no states beside those of the sequences.
    pub(crate) fn lean(&self, tokens: usize) -> Limits {
        let pages = tokens.div_ceil(PAGE) * self.sequences;
        // An encoder reads a text whole, in one step.
        let rows = match self.model.head {
            Head::Pool(_) => STEP_ROWS.max(tokens),
            Head::Logits(_) => STEP_ROWS,
        };
        Limits {
            // Rows of drafts have logits too.
            logits: self.sequences.max(DRAFTED),
            sequences: self.sequences,
            states: self.sequences,
            context: tokens,
            kv: self.kv,
            ..Limits::new(rows, pages)
        }
    }

    fn lean_total(&self, tokens: usize) -> u64 {
        footprint(self.model, &self.lean(tokens), self.weights).total()
    }

    /// Bytes of the states that may be kept after prefixes: a part of what the model leaves.
    fn kept_bytes(&self) -> u64 {
        let each = CacheLayout::of(self.model).state_bytes();
        if each == 0 {
            return 0;
        }
        let part = self.budget().saturating_sub(self.lean_total(0)) / CHECKPOINT_PART;
        each * (part / each).min(CHECKPOINTS)
    }

    fn cache(&self, tokens: usize) -> u64 {
        footprint(self.model, &self.limits(tokens), 0).kv
    }
}

impl Context {
    /// One line for the user.
    pub fn line(&self, model: &Model) -> String {
        let kind = self.limits.kv.name().to_uppercase();
        let bound = if self.memory_bound { ", bounded by free memory" } else { "" };
        format!(
            "context {} tokens (model {}; {kind} cache {}{bound})",
            self.tokens,
            model.context,
            memory_size(self.cache)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hob_testkit::{Family, Tiny};

    const ROOMY: u64 = 1 << 40;

    fn model() -> Model {
        hob_model::describe(&Tiny::new(Family::Llama).gguf()).unwrap()
    }

    fn conditions(model: &Model, available: u64, asked: Option<usize>) -> Conditions<'_> {
        Conditions { model, weights: 1 << 20, available, kv: KvType::F16, sequences: 1, asked }
    }

    /// Bytes that must be available for exactly this many pages.
    fn needed(model: &Model, pages: usize) -> u64 {
        let limits = Limits { logits: DRAFTED, ..Limits::new(STEP_ROWS, pages) };
        let total = footprint(model, &limits, 1 << 20).total();
        (total..).find(|a| a - a / RESERVE >= total).unwrap()
    }

    #[test]
    fn with_room_the_context_is_the_models_own() {
        let model = model();
        let context = conditions(&model, ROOMY, None).choose().unwrap();
        assert_eq!((context.tokens, context.limits.pages), (1024, 16));
        assert!(!context.memory_bound);
        // 2 layers, 2 heads for keys and 2 for values, 16 wide, two bytes, 1024 positions.
        assert_eq!(context.cache, 2 * 4 * 16 * 2 * 1024);
        assert_eq!(context.line(&model), "context 1024 tokens (model 1024; F16 cache 256 KiB)");
    }

    #[test]
    fn memory_bounds_it_to_the_page() {
        let model = model();
        let exact = needed(&model, 3);
        let context = conditions(&model, exact, None).choose().unwrap();
        assert_eq!((context.tokens, context.memory_bound), (3 * PAGE, true));
        assert_eq!(conditions(&model, exact - 2, None).choose().unwrap().tokens, 2 * PAGE);
        assert!(context.line(&model).contains("bounded by free memory"));
    }

    #[test]
    fn what_is_asked_for_is_given_or_refused_with_numbers() {
        let model = model();
        let asked = |available, tokens| conditions(&model, available, Some(tokens)).choose();
        let context = asked(ROOMY, 100).unwrap();
        assert_eq!((context.tokens, context.limits.pages), (100, 2));
        let text = asked(ROOMY, 1025).unwrap_err().to_string();
        assert!(text.contains("1025") && text.contains("1024"), "{text}");
        let text = asked(needed(&model, 3), 1000).unwrap_err().to_string();
        assert!(
            text.contains("1000 tokens needs") && text.contains("ask for 192 or less"),
            "{text}"
        );
    }

    #[test]
    fn no_memory_is_an_error_with_both_numbers() {
        let model = model();
        let text = conditions(&model, 3 << 19, None).choose().unwrap_err().to_string();
        assert!(text.contains("1.0 MiB") && text.contains("1.5 MiB"), "{text}");
    }

    #[test]
    fn recurrent_states_have_slots_for_prefixes_where_memory_allows() {
        let gguf = Tiny::new(Family::Qwen35).gguf();
        let model = hob_model::describe(&gguf).unwrap();
        let each = CacheLayout::of(&model).state_bytes();
        let roomy =
            Conditions { sequences: 2, ..conditions(&model, ROOMY, None) }.choose().unwrap();
        assert_eq!((roomy.limits.sequences, roomy.limits.states), (2, 10));
        let less = Limits { states: 2, ..roomy.limits };
        assert_eq!(roomy.cache - footprint(&model, &less, 0).kv, 8 * each);
        // Three states in the part that they may take.
        let available = needed(&model, 0) + 3 * each * CHECKPOINT_PART * 16 / 15 + 64;
        let tight = conditions(&model, available, None).choose().unwrap();
        assert_eq!(tight.limits.states, 4);
        // Other models have none.
        let model = self::model();
        assert_eq!(conditions(&model, ROOMY, None).choose().unwrap().limits.states, 1);
    }

    #[test]
    fn windows_leave_room_for_a_longer_context() {
        let model =
            hob_model::describe(&Tiny { context: 1 << 20, ..Tiny::new(Family::Gemma3) }.gguf());
        let model = model.unwrap();
        let limits = Limits { context: 640 * PAGE, logits: DRAFTED, ..Limits::new(STEP_ROWS, 640) };
        let total = footprint(&model, &limits, 1 << 20).total();
        let available = (total..).find(|a| a - a / RESERVE >= total).unwrap();
        assert_eq!(conditions(&model, available, None).choose().unwrap().tokens, 640 * PAGE);
        // As if windows kept everything, it would be less than a fourth of that.
        let page = CacheLayout::of(&model).page_bytes(KvType::F16);
        assert!(
            160 * page > total - footprint(&model, &Limits::new(STEP_ROWS, 0), 1 << 20).total()
        );
    }

    #[test]
    fn an_encoder_has_rows_for_its_longest_text() {
        let model = hob_model::describe(&Tiny::new(Family::Bert).gguf()).unwrap();
        let rows = |asked| conditions(&model, ROOMY, asked).choose().unwrap().limits.rows;
        assert_eq!((rows(None), rows(Some(100))), (1024, STEP_ROWS));
    }

    #[test]
    fn a_shared_cache_holds_one_whole_sequence_and_half_of_the_rest() {
        let model = model();
        let shared = |available, sequences| {
            Conditions { sequences, ..conditions(&model, available, None) }.choose_shared()
        };
        let roomy = shared(ROOMY, 8).unwrap();
        assert_eq!((roomy.tokens, roomy.limits.pages, roomy.limits.sequences), (1024, 128, 8));
        let one = needed(&model, 16);
        let tight = shared(one, 8).unwrap();
        assert_eq!((tight.tokens, tight.limits.pages, tight.limits.sequences), (1024, 16, 8));
        for available in (one..2 * one).step_by(4096) {
            let context = shared(available, 8).unwrap();
            let total = footprint(&model, &context.limits, 1 << 20).total();
            assert!(context.limits.pages >= 16 && total <= available, "{available}");
        }
        assert!(shared(3 << 19, 8).is_err());
    }

    #[test]
    fn several_sequences_share_the_memory() {
        let model = model();
        let one = needed(&model, 16);
        let eight = Conditions { sequences: 8, ..conditions(&model, one, None) }.choose().unwrap();
        assert!(
            eight.tokens < 2 * PAGE + 1 && eight.limits.pages == eight.tokens / PAGE * 8,
            "{eight:?}"
        );
    }
}
