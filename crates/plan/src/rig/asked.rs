//! A rig of devices that the user names: with the rest of a plausible computer around them, which the notes state.

use hob_machine::devices::{Device, Form, Wanted};
use hob_machine::{Kind, Vendor};

use super::{Card, Host, Note, Rig, left_by_driver, left_by_system};

/// The computer around cards that are named alone.
struct Around {
    name: &'static str,
    form: Form,
    memory: u64,
    channels: u32,
    bandwidth: f64,
    operations: f64,
    /// Bytes per second from main memory to each card.
    link: f64,
}

const DESKTOP: Around = Around {
    name: "desktop CPU",
    form: Form::Desktop,
    memory: 64 << 30,
    channels: 2,
    bandwidth: 80e9,
    operations: 1.2e12,
    link: 26e9,
};

const LAPTOP: Around = Around {
    name: "laptop CPU",
    form: Form::Laptop,
    memory: 32 << 30,
    channels: 2,
    bandwidth: 75e9,
    operations: 0.9e12,
    link: 13e9,
};

const SERVER: Around = Around {
    name: "server CPU",
    form: Form::Server,
    memory: 256 << 30,
    channels: 8,
    bandwidth: 300e9,
    operations: 4e12,
    link: 26e9,
};

impl Around {
    fn note(&self) -> Note {
        let Around { form, memory, channels, bandwidth, .. } = *self;
        Note::Around { form, memory, channels, bandwidth }
    }
}

/// The rig of named devices. Of chips that are a computer by themselves the first is it, since hob does not plan over several computers.
pub fn rig_of_devices(wanted: &[Wanted]) -> Rig {
    let mut notes = Vec::new();
    let whole = wanted.iter().find(|w| w.device.kind != Kind::Discrete);
    let computers = wanted.iter().filter(|w| w.device.kind != Kind::Discrete);
    if computers.map(|w| w.count).sum::<u32>() > 1 {
        notes.push(Note::OneComputer);
    }
    let around = around(wanted);
    let host = match whole {
        Some(chip) => host_of_chip(chip),
        None => {
            if !wanted.is_empty() {
                notes.push(around.note());
            }
            host_around(around)
        }
    };
    let discrete = wanted.iter().filter(|w| w.device.kind == Kind::Discrete);
    let mut cards: Vec<Card> = discrete.flat_map(|w| cards_of(w, around.link)).collect();
    cards
        .extend(whole.filter(|w| w.device.kind == Kind::Integrated).map(|w| shared_card(w, &host)));
    cards.sort_by(|a, b| b.bandwidth.total_cmp(&a.bandwidth));
    let names: Vec<String> = wanted.iter().map(name_of).collect();
    Rig { name: names.join(" + "), host, cards, notes }
}

/// As the user would write it; with its memory where the device is sold with several sizes.
pub(crate) fn name_of(wanted: &Wanted) -> String {
    let count = if wanted.count > 1 { format!("{}x ", wanted.count) } else { String::new() };
    let size = match wanted.device.memory.len() {
        0 | 1 => String::new(),
        _ => format!(" {} GB", wanted.memory >> 30),
    };
    // Some names tell it already.
    let size = if wanted.device.name.ends_with("GB") { String::new() } else { size };
    format!("{count}{}{size}", wanted.device.name)
}

fn around(wanted: &[Wanted]) -> &'static Around {
    let cards = || wanted.iter().map(|w| w.device).filter(|d| d.kind == Kind::Discrete);
    let only = |form: Form| {
        let of = |d: &Device| !d.forms.is_empty() && d.forms.iter().all(|f| *f == form);
        cards().any(of)
    };
    if only(Form::Server) {
        &SERVER
    } else if only(Form::Laptop) {
        &LAPTOP
    } else {
        &DESKTOP
    }
}

fn host_around(around: &Around) -> Host {
    Host {
        name: around.name.to_owned(),
        kind: Kind::Cpu,
        vendor: Vendor::Other,
        memory: around.memory,
        free: left_by_system(around.memory),
        bandwidth: around.bandwidth,
        operations: around.operations,
        limit: None,
        probe: None,
    }
}

/// The computer that a chip with its memory is.
fn host_of_chip(wanted: &Wanted) -> Host {
    let device = wanted.device;
    let unified = device.kind == Kind::Unified;
    Host {
        name: device.name.clone(),
        kind: if unified { Kind::Unified } else { Kind::Cpu },
        vendor: device.vendor,
        memory: wanted.memory,
        free: left_by_system(wanted.memory),
        bandwidth: device.bandwidth,
        // The rates of an integrated GPU are not those of the cores beside it.
        operations: if device.kind == Kind::Integrated { LAPTOP.operations } else { device.fp16 },
        limit: unified.then(|| device.gpu_memory(wanted.memory)),
        probe: None,
    }
}

fn shared_card(wanted: &Wanted, host: &Host) -> Card {
    let limit = wanted.device.gpu_memory(wanted.memory);
    Card {
        name: wanted.device.name.clone(),
        kind: Kind::Integrated,
        vendor: wanted.device.vendor,
        memory: limit,
        free: limit.min(host.free),
        bandwidth: wanted.device.bandwidth,
        operations: wanted.device.fp16,
        link: wanted.device.bandwidth,
    }
}

fn cards_of(wanted: &Wanted, link: f64) -> impl Iterator<Item = Card> {
    let card = Card {
        name: name_of(&Wanted { count: 1, ..wanted.clone() }),
        kind: Kind::Discrete,
        vendor: wanted.device.vendor,
        memory: wanted.memory,
        free: left_by_driver(wanted.memory),
        bandwidth: wanted.device.bandwidth,
        operations: wanted.device.fp16,
        link,
    };
    std::iter::repeat_n(card, wanted.count as usize)
}
