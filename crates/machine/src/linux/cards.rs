//! GPUs put together from what the bus, the drivers and the memory tell. Drivers are asked beside each other, each with its time; one that
//! hangs is its own card's problem. What memory a GPU may use is a rule for each kind of driver, and stands here.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::driver::{self, Pool};
use super::pci::{self, Function};
use super::{boards, kfd, names};
use crate::gpu::{Gpu, Kind, Problem, Vendor};
use crate::nvml;
use crate::text::printable;
use crate::tree::Tree;
use crate::{Memory, patience, vulkan};

/// What the drivers' files get: they answer in microseconds.
const FILES: Duration = Duration::from_secs(1);
/// What libraries get, counted from the same moment: waking several cards takes NVIDIA's more than a second.
const LIBRARY: Duration = Duration::from_millis(2500);
/// Bytes of a page, by which `ttm` counts; machines with other pages have no GPU that shares memory through it.
const PAGE: u64 = 4096;

/// How drivers are asked that do not tell everything in files; by default they are not asked.
#[derive(Clone, Copy, Default)]
pub(crate) struct Libraries {
    pub nvml: Option<nvml::Query>,
    pub vulkan: Option<vulkan::Query>,
}

/// All GPUs.
pub(crate) fn gpus(tree: &Tree, memory: &Memory, libraries: Libraries) -> Vec<Gpu> {
    let start = Instant::now();
    let functions = pci::graphics(tree);
    let windows = tree.exists("dev/dxg");
    let wanted = windows || tree.exists("dev/nvidiactl") || functions.iter().any(uses_nvml);
    let nvml = libraries.nvml.filter(|_| wanted).map(patience::beside);
    let asked: Vec<Receiver<driver::Told>> = functions.iter().map(|f| ask(tree, f)).collect();
    let mut gpus: Vec<Gpu> = functions
        .iter()
        .zip(asked)
        .map(|(function, receiver)| {
            let left = (start + FILES).saturating_duration_since(Instant::now());
            gpu(tree, memory, function, receiver.recv_timeout(left).ok())
        })
        .collect();
    link_amd(tree, &mut gpus);
    if gpus.iter().all(|gpu| gpu.vendor != Vendor::Nvidia) {
        gpus.extend(boards::gpu(tree, memory));
    }
    if let Some(receiver) = nvml {
        let (told, done) = patience::until(&receiver, start + LIBRARY);
        add_nvml(&mut gpus, memory, told, done);
    }
    if windows && gpus.is_empty() {
        gpus.push(behind_windows());
    }
    let deadline = start + LIBRARY;
    let wanted = gpus.iter().any(|gpu| lacks_memory(gpu) && gpu.vendor == Vendor::Intel);
    if let Some(query) = libraries.vulkan.filter(|_| wanted && Instant::now() < deadline) {
        let (told, _) = patience::until(&patience::beside(query), deadline);
        vulkan::complete(&mut gpus, &told, memory);
    }
    for gpu in &mut gpus {
        if lacks_memory(gpu) {
            gpu.problems.push(Problem::MemoryUnknown);
        }
        gpu.problems.dedup();
    }
    gpus
}

/// Its driver works, but no file tells of its memory.
fn lacks_memory(gpu: &Gpu) -> bool {
    gpu.memory_bytes.is_none() && gpu.problems.is_empty()
}

fn uses_nvml(function: &Function) -> bool {
    function.is_nvidia() && function.driver.as_deref() == Some("nvidia")
}

fn ask(tree: &Tree, function: &Function) -> Receiver<driver::Told> {
    let (tree, function) = (tree.clone(), function.clone());
    patience::beside(move |sender| {
        let _ = sender.send(driver::ask(&tree, &function));
    })
}

/// A card; `told` is `None` if its driver did not answer in time.
fn gpu(tree: &Tree, memory: &Memory, function: &Function, told: Option<driver::Told>) -> Gpu {
    let mut problems = driver_problem(function);
    let hangs = told.is_none();
    if hangs {
        problems.push(Problem::DriverHangs);
    }
    let mut told = told.unwrap_or_default();
    problems.append(&mut told.problems);
    let kind = kind(tree, function, &told);
    let (memory_bytes, free_bytes) =
        if hangs { (None, None) } else { usable(tree, memory, function, kind, &told) };
    let driver = function.driver.as_ref().map(|name| match &told.version {
        Some(version) => format!("{name} {version}"),
        None => name.clone(),
    });
    Gpu {
        name: told.name.unwrap_or_else(|| names::of(tree, function)),
        vendor: function.maker(),
        kind,
        memory_bytes,
        free_bytes,
        pci_id: Some((function.vendor, function.device)),
        address: Some(function.address.clone()),
        driver,
        link: if kind == Kind::Discrete { function.link(tree) } else { None },
        numa_node: function.numa_node,
        power_limit_watts: told.power_limit_watts,
        peers: Vec::new(),
        problems,
    }
}

fn driver_problem(function: &Function) -> Vec<Problem> {
    match function.driver.as_deref() {
        None => vec![Problem::NoDriver],
        Some("vfio-pci" | "pci-stub") => vec![Problem::SetAside],
        Some(driver @ ("nouveau" | "nova" | "radeon")) => {
            vec![Problem::DisplayDriver(driver.to_owned())]
        }
        Some(_) => Vec::new(),
    }
}

fn kind(tree: &Tree, function: &Function, told: &driver::Told) -> Kind {
    const GB10: u16 = 0x2e12;
    if function.is_nvidia() && function.device == GB10 {
        return Kind::Unified;
    }
    // Intel's processors have theirs on the first bus, AMD's beside other parts of the processor.
    let integrated = (function.is_intel() && function.address.starts_with("0000:00:"))
        || (function.is_amd() && !told.has_memory_chips && function.is_beside_processor(tree));
    if integrated { Kind::Integrated } else { Kind::Discrete }
}

/// Bytes of memory that a GPU may use, and of these the free ones.
fn usable(
    tree: &Tree,
    memory: &Memory,
    function: &Function,
    kind: Kind,
    told: &driver::Told,
) -> (Option<u64>, Option<u64>) {
    match (kind, function.driver.as_deref()) {
        (Kind::Discrete, _) => (told.own.map(|own| own.total), told.own.and_then(Pool::free)),
        (Kind::Unified, Some("nvidia")) => (Some(memory.total_bytes), Some(memory.available_bytes)),
        // What the firmware set aside, and what the driver lends of the rest.
        (Kind::Integrated, Some("amdgpu")) => {
            let own = told.own.unwrap_or(Pool { total: 0, used: Some(0) });
            let half = Pool { total: memory.installed_bytes / 2, used: Some(0) };
            let shared = told.shared.unwrap_or(half);
            let total = shared.total.min(page_limit(tree)).min(memory.installed_bytes);
            let lent = Pool { total, ..shared }.free().unwrap_or(total).min(memory.available_bytes);
            let free = own.free().unwrap_or(0).saturating_add(lent);
            (Some(own.total.saturating_add(total)), Some(free))
        }
        // The newer driver keeps to half of main memory by way of `ttm`; for the older one that is a cautious guess, as it has no limit.
        (Kind::Integrated, Some(driver @ ("i915" | "xe"))) => {
            let half = memory.installed_bytes / 2;
            let total = if driver == "xe" { half.min(page_limit(tree)) } else { half };
            (Some(total), Some(total.min(memory.available_bytes)))
        }
        _ => (None, None),
    }
}

/// Bytes of main memory that the kernel lends to GPUs.
fn page_limit(tree: &Tree) -> u64 {
    let pages: Option<u64> = tree.number("sys/module/ttm/parameters/pages_limit");
    pages.filter(|pages| *pages > 0).map_or(u64::MAX, |pages| pages.saturating_mul(PAGE))
}

fn link_amd(tree: &Tree, gpus: &mut [Gpu]) {
    let is_amd = |gpu: &Gpu| (gpu.vendor, gpu.kind) == (Vendor::Amd, Kind::Discrete);
    if gpus.iter().filter(|gpu| is_amd(gpu)).count() < 2 {
        return;
    }
    let tree = tree.clone();
    let Some(mut peers) = patience::within(FILES, move || kfd::peers(&tree)) else { return };
    for gpu in gpus {
        gpu.peers = gpu.address.as_ref().and_then(|a| peers.remove(a)).unwrap_or_default();
    }
}

/// Adds what NVIDIA's library told. `done`: it came to its end.
fn add_nvml(gpus: &mut Vec<Gpu>, memory: &Memory, told: Vec<nvml::Told>, done: bool) {
    let mut described: Vec<String> = Vec::new();
    let mut version = None;
    let mut failed = None;
    for item in told {
        match item {
            nvml::Told::Driver(v) => version = printable(&v),
            nvml::Told::Failed(problem) => failed = Some(problem),
            nvml::Told::Card(card) => {
                let gpu = entry(gpus, &card);
                describe(gpu, *card, memory);
                described.extend(gpu.address.clone());
            }
            nvml::Told::Peers(address, peers) => {
                let address = pci::canonical(&address);
                if let Some(gpu) = gpus.iter_mut().find(|gpu| gpu.address == address) {
                    gpu.peers = peers.iter().filter_map(|peer| pci::canonical(peer)).collect();
                }
            }
        }
    }
    for gpu in gpus.iter_mut().filter(|gpu| is_nvidias(gpu)) {
        if let (Some("nvidia"), Some(version)) = (gpu.driver.as_deref(), &version) {
            gpu.driver = Some(format!("nvidia {version}"));
        }
        if gpu.address.as_ref().is_none_or(|a| !described.contains(a)) {
            gpu.problems.extend(failed.clone().or((!done).then_some(Problem::DriverHangs)));
        }
    }
}

fn is_nvidias(gpu: &Gpu) -> bool {
    let driver = gpu.driver.as_deref().unwrap_or_default();
    gpu.vendor == Vendor::Nvidia && (driver == "nvidia" || driver.starts_with("nvidia "))
}

/// The GPU that the library means; a new one where the bus is not to be seen (Windows' subsystem).
fn entry<'a>(gpus: &'a mut Vec<Gpu>, card: &nvml::Card) -> &'a mut Gpu {
    let address = pci::canonical(&card.address);
    let known = gpus.iter().position(|gpu| gpu.address == address && address.is_some());
    let index = known.unwrap_or_else(|| {
        gpus.push(Gpu {
            name: "NVIDIA GPU".to_owned(),
            vendor: Vendor::Nvidia,
            address,
            driver: Some("nvidia".to_owned()),
            ..Gpu::unknown()
        });
        gpus.len() - 1
    });
    &mut gpus[index]
}

fn describe(gpu: &mut Gpu, card: nvml::Card, memory: &Memory) {
    if let Some(name) = card.name.as_deref().and_then(printable) {
        gpu.name = name;
    }
    if card.unified {
        gpu.kind = Kind::Unified;
    }
    let own = card.memory.or_else(|| {
        (gpu.kind == Kind::Unified).then_some((memory.total_bytes, memory.available_bytes))
    });
    gpu.memory_bytes = own.map(|(total, _)| total);
    gpu.free_bytes = own.map(|(_, free)| free);
    gpu.pci_id = card.pci_id.or(gpu.pci_id);
    gpu.link = if gpu.kind == Kind::Unified { None } else { card.link.or(gpu.link) };
    gpu.power_limit_watts = card.power_limit_watts.or(gpu.power_limit_watts);
    gpu.problems.extend(card.problems);
}

fn behind_windows() -> Gpu {
    Gpu {
        name: "GPU of Windows".to_owned(),
        driver: Some("dxgkrnl".to_owned()),
        problems: vec![Problem::BehindWindows],
        ..Gpu::unknown()
    }
}
