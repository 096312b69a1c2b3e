//! Flags that say how the next token is chosen, and how they go over what the model's file and store say.

use clap::builder::RangedU64ValueParser;
use hob_server::Sampling;

/// Flags of every verb that generates text.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Sampling (without a flag: what the file says, else the default)")]
pub struct Flags {
    /// Randomness; 0 always takes the likeliest token [default: 0.8]
    #[arg(long, value_name = "T", value_parser = not_negative)]
    pub temperature: Option<f32>,
    /// Choose among the K likeliest tokens; 0 for all [default: 40]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Choose among the likeliest tokens that together have probability P [default: 0.9]
    #[arg(long, value_name = "P", value_parser = fraction)]
    pub top_p: Option<f32>,
    /// Leave out tokens less likely than P times the likeliest [default: 0]
    #[arg(long, value_name = "P", value_parser = fraction)]
    pub min_p: Option<f32>,
    /// Divide the logits of the last 64 tokens by this; 1 for none [default: 1]
    #[arg(long, value_name = "R", value_parser = positive)]
    pub repeat_penalty: Option<f32>,
    /// The same seed gives the same answer [default: a new one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Stop after N tokens [default: when the context is full]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_tokens: Option<usize>,
    /// Stop before this text; may be given several times
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub stop: Vec<String>,
}

/// The user's flags over what the model says.
pub fn with_flags(mut sampling: Sampling, flags: &Flags) -> Sampling {
    let o = &mut sampling.options;
    o.temperature = flags.temperature.unwrap_or(o.temperature);
    o.top_k = flags.top_k.unwrap_or(o.top_k);
    o.top_p = flags.top_p.unwrap_or(o.top_p);
    o.min_p = flags.min_p.unwrap_or(o.min_p);
    o.repeat_penalty = flags.repeat_penalty.unwrap_or(o.repeat_penalty);
    o.seed = flags.seed.or(o.seed);
    sampling.max_tokens = flags.max_tokens.or(sampling.max_tokens);
    sampling.stop.extend_from_slice(&flags.stop);
    sampling
}

fn parsed(text: &str, ok: impl Fn(f32) -> bool, expected: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(x) if ok(x) => Ok(x),
        _ => Err(format!("expected {expected}")),
    }
}

fn not_negative(text: &str) -> Result<f32, String> {
    parsed(text, |x| x.is_finite() && x >= 0.0, "0 or a positive number")
}

fn positive(text: &str) -> Result<f32, String> {
    parsed(text, |x| x.is_finite() && x > 0.0, "a positive number")
}

fn fraction(text: &str) -> Result<f32, String> {
    parsed(text, |x| (0.0..=1.0).contains(&x), "a number from 0 to 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_model() {
        let model = Sampling { stop: vec!["a".into()], ..Sampling::default() };
        let flags = Flags { temperature: Some(0.0), stop: vec!["x".into()], ..Flags::default() };
        let both = with_flags(model, &flags);
        assert_eq!((both.options.temperature, both.options.top_k), (0.0, 40));
        assert_eq!(both.stop, ["a", "x"]);
    }
}
