//! Reads `data/devices.csv`: lines of fields between commas, comments after `#`, the first line names the columns. No quotes and no commas
//! within a field, which is why there is no CSV library here; lists are the same everywhere.

use std::str::FromStr;

use super::{Device, Form, GIB, Price};
use crate::{Kind, Vendor};

/// The table as it is kept in the repository.
pub(super) const TEXT: &str = include_str!("../../data/devices.csv");

/// The columns, in order.
const COLUMNS: [&str; 21] = [
    "name",
    "aliases",
    "vendor",
    "kind",
    "forms",
    "memory",
    "shared",
    "bandwidth",
    "fp16",
    "int8",
    "fp8",
    "watts",
    "year",
    "usd",
    "cny",
    "priced",
    "machine_usd",
    "machine_cny",
    "machine_priced",
    "pci",
    "source",
];

/// What is wrong with a row.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub(super) struct RowError {
    line: usize,
    column: &'static str,
    what: String,
}

/// The rows of a table, each a device or what is wrong with it.
pub(super) fn rows(text: &str) -> impl Iterator<Item = Result<Device, RowError>> {
    let lines = text.lines().enumerate().map(|(i, l)| (i + 1, l.trim()));
    let mut lines = lines.filter(|(_, l)| !l.is_empty() && !l.starts_with('#'));
    let head = lines.next().map_or(0, |(line, l)| if fields(l).eq(COLUMNS) { 0 } else { line });
    let wrong_head = (head > 0).then(|| {
        Err(RowError {
            line: head,
            column: "name",
            what: "the columns are not the known ones".into(),
        })
    });
    wrong_head.into_iter().chain(lines.map(|(line, l)| device(line, l)))
}

fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(str::trim)
}

fn device(line: usize, text: &str) -> Result<Device, RowError> {
    let count = fields(text).count();
    if count != COLUMNS.len() {
        let what = format!("{count} fields instead of {}", COLUMNS.len());
        return Err(RowError { line, column: "name", what });
    }
    let row = Row { line, fields: fields(text).collect() };
    Ok(Device {
        name: row.needed("name")?.to_owned(),
        aliases: row.list("aliases", ';').map(str::to_owned).collect(),
        vendor: row.word("vendor", &VENDORS)?,
        kind: row.word("kind", &KINDS)?,
        forms: row
            .list("forms", ' ')
            .map(|f| pick(f, &FORMS))
            .collect::<Option<_>>()
            .ok_or_else(|| row.wrong("forms"))?,
        memory: row
            .numbers::<u64>("memory")?
            .into_iter()
            .map(|gib| gib.saturating_mul(GIB))
            .collect(),
        shared_limit: row.maybe("shared")?,
        bandwidth: 1e9 * row.number::<f64>("bandwidth")?,
        fp16: 1e12 * row.number::<f64>("fp16")?,
        int8: row.maybe::<f64>("int8")?.map(|t| 1e12 * t),
        fp8: row.maybe::<f64>("fp8")?.map(|t| 1e12 * t),
        watts: row.number("watts")?,
        year: row.number("year")?,
        price: row.price(["usd", "cny", "priced"])?,
        machine_price: row.price(["machine_usd", "machine_cny", "machine_priced"])?,
        pci_ids: row
            .list("pci", ' ')
            .map(pci)
            .collect::<Option<_>>()
            .ok_or_else(|| row.wrong("pci"))?,
        source: row.needed("source")?.to_owned(),
    })
}

const VENDORS: [(&str, Vendor); 6] = [
    ("nvidia", Vendor::Nvidia),
    ("amd", Vendor::Amd),
    ("intel", Vendor::Intel),
    ("apple", Vendor::Apple),
    ("huawei", Vendor::Huawei),
    ("other", Vendor::Other),
];

const KINDS: [(&str, Kind); 4] = [
    ("discrete", Kind::Discrete),
    ("integrated", Kind::Integrated),
    ("unified", Kind::Unified),
    ("cpu", Kind::Cpu),
];

const FORMS: [(&str, Form); 5] = [
    ("laptop", Form::Laptop),
    ("desktop", Form::Desktop),
    ("server", Form::Server),
    ("minipc", Form::MiniPc),
    ("board", Form::Board),
];

fn pick<T: Copy>(word: &str, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(w, _)| *w == word).map(|(_, value)| *value)
}

/// `10de:2684`.
fn pci(text: &str) -> Option<(u16, u16)> {
    let (vendor, device) = text.split_once(':')?;
    Some((u16::from_str_radix(vendor, 16).ok()?, u16::from_str_radix(device, 16).ok()?))
}

/// A line with as many fields as there are columns.
struct Row<'t> {
    line: usize,
    fields: Vec<&'t str>,
}

impl<'t> Row<'t> {
    fn get(&self, column: &'static str) -> &'t str {
        let at = COLUMNS.iter().position(|c| *c == column);
        at.and_then(|at| self.fields.get(at)).copied().unwrap_or_default()
    }

    fn wrong(&self, column: &'static str) -> RowError {
        RowError { line: self.line, column, what: format!("\"{}\"", self.get(column)) }
    }

    fn needed(&self, column: &'static str) -> Result<&'t str, RowError> {
        Some(self.get(column)).filter(|f| !f.is_empty()).ok_or_else(|| self.wrong(column))
    }

    fn list(&self, column: &'static str, between: char) -> impl Iterator<Item = &'t str> {
        self.get(column).split(between).map(str::trim).filter(|f| !f.is_empty())
    }

    fn word<T: Copy>(&self, column: &'static str, words: &[(&str, T)]) -> Result<T, RowError> {
        pick(self.get(column), words).ok_or_else(|| self.wrong(column))
    }

    fn number<T: FromStr>(&self, column: &'static str) -> Result<T, RowError> {
        self.get(column).parse().map_err(|_| self.wrong(column))
    }

    fn maybe<T: FromStr>(&self, column: &'static str) -> Result<Option<T>, RowError> {
        if self.get(column).is_empty() { Ok(None) } else { self.number(column).map(Some) }
    }

    fn numbers<T: FromStr>(&self, column: &'static str) -> Result<Vec<T>, RowError> {
        let numbers = self.list(column, ' ').map(str::parse).collect::<Result<Vec<T>, _>>();
        numbers.map_err(|_| self.wrong(column))
    }

    /// A price, its yuan and its date; none of them, or at least the first and the last.
    fn price(&self, [usd, cny, date]: [&'static str; 3]) -> Result<Option<Price>, RowError> {
        let price = (self.maybe(usd)?, self.maybe(cny)?, self.get(date));
        match price {
            (None, None, "") => Ok(None),
            (Some(usd), cny, date) if !date.is_empty() => {
                Ok(Some(Price { usd, cny, date: date.to_owned() }))
            }
            _ => Err(self.wrong(usd)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_reads() {
        let wrong: Vec<String> =
            rows(TEXT).filter_map(|r| r.err().map(|e| e.to_string())).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    const ROW: &str = "Card X,X;Y,nvidia,discrete,desktop server,8 16,,100.5,20,,,150,2024,300,,2024-05,,,,10de:00ff,a sheet";

    fn table(row: &str) -> String {
        format!("# a comment\n\n{}\n{row}\n", COLUMNS.join(", "))
    }

    #[test]
    fn a_row_means_what_it_says() {
        let text = table(ROW);
        let rows: Vec<_> = rows(&text).collect();
        let [Ok(d)] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((d.name.as_str(), d.aliases.len(), d.vendor), ("Card X", 2, Vendor::Nvidia));
        assert_eq!((&d.memory, d.bandwidth, d.fp16), (&vec![8 * GIB, 16 * GIB], 100.5e9, 20e12));
        assert_eq!((d.int8, d.shared_limit, d.forms.len()), (None, None, 2));
        let price = Price { usd: 300, cny: None, date: "2024-05".into() };
        assert_eq!((&d.price, &d.machine_price), (&Some(price), &None));
        assert_eq!(d.pci_ids, [(0x10de, 0xff)]);
    }

    #[test]
    fn what_is_wrong_is_named_and_the_rest_is_read() {
        let cases = [
            ("nvidia,", "nvida,", "vendor"),
            ("8 16", "8 sixteen", "memory"),
            ("100.5", "", "bandwidth"),
            ("2024-05", "", "usd"),
            ("10de:00ff", "10de", "pci"),
            ("desktop server", "desktop tower", "forms"),
            ("a sheet", "", "source"),
            (",150,", ",150W,", "watts"),
            ("a sheet", "a sheet, and another", "name"),
        ];
        for (from, to, column) in cases {
            let text = table(&format!("{}\n{ROW}", ROW.replacen(from, to, 1)));
            let rows: Vec<_> = rows(&text).collect();
            let [Err(e), Ok(_)] = &rows[..] else { panic!("{rows:?}") };
            assert_eq!((e.line, e.column), (4, column), "{e}");
        }
    }

    #[test]
    fn other_columns_are_an_error() {
        let text = table(ROW).replacen("aliases", "nicknames", 1);
        assert!(rows(&text).next().is_some_and(|r| r.is_err()));
    }
}
