//! Models of the catalogue, read from the data that `hob-hub` is built with, by path: `hob-plan` must not use `hob-hub`, and its tests need not wait
//! for it to be built.

#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests

use std::path::PathBuf;

use hob_machine::devices;
use hob_model::hf::HfConfig;
use hob_model::{FileSize, Model, Recipe, RecipeOptions, TOKENIZER_BYTES_PER_ENTRY};
use hob_plan::fit::{self, Fit, Subject};
use hob_plan::placement::Wishes;
use hob_plan::{Rig, rig_of_devices};
use serde_json::Value;

/// A model with what its files hold beside weights.
pub struct Known {
    pub name: String,
    pub entry: Value,
    pub model: Model,
    pub size: FileSize,
}

/// All entries with a description.
pub fn all() -> Vec<Known> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "hub", "catalogue"].iter().collect();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "json"));
    files.sort();
    let read = |file: &PathBuf| -> Vec<Value> {
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    };
    files.iter().flat_map(read).filter_map(known).collect()
}

fn known(entry: Value) -> Option<Known> {
    let config = HfConfig::parse(&entry.get("published")?.get("config")?.to_string()).unwrap();
    let model = config.describe().unwrap();
    let tokenizer = u64::from(model.vocab) * TOKENIZER_BYTES_PER_ENTRY;
    let size = FileSize::of(&model, &config.meta, tokenizer).unwrap();
    let name = format!("{}:{}", entry["name"].as_str()?, entry["tag"].as_str()?);
    Some(Known { name, entry, model, size })
}

/// One of them.
pub fn model(name: &str) -> Known {
    all().into_iter().find(|known| known.name == name).unwrap()
}

/// The hardware of this name.
pub fn rig(device: &str) -> Rig {
    rig_of_devices(&devices::parse(device).unwrap_or_else(|e| panic!("{device}: {e}")))
}

impl Known {
    pub fn fit(&self, recipe: &str, rig: &Rig, wishes: &Wishes) -> Fit {
        let options = RecipeOptions { importance: true, ..RecipeOptions::default() };
        let subject = Subject::new(&self.model, &self.size, &options);
        fit::fit_one(&subject, Recipe::find(recipe).unwrap(), rig, wishes)
    }

    /// A file of about this recipe, larger or smaller than that by a factor.
    pub fn fit_file(&self, recipe: &str, factor: f64, rig: &Rig, wishes: &Wishes) -> Fit {
        let options = RecipeOptions { importance: true, ..RecipeOptions::default() };
        let subject = Subject::new(&self.model, &self.size, &options);
        let recipe = Recipe::find(recipe).unwrap();
        let bytes = (subject.bytes(recipe).unwrap() as f64 * factor) as u64;
        fit::fit_file(&subject, recipe, bytes, rig, wishes)
    }

    pub fn fits(&self, rig: &Rig, wishes: &Wishes) -> Vec<Fit> {
        let options = RecipeOptions { importance: true, ..RecipeOptions::default() };
        let subject = Subject::new(&self.model, &self.size, &options);
        fit::fit(&subject, rig, wishes)
    }
}
