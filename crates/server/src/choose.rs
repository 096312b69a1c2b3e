//! Which of the files that a source offers of a model this machine should have, and why: by the rule by which `hob fit` marks the best, for the
//! cores that hob computes on. A model that the catalogue does not describe is judged by the sizes of its files. Deliberately absent: graphics
//! cards, and measuring: what is not known of this machine makes the told interval wider, and nobody waits for it.

use std::cell::RefCell;
use std::cmp::Reverse;

use hob_hub::{Choice, Hub};
use hob_machine::{Machine, Memory};
use hob_model::{Recipe, RecipeOptions};
use hob_plan::fit::{self, Fit, Fits, Subject};
use hob_plan::placement::Wishes;
use hob_plan::{Rig, units};

use crate::described::Described;
use crate::here;

/// Tokens of context that the smallest file must have room for where nothing has room for the usual ones.
const LEAST_CONTEXT: usize = 4096;
/// What a model without a description takes beside its file: cache and buffers, as a share of the file and a constant.
const SHARE: f64 = 0.08;
const CONSTANT: u64 = 300 << 20;
/// What people take who do not choose, of a model without a description: the first of these that is offered, or what is smaller.
const USUAL: &[&str] = &["Q4_K_M", "UD-Q4_K_XL", "Q4_K_S", "Q4_0", "MXFP4_MOE", "MXFP4"];
/// Part of its length by which a file may miss what its name makes here, before the name is taken for something else.
const MISS: u64 = 8;

/// Chooses for one model on this machine, and remembers why.
pub struct Chooser {
    described: Option<Described>,
    rig: Rig,
    reason: RefCell<Option<String>>,
}

/// What is picked, and why.
type Picked = (usize, String);

/// Judges the files of a described model.
struct Judge<'a> {
    subject: Subject<'a>,
    rig: &'a Rig,
    /// Bytes of the file that each recipe would make.
    made: Vec<(&'static Recipe, u64)>,
}

impl Chooser {
    /// For the model that a reference means, by the description in the catalogue if there is one.
    pub fn new(hub: &Hub, reference: &str) -> Chooser {
        let published = hub.published(reference).ok().flatten();
        let described = published.and_then(|(_, p)| Described::of_published(p).ok());
        // A machine that does not say what it has is taken for one that has enough.
        let enough = || {
            let bytes = u64::MAX;
            let memory = Memory { total_bytes: bytes, available_bytes: bytes, ..Memory::default() };
            Machine { memory, ..Machine::default() }
        };
        let machine = Machine::host().unwrap_or_else(|_| enough());
        Chooser::of(described, here::cores(hub.root(), &machine))
    }

    /// For a model of this description, on this hardware.
    pub fn of(described: Option<Described>, rig: Rig) -> Chooser {
        Chooser { described, rig, reason: RefCell::default() }
    }

    /// The index of the recipe to take, of those that there are, the smallest first.
    ///
    /// # Errors
    /// In words, when none fits.
    pub fn choose(&self, name: &str, choices: &[Choice]) -> Result<usize, String> {
        let picked = match &self.described {
            Some(described) => self.by_plan(described, choices),
            None => self.by_size(choices),
        };
        let Some((index, why)) = picked else { return Err(self.nothing(choices)) };
        let choice = choices.get(index);
        let recipe = choice.map_or("", |c| c.recipe.as_str());
        let size = choice.and_then(|c| c.bytes).map_or("unknown size".to_owned(), units::file_size);
        let line =
            format!("{name}: taking {recipe} ({size}): {why}; --recipe or a tag takes another");
        self.reason.replace(Some(line));
        Ok(index)
    }

    /// Why, once it has chosen.
    pub fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    /// The best by the planner's rule; else the smallest, with less context.
    fn by_plan(&self, described: &Described, choices: &[Choice]) -> Option<Picked> {
        let Described { model, size } = described;
        let options = RecipeOptions { importance: true, ..RecipeOptions::default() };
        let judge = Judge::new(Subject::new(model, size, &options), &self.rig);
        let usual = Wishes::usual(model);
        let judged = |(index, choice)| Some((index, judge.fit(choice, &usual)?));
        let (places, fits): (Vec<usize>, Vec<Fit>) =
            choices.iter().enumerate().filter_map(judged).unzip();
        if fits.is_empty() {
            return self.by_size(choices);
        }
        let room = |fit: &Fit| match fit.speeds {
            Some(s) => format!(
                "{} here, room for {} tokens",
                here::speed(model, s.decode, s.prefill),
                fit.max_context
            ),
            None => String::new(),
        };
        if let Some((nth, why)) = fit::best(&fits) {
            let (index, fit) = (*places.get(nth)?, fits.get(nth)?);
            return Some((index, format!("{}; {}", why.text(), room(fit))));
        }
        let (index, smallest) = choices.iter().enumerate().min_by_key(|(_, c)| size_of(c))?;
        let least = Wishes::new(LEAST_CONTEXT.min(usual.context));
        let fit = judge.fit(smallest, &least).filter(|fit| fit.fits != Fits::No)?;
        let (free, tokens) = (self.free(), usual.context);
        let why = format!(
            "the smallest, as none fits the {free} of memory that are free with {tokens} tokens of context; {}",
            room(&fit)
        );
        Some((index, why))
    }

    /// The usual one if its file leaves room for the rest, or the largest of the smaller ones that does; without a usual one, of all.
    fn by_size(&self, choices: &[Choice]) -> Option<Picked> {
        let fits = |choice: &Choice| {
            choice.bytes.is_none_or(|bytes| {
                let beside = (bytes as f64 * SHARE) as u64 + CONSTANT;
                bytes.saturating_add(beside) <= self.rig.host.free
            })
        };
        let named = |recipe: &&str| choices.iter().position(|c| c.recipe == **recipe);
        let usual = USUAL.iter().find_map(named);
        let most = usual.unwrap_or(choices.len().saturating_sub(1));
        let index = (0..=most).rev().find(|&i| choices.get(i).is_some_and(fits))?;
        let free = self.free();
        let why = match usual.and_then(|usual| choices.get(usual)) {
            Some(_) if index == most => format!("it fits the {free} of memory that are free"),
            Some(usual) => {
                format!("{} does not fit the {free} of memory that are free", usual.recipe)
            }
            None => format!("the largest that fits the {free} of memory that are free"),
        };
        Some((index, why))
    }

    fn nothing(&self, choices: &[Choice]) -> String {
        let smallest = choices.iter().filter(|c| c.bytes.is_some()).min_by_key(|c| c.bytes);
        let Some(Choice { recipe, bytes }) = smallest else {
            return "there is none".to_owned();
        };
        format!(
            "the smallest, {recipe} of {}, does not fit the {} of memory that are free with {LEAST_CONTEXT} tokens of context; \
            a tag or --recipe takes one all the same",
            units::file_size(bytes.unwrap_or(0)),
            self.free()
        )
    }

    fn free(&self) -> String {
        units::file_size(self.rig.host.free)
    }
}

fn size_of(choice: &Choice) -> u64 {
    choice.bytes.unwrap_or(u64::MAX)
}

impl<'a> Judge<'a> {
    fn new(subject: Subject<'a>, rig: &'a Rig) -> Judge<'a> {
        let made = Recipe::all().iter().filter_map(|r| Some((r, subject.bytes(r)?))).collect();
        Judge { subject, rig, made }
    }

    /// A file on the rig: by its own length where that is known. `None` where neither length nor name tell anything.
    fn fit(&self, choice: &Choice, wishes: &Wishes) -> Option<Fit> {
        let name = choice.recipe.strip_prefix("UD-").unwrap_or(&choice.recipe);
        let Some(bytes) = choice.bytes else {
            return Some(fit::fit_one(&self.subject, Recipe::find(name)?, self.rig, wishes));
        };
        let recipe = self.nearest(name, bytes)?;
        Some(fit::fit_file(&self.subject, recipe, bytes, self.rig, wishes))
    }

    /// The recipe whose mix a file is likely to have: of those whose names begin most alike, the nearest in length. Where that is far off, the
    /// nearest of all: files of gpt-oss have experts in MXFP4, whatever they are called.
    fn nearest(&self, name: &str, bytes: u64) -> Option<&'static Recipe> {
        let off = |made: u64| made.abs_diff(bytes);
        let alike = |recipe: &Recipe| {
            let words = recipe.name.split('_').zip(name.split('_'));
            words.take_while(|(a, b)| a == b).count()
        };
        let named = self.made.iter().min_by_key(|(r, made)| (Reverse(alike(r)), off(*made)))?;
        let near = off(named.1) <= bytes / MISS;
        let nearest = self.made.iter().min_by_key(|(_, made)| off(*made));
        let found = if near { named } else { nearest? };
        Some(found.0)
    }
}

#[cfg(test)]
mod tests;
