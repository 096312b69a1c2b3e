//! What a request may ask of the sampler, with Ollama's defaults, checked before it is queued: each error names the
//! field. Upper limits of one API (20 log-probabilities, penalties within 2) belong to that API's surface.

/// Most log-probabilities per token.
const MAX_TOP_LOGPROBS: usize = 1000;
/// Most sequence breakers, and most tokens in one.
const MAX_BREAKERS: usize = 256;

/// Don't-repeat-yourself: penalises tokens that would continue a repeated passage (p-e-w, text-generation-webui
/// pull request 5677): `multiplier * base ^ (length - allowed_length)` for a repeat of `length` tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Dry {
    /// Strength; 0 disables.
    pub multiplier: f32,
    /// Growth per token of repeat.
    pub base: f32,
    /// Longest repeat that costs nothing, plus one.
    pub allowed_length: usize,
    /// Tokens looked back at; `None` for all.
    pub last_n: Option<usize>,
    /// Token sequences that a repeat cannot reach across.
    pub breakers: Vec<Vec<u32>>,
}

impl Default for Dry {
    fn default() -> Self {
        Dry { multiplier: 0.8, base: 1.75, allowed_length: 2, last_n: None, breakers: Vec::new() }
    }
}

/// Truncation that steers towards a surprise of `tau` bits per token (arXiv 2007.14966), learning at rate `eta`.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Mirostat {
    /// Top-k and its companions instead.
    #[default]
    Off,
    /// Truncates to an estimated k.
    V1 {
        /// Target surprise, bits.
        tau: f32,
        /// Learning rate.
        eta: f32,
    },
    /// Truncates by surprise.
    V2 {
        /// Target surprise, bits.
        tau: f32,
        /// Learning rate.
        eta: f32,
    },
}

/// Options of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleOptions {
    /// Divides the logits; 0 takes the largest.
    pub temperature: f32,
    /// Keeps the k likeliest; 0 keeps all.
    pub top_k: usize,
    /// Keeps the likeliest until their mass reaches p; 1 keeps all.
    pub top_p: f32,
    /// Keeps what is at least this fraction of the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Keeps the mass p whose surprise is nearest the entropy (arXiv 2202.00666); 1 keeps all.
    pub typical_p: f32,
    /// Divides (or multiplies, when negative) the logits of recent tokens; 1 for none.
    pub repeat_penalty: f32,
    /// Subtracted from the logit of every recent token.
    pub presence_penalty: f32,
    /// Subtracted once per occurrence.
    pub frequency_penalty: f32,
    /// Recent tokens, prompt included, for the three penalties; `None` for all.
    pub repeat_last_n: Option<usize>,
    /// Don't-repeat-yourself.
    pub dry: Option<Dry>,
    /// Replaces the four truncations when on.
    pub mirostat: Mirostat,
    /// Seed of the draws; `None` for one that differs from request to request.
    pub seed: Option<u64>,
    /// Added to logits; minus infinity forbids a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// Log-probabilities of the chosen token and of this many likeliest.
    pub top_logprobs: Option<usize>,
}

impl Default for SampleOptions {
    fn default() -> Self {
        SampleOptions {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.0,
            typical_p: 1.0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repeat_last_n: Some(64),
            dry: None,
            mirostat: Mirostat::Off,
            seed: None,
            logit_bias: Vec::new(),
            top_logprobs: None,
        }
    }
}

/// An option out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("option '{field}' is {found}, expected {expected}")]
pub struct OptionError {
    /// Name of the field.
    pub field: &'static str,
    /// What it is.
    pub found: String,
    /// What would be right.
    pub expected: &'static str,
}

fn check(
    ok: bool,
    field: &'static str,
    found: impl ToString,
    expected: &'static str,
) -> Result<(), OptionError> {
    match ok {
        true => Ok(()),
        false => Err(OptionError { field, found: found.to_string(), expected }),
    }
}

impl SampleOptions {
    /// The likeliest token, always.
    pub fn greedy() -> Self {
        SampleOptions { temperature: 0.0, ..Self::default() }
    }

    /// Checks every field for a vocabulary of `vocab` tokens.
    ///
    /// # Errors
    /// The first field out of its range.
    pub fn validate(&self, vocab: usize) -> Result<(), OptionError> {
        const FRACTION: &str = "a number from 0 to 1";
        const FINITE: &str = "a finite number";
        let positive = |x: f32| x.is_finite() && x >= 0.0;
        let fraction = |x: f32| (0.0..=1.0).contains(&x);
        let t = self.temperature;
        check(positive(t), "temperature", t, "0 or a positive number")?;
        check(fraction(self.top_p), "top_p", self.top_p, FRACTION)?;
        check(fraction(self.min_p), "min_p", self.min_p, FRACTION)?;
        check(fraction(self.typical_p), "typical_p", self.typical_p, FRACTION)?;
        let repeat = self.repeat_penalty;
        check(repeat.is_finite() && repeat > 0.0, "repeat_penalty", repeat, "a positive number")?;
        check(
            self.presence_penalty.is_finite(),
            "presence_penalty",
            self.presence_penalty,
            FINITE,
        )?;
        check(
            self.frequency_penalty.is_finite(),
            "frequency_penalty",
            self.frequency_penalty,
            FINITE,
        )?;
        if let Mirostat::V1 { tau, eta } | Mirostat::V2 { tau, eta } = self.mirostat {
            check(positive(tau), "mirostat_tau", tau, "0 or a positive number")?;
            check(positive(eta), "mirostat_eta", eta, "0 or a positive number")?;
        }
        if let Some(dry) = &self.dry {
            dry.validate()?;
        }
        for &(token, bias) in &self.logit_bias {
            check(
                (token as usize) < vocab,
                "logit_bias",
                format!("for token {token}"),
                "a token of the vocabulary",
            )?;
            check(bias < f32::INFINITY, "logit_bias", bias, "a number or minus infinity")?;
        }
        let top = self.top_logprobs.unwrap_or(0);
        check(top <= MAX_TOP_LOGPROBS, "top_logprobs", top, "at most 1000")
    }

    /// Whether any logit is changed before the choice.
    pub(super) fn edits(&self) -> bool {
        self.penalties() || !self.logit_bias.is_empty() || self.dry.is_some()
    }

    /// Whether any of the three penalties acts.
    pub(super) fn penalties(&self) -> bool {
        let acts = self.repeat_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0;
        acts && self.repeat_last_n != Some(0)
    }
}

impl Dry {
    fn validate(&self) -> Result<(), OptionError> {
        let (multiplier, base) = (self.multiplier, self.base);
        check(
            multiplier.is_finite() && multiplier >= 0.0,
            "dry_multiplier",
            multiplier,
            "0 or a positive number",
        )?;
        check(base.is_finite() && base >= 1.0, "dry_base", base, "at least 1")?;
        let longest =
            self.breakers.iter().map(Vec::len).max().unwrap_or(0).max(self.breakers.len());
        let empty = self.breakers.iter().any(Vec::is_empty);
        check(!empty, "dry_sequence_breakers", "empty", "at least one token in each")?;
        check(
            longest <= MAX_BREAKERS,
            "dry_sequence_breakers",
            longest,
            "at most 256, of at most 256 tokens",
        )
    }
}
