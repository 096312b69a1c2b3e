//! What an answer's head says about the bytes that follow (RFC 9110, ranges): where they start, where they end, how long the whole
//! file is, and which edition of it. Deliberately absent: several ranges in one answer, which are never asked for.

use ureq::http::header::{CONTENT_ENCODING, CONTENT_RANGE, ETAG, LAST_MODIFIED};

use crate::net::Answer;

/// The bytes that an answer brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// First byte.
    pub from: u64,
    /// The byte behind the last one; `None` when the server does not say.
    pub to: Option<u64>,
    /// Bytes of the whole file.
    pub total: Option<u64>,
    /// What names the edition: an entity tag, else the time of the last change.
    pub tag: Option<String>,
    /// Whether this is a part (206) and not the whole.
    pub part: bool,
}

impl Offer {
    /// Reads the head of an answer with status 200 or 206; the error says what is wrong with it.
    pub fn read(answer: &Answer) -> Result<Offer, &'static str> {
        if answer.header(CONTENT_ENCODING).is_some_and(|e| !e.eq_ignore_ascii_case("identity")) {
            return Err("the server sent the file compressed");
        }
        let tag = answer.header(ETAG).or_else(|| answer.header(LAST_MODIFIED));
        let tag = tag.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        if answer.status() == 206 {
            let range = answer.header(CONTENT_RANGE).and_then(content_range);
            let (from, to, total) = range.ok_or("the server sent a part without saying which")?;
            return Ok(Offer { from, to: Some(to), total, tag, part: true });
        }
        let total = answer.content_length();
        Ok(Offer { from: 0, to: total, total, tag, part: false })
    }
}

/// Start, end (exclusive) and total of `bytes FIRST-LAST/TOTAL`; an unknown total is `*`.
fn content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = if total == "*" { None } else { Some(total.trim().parse().ok()?) };
    let end = last.checked_add(1)?;
    (first < end && total.is_none_or(|t| end <= t)).then_some((first, end, total))
}

/// The total of a refused range, `bytes */TOTAL`.
pub(super) fn refused_total(value: &str) -> Option<u64> {
    value.trim().strip_prefix("bytes */")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 10, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, 10, None)));
        for bad in [
            "",
            "bytes */10",
            "bytes 5-9",
            "items 5-9/10",
            "bytes -5/10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes 99999999999999999999-1/2",
            "bytes 0-18446744073709551615/*",
            "bytes 1-2/x",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
        assert_eq!(refused_total("bytes */10"), Some(10));
        assert_eq!(refused_total("bytes 1-2/10"), None);
    }
}
