//! `/api/blobs/DIGEST`: files on their way to `/api/create`. They stream to the disk and are held against their digest; one that breaks off or
//! is another leaves nothing behind.

use axum::body::Body;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use hob_hub::{Hub, HubError};
use tokio::sync::mpsc;

use crate::app::State;
use crate::error::{ApiError, Kind};
use crate::models::blocking;

/// Pieces that wait for the disk.
const WAITING: usize = 16;

/// Handles HEAD: whether it is here.
pub async fn head(
    Shared(state): Shared<State>,
    Path(digest): Path<String>,
) -> Result<Response, ApiError> {
    Ok(match is_here(&state, &digest).await? {
        true => StatusCode::OK.into_response(),
        false => StatusCode::NOT_FOUND.into_response(),
    })
}

/// Handles POST.
pub async fn receive(
    Shared(state): Shared<State>,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    if is_here(&state, &digest).await? {
        return Ok(StatusCode::OK.into_response());
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let (pieces, arriving) = mpsc::channel(WAITING);
    let hub = state.models.hub().clone();
    let written = tokio::task::spawn_blocking(move || write(&hub, &digest, length, arriving));
    let mut body = body.into_data_stream();
    let sent = async move {
        while let Some(piece) = body.next().await {
            let Ok(piece) = piece else { return false };
            // A writer that has failed says why.
            if pieces.send(Some(piece)).await.is_err() {
                return true;
            }
        }
        pieces.send(None).await.is_ok()
    };
    let whole = tokio::select! {
        whole = sent => whole,
        () = state.shutdown.ending() => {
            return Err(ApiError::new(Kind::Unavailable, "the server is shutting down"));
        }
    };
    let written = written.await.map_err(|e| ApiError::internal(format!("a worker failed: {e}")))?;
    match whole {
        true => written.map(|()| StatusCode::CREATED.into_response()).map_err(refusal),
        false => Err(ApiError::invalid("the upload breaks off")),
    }
}

/// Writes what arrives. Without the end that is told by `None` nothing is kept.
fn write(
    hub: &Hub,
    digest: &str,
    length: Option<u64>,
    mut arriving: mpsc::Receiver<Option<Bytes>>,
) -> Result<(), HubError> {
    let mut upload = hub.upload(digest, length)?;
    while let Some(piece) = arriving.blocking_recv() {
        match piece {
            Some(bytes) => upload.write(&bytes)?,
            None => return upload.finish(),
        }
    }
    Ok(())
}

async fn is_here(state: &State, digest: &str) -> Result<bool, ApiError> {
    let (hub, digest) = (state.models.hub().clone(), digest.to_owned());
    let found = blocking(move || hub.blob(&digest)).await?;
    found.map(|path| path.is_some()).map_err(refusal)
}

fn refusal(error: HubError) -> ApiError {
    match error {
        HubError::BadDigest { .. } => ApiError::invalid("invalid digest format"),
        HubError::WrongDigest { .. } => ApiError::invalid(error.to_string()),
        other => other.into(),
    }
}
