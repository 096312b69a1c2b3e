//! How things are said: errors and exit codes, tables, sizes, durations. Nothing here uses `println!`, which panics when the reader of
//! a pipe has gone; a broken pipe ends the program quietly instead.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Result;
pub use hob_plan::units::{count, file_size, memory_size};
pub use hob_server::timestamp;
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

/// A time as servers write it in RFC 3339.
pub fn time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339_weak(text).ok()
}

/// How long ago, roughly: `3 minutes ago`.
pub fn ago(then: SystemTime) -> String {
    format!("{} ago", roughly(then.elapsed().unwrap_or_default()))
}

/// A time in its largest unit: `3 minutes`.
pub fn roughly(time: Duration) -> String {
    const UNITS: [(u64, &str); 5] = [
        (365 * 86400, "year"),
        (30 * 86400, "month"),
        (86400, "day"),
        (3600, "hour"),
        (60, "minute"),
    ];
    let seconds = time.as_secs();
    match UNITS.iter().find(|(unit, _)| seconds >= *unit) {
        None => "less than a minute".to_owned(),
        Some((unit, name)) => match seconds / unit {
            1 => format!("1 {name}"),
            n => format!("{n} {name}s"),
        },
    }
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
