//! Hardware as a user names it on the command line: "2x A100 80GB", "RTX 4090 + RTX 3090". Errors say what there is instead.

use super::find::{Found, lookup};
use super::name::{LONGEST, Name};
use super::{Device, GIB, all};

/// Devices of one kind that a user asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// How many.
    pub count: u32,
    /// Which.
    pub device: &'static Device,
    /// Bytes of memory of one.
    pub memory: u64,
}

/// Why a text names no hardware.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownDevice {
    /// Nothing is called so.
    #[error("no device is called \"{name}\"; the nearest are {}", .near.join(", "))]
    Name {
        /// What was asked for.
        name: String,
        /// Names of devices that look like it, the nearest first.
        near: Vec<String>,
    },
    /// It exists, but with other memory.
    #[error("{name} is not sold with {asked} GB of memory, but with {}", list(.sold))]
    Memory {
        /// What was asked for, without the size.
        name: String,
        /// GiB that were asked for.
        asked: u64,
        /// GiB that it is sold with, ascending.
        sold: Vec<u64>,
    },
    /// A count out of range.
    #[error("\"{0}\": between 1 and {most} of a device can be asked for", most = MOST)]
    Count(String),
    /// More than one text can mean.
    #[error("at most {kinds} kinds of devices in {bytes} bytes of text", kinds = KINDS, bytes = LONGEST)]
    TooLong,
}

/// The most devices of a kind.
const MOST: u32 = 99;

/// The most kinds of devices.
const KINDS: usize = 8;

fn list(sizes: &[u64]) -> String {
    let sizes: Vec<String> = sizes.iter().map(|s| format!("{s} GB")).collect();
    match &sizes[..] {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => sizes.concat(),
    }
}

/// Reads names of devices, several with `+`, `,` or `and` between them, each with a count before or after it and a size of memory if
/// that is not the smallest one.
///
/// # Errors
/// [`UnknownDevice`], with what the table has instead.
pub fn parse(text: &str) -> Result<Vec<Wanted>, UnknownDevice> {
    if text.len() > LONGEST {
        return Err(UnknownDevice::TooLong);
    }
    let text = text.replace(" + ", ",").replace(" and ", ",").replace(['，', '、', ';', '&'], ",");
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
    if parts.len() > KINDS {
        return Err(UnknownDevice::TooLong);
    }
    if parts.is_empty() {
        return Err(unknown(""));
    }
    let mut wanted = Vec::new();
    for part in parts {
        wanted.extend(one_or_glued(part)?);
    }
    if wanted.len() > KINDS { Err(UnknownDevice::TooLong) } else { Ok(wanted) }
}

/// A `+` without gaps is a part of some names and stands between others.
fn one_or_glued(part: &str) -> Result<Vec<Wanted>, UnknownDevice> {
    let whole = one(part).map(|w| vec![w]);
    if whole.is_ok() || !part.contains('+') {
        return whole;
    }
    let split: Result<Vec<Wanted>, _> =
        part.split('+').filter(|p| !p.trim().is_empty()).map(one).collect();
    split.ok().filter(|s| !s.is_empty()).map_or(whole, Ok)
}

fn one(part: &str) -> Result<Wanted, UnknownDevice> {
    let (count, name) = counted(part);
    if !(1..=MOST).contains(&count) {
        return Err(UnknownDevice::Count(part.to_owned()));
    }
    let found = lookup(name).ok_or_else(|| unknown(name))?;
    let (device, memory) = found.with_memory().ok_or_else(|| other_memory(&found))?;
    Ok(Wanted { count, device, memory })
}

/// A count before the name ("2x", "2 ×", "8卡") or after it (" x2", "×2", "*2"), and the name.
fn counted(part: &str) -> (u32, &str) {
    let part = part.trim();
    let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
    if (1..=2).contains(&digits) {
        let (number, rest) = part.split_at(digits);
        let name =
            rest.trim_start().strip_prefix(['x', 'X', '×', '*', '张', '块', '卡', '台', '片']);
        if let (Ok(count), Some(name)) = (number.parse(), name) {
            return (count, name.trim());
        }
    }
    let name = part.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = part.get(name.len()..).filter(|n| (1..=2).contains(&n.len()));
    let before = name.trim_end().strip_suffix(['×', '*']).or_else(|| {
        let before = name.trim_end().strip_suffix(['x', 'X'])?;
        before.ends_with(char::is_whitespace).then_some(before)
    });
    match (number.and_then(|n| n.parse().ok()), before) {
        (Some(count), Some(name)) => (count, name.trim()),
        _ => (1, part),
    }
}

fn other_memory(found: &Found) -> UnknownDevice {
    let mut sold: Vec<u64> =
        found.devices.iter().flat_map(|d| &d.memory).map(|m| m / GIB).collect();
    sold.sort_unstable();
    sold.dedup();
    let name = match &found.devices[..] {
        [one] => one.name.clone(),
        several => common_start(several),
    };
    UnknownDevice::Memory { name, asked: found.gib.unwrap_or(0), sold }
}

/// What the names of variants begin with, word by word.
fn common_start(devices: &[&Device]) -> String {
    let mut words: Vec<&str> = devices.first().map_or("", |d| d.name.as_str()).split(' ').collect();
    for device in devices {
        let same = words.iter().zip(device.name.split(' ')).take_while(|(a, b)| **a == *b).count();
        words.truncate(same);
    }
    words.join(" ")
}

fn unknown(name: &str) -> UnknownDevice {
    let asked = pairs(name);
    let likeness = |d: &Device| d.names().map(|n| alike(&asked, &pairs(n))).max().unwrap_or(0);
    let mut ranked: Vec<(u64, &Device)> = all().iter().map(|d| (likeness(d), d)).collect();
    ranked.sort_by_key(|(likeness, _)| std::cmp::Reverse(*likeness));
    let near = ranked.iter().take(5).map(|(_, d)| d.name.clone()).collect();
    UnknownDevice::Name { name: name.to_owned(), near }
}

/// All neighbouring characters of a name, spelling aside.
fn pairs(text: &str) -> Vec<(char, char)> {
    let plain = Name::of(text).map_or_else(String::new, |n| n.families.concat() + &n.core);
    plain.chars().zip(plain.chars().skip(1)).collect()
}

/// How many pairs two words share, of a thousand.
fn alike(a: &[(char, char)], b: &[(char, char)]) -> u64 {
    let mut left = b.to_vec();
    let mut shared = 0;
    for pair in a {
        if let Some(at) = left.iter().position(|p| p == pair) {
            left.swap_remove(at);
            shared += 1;
        }
    }
    2000 * shared / (a.len() + b.len()).max(1) as u64
}
