//! What llmfit expects of the rows of hob's planner: for each line of the file of measured speeds, tokens per second and the run mode, by the
//! estimate behind `llmfit plan`, told all that the file tells. Which of its models a row means stands in `models.csv`, what the machines are in
//! `devices.csv`. Deliberately absent: the measured rows that llmfit carries of some of these cards, and how far off anything is.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use llmfit_core::fit::CalcConfig;
use llmfit_core::{
    GpuBackend, LlmModel, ModelDatabase, PlanRequest, SystemSpecs, estimate_model_plan_with_config,
};

/// Tokens of context that memory is counted for, as in hob's rows.
const CONTEXT: u32 = 4096;
/// The row's name of a model, and llmfit's; none where its list lacks the model.
const MODELS: &str = include_str!("../models.csv");
/// What the rows do not say of a machine: its GPU's name, bandwidths (a GPU's only where llmfit's own table has none), and the memory of laptops, which is assumed; no estimate depends on it.
const DEVICES: &str = include_str!("../devices.csv");

/// Fields of a line by their column's name.
type Fields<'a> = BTreeMap<&'a str, &'a str>;

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).context("name the file of measured speeds")?;
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    // The list that is compiled in: one that was updated or added to here would give other answers.
    let database = ModelDatabase::embedded();
    let models = models(database.get_all_models())?;
    let devices = by("device", DEVICES)?;
    println!("line,tok_s,run_mode");
    for (index, row) in table(&text)?.iter().enumerate() {
        let line = index + 2;
        let estimate = estimate(row, &models, &devices).with_context(|| format!("line {line}"))?;
        let (speed, mode) =
            estimate.map_or_else(Default::default, |(tok_s, mode)| (format!("{tok_s:.3}"), mode));
        println!("{line},{speed},{mode}");
    }
    Ok(())
}

/// None where llmfit's list lacks the model.
fn estimate(
    row: &Fields,
    models: &BTreeMap<&str, Option<&LlmModel>>,
    devices: &BTreeMap<&str, Fields>,
) -> Result<Option<(f64, String)>> {
    let name = field(row, "model")?;
    let Some(model) = models.get(name).with_context(|| format!("models.csv lacks {name}"))? else {
        return Ok(None);
    };
    let name = field(row, "device")?;
    let device = devices.get(name).with_context(|| format!("devices.csv lacks {name}"))?;
    let system = system(row, device)?;
    let request = PlanRequest {
        context: CONTEXT,
        quant: Some(quant(field(row, "recipe")?).to_owned()),
        target_tps: None,
        kv_quant: None,
    };
    let gpu_bandwidth = match field(device, "gpu_gb_per_s")? {
        "" => None,
        _ => Some(number(device, "gpu_gb_per_s")?),
    };
    let config = CalcConfig {
        ddr_bandwidth_gbps: Some(number(device, "ram_gb_per_s")?),
        gpu_bandwidth_gbps_override: gpu_bandwidth,
        ..CalcConfig::default()
    };
    let plan = estimate_model_plan_with_config(model, &request, &system, &config)
        .map_err(anyhow::Error::msg)?;
    Ok(Some((plan.current.estimated_tps, format!("{:?}", plan.current.run_mode))))
}

/// The machine of a row, with all of its memory free.
fn system(row: &Fields, device: &Fields) -> Result<SystemSpecs> {
    let backend = match field(device, "backend")? {
        "cpu" => GpuBackend::CpuX86,
        "cuda" => GpuBackend::Cuda,
        "metal" => GpuBackend::Metal,
        "rocm" => GpuBackend::Rocm,
        "vulkan" => GpuBackend::Vulkan,
        other => bail!("no backend {other}"),
    };
    let ram = match field(row, "ram_gb")? {
        "" => number(device, "ram_gb")?,
        _ => number(row, "ram_gb")?,
    };
    let gpu = Some(field(device, "gpu")?).filter(|name| !name.is_empty());
    let unified = gpu.is_some() && field(row, "memory_kind")? != "discrete";
    let memory = match gpu {
        None => None,
        Some(_) if unified => Some(ram),
        Some(_) => Some(number(row, "memory_gb")?),
    };
    Ok(SystemSpecs {
        total_ram_gb: ram,
        available_ram_gb: ram,
        total_cpu_cores: number(device, "threads")? as usize,
        cpu_name: field(row, "cpu")?.to_owned(),
        has_gpu: gpu.is_some(),
        gpu_vram_gb: memory,
        total_gpu_vram_gb: memory,
        gpu_available_gb: None,
        gpu_name: gpu.map(str::to_owned),
        gpu_count: u32::from(gpu.is_some()),
        unified_memory: unified,
        backend,
        gpus: Vec::new(),
        cluster_mode: false,
        cluster_node_count: 0,
    })
}

/// The recipe by a name that llmfit knows: it has no mixes of single publishers, so these go by the nearest.
fn quant(recipe: &str) -> &str {
    match recipe {
        "Q2_K_S" => "Q2_K",
        "UD-Q3_K_M" => "Q3_K_M",
        "IQ4_XS" | "Q4_K_XL" => "Q4_K_M",
        other => other,
    }
}

/// llmfit's models by the rows' names for them.
fn models(all: &[LlmModel]) -> Result<BTreeMap<&'static str, Option<&LlmModel>>> {
    let mut models = BTreeMap::new();
    for row in table(MODELS)? {
        let (name, theirs) = (field(&row, "model")?, field(&row, "llmfit")?);
        let model = all.iter().find(|model| model.name == theirs);
        if model.is_none() && !theirs.is_empty() {
            bail!("llmfit has no {theirs}");
        }
        models.insert(name, model);
    }
    Ok(models)
}

/// The lines of a table by their field in one column.
fn by<'a>(column: &str, text: &'a str) -> Result<BTreeMap<&'a str, Fields<'a>>> {
    table(text)?.into_iter().map(|row| Ok((field(&row, column)?, row))).collect()
}

/// All lines but the first, which names the columns. No field has a comma inside.
fn table(text: &str) -> Result<Vec<Fields<'_>>> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().context("an empty table")?.split(',').collect();
    let row = |line| {
        let fields: Vec<&str> = str::split(line, ',').collect();
        if fields.len() != names.len() {
            bail!("not {} fields: {line}", names.len());
        }
        Ok(names.iter().copied().zip(fields).collect())
    };
    lines.map(row).collect()
}

fn field<'a>(row: &Fields<'a>, column: &str) -> Result<&'a str> {
    row.get(column).copied().with_context(|| format!("no column {column}"))
}

fn number(row: &Fields, column: &str) -> Result<f64> {
    let text = field(row, column)?;
    text.parse().with_context(|| format!("{column} is no number: '{text}'"))
}
