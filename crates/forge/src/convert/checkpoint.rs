//! What a checkpoint tells beside its metadata: how it is quantized, which layers predict further tokens, what the files
//! around its config say. Deliberately absent: the metadata itself, which `hob_model::hf` states for planner and converter.

use hob_model::hf::{Config, Keys, bad};
use serde_json::Value;

use super::error::ConvertError;
use super::families::Family;
use super::folder::Folder;
use super::pooling;

/// Most layers that predict further tokens.
const MAX_PREDICTED: u32 = 1024;

/// Takes what other files than the config tell.
pub(super) fn look(keys: &mut Keys, family: &Family, folder: &Folder) -> Result<(), ConvertError> {
    keys.predicted = (family.predicted)(keys, folder)?;
    if keys.predicted > MAX_PREDICTED {
        let found = keys.predicted.to_string();
        return Err(bad("num_nextn_predict_layers", &found, "at most 1024").into());
    }
    keys.pooling = pooling::of(folder)?;
    // A damaged recommendation is none.
    let generation = folder.json("generation_config.json").ok().flatten().unwrap_or_default();
    let list = generation.get("suppress_tokens").and_then(Value::as_array);
    let token = |token: &Value| token.as_i64().and_then(|token| i32::try_from(token).ok());
    keys.suppressed = list.into_iter().flatten().filter_map(token).collect();
    Ok(())
}

/// Rows and columns of the blocks that one factor of an FP8 checkpoint scales.
pub(super) fn scale_block(config: &Config) -> Option<(u64, u64)> {
    let block = config.value("quantization_config")?.get("weight_block_size")?;
    match block.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<_>>>()?[..] {
        [rows, cols] if rows > 0 && cols > 0 => Some((rows, cols)),
        _ => None,
    }
}

/// How the checkpoint is quantized, if it is.
pub(super) fn quant_method(config: &Config) -> Option<&str> {
    config.value("quantization_config")?.get("quant_method")?.as_str()
}
