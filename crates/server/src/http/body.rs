//! A request's JSON: bounded in length, before and after decompression, and in time; parsed, and what is wrong with it told. The type that a
//! client claims for it is not looked at: many claim none.

use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::error::{ApiError, Kind};
use crate::models::blocking;

/// Longest body that is read, as it comes and decompressed. Conversations of a million tokens have some megabytes.
pub const MAX_BODY: usize = 64 << 20;
/// How a body is bounded.
const LIMITS: Limits =
    Limits { length: MAX_BODY, pause: Duration::from_secs(30), time: Duration::from_secs(300) };

/// How much of a body there may be, and how slowly it may come.
struct Limits {
    /// Bytes.
    length: usize,
    /// How long it may stand still.
    pause: Duration,
    /// How long all of it may take.
    time: Duration,
}

/// A body of JSON.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = decoded(&parts.headers, read(body).await?).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ApiError::invalid("missing request body"));
        }
        // Nesting is bounded by serde_json itself, at 128.
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Json).map_err(|e| ApiError::invalid(format!("the request is not valid: {e}")))
    }
}

/// A field for which null is the same as absent.
pub fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The whole of a body.
///
/// # Errors
/// When it is longer than [`MAX_BODY`], breaks off, or takes too long.
pub async fn read(body: Body) -> Result<Bytes, ApiError> {
    within(LIMITS, body).await
}

async fn within(limits: Limits, body: Body) -> Result<Bytes, ApiError> {
    let collect = async {
        let (mut chunks, mut bytes) = (body.into_data_stream(), BytesMut::new());
        while let Some(chunk) = tokio::time::timeout(limits.pause, chunks.next()).await? {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(e) => {
                    return Ok(Err(ApiError::invalid(format!("the request breaks off: {e}"))));
                }
            };
            if bytes.len() + chunk.len() > limits.length {
                return Ok(Err(too_long()));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Ok(bytes.freeze()))
    };
    let slow = |_: tokio::time::error::Elapsed| {
        ApiError::new(Kind::Timeout, "the request's body comes too slowly")
    };
    tokio::time::timeout(limits.time, collect).await.map_err(slow)?.map_err(slow)?
}

fn too_long() -> ApiError {
    ApiError::new(Kind::TooLarge, format!("the request is longer than {MAX_BODY} bytes"))
}

/// A body without the compression that its head tells of.
async fn decoded(headers: &HeaderMap, bytes: Bytes) -> Result<Bytes, ApiError> {
    let coding = headers.get(header::CONTENT_ENCODING).map(|v| v.to_str().unwrap_or("?"));
    let coding = coding.unwrap_or("identity").trim().to_ascii_lowercase();
    let unpack: fn(&[u8]) -> Result<Vec<u8>, ApiError> = match coding.as_str() {
        "" | "identity" => return Ok(bytes),
        "gzip" | "x-gzip" => |bytes| unpacked(MultiGzDecoder::new(bytes)),
        "deflate" => |bytes| unpacked(ZlibDecoder::new(bytes)),
        _ => {
            let message = "content-encoding must be gzip, deflate or identity";
            return Err(ApiError::new(Kind::Unsupported, message));
        }
    };
    blocking(move || unpack(&bytes).map(Bytes::from)).await?
}

fn unpacked(decoder: impl Read) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let read = decoder.take(MAX_BODY as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| ApiError::invalid(format!("the request cannot be decompressed: {e}")))?;
    if bytes.len() > MAX_BODY { Err(too_long()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// What comes of a body in pieces, each after so many milliseconds.
    async fn comes(limits: Limits, pieces: Vec<(u64, &'static str)>) -> Result<Bytes, Kind> {
        let pieces = stream::unfold(pieces.into_iter(), |mut left| async {
            let (wait, piece) = left.next()?;
            tokio::time::sleep(Duration::from_millis(wait)).await;
            Some((Ok::<_, std::io::Error>(piece), left))
        });
        within(limits, Body::from_stream(pieces)).await.map_err(|error| error.kind)
    }

    #[tokio::test]
    async fn bodies_are_bounded() {
        let (long, soon) = (Duration::from_secs(600), Duration::from_millis(1));
        let usual = || Limits { length: 6, pause: long, time: long };
        assert_eq!(comes(usual(), vec![(0, "abc"), (1, "def")]).await.unwrap(), "abcdef");
        assert_eq!(comes(usual(), vec![(0, "abc"), (0, "defg")]).await, Err(Kind::TooLarge));
        let paused = Limits { pause: soon, ..usual() };
        assert_eq!(comes(paused, vec![(0, "abc"), (600_000, "def")]).await, Err(Kind::Timeout));
        let dripping = Limits { time: soon, ..usual() };
        assert_eq!(comes(dripping, vec![(600_000, "a")]).await, Err(Kind::Timeout));
    }
}
