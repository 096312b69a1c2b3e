//! How things are said: errors and exit codes, tables, sizes, durations. Nothing here uses `println!`, which panics when the reader of
//! a pipe has gone; a broken pipe ends the program quietly instead.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Result;
pub use hob_plan::units::{count, file_size, memory_size};
use serde::Serialize;

/// Exit code of a program that the user stopped: 128 + SIGINT.
pub const INTERRUPTED: u8 = 130;
/// Exit code of wrong usage, as clap's own.
const USAGE: u8 = 2;

/// The user pressed Ctrl-C; everything has been said already.
#[derive(Debug)]
pub struct Interrupted;

/// A combination of arguments that makes no sense but that clap cannot see.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Interrupted {}
impl std::error::Error for Usage {}

/// Prints an error for the user and chooses the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    if error.is::<Interrupted>() {
        return ExitCode::from(INTERRUPTED);
    }
    say(&format!("Error: {}", message(error)));
    ExitCode::from(if error.is::<Usage>() { USAGE } else { 1 })
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// The error and its causes in one line; causes that the line has told already are left out.
pub fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            let _ = write!(text, ": {cause}");
        }
    }
    text
}

/// A line on stderr. That nobody listens there is no reason to fail.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Text on stdout, at once.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// One JSON value on stdout, with a line of its own.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    print(&(serde_json::to_string(value)? + "\n"))
}

/// Left-aligned columns, four spaces apart.
pub fn table<R: AsRef<[String]>>(rows: &[R]) -> String {
    let mut widths = vec![0; rows.first().map_or(0, |row| row.as_ref().len())];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (&width, cell) in widths.iter().zip(row.as_ref()) {
            let _ = write!(line, "{cell:width$}    ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A duration with four digits: `1.234s`, `87.1ms`.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs_f64();
    match s {
        60.0.. => format!("{}m{:.1}s", d.as_secs() / 60, s % 60.0),
        1.0.. => format!("{s:.3}s"),
        _ => format!("{:.1}ms", s * 1e3),
    }
}

/// How long ago, roughly: `3 minutes ago`.
pub fn ago(then: SystemTime) -> String {
    const UNITS: [(u64, &str); 5] = [
        (365 * 86400, "year"),
        (30 * 86400, "month"),
        (86400, "day"),
        (3600, "hour"),
        (60, "minute"),
    ];
    let seconds = then.elapsed().map_or(0, |d| d.as_secs());
    match UNITS.iter().find(|(unit, _)| seconds >= *unit) {
        None => "less than a minute ago".to_owned(),
        Some((unit, name)) => match seconds / unit {
            1 => format!("1 {name} ago"),
            n => format!("{n} {name}s ago"),
        },
    }
}

/// RFC 3339 in UTC, to the second.
pub fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = ((seconds / 86400) as i64, seconds % 86400);
    // Civil date from days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (h, m, s) = (rest / 3600, rest % 3600 / 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn durations() {
        assert_eq!(duration(Duration::from_micros(87_120)), "87.1ms");
        assert_eq!(duration(Duration::from_millis(1234)), "1.234s");
        assert_eq!(duration(Duration::from_millis(61_500)), "1m1.5s");
    }

    #[test]
    fn times_are_rfc_3339() {
        let at = |s| timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(4_102_444_799), "2099-12-31T23:59:59Z");
    }

    #[test]
    fn columns_are_aligned_and_lines_not_padded() {
        let rows = [["A", "B"], ["long", "x"]].map(|r| r.map(String::from));
        assert_eq!(table(&rows), "A       B\nlong    x\n");
    }

    #[test]
    fn causes_are_told_once() {
        let cause = io::Error::other("no space");
        let told =
            Err::<(), _>(cause).context("cannot write: no space").context("saving").unwrap_err();
        assert_eq!(message(&told), "saving: cannot write: no space");
    }
}
