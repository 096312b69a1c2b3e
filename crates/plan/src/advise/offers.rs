//! Hardware that can be had: every device of the table, in the memory sizes that it is sold with, several cards where machines take them; with the
//! price and the watts of the whole computer. What is assumed of the computer around cards stands here.

use hob_machine::devices::{self, Device, Form, Wanted};
use hob_machine::{Kind, Vendor};

use super::Os;
use crate::rig::{Rig, rig_of_devices};

/// What a whole computer costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// US dollars.
    pub usd: u32,
    /// Yuan, where the table has them.
    pub cny: Option<u32>,
    /// Of the device's price, as the table has it.
    pub date: String,
    /// US dollars of it for the computer around cards, which is an assumption.
    pub around: u32,
}

/// Hardware to run a model on.
#[derive(Clone, Debug)]
pub struct Offer {
    /// As people write it.
    pub name: String,
    /// What computes.
    pub rig: Rig,
    /// What it costs; `None` for this machine, and where the table has no price.
    pub cost: Option<Cost>,
    /// Watts of everything under load; `None` where unknown.
    pub watts: Option<u32>,
    /// Whether one carries it about.
    pub portable: bool,
    /// Whether it stands in a data centre.
    pub server: bool,
    /// Whether its cards compute FP8.
    pub fp8: bool,
    /// Whether only Apple's system runs on it.
    pub apple: bool,
}

/// The computer around cards: dollars and watts, without them.
struct Around {
    usd: u32,
    watts: u32,
}

/// Eight cores, 64 GB, a power supply; at the prices that memory has in 2026.
const DESKTOP: Around = Around { usd: 1600, watts: 100 };
/// 32 cores, 256 GB, redundant everything.
const SERVER: Around = Around { usd: 10_000, watts: 350 };
/// Screen, fans and disks of a laptop; the board of a small computer.
const REST_OF_LAPTOP: u32 = 30;
const REST_OF_SMALL: u32 = 20;
/// Dollars per GB of memory beyond the smallest size that a computer is sold with.
const USD_PER_GB: u32 = 13;
/// Yuan per dollar, for the computer around cards.
const CNY_PER_USD: f64 = 7.2;

/// Everything that can be had.
pub fn offers() -> Vec<Offer> {
    devices::all().iter().filter(|d| d.kind != Kind::Cpu).flat_map(of_device).collect()
}

fn of_device(device: &'static Device) -> Vec<Offer> {
    let has = |form: Form| device.forms.contains(&form);
    let counts: &[u32] = match device.kind {
        Kind::Discrete if has(Form::Desktop) => &[1, 2, 4],
        Kind::Discrete if has(Form::Server) => &[1, 2, 4, 8],
        _ => &[1],
    };
    let offer = |memory: u64, count: u32| offer_of_devices(&[Wanted { count, device, memory }]);
    let sizes = device.memory.iter();
    sizes.flat_map(|&memory| counts.iter().map(move |&count| offer(memory, count))).collect()
}

/// Named devices, in a computer.
pub fn offer_of_devices(wanted: &[Wanted]) -> Offer {
    let rig = rig_of_devices(wanted);
    let all =
        |of: &dyn Fn(&Device) -> bool| !wanted.is_empty() && wanted.iter().all(|w| of(w.device));
    let only = |form: Form| all(&|d| !d.forms.is_empty() && d.forms.iter().all(|f| *f == form));
    let discrete = all(&|d| d.kind == Kind::Discrete);
    let (laptop, server) = (only(Form::Laptop), discrete && only(Form::Server));
    let cards: u32 = wanted.iter().map(|w| w.count.saturating_mul(w.device.watts)).sum();
    let rest = match () {
        () if server => SERVER.watts,
        () if laptop => REST_OF_LAPTOP,
        () if discrete => DESKTOP.watts,
        // Of Macs the table has the watts of the whole.
        () if all(&|d| d.vendor == Vendor::Apple) => 0,
        () => REST_OF_SMALL,
    };
    Offer {
        name: rig.name.clone(),
        cost: cost(wanted, if server { &SERVER } else { &DESKTOP }),
        watts: (cards > 0).then_some(cards + rest),
        portable: all(&|d| d.forms.contains(&Form::Laptop)),
        server,
        fp8: all(&|d| d.fp8.is_some()),
        apple: all(&|d| d.vendor == Vendor::Apple),
        rig,
    }
}

/// This machine, which is paid for.
pub fn offer_of_machine(rig: Rig) -> Offer {
    let name = rig.name.clone();
    let apple = rig.host.vendor == Vendor::Apple;
    let card = rig.cards.iter().map(|c| devices::by_name(&c.name).map(|d| d.watts));
    let chip = devices::by_name(&rig.host.name).map(|d| d.watts);
    // With a card of unknown watts, or none and an unknown processor, nothing is said.
    let watts = match rig.cards.iter().any(|c| c.kind == Kind::Discrete) {
        true => card.sum::<Option<u32>>().map(|w| w + DESKTOP.watts),
        false => chip.map(|w| w + REST_OF_SMALL),
    };
    Offer { name, rig, cost: None, watts, portable: false, server: false, fp8: false, apple }
}

impl Offer {
    /// Whether a system runs on it.
    pub fn runs(&self, os: Os) -> bool {
        self.apple == (os == Os::Macos)
    }
}

/// Devices that are not sold alone have the price of the computer that they are in; others get one around them.
fn cost(wanted: &[Wanted], around: &Around) -> Option<Cost> {
    let mut total = Cost { usd: 0, cny: Some(0), date: String::new(), around: 0 };
    let mut whole = false;
    for w in wanted {
        let sold_alone = w.device.kind == Kind::Discrete && w.device.price.is_some();
        let price = if sold_alone { &w.device.price } else { &w.device.machine_price };
        let price = price.as_ref()?;
        whole |= !sold_alone;
        let more = if sold_alone { 0 } else { dearer(w) };
        let usd = price.usd.saturating_add(more).saturating_mul(w.count);
        let yuan = |cny: u32| (cny + in_yuan(more)).saturating_mul(w.count);
        total.usd = total.usd.saturating_add(usd);
        total.cny = total.cny.zip(price.cny.map(yuan)).map(|(a, b)| a.saturating_add(b));
        total.date = total.date.max(price.date.clone());
    }
    if !whole {
        total.around = around.usd;
        total.usd = total.usd.saturating_add(around.usd);
        total.cny = total.cny.map(|cny| cny.saturating_add(in_yuan(around.usd)));
    }
    (total.usd > 0).then_some(total)
}

/// What more memory than the smallest size costs.
fn dearer(wanted: &Wanted) -> u32 {
    let least = wanted.device.memory.iter().min().copied().unwrap_or(wanted.memory);
    let more = wanted.memory.saturating_sub(least) >> 30;
    u32::try_from(more).unwrap_or(u32::MAX).saturating_mul(USD_PER_GB)
}

fn in_yuan(usd: u32) -> u32 {
    (f64::from(usd) * CNY_PER_USD) as u32
}
