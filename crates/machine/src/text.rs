//! Names and versions as firmware, drivers and files tell them: made fit to be shown.

/// Characters that are kept.
const MAX_LINE: usize = 200;

/// A text without control characters and margins, of bounded length; `None` when nothing is left.
pub(crate) fn printable(text: &str) -> Option<String> {
    // Files of the device tree end with a zero byte.
    let text: String = text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
    let visible = |c: &char| !c.is_control() && *c != char::REPLACEMENT_CHARACTER;
    let text: String = text.chars().filter(visible).take(MAX_LINE).collect();
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}
