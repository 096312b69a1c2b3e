//! The device table: what hardware for language models can, costs and draws, as data (`data/devices.csv`) that is compiled in and read at
//! first use; and finding a row by the many names of a device. Whether a model fits or how fast it runs is `plan`'s; nothing here asks the
//! machine. How to add a device: docs/devices.md.

mod find;
mod name;
mod parse;
mod table;

use std::sync::OnceLock;

use serde::Serialize;

pub use find::{by_name, matching, processor};
pub use parse::{UnknownDevice, Wanted, parse};

use crate::{Kind, Vendor};

/// Bytes of a GiB. Makers mean it when they say GB of memory.
pub(crate) const GIB: u64 = 1 << 30;

/// What a device is built into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Portable computers.
    Laptop,
    /// Desktop computers and workstations.
    Desktop,
    /// Servers, which need a rack or a room of their own.
    Server,
    /// Small boxes of one or two litres.
    MiniPc,
    /// Single boards.
    Board,
}

/// What something costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Price {
    /// US dollars, before tax.
    pub usd: u32,
    /// Yuan in China, tax included, where known.
    pub cny: Option<u32>,
    /// When it cost that: `YYYY` or `YYYY-MM`.
    pub date: String,
}

/// A row of the table: a device that models run on. Where memory sizes of one product differ in speed or price, each has its row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Device {
    /// The maker's name for it; unlike any other row's.
    pub name: String,
    /// Further names.
    pub aliases: Vec<String>,
    /// Its maker.
    pub vendor: Vendor,
    /// Where its memory is.
    pub kind: Kind,
    /// What it is built into.
    pub forms: Vec<Form>,
    /// Bytes of memory that it is sold with, ascending; of main memory as usual beside it for [`Kind::Integrated`] and [`Kind::Cpu`].
    pub memory: Vec<u64>,
    /// The part of main memory that the GPU may use unless somebody changes that. None for [`Kind::Discrete`] and [`Kind::Cpu`].
    pub shared_limit: Option<f64>,
    /// Bytes per second from its memory, by the data sheet.
    pub bandwidth: f64,
    /// Dense operations per second on F16 with F32 sums, by the fastest unit of the chip that does that (matrix units, dot products, else
    /// F32 arithmetic). Of processors: F32 operations of the vector units.
    pub fp16: f64,
    /// The same on signed bytes, where it has instructions for them.
    pub int8: Option<f64>,
    /// The same on 8-bit floats with F32 sums, where it has such.
    pub fp8: Option<f64>,
    /// Watts of the card; of the chip for [`Kind::Integrated`] and [`Kind::Cpu`]; of the whole computer for Macs.
    pub watts: u32,
    /// When it could first be bought.
    pub year: u16,
    /// Of one, where it is sold by itself.
    pub price: Option<Price>,
    /// Of a whole computer with one and the smallest memory of this row.
    pub machine_price: Option<Price>,
    /// PCI vendor and device numbers; several devices may share one.
    pub pci_ids: Vec<(u16, u16)>,
    /// Where these figures are from.
    pub source: String,
}

impl Device {
    /// All its names.
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).map(String::as_str)
    }

    /// Bytes that its GPU may use of `memory` bytes: all of a card's own, the default part of main memory, none of a processor without
    /// graphics. macOS gives the GPU two thirds of less than 36 GiB and three quarters of more, new versions a little more than that (as
    /// Metal reports it).
    pub fn gpu_memory(&self, memory: u64) -> u64 {
        let part = match (self.kind, self.shared_limit) {
            (Kind::Cpu, _) => return 0,
            (_, None) => return memory,
            (_, Some(_)) if self.vendor == Vendor::Apple && memory < 36 * GIB => 2.0 / 3.0,
            (_, Some(limit)) => limit,
        };
        (memory as f64 * part) as u64
    }
}

/// All devices, in the order of the table.
pub fn all() -> &'static [Device] {
    static TABLE: OnceLock<Vec<Device>> = OnceLock::new();
    // A wrong row is a test's business; a program at a user's does without it.
    TABLE.get_or_init(|| table::rows(table::TEXT).filter_map(Result::ok).collect())
}

#[cfg(test)]
mod tests;
