//! One file at an address of the user's. Its length is asked for; its digest is nobody's to tell. Names come from the address, not from
//! `Content-Disposition`, so that the same address always means the same name.

use percent_encoding::percent_decode_str;
use ureq::http::Method;
use ureq::http::header::{CONTENT_RANGE, ETAG, RANGE};

use super::{Offer, Origin, RemoteFile, Source, ask, is_safe_path, shown};
use crate::error::SourceError;
use crate::net::{Ask, Net, Place};

/// A file.
#[derive(Clone, Debug)]
pub(crate) struct Url {
    /// http or https.
    pub url: String,
}

impl Source for Url {
    fn words(&self) -> String {
        Place::of(&self.url).map_or_else(|| "address".to_owned(), |p| p.host().to_owned())
    }

    fn offer(&self, net: &Net) -> Result<Offer, SourceError> {
        let path = file_name(&self.url).ok_or_else(|| {
            let url = shown(&self.url);
            SourceError::Refused(format!("'{url}' is not the http or https address of a file"))
        })?;
        let (bytes, tag) = self.measure(net)?;
        let origin = Origin { words: self.words(), url: self.url.clone(), credential: None };
        let files = vec![RemoteFile { path, bytes, digest: None, origin }];
        Ok(Offer { words: self.words(), revision: tag, files })
    }
}

impl Url {
    /// Length and entity tag.
    fn measure(&self, net: &Net) -> Result<(Option<u64>, Option<String>), SourceError> {
        let mut answer = ask(net, &Ask::new(Method::HEAD, &self.url))?;
        let mut bytes = answer.content_length();
        // Addresses signed for GET refuse HEAD, and some servers do not know it.
        if matches!(answer.status(), 400 | 403 | 405 | 501) {
            answer = ask(net, &Ask::get(&self.url).header(RANGE, "bytes=0-0"))?;
            let range = answer.header(CONTENT_RANGE).and_then(|r| r.rsplit_once('/'));
            bytes = match answer.status() {
                206 => range.and_then(|(_, total)| total.trim().parse().ok()),
                _ => answer.content_length(),
            };
        }
        match answer.status() {
            200 | 206 => Ok((bytes, answer.header(ETAG).map(shown))),
            404 | 410 => Err(SourceError::NotFound { what: shown(&self.url), help: "" }),
            status => Err(SourceError::Status(status)),
        }
    }
}

/// The last part of an address's path, decoded.
fn file_name(url: &str) -> Option<String> {
    Place::of(url)?;
    let path = url.split(['?', '#']).next()?.split_once("://")?.1.split_once('/')?.1;
    let name = percent_decode_str(path.rsplit('/').next()?).decode_utf8().ok()?;
    (is_safe_path(&name) && !name.contains('/')).then(|| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_addresses() {
        for (url, name) in [
            ("https://h.example/a/b.gguf?download=true#x", Some("b.gguf")),
            ("http://h.example:8/b%20c.gguf", Some("b c.gguf")),
            ("https://h.example/a/%2e%2e", None),
            ("https://h.example/a/..%2fb", None),
            ("https://h.example/a/%00", None),
            ("https://h.example/a/", None),
            ("https://h.example", None),
            ("file:///etc/passwd", None),
            ("ftp://h.example/a", None),
        ] {
            assert_eq!(file_name(url).as_deref(), name, "{url}");
        }
    }
}
