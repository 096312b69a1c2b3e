//! Which recipe of a model this machine should have: the usual one if it fits the memory that is free, else the best that does, and why.
//! Sizes come from the source, the cache from the published description where the catalogue has one. Deliberately absent:
//! graphics cards, speed.

use std::cell::RefCell;

use hob_hub::{Choice, Hub, Published};
use hob_machine::Machine;
use hob_model::hf::HfConfig;
use hob_model::{KvType, Model};
use hob_plan::{Conditions, units};

/// Tokens of context that a model must have room for.
const CONTEXT: usize = 4096;
/// What a model without a description takes beside its file: cache and buffers, as a share of the file and a constant.
const SHARE: f64 = 0.08;
const CONSTANT: u64 = 300 << 20;

/// From the recipe that people take who can choose, downwards: each is smaller or worse than the one before.
const PREFERRED: &[&str] = &[
    "Q4_K_M",
    "UD-Q4_K_XL",
    "Q4_K_S",
    "MXFP4_MOE",
    "MXFP4",
    "IQ4_NL",
    "Q4_1",
    "Q4_0",
    "IQ4_XS",
    "Q3_K_L",
    "UD-Q3_K_XL",
    "Q3_K_M",
    "IQ3_M",
    "Q3_K_S",
    "IQ3_S",
    "IQ3_XXS",
    "UD-IQ3_XXS",
    "UD-Q2_K_XL",
    "Q2_K",
    "IQ2_M",
    "UD-IQ2_M",
    "IQ2_S",
    "IQ2_XS",
    "IQ2_XXS",
    "UD-IQ2_XXS",
    "UD-IQ1_M",
    "IQ1_M",
    "UD-IQ1_S",
    "IQ1_S",
    "UD-TQ1_0",
];

/// Chooses for one model on this machine, and remembers why.
pub struct Chooser {
    model: Option<Model>,
    available: u64,
    reason: RefCell<Option<String>>,
}

impl Chooser {
    /// For the model that a reference means; what the catalogue does not describe is judged by its files' sizes.
    pub fn new(hub: &Hub, reference: &str) -> Chooser {
        let published = hub.published(reference).ok().flatten();
        let describe = |p: &Published| HfConfig::parse(&p.config.to_string()).ok()?.describe().ok();
        let model = published.and_then(|(_, published)| describe(published));
        let available = Machine::host().map_or(u64::MAX, |m| m.memory.available_bytes);
        Chooser::of(model, available)
    }

    /// For a model of this description, with so many bytes of memory free.
    pub fn of(model: Option<Model>, available: u64) -> Chooser {
        Chooser { model, available, reason: RefCell::default() }
    }

    /// The index of the recipe to take, of those that there are, the smallest first.
    ///
    /// # Errors
    /// In words, when none fits.
    pub fn choose(&self, name: &str, choices: &[Choice]) -> Result<usize, String> {
        let bytes = |i: usize| choices.get(i).and_then(|c| c.bytes);
        let fits = |i: &usize| bytes(*i).is_none_or(|b| self.fits(b));
        let named = |recipe: &&str| choices.iter().position(|c| c.recipe == **recipe);
        let preferred: Vec<usize> = PREFERRED.iter().filter_map(named).collect();
        let first = preferred.first().copied();
        // Without any of them, the largest that fits: files of one publisher, or embeddings.
        let picked = match preferred.is_empty() {
            true => (0..choices.len()).rev().find(fits),
            false => preferred.into_iter().find(fits),
        };
        let Some(picked) = picked else { return Err(self.nothing(choices)) };
        let recipe = choices.get(picked).map_or("", |c| c.recipe.as_str());
        let size = bytes(picked).map_or("unknown size".to_owned(), units::file_size);
        let free = units::file_size(self.available);
        let why = match first {
            Some(first) if first != picked => {
                let wanted = choices.get(first).map_or("", |c| c.recipe.as_str());
                format!(
                    "{wanted} does not fit the {free} of memory that are free with {CONTEXT} tokens of context"
                )
            }
            Some(_) => format!("it fits the {free} of memory that are free"),
            None => format!("the largest that fits the {free} of memory that are free"),
        };
        let line =
            format!("{name}: taking {recipe} ({size}): {why}; --recipe or a tag takes another");
        self.reason.replace(Some(line));
        Ok(picked)
    }

    /// Why, once it has chosen.
    pub fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    fn nothing(&self, choices: &[Choice]) -> String {
        let smallest = choices.iter().filter(|c| c.bytes.is_some()).min_by_key(|c| c.bytes);
        let Some(Choice { recipe, bytes }) = smallest else {
            return "there is none".to_owned();
        };
        format!(
            "the smallest, {recipe} of {}, does not fit the {} of memory that are free with {CONTEXT} tokens of context; \
            a tag or --recipe takes one all the same",
            units::file_size(bytes.unwrap_or(0)),
            units::file_size(self.available)
        )
    }

    fn fits(&self, weights: u64) -> bool {
        match &self.model {
            Some(model) => {
                let asked = Some(CONTEXT.min(model.context as usize).max(2));
                let (available, kv) = (self.available, KvType::F16);
                Conditions { model, weights, available, kv, sequences: 1, asked }.choose().is_ok()
            }
            None => {
                let beside = (weights as f64 * SHARE) as u64 + CONSTANT;
                weights.saturating_add(beside) <= self.available
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chooser(available: u64) -> Chooser {
        Chooser::of(None, available)
    }

    fn choices(all: &[(&str, u64)]) -> Vec<Choice> {
        let choice = |(recipe, gb): &(&str, u64)| Choice {
            recipe: (*recipe).to_owned(),
            bytes: Some(gb * 1_000_000_000),
        };
        all.iter().map(choice).collect()
    }

    #[test]
    fn the_usual_one_unless_it_does_not_fit() {
        let all = choices(&[("Q2_K", 4), ("Q3_K_M", 6), ("Q4_K_M", 8), ("Q8_0", 15)]);
        let pick = |gb: u64| {
            let chooser = chooser(gb * 1_000_000_000);
            let picked = chooser.choose("m", &all).map(|i| all[i].recipe.clone());
            (picked, chooser.reason())
        };
        assert_eq!(pick(64).0.unwrap(), "Q4_K_M");
        let (picked, reason) = pick(8);
        assert_eq!(picked.unwrap(), "Q3_K_M");
        assert!(reason.unwrap().contains("Q4_K_M does not fit"));
        assert_eq!(pick(5).0.unwrap(), "Q2_K");
        assert!(pick(3).0.unwrap_err().contains("Q2_K"));
    }

    #[test]
    fn more_memory_never_takes_a_worse_one() {
        let all = choices(&[("IQ1_S", 2), ("IQ2_M", 3), ("Q3_K_S", 5), ("Q4_0", 6), ("Q4_K_M", 7)]);
        let size = |gb: u64| chooser(gb << 29).choose("m", &all).ok().map(|i| all[i].bytes);
        for gb in 1..40 {
            assert!(size(gb) <= size(gb + 1), "{gb}");
        }
    }

    #[test]
    fn without_a_usual_one_the_largest_that_fits() {
        let all = choices(&[("Q8_0", 2), ("F16", 4), ("F32", 8)]);
        assert_eq!(chooser(6_000_000_000).choose("m", &all), Ok(1));
        assert!(chooser(1_000_000_000).choose("m", &all).is_err());
    }
}
