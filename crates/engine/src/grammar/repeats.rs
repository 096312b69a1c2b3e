//! Counts in rules, `"a"~1..9` in Lark and `a{1,9}` in expressions: looked at before anything is compiled. Work that smaller counts make
//! is bounded where it is done.

use super::{GrammarError, at_most, markers};

/// The largest count.
pub(super) const MAX_REPEATS: usize = 100_000;

/// Checks the counts of a Lark grammar, and of the expressions in it.
pub(super) fn check_lark(grammar: &str) -> Result<(), GrammarError> {
    markers::pieces(grammar).try_for_each(|piece| match piece.as_bytes() {
        [b'"' | b'#' | b'<', ..] | [b'/', b'/', ..] => Ok(()),
        [b'/', ..] => check_regex(piece),
        _ => piece.split('~').skip(1).try_for_each(|counts| numbers(counts, "..")),
    })
}

/// Checks the counts of an expression.
pub(super) fn check_regex(regex: &str) -> Result<(), GrammarError> {
    regex.split('{').skip(1).try_for_each(|counts| numbers(counts, ","))
}

/// Checks one number, or two, at the front of a text.
fn numbers(text: &str, between: &str) -> Result<(), GrammarError> {
    let text = text.trim_start();
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (first, rest) = text.split_at(digits(text));
    number(first)?;
    let Some(rest) = rest.trim_start().strip_prefix(between) else { return Ok(()) };
    let rest = rest.trim_start();
    number(&rest[..digits(rest)])
}

fn number(digits: &str) -> Result<(), GrammarError> {
    let found = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(usize::MAX) };
    at_most("repetitions", found, MAX_REPEATS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_counts_count() {
        let big = "9".repeat(30);
        for good in [
            format!("start: \"a~{big}\" /a{{3}}\\/{big}/ B~1..9 // ~{big}\nB: \"{{{big}}}\" {big}"),
            "start: ~ .. ~".to_owned(),
        ] {
            assert_eq!(check_lark(&good), Ok(()), "{good}");
        }
        for bad in [
            format!("start: \"a\" ~ {big}"),
            format!("start: \"a\"~1 .. {big}"),
            format!("start: \"\\\"\" /a{{1,{big}}}/"),
        ] {
            assert!(matches!(check_lark(&bad), Err(GrammarError::TooLarge { .. })), "{bad}");
        }
        assert!(
            check_regex("[a]{100001,}").is_err() && check_regex("(a{100000}){1,100000}").is_ok()
        );
    }
}
