//! What a folder becomes: every tensor of the checkpoint is matched with its family's table, and every tensor of the GGUF
//! file is described (name, type, shape, which rows of which sources) before a byte is written. A tensor that no rule
//! knows, one that is missing and one of a wrong shape are errors here. Deliberately absent: reading numbers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hob_model::hf::{Computed, Keys, bad};
use hob_quant::GgmlType;

use super::checkpoint;
use super::error::ConvertError;
use super::families::{self, Family, How, Rule};
use super::folder::{Folder, LISTED, Place};
use super::rows::{Scales, Slab};
use super::safetensors::{Dtype, Tensor};

/// Most experts of a layer.
const MAX_EXPERTS: u32 = 1 << 16;

/// A tensor that will be written.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Name in GGUF.
    pub name: String,
    /// Type.
    pub ty: GgmlType,
    /// Dimensions, the row length first.
    pub dims: Vec<u64>,
    pub(super) source: Source,
}

/// Where a tensor's numbers come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Rows of sources, one after another, and what is done to each number.
    Slabs { slabs: Vec<Slab>, change: Change },
    /// Numbers that were computed.
    Floats(Vec<f32>),
}

/// What is done to each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    PlusOne,
    /// Minus its exponential.
    Decay,
}

/// What was left out on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Tensors of image and sound towers.
    pub other_parts: usize,
    /// Tensors of multi-token-prediction layers.
    pub prediction: usize,
}

/// Matches a checkpoint with its family's table.
pub(super) struct Planner<'a> {
    family: &'static Family,
    pub(super) folder: &'a Folder,
    pub(super) keys: &'a Keys,
    /// The type of matrices.
    ty: GgmlType,
    /// Layers without those that predict further tokens, and with them.
    trunk: u64,
    layers: u64,
    pub(super) experts: u64,
    pub(super) heads: u64,
    pub(super) heads_kv: u64,
    tied: bool,
    /// Rows that an embedding may have; none if all.
    pub(super) vocabulary: Option<u64>,
    pub(super) places: HashMap<&'a str, Place>,
    /// Patterns seen, and in which layer.
    seen: BTreeSet<(&'static str, u64)>,
    /// Experts that wait for the others of their layer, by layer and name in GGUF.
    stacks: BTreeMap<(u64, &'static str), BTreeMap<u64, Slab>>,
    /// Tensors that come before all others.
    first: Vec<Planned>,
    rest: Vec<Planned>,
    skipped: Skipped,
}

/// A source's tensor that a rule has matched.
pub(super) struct Match<'t> {
    pub rule: &'static Rule,
    /// The list that the rule is in.
    list: &'static [Rule],
    pub tensor: &'t Tensor,
    pub place: Place,
    layer: Option<u64>,
    expert: Option<u64>,
    /// `.weight`, `.bias`, or nothing if the rule says it.
    suffix: &'static str,
}

impl Match<'_> {
    fn name(&self, rule: &Rule) -> String {
        match self.layer {
            Some(layer) => format!("blk.{layer}.{}{}", rule.to, self.suffix),
            None => format!("{}{}", rule.to, self.suffix),
        }
    }
}

impl<'a> Planner<'a> {
    /// `ty`: the type of matrices. `vocabulary`: tokens that there are.
    pub fn new(
        family: &'static Family,
        folder: &'a Folder,
        keys: &'a Keys,
        ty: GgmlType,
        vocabulary: Option<u64>,
    ) -> Result<Self, ConvertError> {
        let heads = keys.need_count("num_attention_heads")?;
        let mut experts = None;
        for key in ["num_local_experts", "num_experts", "n_routed_experts"] {
            experts = experts.or(keys.count(key)?);
        }
        if let Some(found) = experts.filter(|experts| *experts > MAX_EXPERTS) {
            return Err(bad("num_experts", &found.to_string(), "at most 65536").into());
        }
        let trunk = u64::from(keys.need_count("num_hidden_layers")?);
        Ok(Planner {
            family,
            folder,
            keys,
            ty,
            trunk,
            layers: trunk + u64::from(keys.predicted),
            experts: experts.unwrap_or(0).into(),
            heads: heads.into(),
            heads_kv: keys.count("num_key_value_heads")?.unwrap_or(heads).into(),
            tied: keys.flag("tie_word_embeddings")?,
            vocabulary,
            places: folder.tensors().map(|(place, t)| (t.name.as_str(), place)).collect(),
            seen: BTreeSet::new(),
            stacks: BTreeMap::new(),
            first: Vec::new(),
            rest: Vec::new(),
            skipped: Skipped::default(),
        })
    }

    /// All tensors of the file, in their order, and what is left out.
    pub fn run(mut self, computed: Computed) -> Result<(Vec<Planned>, Skipped), ConvertError> {
        let mut unknown = Vec::new();
        for (place, tensor) in self.folder.tensors() {
            if !self.take(place, tensor)? {
                unknown.push(tensor.name.clone());
            }
        }
        if !unknown.is_empty() {
            let count = unknown.len();
            unknown.truncate(LISTED);
            return Err(ConvertError::Unknown { arch: self.family.arch, count, names: unknown });
        }
        self.check_whole()?;
        let mut all = self.first;
        all.extend(computed.into_iter().map(|(name, numbers)| Planned {
            name: name.to_owned(),
            ty: GgmlType::F32,
            dims: vec![numbers.len() as u64],
            source: Source::Floats(numbers),
        }));
        all.append(&mut self.rest);
        Ok((all, self.skipped))
    }

    /// Takes a tensor of the checkpoint; false if nothing is known of it.
    fn take(&mut self, place: Place, tensor: &Tensor) -> Result<bool, ConvertError> {
        let name = (self.family.rename)(tensor.name.replace("language_model.", ""), self.trunk);
        if families::of_other_part(&name) {
            self.skipped.other_parts += 1;
            return Ok(true);
        }
        if families::is_buffer(&name) || self.is_scale(&tensor.name) {
            return Ok(true);
        }
        if layer_of(&name).is_some_and(|layer| layer >= self.layers) {
            self.skipped.prediction += 1;
            return Ok(true);
        }
        let matches = self.find(&name, place, tensor);
        for m in &matches {
            self.seen.insert((m.rule.from, m.layer.unwrap_or(0)));
            let tied = m.rule.to == "output" && self.tied && self.family.drops_tied_output;
            if m.rule.how != How::Drop && !tied {
                self.add(m)?;
            }
        }
        Ok(!matches.is_empty())
    }

    /// Whether a tensor has the factors of another, or those of activations, which nobody needs.
    fn is_scale(&self, name: &str) -> bool {
        let weight = ["_scale_inv", "_scale"].iter().filter_map(|end| name.strip_suffix(end));
        weight.into_iter().any(|weight| self.places.contains_key(weight))
            || name.ends_with("activation_scale")
            || name.ends_with(".input_scale")
    }

    /// The rules for a name: those of the first list that has one.
    fn find<'t>(&self, name: &str, place: Place, tensor: &'t Tensor) -> Vec<Match<'t>> {
        let lists = self.family.parts.iter().copied().flatten().copied();
        let lists = lists.chain([self.family.joint]);
        let matches = |list: &'static [Rule]| -> Vec<Match<'t>> {
            let of = |rule: &'static Rule| {
                let (suffix, stem) = suffix(rule, name)?;
                let (layer, expert) = captures(rule.from, stem)?;
                Some(Match { rule, list, tensor, place, layer, expert, suffix })
            };
            list.iter().filter_map(of).collect()
        };
        lists.map(matches).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// Plans what a rule makes of a tensor.
    fn add(&mut self, m: &Match<'_>) -> Result<(), ConvertError> {
        let (slabs, dims) = self.slabs(m)?;
        if m.rule.how == How::Stack {
            return self.stack(m, slabs, dims);
        }
        let change = match m.rule.how {
            How::PlusOne => Change::PlusOne,
            How::Decay | How::ColumnDecay | How::TiledDecay => Change::Decay,
            _ => Change::Nothing,
        };
        let planned = self.planned(m.name(m.rule), slabs, dims, change);
        match planned.ty {
            GgmlType::MXFP4 => self.first.push(planned),
            _ => self.rest.push(planned),
        }
        Ok(())
    }

    /// Keeps an expert until its layer has all of all matrices, then plans them in the table's order.
    fn stack(
        &mut self,
        m: &Match<'_>,
        slabs: Vec<Slab>,
        dims: Vec<u64>,
    ) -> Result<(), ConvertError> {
        let (layer, expert) = (m.layer.unwrap_or(0), m.expert.unwrap_or(0));
        if expert >= self.experts {
            return Err(shape(m.tensor, &format!("to be of an expert below {}", self.experts)));
        }
        let waiting = self.stacks.entry((layer, m.rule.to)).or_default();
        if let (Some(new), Some(old)) = (slabs.first(), waiting.values().next())
            && new.shape() != old.shape()
        {
            let (rows, cols) = old.shape();
            return Err(shape(m.tensor, &format!("[{rows}, {cols}] as other experts have")));
        }
        waiting.extend(slabs.into_iter().map(|slab| (expert, slab)));
        let all: Vec<&Rule> = m.list.iter().filter(|rule| rule.how == How::Stack).collect();
        let come = |rule: &&Rule| self.stacks.get(&(layer, rule.to)).map_or(0, BTreeMap::len);
        if all.iter().any(|rule| (come(rule) as u64) < self.experts) {
            return Ok(());
        }
        for rule in all {
            let slabs = self.stacks.remove(&(layer, rule.to)).unwrap_or_default();
            let slabs: Vec<Slab> = slabs.into_values().collect();
            let shape = slabs.first().map_or((0, 0), Slab::shape);
            let mut dims = dims.clone();
            dims.splice(.., [shape.1, shape.0, self.experts]);
            self.rest.push(self.planned(m.name(rule), slabs, dims, Change::Nothing));
        }
        Ok(())
    }

    /// A tensor with the type that its name and shape give it.
    fn planned(&self, name: String, slabs: Vec<Slab>, dims: Vec<u64>, change: Change) -> Planned {
        let row = dims.first().copied().unwrap_or(1);
        let ty = match slabs.first().map(|slab| slab.scales) {
            Some(Scales::Mx { .. }) => GgmlType::MXFP4,
            _ if dims.len() < 2 || stays_float(&name) => GgmlType::F32,
            _ if !row.is_multiple_of(self.ty.block_len() as u64) => GgmlType::F16,
            _ => self.ty,
        };
        Planned { name, ty, dims, source: Source::Slabs { slabs, change } }
    }

    /// Nothing that a whole model has is missing.
    fn check_whole(&self) -> Result<(), ConvertError> {
        let mut missing: Vec<String> = Vec::new();
        for lists in self.family.parts {
            let of_layer =
                lists.iter().flat_map(|list| list.iter()).any(|r| r.from.contains("{b}"));
            for layer in 0..if of_layer { self.layers } else { 1 } {
                let lacks = lists.iter().map(|list| self.lacks(list, layer));
                missing.extend(lacks.min_by_key(Vec::len).unwrap_or_default());
            }
        }
        if self.layers > self.trunk {
            missing.extend(self.lacks(self.family.joint, self.trunk));
        }
        for ((layer, to), waiting) in &self.stacks {
            let lost = (0..self.experts).filter(|expert| !waiting.contains_key(expert));
            missing.extend(lost.map(|expert| format!("expert {expert} of blk.{layer}.{to}")));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let count = missing.len();
        missing.truncate(LISTED);
        Err(ConvertError::Missing { count, names: missing })
    }

    /// What a layer lacks of a list.
    fn lacks(&self, list: &[Rule], layer: u64) -> Vec<String> {
        let needed = list.iter().filter(|rule| !rule.optional);
        let lost = needed.filter(|rule| !self.seen.contains(&(rule.from, layer)));
        let name = |rule: &Rule| rule.from.replace("{b}", &layer.to_string()).replace("{x}", "0");
        lost.map(name).collect()
    }

    /// The factors of an FP8 tensor.
    pub(super) fn scales(&self, tensor: &Tensor) -> Result<Scales, ConvertError> {
        if tensor.dtype != Dtype::F8E4M3 {
            return Ok(Scales::None);
        }
        let names = ["_scale_inv", "_scale"].map(|end| format!("{}{end}", tensor.name));
        let place = names.iter().find_map(|name| self.places.get(name.as_str()));
        let Some((place, (_, scales))) = place.and_then(|p| Some((*p, self.folder.get(*p)?)))
        else {
            return Err(ConvertError::Missing { count: 1, names: names[..1].to_vec() });
        };
        let cols = tensor.shape.last().copied().unwrap_or(1);
        let rows: u64 = tensor.shape.iter().rev().skip(1).product();
        let (block, expected) =
            match (scales.shape.iter().product::<u64>(), checkpoint::scale_block(self.keys)) {
                (1, _) => ((rows, cols), scales.shape.clone()),
                (_, Some((r, c))) => ((r, c), vec![rows.div_ceil(r), cols.div_ceil(c)]),
                (n, None) if n == rows => ((1, cols), scales.shape.clone()),
                (_, None) => ((1, cols), vec![rows, 1]),
            };
        if scales.shape != expected {
            return Err(shape(scales, &format!("{expected:?}")));
        }
        Ok(Scales::Block { place, rows: block.0, cols: block.1 })
    }
}

/// Tensors that are no matrices of weights, whatever their shape.
fn stays_float(name: &str) -> bool {
    const ENDS: &[&str] = &[
        "_norm.weight",
        ".ffn_gate_inp.weight",
        ".ffn_gate_inp_shexp.weight",
        ".ssm_conv1d.weight",
        ".shortconv.conv.weight",
    ];
    !name.ends_with(".weight")
        || ["position_embd.weight", "token_types.weight"].contains(&name)
        || ENDS.iter().any(|end| name.ends_with(end))
}

/// That a tensor has another shape.
pub(super) fn shape(tensor: &Tensor, expected: &str) -> ConvertError {
    ConvertError::Shape {
        tensor: tensor.name.clone(),
        shape: tensor.shape.clone(),
        expected: expected.to_owned(),
    }
}

/// The layer in a name.
pub(super) fn layer_of(name: &str) -> Option<u64> {
    name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}

/// A name's ending, if the rule leaves it open, and what stands before it.
fn suffix<'n>(rule: &Rule, name: &'n str) -> Option<(&'static str, &'n str)> {
    const WHOLE: &[&str] = &[".weight", ".bias", ".scale", "ssm_a", "ssm_d"];
    if rule.to.is_empty() || WHOLE.iter().any(|end| rule.to.ends_with(end)) {
        return Some(("", name));
    }
    match name.strip_suffix(".weight") {
        Some(stem) => Some((".weight", stem)),
        None if rule.how == How::Stack => None,
        None => Some((".bias", name.strip_suffix(".bias")?)),
    }
}

/// The layer and the expert in a name, if it fits the pattern.
fn captures(pattern: &str, name: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (mut layer, mut expert) = (None, None);
    let (mut patterns, mut names) = (pattern.split('.'), name.split('.'));
    loop {
        let number = |part: &str| part.parse().ok().filter(|n: &u64| n.to_string() == part);
        match (patterns.next(), names.next()) {
            (None, None) => return Some((layer, expert)),
            (Some("{b}"), Some(part)) => layer = Some(number(part)?),
            (Some("{x}"), Some(part)) => expert = Some(number(part)?),
            (Some(one), Some(other)) if one == other => {}
            _ => return None,
        }
    }
}
