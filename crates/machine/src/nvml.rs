//! Asks NVIDIA's driver through its management library, which is loaded only when it is wanted and need not be there. What is known is sent
//! card by card, so that a card that hangs takes nothing from the others. Called on a thread of its own (`patience`).
// Elsewhere than on Linux, what it tells beside a card is left out.
#![cfg_attr(not(target_os = "linux"), allow(dead_code))]

use std::ffi::OsStr;
use std::sync::mpsc::Sender;

use nvml_wrapper::enum_wrappers::device::{P2pCapabilitiesIndex, P2pStatus};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::gpu::{Link, Problem};

/// Where the library may be: by its name, and where Windows' subsystem and NixOS have it.
#[cfg(not(windows))]
const LIBRARIES: [&str; 3] = [
    "libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
    "/run/opengl-driver/lib/libnvidia-ml.so.1",
];
#[cfg(windows)]
const LIBRARIES: [&str; 1] = ["nvml.dll"];

/// More cards than a machine has.
const MAX_CARDS: u32 = 64;

/// Something that the driver told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// The driver's version.
    Driver(String),
    /// Everything about a card but its peers.
    Card(Box<Card>),
    /// A card's address, and the addresses of those that it reaches through NVLink.
    Peers(String, Vec<String>),
    /// Nothing can be asked.
    Failed(Problem),
}

/// A card as its driver describes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Card {
    pub name: Option<String>,
    pub address: String,
    pub pci_id: Option<(u16, u16)>,
    /// Bytes in all, and free.
    pub memory: Option<(u64, u64)>,
    /// It has no memory of its own.
    pub unified: bool,
    pub link: Option<Link>,
    pub power_limit_watts: Option<f64>,
    pub problems: Vec<Problem>,
}

/// How the driver is asked; tests have others.
pub(crate) type Query = fn(&Sender<Told>);

/// Asks the driver of this machine. That nobody listens any more is no reason to stop differently.
pub(crate) fn query(sender: &Sender<Told>) {
    let nvml = match open() {
        Ok(nvml) => nvml,
        Err(error) => {
            let _ = sender.send(Told::Failed(problem(&error)));
            return;
        }
    };
    if let Ok(version) = nvml.sys_driver_version() {
        let _ = sender.send(Told::Driver(version));
    }
    let count = nvml.device_count().unwrap_or(0).min(MAX_CARDS);
    let devices: Vec<(String, Device<'_>)> =
        (0..count).filter_map(|n| opened(nvml.device_by_index(n).ok()?)).collect();
    for (address, device) in &devices {
        let _ = sender.send(Told::Card(Box::new(card(address, device))));
    }
    for (address, device) in &devices {
        let linked = |(_, other): &&(String, Device<'_>)| {
            matches!(device.p2p_status(other, P2pCapabilitiesIndex::NvLink), Ok(P2pStatus::Ok))
        };
        let others = devices.iter().filter(|(other, _)| other != address);
        let peers = others.filter(linked).map(|(other, _)| other.clone()).collect();
        let _ = sender.send(Told::Peers(address.clone(), peers));
    }
}

fn open() -> Result<Nvml, NvmlError> {
    let mut last = NvmlError::LibraryNotFound;
    for library in LIBRARIES {
        #[cfg(windows)]
        let library = crate::portable::of_system(library).unwrap_or_default();
        match Nvml::builder().lib_path(OsStr::new(&library)).init() {
            Ok(nvml) => return Ok(nvml),
            Err(error @ NvmlError::LibloadingError(_)) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn opened(device: Device<'_>) -> Option<(String, Device<'_>)> {
    Some((device.pci_info().ok()?.bus_id, device))
}

fn card(address: &str, device: &Device<'_>) -> Card {
    let memory = device.memory_info();
    let unified = matches!(memory, Err(NvmlError::NotSupported));
    let mut problems = Vec::new();
    if let Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) = &memory {
        problems.push(problem(error));
    }
    if device.mig_mode().is_ok_and(|mode| mode.current == 1) {
        problems.push(Problem::Divided);
    }
    Card {
        name: device.name().ok(),
        address: address.to_owned(),
        // The device's number is in the upper half.
        pci_id: device.pci_info().ok().map(|pci| {
            let [a, b, c, d] = pci.pci_device_id.to_le_bytes();
            (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
        }),
        memory: memory.ok().map(|m| (m.total, m.free)),
        unified,
        link: link(device).filter(|_| !unified),
        power_limit_watts: device.enforced_power_limit().ok().map(|mw| f64::from(mw) / 1e3),
        problems,
    }
}

/// What card and slot can do together, whatever the link does while idle.
fn link(device: &Device<'_>) -> Option<Link> {
    let generation = u8::try_from(device.max_pcie_link_gen().ok()?).ok()?;
    let lanes = u8::try_from(device.max_pcie_link_width().ok()?).ok()?;
    (generation > 0 && lanes > 0).then_some(Link { generation, lanes })
}

fn problem(error: &NvmlError) -> Problem {
    match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            Problem::NoLibrary(LIBRARIES[0].to_owned())
        }
        NvmlError::LibRmVersionMismatch => Problem::DriverMismatch,
        NvmlError::DriverNotLoaded => Problem::NoDriver,
        other => Problem::DriverSays(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience;
    use std::time::{Duration, Instant};

    /// On a machine without the driver the library is missing or says so; on one with it, every card has an address.
    #[test]
    fn asking_this_machine_ends() {
        let receiver = patience::beside(query);
        let (told, done) = patience::until(&receiver, Instant::now() + Duration::from_secs(60));
        assert!(done);
        let failed = told.iter().any(|t| matches!(t, Told::Failed(_)));
        let cards: Vec<_> = told
            .iter()
            .filter_map(|t| if let Told::Card(card) = t { Some(card) } else { None })
            .collect();
        assert!(failed != told.iter().any(|t| matches!(t, Told::Driver(_))), "{told:?}");
        assert!(cards.iter().all(|card| !card.address.is_empty()), "{told:?}");
    }

    #[test]
    fn errors_are_problems() {
        assert_eq!(problem(&NvmlError::LibRmVersionMismatch), Problem::DriverMismatch);
        assert_eq!(
            problem(&NvmlError::LibraryNotFound),
            Problem::NoLibrary(LIBRARIES[0].to_owned())
        );
        assert!(matches!(problem(&NvmlError::GpuLost), Problem::DriverSays(_)));
    }
}
