//! Recipes: which tensor type each weight of a model gets, as data. A recipe is a base type and a list of rules, of
//! which the first that fits a weight decides; planner and quantizer read the same list. The choices are those of
//! llama.cpp's `llama-quantize`, so that names mean here what they mean on the hubs (`tests/recipes` holds them
//! against it). Deliberately absent: how blocks are encoded, and rules for architectures that hob does not describe.

mod options;
mod place;
mod size;
mod table;

use hob_quant::GgmlType;

pub use options::{BadOverride, Override, RecipeOptions};
pub use size::{FileSize, SizeError, TOKENIZER_BYTES_PER_ENTRY};

use crate::{Model, Role, Weight};
use place::{Facts, Place};

/// A named mix of tensor types.
#[derive(Debug)]
pub struct Recipe {
    /// Name in llama.cpp's spelling, `_L` and `_XL` as the hubs use them.
    pub name: &'static str,
    /// GGUF's `general.file_type`.
    pub file_type: u32,
    /// Type of every matrix that no rule names.
    pub base: GgmlType,
    /// Rules in groups, read in order: the first that fits decides.
    rules: &'static [&'static [Rule]],
    /// Type of token embedding and output instead of what the rules say.
    embed_and_output: Option<GgmlType>,
}

/// `part` gets `ty` where all of `when` hold.
#[derive(Debug)]
struct Rule {
    part: Part,
    when: &'static [When],
    ty: GgmlType,
}

/// The weights that a rule is about. Experts, routed and shared, go with the dense feed-forward of their name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Unembedding; embeddings where there is none.
    Output,
    /// Token embeddings beside it.
    TokenEmbd,
    AttnQ,
    AttnK,
    /// Values, and fused projections with them.
    AttnV,
    AttnOutput,
    FfnGate,
    FfnUp,
    FfnDown,
    /// Every other matrix.
    Other,
}

/// A condition of a rule. `i` is the layer and `n` the number of layers; divisions round down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Among the first `.0` of its kind.
    First(u32),
    /// `i < n / .0`.
    FirstPart(u32),
    /// As `FirstPart(8)`, but tensors of the kind are counted, not layers: a layer with shared experts has two.
    FirstEighthCounted,
    /// `n / 8 <= i < 7 n / 8`.
    Middle,
    /// The first and last eighth, and every third layer between them.
    MoreBits,
    /// At least four query heads share a key and value head.
    WideGroups,
    /// At least four experts.
    ManyExperts,
    /// Exactly eight experts, as in Mixtral.
    EightExperts,
    /// The shapes whose attention values are small enough to get more bits: 80 layers of Llama 2 70B and its like.
    Size70B,
    /// With an importance matrix.
    Importance,
    /// Without one.
    NoImportance,
    /// The row is not a whole number of the base type's blocks.
    Ragged,
    /// A matrix per expert (or head) in a third dimension.
    Stacked,
}

impl Recipe {
    /// The recipe of this name; upper and lower case are the same, and llama.cpp's aliases are known.
    pub fn find(name: &str) -> Option<&'static Recipe> {
        let alias = table::ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        let name = alias.map_or(name, |(_, name)| name);
        Self::all().iter().find(|recipe| recipe.name.eq_ignore_ascii_case(name))
    }

    /// Every recipe, from large to small by and large.
    pub fn all() -> &'static [Recipe] {
        table::RECIPES
    }

    /// Whether it cannot be made without an importance matrix: some matrix inside the layers gets a type that is
    /// noise without one (in models whose rows fit that type).
    pub fn needs_importance(&self) -> bool {
        let inner = self.rules().filter(|r| !matches!(r.part, Part::Output | Part::TokenEmbd));
        let mut types = std::iter::once(self.base).chain(inner.map(|r| r.ty));
        types.any(|ty| self.needs_importance_for(ty))
    }

    /// Whether `ty`, inside the layers of this recipe, needs an importance matrix.
    pub fn needs_importance_for(&self, ty: GgmlType) -> bool {
        use GgmlType::{IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_XXS, Q2_K};
        match ty {
            IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS => true,
            Q2_K => self.file_type == table::Q2_K_S,
            _ => false,
        }
    }

    /// The type of every weight of `model`, indexed by [`crate::WeightId`]. What stays unquantized (norms, biases,
    /// everything with one dimension, routers) is F32, as converters write it; the one large matrix among it is as published.
    pub fn tensor_types(&self, model: &Model, options: &RecipeOptions) -> Vec<GgmlType> {
        let facts = Facts::of(model);
        let places = facts.places(&model.weights);
        let weights = model.weights.iter().zip(&places);
        weights.map(|(weight, place)| self.choose(weight, place, &facts, options)).collect()
    }

    fn choose(
        &self,
        weight: &Weight,
        place: &Option<Place>,
        facts: &Facts,
        options: &RecipeOptions,
    ) -> GgmlType {
        let Some(place) = place else {
            let large = weight.role == Role::PerLayerModelProj && self.base != GgmlType::F32;
            return if large { GgmlType::BF16 } else { GgmlType::F32 };
        };
        let row = weight.shape.first().copied().unwrap_or(1);
        let wanted = options.overridden(&weight.name).or(self.outer(place)).unwrap_or_else(|| {
            let rule = self.rules().find(|rule| {
                let holds = |when: &When| when.holds(weight, place, facts, options, self.base);
                rule.part == place.part && rule.when.iter().all(holds)
            });
            rule.filter(|_| !options.pure).map_or(self.base, |rule| rule.ty)
        });
        fitting(wanted, row)
    }

    /// What `_L` and `_XL` say of embedding and output.
    fn outer(&self, place: &Place) -> Option<GgmlType> {
        self.embed_and_output.filter(|_| matches!(place.part, Part::Output | Part::TokenEmbd))
    }

    fn rules(&self) -> impl Iterator<Item = &'static Rule> {
        self.rules.iter().flat_map(|group| group.iter())
    }
}

impl When {
    fn holds(
        self,
        weight: &Weight,
        place: &Place,
        facts: &Facts,
        options: &RecipeOptions,
        base: GgmlType,
    ) -> bool {
        let (i, n) = (place.layer, place.layers);
        match self {
            When::First(count) => place.nth < count,
            When::FirstPart(part) => i < n / part,
            When::FirstEighthCounted => place.nth < n / 8,
            When::Middle => (n / 8..7 * n / 8).contains(&i),
            When::MoreBits => i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2,
            When::WideGroups => facts.group >= 4,
            When::ManyExperts => facts.experts >= 4,
            When::EightExperts => facts.experts == 8,
            When::Size70B => facts.size_70b,
            When::Importance => options.importance,
            When::NoImportance => !options.importance,
            When::Ragged => !weight.shape.first().is_some_and(|&row| fits(base, row)),
            When::Stacked => weight.shape.get(2).is_some_and(|&n| n > 1),
        }
    }
}

/// `ty`, or where a row is not a whole number of its blocks, the type with smaller blocks that stands in for it.
fn fitting(ty: GgmlType, row: u64) -> GgmlType {
    if fits(ty, row) {
        return ty;
    }
    let smaller = table::substitute(ty);
    if fits(smaller, row) { smaller } else { GgmlType::F16 }
}

fn fits(ty: GgmlType, row: u64) -> bool {
    row.is_multiple_of(ty.block_len() as u64)
}
