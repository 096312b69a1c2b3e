//! `/v1/rerank`, in the form of Jina and Cohere that llama.cpp and vLLM have too: documents in the order of their nearness to a query. The
//! score is the cosine of the angle between the two embeddings (-1 to 1), not the output of a cross-encoder: models of that kind, which read
//! query and document together, cannot be loaded yet.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::embeddings::MAX_TEXTS;
use super::options::{Options, integer};
use super::{model, out_of_range, part, unknown, unsupported};
use crate::access;
use crate::app::State;
use crate::embed::{EmbedAsk, Embedded, Texts};
use crate::error::ApiError;
use crate::http;
use crate::http::body::Json;
use crate::http::stream;

/// What is its own.
#[derive(Deserialize)]
struct Rerank {
    query: Option<String>,
    documents: Option<Vec<Value>>,
    top_n: Option<i64>,
    return_documents: Option<bool>,
}

/// Handles it.
pub async fn rerank(
    Shared(state): Shared<State>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let body = Value::Object(body);
    let (options, own): (Options, Rerank) = (part(&body)?, part(&body)?);
    let name = model(options.model.as_deref())?;
    let (context, keep) = (options.context()?, options.keep_alive()?);
    let caller = options.caller(access::caller())?;
    let query = own.query.filter(|query| !query.is_empty());
    let query = query.ok_or_else(|| ApiError::field("query", "query is required"))?;
    let documents = texts(own.documents.unwrap_or_default())?;
    let top = integer("top_n", own.top_n, 1, i64::MAX)?;
    let top = top.map_or(documents.len(), |n| usize::try_from(n).unwrap_or(usize::MAX));

    let lease = state.models.lease(name, context, keep).await;
    let lease = lease.map_err(|e| reranker(unknown(e, name)))?;
    let all = [&query].into_iter().chain(&documents).cloned().map(Texts::Text);
    let ask = EmbedAsk {
        texts: all.collect(),
        truncate: options.truncate(),
        normalize: true,
        dimensions: None,
        caller: Some(caller),
    };
    let Embedded { vectors, tokens, dropped } = lease.embed_as(ask).await?;
    let Some((query, rest)) = vectors.split_first() else {
        return Err(ApiError::internal("an embedding without vectors"));
    };
    let scores = rest.iter().map(|vector| cosine(query, vector));
    let keep_text = own.return_documents.unwrap_or(false);
    let results = ranked(scores.collect(), top).into_iter().map(|(index, score)| {
        let mut result = json!({"index": index, "relevance_score": score});
        if let Some(text) = documents.get(index).filter(|_| keep_text) {
            result["document"] = json!({"text": text});
        }
        result
    });
    let mut reply = json!({
        "object": "list",
        "model": name,
        "results": results.collect::<Vec<_>>(),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    if dropped > 0 {
        reply["dropped_tokens"] = dropped.into();
    }
    Ok(http::dropped(stream::json(&reply), dropped))
}

/// A model of the kind that reads query and document together is refused by its file's way of pooling; this says what that means.
fn reranker(error: ApiError) -> ApiError {
    if !error.message.contains("pooling_type") {
        return error;
    }
    let message = format!(
        "{}: models made for ranking cannot be run yet; take one that makes embeddings",
        error.message
    );
    unsupported("model", message)
}

fn texts(documents: Vec<Value>) -> Result<Vec<String>, ApiError> {
    if documents.is_empty() {
        return Err(ApiError::field("documents", "documents are required"));
    }
    if documents.len() >= MAX_TEXTS {
        let expected = format!("fewer than {MAX_TEXTS} documents");
        return Err(out_of_range("documents", &expected, documents.len()));
    }
    let text = |(i, document): (usize, Value)| {
        let text = document.as_str().or_else(|| document.get("text")?.as_str());
        let path = format!("documents[{i}]");
        let wrong = || out_of_range(&path, "a string or an object with a text", &document);
        text.map(str::to_owned).ok_or_else(wrong)
    };
    documents.into_iter().enumerate().map(text).collect()
}

/// Of vectors of length 1.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>().clamp(-1.0, 1.0)
}

/// The best first; of equals, the earlier one.
fn ranked(scores: Vec<f32>, top: usize) -> Vec<(usize, f32)> {
    let mut all: Vec<(usize, f32)> = scores.into_iter().enumerate().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(top);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_comes_first() {
        let vectors = [[0.0, 1.0], [1.0, 0.0], [0.6, 0.8], [1.0, 0.0]];
        let scores = vectors.iter().map(|v| cosine(&[1.0, 0.0], v)).collect();
        assert_eq!(ranked(scores, 3), [(1, 1.0), (3, 1.0), (2, 0.6)]);
    }
}
