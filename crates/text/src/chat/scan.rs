//! Searching in text that is still growing: every byte is looked at a bounded number of times.
//! A marker counts only where it cannot be part of a string or of a longer marker.

/// Where text can be cut.
#[derive(Debug, PartialEq)]
pub(super) enum Cut {
    /// A marker starts here.
    Marker(usize, &'static str),
    /// No marker; from here on it may become one.
    Hold(usize),
}

/// The first of the markers, unless a longer or earlier one may still become of the end of the text.
pub(super) fn find_cut(text: &str, markers: &[&'static str], last: bool) -> Cut {
    let found = first(text, markers);
    let partial = if last { text.len() } else { partial(text, markers) };
    match found {
        Some((at, marker)) if last || at < partial => Cut::Marker(at, marker),
        _ => Cut::Hold(partial),
    }
}

/// The first of the markers; of two at one place the longer.
fn first(text: &str, markers: &[&'static str]) -> Option<(usize, &'static str)> {
    let found = markers.iter().filter_map(|marker| Some((text.find(marker)?, *marker)));
    found.min_by_key(|(at, marker)| (*at, usize::MAX - marker.len()))
}

/// Where the first start of a marker begins that the text's end cuts off.
fn partial(text: &str, markers: &[&'static str]) -> usize {
    let longest = markers.iter().map(|marker| marker.len()).max().unwrap_or(0);
    let start = text.floor_char_boundary((text.len() + 1).saturating_sub(longest));
    let begins = |at: &usize| {
        let tail = text.get(*at..).unwrap_or_default();
        markers.iter().any(|marker| marker.len() > tail.len() && marker.starts_with(tail))
    };
    let places = text.get(start..).unwrap_or_default().char_indices().map(|(at, _)| start + at);
    places.into_iter().find(begins).unwrap_or(text.len())
}

/// How far a call's text was searched.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scan {
    at: usize,
    quote: Option<u8>,
    escaped: bool,
    depth: usize,
}

impl Scan {
    /// The first of the markers; with `quoted`, outside strings of JSON.
    pub(super) fn find(
        &mut self,
        text: &str,
        markers: &[&'static str],
        quoted: bool,
    ) -> Option<(usize, &'static str)> {
        let longest = markers.iter().map(|marker| marker.len()).max().unwrap_or(1);
        loop {
            if self.quote.is_some() {
                self.leave_string(text)?;
            }
            let rest = text.get(self.at..)?;
            let quote = if quoted { rest.find('"') } else { None };
            let until = quote.map_or(rest.len(), |at| rest.ceil_char_boundary(at + longest));
            let within = first(rest.get(..until)?, markers);
            if let Some((at, marker)) = within.filter(|(at, _)| quote.is_none_or(|q| *at < q)) {
                return Some((self.at + at, marker));
            }
            let Some(quote) = quote else {
                let searched = text.floor_char_boundary((text.len() + 1).saturating_sub(longest));
                self.at = self.at.max(searched);
                return None;
            };
            self.quote = Some(b'"');
            self.at += quote + 1;
        }
    }

    fn leave_string(&mut self, text: &str) -> Option<()> {
        for (i, byte) in text.as_bytes().get(self.at..)?.iter().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                byte if Some(*byte) == self.quote => {
                    self.quote = None;
                    self.at += i + 1;
                    return Some(());
                }
                _ => {}
            }
        }
        self.at = text.len();
        None
    }

    /// The end of the first value in brackets; `python` knows single quotes as well.
    pub(super) fn value_end(&mut self, text: &str, python: bool) -> Option<usize> {
        loop {
            if self.quote.is_some() {
                self.leave_string(text)?;
            }
            let byte = *text.as_bytes().get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => self.quote = Some(byte),
                b'\'' if python => self.quote = Some(byte),
                b'[' | b'{' => self.depth += 1,
                b']' | b'}' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.at);
                    }
                }
                _ => {}
            }
        }
    }
}
