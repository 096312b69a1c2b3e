//! The measured rows as the model sees them: a device's numbers, and the bytes and operations of a file, from the model's description and the
//! recipe. Where a file is larger than its card, it is laid out as llama.cpp would: layers, or experts, on the host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hob_machine::{Kind, Vendor};
use hob_model::hf::HfConfig;
use hob_model::{
    CacheKind, CacheLayout, KvType, Mixer, Model, Recipe, RecipeOptions, Role, Sight, Weight,
};
use hob_plan::speed::{Segment, Unit, Work};
use hob_quant::GgmlType;
use serde_json::Value;

/// Context for which the cache is allocated beside the weights, in rows that do not say; what is read of it is the depth.
const CONTEXT: u64 = 4096;
/// Tokens before those that were measured, in the given file.
const DEPTH: u64 = 256;
/// Tokens of the prompts.
pub const PROMPT: usize = 512;
/// Bytes of a card that a model does not get: desktop, driver, workspaces.
const TAKEN: f64 = 0.7 * GIB;
const GIB: f64 = 1073741824.0;

/// One measurement.
pub struct Row {
    /// Line in the given file, from 1; none for rows from elsewhere.
    pub line: Option<usize>,
    /// The device's one name.
    pub device: String,
    /// As the row names them.
    pub model: String,
    pub recipe: String,
    pub depth: u64,
    pub decode: f64,
    pub prefill: Option<f64>,
    pub segments: Vec<Segment>,
    /// Why it does not count.
    pub outlier: Option<String>,
}

struct Device {
    names: Vec<String>,
    unit: Unit,
}

/// All rows of both files.
pub fn read() -> Vec<Row> {
    let (devices, models) = (devices(), models());
    let mut outliers = outliers();
    let mut rows = Vec::new();
    for (index, row) in csv("measured-decode-speed.csv").into_iter().enumerate() {
        let line = index + 2;
        let device = find(&devices, &row[0]);
        let card = (row[2] == "discrete").then(|| number(&row[1]) * GIB);
        let host = card.map(|memory| (memory, find(&devices, &row[3]).unit.clone()));
        let file = File::of(&models[&row[7]], &row[7], &row[8]);
        let outlier = outliers.remove(&line).map(|expected| {
            assert_eq!(expected[1..5], [&row[0], &row[7], &row[8], &row[10]].map(String::clone));
            expected[5].clone()
        });
        rows.push(Row {
            line: Some(line),
            device: device.names[0].clone(),
            model: row[7].clone(),
            recipe: row[8].clone(),
            depth: DEPTH,
            decode: number(&row[10]),
            prefill: row[11].parse().ok(),
            segments: file.segments(&device.unit, host, DEPTH),
            outlier,
        });
    }
    assert!(outliers.is_empty(), "outliers that are no rows: {outliers:?}");
    for row in csv("measured-elsewhere.csv") {
        let device = find(&devices, &row[0]);
        let depth = number(&row[3]) as u64;
        let file = File::of(&models[&row[1]], &row[1], &row[2]);
        rows.push(Row {
            line: None,
            device: device.names[0].clone(),
            model: row[1].clone(),
            recipe: row[2].clone(),
            depth,
            decode: number(&row[4]),
            prefill: row[5].parse().ok(),
            segments: file.segments(&device.unit, None, depth),
            outlier: None,
        });
    }
    rows
}

/// Devices and hosts of the given file.
pub fn units() -> Vec<(String, Unit)> {
    let given: Vec<Vec<String>> = csv("measured-decode-speed.csv");
    let named = |device: &Device| {
        given.iter().any(|row| device.names.contains(&row[0]) || device.names.contains(&row[3]))
    };
    let devices = devices().into_iter().filter(named);
    devices.map(|device| (device.names[0].clone(), device.unit)).collect()
}

fn data(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "data", name].iter().collect();
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Fields of all lines but the first. None has a comma inside.
fn csv(name: &str) -> Vec<Vec<String>> {
    let text = data(name);
    let mut lines = text.lines();
    let fields = lines.next().unwrap_or_default().split(',').count();
    let split = |line: &str| -> Vec<String> {
        let row: Vec<String> = line.splitn(fields, ',').map(str::to_owned).collect();
        assert_eq!(row.len(), fields, "{name}: {line}");
        row
    };
    lines.map(split).collect()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|e| panic!("'{text}': {e}"))
}

fn outliers() -> BTreeMap<usize, Vec<String>> {
    let rows = csv("measured-outliers.csv").into_iter();
    rows.map(|row| (number(&row[0]) as usize, row)).collect()
}

fn devices() -> Vec<Device> {
    let plain = |text: &str| Value::String(text.to_owned());
    let device = |row: Vec<String>| {
        let mut names = vec![row[0].clone()];
        names.extend(row[1].split(';').filter(|name| !name.is_empty()).map(str::to_owned));
        let kind: Kind = serde_json::from_value(plain(&row[3])).unwrap();
        let vendor: Vendor = serde_json::from_value(plain(&row[2])).unwrap();
        let bandwidth = 1e9 * number(&row[4]);
        let operations = 1e12 * number(&row[5]);
        Device {
            names,
            unit: Unit { kind, vendor, bandwidth, operations, link: None, probe: None },
        }
    };
    csv("calibration-devices.csv").into_iter().map(device).collect()
}

fn find<'a>(devices: &'a [Device], name: &str) -> &'a Device {
    let found = devices.iter().find(|d| d.names.iter().any(|n| n == name));
    found.unwrap_or_else(|| panic!("no device {name}"))
}

/// Descriptions by the names that rows use: the catalogue's, and those of the calibration's own list.
fn models() -> BTreeMap<String, Model> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "hub", "catalogue"].iter().collect();
    let mut configs: BTreeMap<String, Value> = BTreeMap::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for entry in serde_json::from_str::<Vec<Value>>(&text).unwrap() {
            let name = |key: &str| entry[key].as_str().unwrap().to_owned();
            if let Some(config) = entry.pointer("/published/config") {
                configs.insert(format!("{}:{}", name("name"), name("tag")), config.clone());
            }
        }
    }
    for entry in serde_json::from_str::<Vec<Value>>(&data("calibration-models.json")).unwrap() {
        let config = match entry["catalogue"].as_str() {
            Some(name) => configs[name].clone(),
            None => entry["config"].clone(),
        };
        configs.insert(entry["model"].as_str().unwrap().to_owned(), config);
    }
    let describe = |(name, config): (String, Value)| {
        let model = HfConfig::parse(&config.to_string()).and_then(|config| config.describe());
        (name.clone(), model.unwrap_or_else(|e| panic!("{name}: {e}")))
    };
    configs.into_iter().map(describe).collect()
}

/// hob's recipe for what a row names: the mixes of single publishers go by their nearest relatives.
fn recipe(model: &str, name: &str) -> &'static Recipe {
    let name = match name {
        "Q4_K_XL" => "Q4_K_L",
        "UD-Q3_K_M" => "Q3_K_M",
        "AVQ2" => "Q2_K",
        // Published with its experts as they were trained, in four bits.
        "Q8_0" if model == "gpt-oss-20b" => "MXFP4_MOE",
        other => other,
    };
    Recipe::find(name).unwrap_or_else(|| panic!("no recipe {name}"))
}

/// A file by what a token does with its parts.
struct File<'a> {
    model: &'a Model,
    /// Bytes by type: all that every token reads; and routed experts, all of them and a token's.
    dense: BTreeMap<GgmlType, u64>,
    experts: BTreeMap<GgmlType, (u64, u64)>,
    dense_operations: f64,
    expert_operations: f64,
}

impl<'a> File<'a> {
    fn of(model: &'a Model, name: &str, recipe_name: &str) -> Self {
        let options = RecipeOptions { importance: true, ..RecipeOptions::default() };
        let types = recipe(name, recipe_name).tensor_types(model, &options);
        let mut file = File {
            model,
            dense: BTreeMap::new(),
            experts: BTreeMap::new(),
            dense_operations: 0.0,
            expert_operations: 0.0,
        };
        let tied = !model.weights.iter().any(|w| w.role == Role::Output);
        for (weight, ty) in model.weights.iter().zip(types) {
            // Rows of tables are looked up, and the tables stay in main memory.
            let table =
                weight.role == Role::TokenEmbd && !tied || weight.role == Role::PerLayerTokenEmbd;
            if !table {
                file.take(weight, ty);
            }
        }
        file
    }

    fn take(&mut self, weight: &Weight, ty: GgmlType) {
        let rows: u64 = weight.shape.iter().skip(1).product();
        let bytes = ty.row_bytes(weight.shape[0]).unwrap() * rows;
        let routed = [Role::FfnGateExps, Role::FfnUpExps, Role::FfnGateUpExps, Role::FfnDownExps];
        let model = self.model;
        let moe = weight.layer.and_then(|l| model.blocks[l as usize].ffn.moe());
        match moe.filter(|_| routed.contains(&weight.role)) {
            Some(moe) => {
                let used = u64::from(moe.used);
                let entry = self.experts.entry(ty).or_default();
                entry.0 += bytes;
                entry.1 += bytes * used / u64::from(moe.experts);
                let elements = weight.elements() * used / u64::from(moe.experts);
                self.expert_operations += 2.0 * elements as f64;
            }
            None => {
                *self.dense.entry(ty).or_default() += bytes;
                if weight.is_matrix() {
                    self.dense_operations += 2.0 * weight.elements() as f64;
                }
            }
        }
    }

    /// `dense` of the dense weights, the cache and the blocks; `experts` of the experts.
    fn work(&self, dense: f64, experts: f64, depth: u64) -> Work {
        let part = |bytes: u64, of: f64| (bytes as f64 * of) as u64;
        let mut weights: BTreeMap<GgmlType, u64> =
            self.dense.iter().map(|(&ty, &bytes)| (ty, part(bytes, dense))).collect();
        for (&ty, &(_, active)) in &self.experts {
            *weights.entry(ty).or_default() += part(active, experts);
        }
        let (cache, attention) = self.mixing(depth);
        let of_blocks = if dense > 0.0 { dense } else { experts };
        Work {
            weights,
            all_weights: part(sum(&self.dense), dense) + part(self.all_experts(), experts),
            cache: part(cache, dense),
            blocks: (self.model.blocks.len() as f64 * of_blocks).round() as usize,
            operations: self.dense_operations * dense + self.expert_operations * experts,
            attention: attention * dense,
            // Only what was probed asks for them.
            heads: 1,
            head: 0.0,
            activations: 0.0,
            kv: KvType::F16,
        }
    }

    fn all_experts(&self) -> u64 {
        self.experts.values().map(|(all, _)| all).sum()
    }

    /// Bytes that mixing reads at a depth, and its operations; those on recurrent state, which do not grow with the depth, are not counted: the fit
    /// scales operations to the depth of prompts.
    fn mixing(&self, depth: u64) -> (u64, f64) {
        let (mut bytes, mut operations) = (0, 0.0);
        for block in &self.model.blocks {
            let (attend, key_heads) = match &block.mixer {
                Mixer::Gqa(g) | Mixer::Gated(g) => (&g.attend, 2 * g.attend.kv_heads),
                Mixer::Mla(m) => (&m.attend, 1),
                Mixer::DeltaNet(_) | Mixer::Mamba2(_) | Mixer::ShortConv(_) => continue,
            };
            let seen = match attend.sight {
                Sight::Window(window) => depth.min(window.into()),
                Sight::Past | Sight::All => depth,
            };
            bytes += u64::from(key_heads) * KvType::F16.bytes(attend.key_dim.into()) * seen;
            let widths = attend.key_dim + attend.value_dim;
            operations += 2.0 * f64::from(attend.heads) * f64::from(widths) * seen as f64;
        }
        (bytes + CacheLayout::of(self.model).state_bytes(), operations)
    }

    /// Bytes of a cache of [`CONTEXT`] tokens.
    fn allocated(&self) -> u64 {
        let layout = CacheLayout::of(self.model);
        let kept = |kind: CacheKind| match kind {
            CacheKind::Window(window) => CONTEXT.min(u64::from(window) + 512),
            CacheKind::Full | CacheKind::Latent => CONTEXT,
        };
        let group = |g: &hob_model::CacheGroup| {
            g.page_bytes(KvType::F16) / hob_model::PAGE as u64 * kept(g.kind)
        };
        layout.groups.iter().map(group).sum::<u64>() + layout.state_bytes()
    }

    fn segments(&self, unit: &Unit, host: Option<(f64, Unit)>, depth: u64) -> Vec<Segment> {
        let whole = vec![Segment { unit: unit.clone(), work: self.work(1.0, 1.0, depth) }];
        let Some((memory, host)) = host else { return whole };
        let logits = 4 * PROMPT as u64 * u64::from(self.model.vocab);
        let need = (sum(&self.dense) + self.all_experts() + self.allocated() + logits) as f64;
        let over = need - (memory - TAKEN);
        if over <= 0.0 {
            return whole;
        }
        let (mine, theirs) = match self.all_experts() as f64 {
            0.0 => {
                let away = (over / need).min(1.0);
                (self.work(1.0 - away, 0.0, depth), self.work(away, 0.0, depth))
            }
            experts => {
                let away = (over / experts).min(1.0);
                (self.work(1.0, 1.0 - away, depth), self.work(0.0, away, depth))
            }
        };
        vec![Segment { unit: unit.clone(), work: mine }, Segment { unit: host, work: theirs }]
    }
}

fn sum(bytes: &BTreeMap<GgmlType, u64>) -> u64 {
    bytes.values().sum()
}
