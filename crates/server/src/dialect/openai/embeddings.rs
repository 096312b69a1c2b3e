//! `/v1/embeddings`: a vector of length 1 for each text. An encoder pools as its file says; a model that writes text gives the state after its
//! last token. A text that is too long is an error, never cut.

use axum::extract::State as Shared;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::completion::{Text, texts_or_tokens};
use super::options::{Options, integer};
use super::{model, out_of_range, part, unknown};
use crate::access;
use crate::app::State;
use crate::embed::{EmbedAsk, Embedded, Texts};
use crate::error::ApiError;
use crate::http;
use crate::http::body::Json;
use crate::http::stream;

/// Most texts of a request: OpenAI's number.
pub const MAX_TEXTS: usize = 2048;

/// What is its own.
#[derive(Deserialize)]
struct Embeddings {
    input: Option<Value>,
    encoding_format: Option<String>,
    dimensions: Option<i64>,
}

/// Handles it.
pub async fn embeddings(
    Shared(state): Shared<State>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let body = Value::Object(body);
    let (options, own): (Options, Embeddings) = (part(&body)?, part(&body)?);
    let name = model(options.model.as_deref())?;
    let (context, keep) = (options.context()?, options.keep_alive()?);
    let caller = options.caller(access::caller())?;
    let missing = || ApiError::field("input", "Missing required parameter: 'input'.");
    let texts = texts_or_tokens("input", own.input.ok_or_else(missing)?, MAX_TEXTS)?;
    let base64 = match own.encoding_format.as_deref().unwrap_or("float") {
        "float" => false,
        "base64" => true,
        other => return Err(out_of_range("encoding_format", "'float' or 'base64'", other)),
    };
    let dimensions = integer("dimensions", own.dimensions, 1, i64::from(i32::MAX))?;

    let lease = state.models.lease(name, context, keep).await.map_err(|e| unknown(e, name))?;
    let width = lease.loaded().model.width as usize;
    let dimensions = dimensions.map(|n| n as usize);
    if let Some(n) = dimensions.filter(|&n| n > width) {
        let expected = format!("at most {width}, the model's own number");
        return Err(out_of_range("dimensions", &expected, n));
    }
    let texts = texts.into_iter().map(|text| match text {
        Text::Text(text) => Texts::Text(text),
        Text::Tokens(tokens) => Texts::Tokens(tokens),
    });
    let ask = EmbedAsk {
        texts: texts.collect(),
        truncate: options.truncate(),
        normalize: true,
        dimensions,
        caller: Some(caller),
    };
    let Embedded { vectors, tokens, dropped } = lease.embed_as(ask).await?;
    let data: Vec<Value> = vectors.iter().enumerate().map(|(i, v)| one(i, v, base64)).collect();
    let mut reply = json!({
        "object": "list",
        "data": data,
        "model": name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    if dropped > 0 {
        reply["dropped_tokens"] = dropped.into();
    }
    Ok(http::dropped(stream::json(&reply), dropped))
}

fn one(index: usize, vector: &[f32], base64: bool) -> Value {
    let embedding = match base64 {
        true => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            Value::String(STANDARD.encode(bytes))
        }
        false => vector.into(),
    };
    json!({"object": "embedding", "index": index, "embedding": embedding})
}
