//! Asks Vulkan what GPUs there are: on Windows for all but NVIDIA's, on Linux for memory that no file tells of (Intel's cards under the older
//! driver). Its loader is opened when it is wanted and need not be there. Called on a thread of its own (`patience`). Deliberately absent: a
//! logical device, and with it anything that is computed.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::sync::mpsc::Sender;

use ash::{Entry, Instance, ext, vk};

use crate::Memory;
use crate::gpu::{Gpu, Kind, MAX_MEMORY, Problem, Vendor};
use crate::text::printable;

/// More devices than a machine has.
const MAX_DEVICES: usize = 64;

/// Something that Vulkan told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// There is a loader, and it can be asked.
    Opened,
    /// What one driver says of one device.
    Device(Box<Device>),
}

/// A device as its driver describes it.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub name: Option<String>,
    /// PCI vendor and device number; larger ones belong to makers without PCI.
    pub id: (u32, u32),
    /// `None` of processors that calculate as if they were GPUs, and of what a virtual machine shows.
    pub kind: Option<Kind>,
    pub heaps: Vec<Heap>,
    /// PCI address.
    pub address: Option<String>,
    /// The driver and its version.
    pub driver: Option<String>,
    /// Equal for the same device under different drivers, where the system tells (Windows).
    pub identity: [u8; 16],
}

/// Memory that a device may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heap {
    pub bytes: u64,
    /// What is left of it for one more program.
    pub free: Option<u64>,
    /// It is the device's own.
    pub local: bool,
}

/// How Vulkan is asked; tests have others.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) type Query = fn(&Sender<Told>);

/// Asks the drivers of this machine. Without a loader, or with one of Vulkan 1.0, nothing is told.
pub(crate) fn query(sender: &Sender<Told>) {
    let Some(entry) = open() else { return };
    // Never unloaded: some drivers do not bear it, least of all while the process ends.
    let entry = ManuallyDrop::new(entry);
    // SAFETY: the entry points are those of the loader just opened, as for all calls below; it stays open.
    let version = unsafe { entry.try_enumerate_instance_version() }.ok().flatten();
    if version.is_none_or(|version| version < vk::API_VERSION_1_1) {
        return;
    }
    // What is asked of devices is of Vulkan 1.2 where they know it; loaders of 1.1 take that for 1.1.
    let program = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
    let wish = vk::InstanceCreateInfo::default().application_info(&program);
    // SAFETY: `wish` and what it points to live until the call returns.
    let Ok(instance) = (unsafe { entry.create_instance(&wish, None) }) else { return };
    let _ = sender.send(Told::Opened);
    // SAFETY: the instance exists until it is destroyed below; its devices are used before that only.
    unsafe {
        for device in
            instance.enumerate_physical_devices().unwrap_or_default().into_iter().take(MAX_DEVICES)
        {
            if let Some(device) = describe(&instance, device) {
                let _ = sender.send(Told::Device(Box::new(device)));
            }
        }
        instance.destroy_instance(None);
    }
}

/// The system's loader. On Windows from its own folder: by the name alone one might be found that somebody has put into another.
fn open() -> Option<Entry> {
    #[cfg(windows)]
    let opened = {
        let library = crate::portable::of_system("vulkan-1.dll")?;
        // SAFETY: the library is the system's own loader, whose initialisers may be run by anybody.
        unsafe { Entry::load_from(library) }
    };
    #[cfg(not(windows))]
    // SAFETY: as above.
    let opened = unsafe { Entry::load() };
    opened.ok()
}

/// What its driver says of a device; `None` of one that knows Vulkan 1.0 only.
///
/// # Safety
/// `device` belongs to `instance`, which is of Vulkan 1.1 or later.
unsafe fn describe(instance: &Instance, device: vk::PhysicalDevice) -> Option<Device> {
    // SAFETY: the caller's promise, here and below; every structure outlives the call that fills it.
    let plain = unsafe { instance.get_physical_device_properties(device) };
    if plain.api_version < vk::API_VERSION_1_1 {
        return None;
    }
    // SAFETY: as above.
    let extensions = unsafe { instance.enumerate_device_extension_properties(device) };
    let extensions = extensions.unwrap_or_default();
    let has = |name: &CStr| extensions.iter().any(|e| e.extension_name_as_c_str() == Ok(name));
    let (tells_bus, tells_free) = (has(ext::pci_bus_info::NAME), has(ext::memory_budget::NAME));
    let tells_driver = plain.api_version >= vk::API_VERSION_1_2;

    let mut identity = vk::PhysicalDeviceIDProperties::default();
    let mut driver = vk::PhysicalDeviceDriverProperties::default();
    let mut bus = vk::PhysicalDevicePCIBusInfoPropertiesEXT::default();
    let mut wanted = vk::PhysicalDeviceProperties2::default().push_next(&mut identity);
    if tells_driver {
        wanted = wanted.push_next(&mut driver);
    }
    if tells_bus {
        wanted = wanted.push_next(&mut bus);
    }
    // SAFETY: as above.
    unsafe { instance.get_physical_device_properties2(device, &mut wanted) };

    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut memory = vk::PhysicalDeviceMemoryProperties2::default();
    if tells_free {
        memory = memory.push_next(&mut budget);
    }
    // SAFETY: as above.
    unsafe { instance.get_physical_device_memory_properties2(device, &mut memory) };
    let heaps = memory.memory_properties;

    Some(Device {
        name: plain.device_name_as_c_str().ok().and_then(text),
        id: (plain.vendor_id, plain.device_id),
        kind: kind(plain.device_type),
        heaps: heaps
            .memory_heaps_as_slice()
            .iter()
            .zip(budget.heap_budget)
            .map(|(heap, free)| Heap {
                bytes: heap.size,
                free: tells_free.then_some(free.min(heap.size)),
                local: heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL),
            })
            .collect(),
        address: tells_bus.then(|| {
            let vk::PhysicalDevicePCIBusInfoPropertiesEXT {
                pci_domain: domain,
                pci_bus: bus,
                pci_device: device,
                pci_function: function,
                ..
            } = bus;
            format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
        }),
        driver: tells_driver.then(|| driver_text(&driver)).flatten(),
        identity: same_device(&identity),
    })
}

fn text(text: &CStr) -> Option<String> {
    printable(&text.to_string_lossy())
}

fn driver_text(driver: &vk::PhysicalDeviceDriverProperties<'_>) -> Option<String> {
    let name = driver.driver_name_as_c_str().ok().and_then(text)?;
    Some(match driver.driver_info_as_c_str().ok().and_then(text) {
        Some(version) => format!("{name} {version}"),
        None => name,
    })
}

/// Windows numbers its adapters; elsewhere only one driver's view of a device is known.
fn same_device(identity: &vk::PhysicalDeviceIDProperties<'_>) -> [u8; 16] {
    let mut bytes = identity.device_uuid;
    if identity.device_luid_valid == vk::TRUE {
        bytes = [0; 16];
        bytes[..8].copy_from_slice(&identity.device_luid);
    }
    bytes
}

fn kind(told: vk::PhysicalDeviceType) -> Option<Kind> {
    match told {
        vk::PhysicalDeviceType::DISCRETE_GPU => Some(Kind::Discrete),
        vk::PhysicalDeviceType::INTEGRATED_GPU => Some(Kind::Integrated),
        _ => None,
    }
}

impl Device {
    fn vendor(&self) -> Vendor {
        u16::try_from(self.id.0).map_or(Vendor::Other, Vendor::of_pci)
    }

    fn pci_id(&self) -> Option<(u16, u16)> {
        Some((self.id.0.try_into().ok()?, self.id.1.try_into().ok()?))
    }

    /// Bytes that it may use, and of these the free ones as far as known. A card has its own heaps, of which NVIDIA's driver shows what the
    /// processor reaches a second time, as a small one. A processor's own GPU has what main memory lends, and AMD's what the firmware set
    /// aside, which the system does not count as memory at all.
    fn memory(&self, kind: Kind, main: &Memory) -> Option<(u64, Option<u64>)> {
        let vendor = self.vendor();
        let own = self.heaps.iter().filter(|heap| heap.local);
        let (total, free) = match (kind, vendor) {
            (Kind::Integrated, _) => {
                let is_aside = |heap: &&Heap| heap.local && vendor == Vendor::Amd;
                let (aside, lent): (Vec<_>, Vec<_>) = self.heaps.iter().partition(is_aside);
                let (aside, lent) = (sum(aside), sum(lent));
                let lent_free = lent.1.unwrap_or(lent.0).min(main.available_bytes);
                let free = aside.1.unwrap_or(aside.0).saturating_add(lent_free);
                (aside.0.saturating_add(lent.0.min(main.installed_bytes)), Some(free))
            }
            (_, Vendor::Nvidia) => sum(own.max_by_key(|heap| heap.bytes)),
            _ => sum(own),
        };
        (1..=MAX_MEMORY).contains(&total).then_some((total, free))
    }
}

/// Bytes of heaps, and the free ones if all of them tell.
fn sum<'a>(heaps: impl IntoIterator<Item = &'a Heap>) -> (u64, Option<u64>) {
    heaps.into_iter().fold((0, Some(0)), |(total, free): (u64, Option<u64>), heap| {
        let free = free.zip(heap.free).map(|(a, b)| a.saturating_add(b));
        (total.saturating_add(heap.bytes), free)
    })
}

/// Memory of GPUs that the system's files tell of, but not of their memory. What is known is left alone.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) fn complete(gpus: &mut [Gpu], told: &[Told], main: &Memory) {
    let devices = || told.iter().filter_map(Told::device);
    for gpu in gpus.iter_mut().filter(|gpu| gpu.memory_bytes.is_none()) {
        // Without an address, the kind of card has to do: such cards have equal memory.
        let is_it = |device: &&Device| match (&device.address, &gpu.address) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => device.pci_id().is_some() && device.pci_id() == gpu.pci_id,
        };
        let memory = devices().find(is_it).and_then(|device| device.memory(gpu.kind, main));
        if let Some((total, free)) = memory {
            (gpu.memory_bytes, gpu.free_bytes) = (Some(total), free);
        }
    }
}

/// GPUs that nothing else tells of; those that are known already are left alone.
#[cfg_attr(not(windows), allow(dead_code))]
pub(crate) fn add(gpus: &mut Vec<Gpu>, told: &[Told], main: &Memory) {
    let known: HashSet<_> = gpus.iter().filter_map(|gpu| gpu.pci_id).collect();
    let mut seen = HashSet::new();
    for device in told.iter().filter_map(Told::device) {
        let Some(kind) = device.kind else { continue };
        let again = device.pci_id().is_some_and(|id| known.contains(&id));
        if again || !seen.insert(device.identity) {
            continue;
        }
        let memory = device.memory(kind, main);
        gpus.push(Gpu {
            vendor: device.vendor(),
            kind,
            memory_bytes: memory.map(|(total, _)| total),
            free_bytes: memory.and_then(|(_, free)| free),
            pci_id: device.pci_id(),
            name: device.name.clone().unwrap_or_else(|| "GPU".to_owned()),
            address: device.address.clone(),
            driver: device.driver.clone(),
            problems: if memory.is_none() { vec![Problem::MemoryUnknown] } else { Vec::new() },
            ..Gpu::unknown()
        });
    }
}

impl Told {
    fn device(&self) -> Option<&Device> {
        match self {
            Told::Device(device) => Some(device),
            Told::Opened => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::patience;

    const GIB: u64 = 1 << 30;

    fn heap(bytes: u64, local: bool) -> Heap {
        Heap { bytes, free: Some(bytes / 2), local }
    }

    fn device(id: (u32, u32), kind: Option<Kind>, heaps: &[Heap], mark: u8) -> Told {
        Told::Device(Box::new(Device {
            name: Some(format!("Card {:04x}", id.1)),
            id,
            kind,
            heaps: heaps.to_vec(),
            address: None,
            driver: Some("Driver 1.2".to_owned()),
            identity: [mark; 16],
        }))
    }

    fn main() -> Memory {
        Memory {
            installed_bytes: 32 * GIB,
            total_bytes: 32 * GIB,
            available_bytes: 5 * GIB,
            ..Memory::default()
        }
    }

    /// As an Arc A770, a GeForce whose window is a heap of its own, and the GPU of a Ryzen with 512 MiB set aside.
    fn three() -> [Told; 3] {
        let (card, part) = (Some(Kind::Discrete), Some(Kind::Integrated));
        let shared = heap(16 * GIB, false);
        [
            device((0x8086, 0x56a0), card, &[heap(16 * GIB, true), shared], 1),
            device((0x10de, 0x2684), card, &[heap(24 * GIB, true), shared, heap(1 << 28, true)], 2),
            device((0x1002, 0x15bf), part, &[shared, heap(GIB / 2, true)], 3),
        ]
    }

    #[test]
    fn each_kind_has_the_memory_that_it_may_use() {
        let mut gpus = Vec::new();
        add(&mut gpus, &three(), &main());
        let facts: Vec<_> =
            gpus.iter().map(|g| (g.vendor, g.kind, g.memory_bytes, g.free_bytes)).collect();
        assert_eq!(
            facts,
            [
                (Vendor::Intel, Kind::Discrete, Some(16 * GIB), Some(8 * GIB)),
                (Vendor::Nvidia, Kind::Discrete, Some(24 * GIB), Some(12 * GIB)),
                (Vendor::Amd, Kind::Integrated, Some(16 * GIB + GIB / 2), Some(5 * GIB + GIB / 4)),
            ]
        );
        assert_eq!((gpus[0].name.as_str(), gpus[0].pci_id), ("Card 56a0", Some((0x8086, 0x56a0))));
    }

    /// A Ryzen AI Max with 96 of its 128 GB set aside, in several heaps: the system has what is left.
    #[test]
    fn what_the_firmware_set_aside_is_not_bounded_by_what_is_left() {
        let heaps = [heap(64 * GIB, true), heap(32 * GIB, true), heap(16 * GIB, false)];
        let max = device((0x1002, 0x1586), Some(Kind::Integrated), &heaps, 1);
        let mut gpus = Vec::new();
        add(&mut gpus, &[max], &main());
        assert_eq!((gpus[0].memory_bytes, gpus[0].free_bytes), (Some(112 * GIB), Some(53 * GIB)));
    }

    #[test]
    fn nothing_is_a_gpu_twice_and_a_processor_is_none() {
        let nvml = Gpu { pci_id: Some((0x10de, 0x2684)), ..Gpu::unknown() };
        let mut gpus = vec![nvml.clone()];
        let software = device((0x10005, 0), None, &[heap(GIB, true)], 9);
        let told = [three().as_slice(), &[Told::Opened, software], &three()].concat();
        add(&mut gpus, &told, &main());
        assert_eq!(gpus.len(), 3);
        assert_eq!(gpus[0], nvml);
    }

    #[test]
    fn what_no_file_tells_is_filled_in_and_nothing_else() {
        let known = Gpu { memory_bytes: Some(7), pci_id: Some((0x1002, 0x15bf)), ..Gpu::unknown() };
        let arc = Gpu { pci_id: Some((0x8086, 0x56a0)), ..Gpu::unknown() };
        let other = Gpu { pci_id: Some((0x19e5, 0xd802)), ..Gpu::unknown() };
        let mut gpus = vec![known.clone(), arc, other.clone()];
        complete(&mut gpus, &three(), &main());
        assert_eq!((gpus[1].memory_bytes, gpus[1].free_bytes), (Some(16 * GIB), Some(8 * GIB)));
        assert_eq!((&gpus[0], &gpus[2]), (&known, &other));
    }

    #[test]
    fn sizes_that_cannot_be_do_no_harm() {
        let part = Some(Kind::Integrated);
        let huge = device((1, 1), part, &[heap(u64::MAX, true), heap(u64::MAX, false)], 4);
        let none = device((1, 2), part, &[], 5);
        let card = device((1, 3), Some(Kind::Discrete), &[heap(u64::MAX, true)], 6);
        let mut gpus = Vec::new();
        add(&mut gpus, &[huge, none, card], &main());
        assert_eq!(gpus[0].memory_bytes, Some(32 * GIB));
        for gpu in &gpus[1..] {
            assert_eq!((gpu.memory_bytes, gpu.free_bytes), (None, None));
            assert_eq!(gpu.problems, [Problem::MemoryUnknown]);
        }
    }

    /// Without a loader nothing is told; with one (`mesa-vulkan-drivers` has one that calculates on the processor) devices have names and
    /// memory.
    #[test]
    fn asking_this_machine_ends() {
        let receiver = patience::beside(query);
        let (told, done) = patience::until(&receiver, Instant::now() + Duration::from_secs(60));
        assert!(done);
        println!("{told:#?}");
        let devices: Vec<&Device> = told.iter().filter_map(Told::device).collect();
        assert_eq!(told.len(), devices.len() + usize::from(!told.is_empty()));
        for device in devices {
            assert!(
                device.name.is_some() && device.heaps.iter().any(|h| h.bytes > 0),
                "{device:?}"
            );
        }
    }
}
