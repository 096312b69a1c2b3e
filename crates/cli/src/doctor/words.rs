//! What findings are called, in both languages side by side, so that neither is forgotten; a test says all of them. What is wrong comes
//! first, then what to do about it, where there is something to do.

use hob_machine::{Container, Problem, Vendor};

use super::advice::{Finding, Lender, wanted};
use super::lang::Lang;
use crate::out::{file_size, memory_size};

/// What is said of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// What is so, and why it matters.
    pub text: String,
    /// What to change.
    pub change: Option<String>,
}

/// What is so and what to do, the latter empty where there is nothing.
type Said = (String, String);

/// The words for a finding.
pub fn of(finding: &Finding, lang: Lang) -> Words {
    let (english, chinese) = both(finding);
    let (text, change) = lang.pick(english, chinese);
    Words { text, change: Some(change).filter(|c| !c.is_empty()) }
}

/// What is so of a GPU with a problem, in a sentence.
pub fn of_problem(name: &str, problem: &Problem, lang: Lang) -> String {
    // The maker decides on the remedy only.
    let (english, chinese) = gpu(name, Vendor::Other, problem, None);
    lang.pick(english, chinese).0
}

fn both(finding: &Finding) -> (Said, Said) {
    match finding {
        Finding::Gpu { name, vendor, problem, inside } => gpu(name, *vendor, problem, *inside),
        Finding::IdleGpu { .. }
        | Finding::SharedLimit { .. }
        | Finding::NoGpuInside { .. }
        | Finding::Unseen { .. } => about_gpus(finding),
        Finding::LittleRoom { .. }
        | Finding::SlowDisk
        | Finding::FarDisk { .. }
        | Finding::MemoryDisk
        | Finding::NoDisk { .. } => about_disks(finding),
        Finding::LittleMemory { .. }
        | Finding::MemoryLimit { .. }
        | Finding::WslMemory { .. }
        | Finding::SwapInUse { .. }
        | Finding::NoSwap { .. }
        | Finding::OneChannel => about_memory(finding),
        Finding::NoAvx2 { .. }
        | Finding::SlowMemory { .. }
        | Finding::FewerThreads { .. }
        | Finding::SavesPower { .. }
        | Finding::Nodes { .. }
        | Finding::NotMeasured => about_processors(finding),
    }
}

fn say(text: impl Into<String>, change: impl Into<String>) -> Said {
    (text.into(), change.into())
}

/// Which program computes on this maker's GPUs by which interface.
fn way(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::Nvidia => "CUDA",
        Vendor::Amd => "ROCm, Vulkan",
        Vendor::Intel => "Vulkan, SYCL",
        Vendor::Apple => "Metal",
        Vendor::Huawei => "CANN",
        Vendor::Other => "Vulkan",
    }
}

fn gpu(name: &str, vendor: Vendor, problem: &Problem, inside: Option<Container>) -> (Said, Said) {
    match problem {
        Problem::NoDriver => {
            let (english, chinese) = driver(vendor);
            (
                say(format!("{name} is in this machine, but has no driver."), english),
                say(format!("这台机器装有 {name}，但没有驱动。"), chinese),
            )
        }
        Problem::DisplayDriver(driver_name) => {
            let (english, chinese) = driver(vendor);
            (
                say(
                    format!(
                        "{name} runs with the driver {driver_name}, which shows pictures but does not compute."
                    ),
                    english,
                ),
                say(format!("{name} 使用的驱动 {driver_name} 只能显示，不能计算。"), chinese),
            )
        }
        Problem::SetAside => (
            say(
                format!("{name} is set aside for a virtual machine (vfio-pci)."),
                "If no virtual machine needs it, give it back to its own driver.",
            ),
            say(
                format!("{name} 已预留给虚拟机（vfio-pci）。"),
                "如果没有虚拟机要用它，请把它还给原来的驱动。",
            ),
        ),
        Problem::DriverHangs => (
            say(
                format!("The driver of {name} does not answer."),
                "Look into the kernel's log (dmesg). Restarting the machine usually helps; if not, reinstall the driver.",
            ),
            say(
                format!("{name} 的驱动没有响应。"),
                "请查看内核日志（dmesg）。通常重启即可；如果不行，请重新安装驱动。",
            ),
        ),
        Problem::NoLibrary(library) => library_missing(name, library, inside),
        Problem::DriverMismatch => (
            say(
                format!("The driver of {name} was updated, but the old one is still running."),
                "Restart the machine.",
            ),
            say(format!("{name} 的驱动已更新，但正在运行的仍是旧版本。"), "请重启机器。"),
        ),
        Problem::DriverSays(error) => (
            say(
                format!("The driver of {name} reports an error: {error}."),
                "Look into the kernel's log (dmesg); restarting the machine may help.",
            ),
            say(
                format!("{name} 的驱动报告错误：{error}。"),
                "请查看内核日志（dmesg）；重启机器可能有用。",
            ),
        ),
        Problem::MemoryUnknown => (
            say(
                format!(
                    "The driver of {name} does not tell how much memory it has; plans take it from the device table."
                ),
                "",
            ),
            say(format!("{name} 的驱动不报告显存大小；规划时以设备表为准。"), ""),
        ),
        Problem::NoDeviceFile(file) => (
            say(
                format!("{name} cannot be reached: /dev/dri/{file} is not there."),
                match inside {
                    Some(_) => {
                        "Pass it into the container: docker run --device /dev/dri --device /dev/kfd ..."
                    }
                    None => "Check that the driver is loaded, and restart the machine.",
                },
            ),
            say(
                format!("无法访问 {name}：/dev/dri/{file} 不存在。"),
                match inside {
                    Some(_) => "请把它传入容器：docker run --device /dev/dri --device /dev/kfd ...",
                    None => "请确认驱动已加载，然后重启机器。",
                },
            ),
        ),
        Problem::NoPermission(file) => (
            say(
                format!("{name} cannot be reached: this user may not open /dev/dri/{file}."),
                "sudo usermod -aG render,video $USER, then log in anew.",
            ),
            say(
                format!("无法访问 {name}：当前用户无权打开 /dev/dri/{file}。"),
                "执行 sudo usermod -aG render,video $USER，然后重新登录。",
            ),
        ),
        Problem::Divided => (
            say(
                format!(
                    "{name} is divided into instances (MIG); the memory shown is that of the whole card."
                ),
                "To use it as one: sudo nvidia-smi -mig 0",
            ),
            say(
                format!("{name} 已划分为多个实例（MIG）；显示的是整卡显存。"),
                "若要整卡使用：sudo nvidia-smi -mig 0",
            ),
        ),
        Problem::BehindWindows => (
            say(
                "Windows has a GPU that can be reached from here, but tells nothing of it."
                    .to_owned(),
                "Use hob for Windows itself, or name the GPU with --device.",
            ),
            say(
                "Windows 有一块可从这里访问的显卡，但不提供它的信息。".to_owned(),
                "请直接在 Windows 上使用 hob，或用 --device 指明显卡。",
            ),
        ),
        Problem::OnlyLookedFor(makers) => unseen(makers),
    }
}

/// How a maker's driver is had.
fn driver(vendor: Vendor) -> (&'static str, &'static str) {
    match vendor {
        Vendor::Nvidia => (
            "Install NVIDIA's driver (Ubuntu: sudo ubuntu-drivers install; Fedora: akmod-nvidia; Debian: nvidia-driver) and restart.",
            "请安装 NVIDIA 驱动（Ubuntu：sudo ubuntu-drivers install；Fedora：akmod-nvidia；Debian：nvidia-driver），然后重启。",
        ),
        Vendor::Amd => (
            "Use a kernel whose driver amdgpu knows this card, with the firmware package (linux-firmware), and restart.",
            "请使用 amdgpu 驱动已支持此卡的内核，并安装固件包（linux-firmware），然后重启。",
        ),
        Vendor::Intel => (
            "Use a kernel whose driver i915 or xe knows this GPU, with the firmware package (linux-firmware), and restart.",
            "请使用 i915 或 xe 驱动已支持此显卡的内核，并安装固件包（linux-firmware），然后重启。",
        ),
        Vendor::Huawei => (
            "Install Huawei's driver and firmware for Ascend (the package Ascend-hdk) and restart.",
            "请安装华为昇腾的驱动和固件（Ascend-hdk 软件包），然后重启。",
        ),
        Vendor::Apple | Vendor::Other => {
            ("Install its maker's driver and restart.", "请安装厂商提供的驱动，然后重启。")
        }
    }
}

fn library_missing(name: &str, library: &str, inside: Option<Container>) -> (Said, Said) {
    let (english, chinese) = match inside {
        Some(_) => (
            "Give the container the GPU: docker run --gpus all ... (needs NVIDIA's container toolkit on the host).",
            "请把显卡交给容器：docker run --gpus all ...（主机上需要 NVIDIA Container Toolkit）。",
        ),
        None => (
            "Install the driver's libraries in the same version (Debian, Ubuntu: nvidia-utils, libnvidia-compute).",
            "请安装同一版本的驱动库（Debian、Ubuntu：nvidia-utils、libnvidia-compute）。",
        ),
    };
    (
        say(
            format!("{name} has a driver, but its library {library} is not installed here."),
            english,
        ),
        say(format!("{name} 有驱动，但这里没有安装它的库 {library}。"), chinese),
    )
}

fn unseen(makers: &str) -> (Said, Said) {
    (
        say(
            format!("On this system hob looks only for GPUs of {makers}."),
            "Name other ones with --device, as in: hob fit MODEL --device \"RX 7900 XTX\"",
        ),
        say(
            format!("在这个系统上，hob 只查找 {makers} 的显卡。"),
            "其他显卡请用 --device 指明，例如：hob fit MODEL --device \"RX 7900 XTX\"",
        ),
    )
}

fn about_gpus(finding: &Finding) -> (Said, Said) {
    match finding {
        Finding::IdleGpu { name, vendor, shares_memory } => {
            let way = way(*vendor);
            let (english, chinese) = if *shares_memory {
                (
                    "It reads the same memory as the processor, so answers come about as fast there; long prompts are read faster.",
                    "它与处理器读同一块内存，所以生成速度相近；长提示词的处理会更快。",
                )
            } else {
                (
                    "It is much faster wherever the model fits into its memory.",
                    "只要模型放得进显存，速度会快得多。",
                )
            };
            (
                say(
                    format!("{name} is not used: hob computes on the processor today. {english}"),
                    format!(
                        "Until hob can, llama.cpp computes there ({way}), with the same model files."
                    ),
                ),
                say(
                    format!("未使用 {name}：hob 目前只在处理器上计算。{chinese}"),
                    format!("在 hob 支持之前，可用 llama.cpp（{way}）运行同样的模型文件。"),
                ),
            )
        }
        Finding::SharedLimit { name, limit, installed, lender } => {
            let (english, chinese) = raise(*lender, *installed);
            let (limit, installed) = (memory_size(*limit), memory_size(*installed));
            (
                say(format!("{name} may use {limit} of the {installed} of main memory."), english),
                say(format!("{name} 最多可用 {installed} 内存中的 {limit}。"), chinese),
            )
        }
        Finding::NoGpuInside { inside } => {
            let (english, chinese) = match inside {
                Container::Kubernetes => (
                    "If the node has one, ask for it: resources.limits with nvidia.com/gpu or amd.com/gpu.",
                    "如果节点有显卡，请申请：在 resources.limits 中写 nvidia.com/gpu 或 amd.com/gpu。",
                ),
                _ => (
                    "If the machine has one, pass it in: docker run --gpus all ... (NVIDIA), --device /dev/dri --device /dev/kfd (AMD, Intel).",
                    "如果机器有显卡，请传入：docker run --gpus all ...（NVIDIA），--device /dev/dri --device /dev/kfd（AMD、Intel）。",
                ),
            };
            (
                say("No GPU is to be seen in this container.", english),
                say("在这个容器里看不到显卡。", chinese),
            )
        }
        Finding::Unseen { makers } => unseen(makers),
        _ => Default::default(),
    }
}

/// How the owner of the machine raises the limit of a GPU to what is wanted of memory.
fn raise(lender: Lender, installed: u64) -> (String, String) {
    let (pages, mib) = (wanted(installed) / 4096, wanted(installed) >> 20);
    let size = memory_size(wanted(installed));
    match lender {
        Lender::Amd => (
            format!(
                "For {size}, start the kernel with ttm.pages_limit={pages} ttm.page_pool_size={pages}, \
                or set aside more in the BIOS (UMA frame buffer size)."
            ),
            format!(
                "若要 {size}，请在内核启动参数中加 ttm.pages_limit={pages} ttm.page_pool_size={pages}，\
                或在 BIOS 中调大 UMA 显存（UMA frame buffer size）。"
            ),
        ),
        Lender::Intel => (
            format!(
                "For {size}, start the kernel with ttm.pages_limit={pages}; the driver itself stays at half."
            ),
            format!(
                "若要 {size}，请在内核启动参数中加 ttm.pages_limit={pages}；但驱动本身以一半为限。"
            ),
        ),
        Lender::Apple => (
            format!(
                "Until the next restart: sudo sysctl iogpu.wired_limit_mb={mib} allows {size}."
            ),
            format!("执行 sudo sysctl iogpu.wired_limit_mb={mib} 可放宽到 {size}，重启后失效。"),
        ),
    }
}

fn about_disks(finding: &Finding) -> (Said, Said) {
    match finding {
        Finding::LittleRoom { free, store } => {
            let (free, store) = (file_size(*free), store.display());
            (
                say(
                    format!(
                        "{free} are free on the disk of {store}; a model of 14B in Q4_K_M takes 9 GB."
                    ),
                    "Remove models (hob list, hob rm), or set HOB_HOME to a folder on a larger disk.",
                ),
                say(
                    format!("{store} 所在磁盘只剩 {free}；一个 14B 的 Q4_K_M 模型要 9 GB。"),
                    "请删除模型（hob list、hob rm），或把 HOB_HOME 设为更大磁盘上的目录。",
                ),
            )
        }
        Finding::SlowDisk => (
            say(
                "Models are on a hard disk: loading 9 GB takes about a minute.",
                "Set HOB_HOME to a folder on an SSD.",
            ),
            say(
                "模型放在机械硬盘上：载入 9 GB 大约要一分钟。",
                "请把 HOB_HOME 设为固态硬盘上的目录。",
            ),
        ),
        Finding::FarDisk { wsl: true } => (
            say(
                "Models are on Windows' side of the disk, which is read slowly from here.",
                "Keep them in Linux' own file system, such as ~/.hob.",
            ),
            say(
                "模型放在 Windows 一侧的磁盘上，从这里读取很慢。",
                "请放在 Linux 自己的文件系统里，例如 ~/.hob。",
            ),
        ),
        Finding::FarDisk { wsl: false } => (
            say(
                "Models are on a file system of another machine: loading takes as long as the network does.",
                "Set HOB_HOME to a folder on a disk of this machine.",
            ),
            say(
                "模型放在另一台机器的文件系统上：载入时间取决于网络。",
                "请把 HOB_HOME 设为本机磁盘上的目录。",
            ),
        ),
        Finding::MemoryDisk => (
            say(
                "Models are on a file system in main memory: they take memory twice, and are gone after a restart.",
                "Set HOB_HOME to a folder on a disk.",
            ),
            say(
                "模型放在内存文件系统里：会占用双份内存，重启后也会丢失。",
                "请把 HOB_HOME 设为磁盘上的目录。",
            ),
        ),
        Finding::NoDisk { error } => (
            say(
                format!("The folder of the models cannot be looked at: {error}."),
                "Check the disk, or set HOB_HOME to another folder.",
            ),
            say(format!("无法查看模型目录：{error}。"), "请检查磁盘，或把 HOB_HOME 设为其他目录。"),
        ),
        _ => Default::default(),
    }
}

fn about_memory(finding: &Finding) -> (Said, Said) {
    match finding {
        Finding::LittleMemory { free, total } => {
            let (free, total) = (memory_size(*free), memory_size(*total));
            (
                say(
                    format!(
                        "Of {total} of memory only {free} are free, and models are planned with what is free."
                    ),
                    "Close what needs much memory; browsers and virtual machines are the usual ones.",
                ),
                say(
                    format!("{total} 内存中只有 {free} 可用，而模型按可用内存规划。"),
                    "请关闭占用内存多的程序，常见的是浏览器和虚拟机。",
                ),
            )
        }
        Finding::MemoryLimit { limit, installed, inside } => {
            let (english, chinese) = match inside {
                Some(Container::Kubernetes) => (
                    "Raise resources.limits.memory of the pod.",
                    "请调大 Pod 的 resources.limits.memory。",
                ),
                Some(_) => (
                    "Start the container with more: docker run --memory 24g ...",
                    "请给容器更多内存：docker run --memory 24g ...",
                ),
                None => (
                    "The service's or user's control group sets it (systemd: MemoryMax=).",
                    "由服务或用户的控制组设定（systemd：MemoryMax=）。",
                ),
            };
            let (limit, installed) = (memory_size(*limit), memory_size(*installed));
            (
                say(
                    format!(
                        "This process may use {limit} of the machine's {installed} of memory (control group)."
                    ),
                    english,
                ),
                say(format!("控制组限制：本进程最多可用 {installed} 内存中的 {limit}。"), chinese),
            )
        }
        Finding::WslMemory { memory } => {
            let memory = memory_size(*memory);
            (
                say(
                    format!(
                        "Windows gives its subsystem {memory} of memory; without a setting that is half of what it has."
                    ),
                    "In %UserProfile%\\.wslconfig, under [wsl2], set for example memory=24GB; then: wsl --shutdown",
                ),
                say(
                    format!("Windows 分给子系统 {memory} 内存；默认是总内存的一半。"),
                    "在 %UserProfile%\\.wslconfig 的 [wsl2] 下设置，例如 memory=24GB，然后执行 wsl --shutdown",
                ),
            )
        }
        Finding::SwapInUse { used } => {
            let used = memory_size(*used);
            (
                say(
                    format!("{used} have been moved out to swap: there was too little memory."),
                    "Close what needs much memory; a model that is moved out computes a hundred times slower.",
                ),
                say(
                    format!("已有 {used} 被换出到交换空间：内存曾经不足。"),
                    "请关闭占用内存多的程序；被换出的模型会慢上百倍。",
                ),
            )
        }
        Finding::NoSwap { total } => {
            let total = memory_size(*total);
            (
                say(
                    format!(
                        "There is no swap: when {total} are used up, the system ends a program."
                    ),
                    "A swap file of a few GB lets it move out what is seldom used; hob itself plans without it.",
                ),
                say(
                    format!("没有交换空间：{total} 用完时，系统会强行结束程序。"),
                    "设置几 GB 的交换文件，可换出不常用的内容；hob 自身规划时不会用它。",
                ),
            )
        }
        Finding::OneChannel => (
            say(
                "Only one channel of memory has modules, so it is read at a fraction of the possible speed; answers are as slow.",
                "Put equal modules into the sockets that the board's manual names.",
            ),
            say(
                "只有一个内存通道插了内存条，读取速度只有应有的几分之一，生成也同样慢。",
                "请按主板手册在对应插槽中插入相同的内存条。",
            ),
        ),
        _ => Default::default(),
    }
}

fn about_processors(finding: &Finding) -> (Said, Said) {
    match finding {
        Finding::NoAvx2 { guest: true } => (
            say(
                "The virtual machine shows a processor without AVX2; hob computes many times slower on it.",
                "Give it the host's processor (QEMU, libvirt: -cpu host, host-passthrough; Proxmox: type host).",
            ),
            say(
                "虚拟机提供的处理器没有 AVX2；hob 在上面会慢很多倍。",
                "请让虚拟机使用主机的处理器型号（QEMU、libvirt：-cpu host、host-passthrough；Proxmox：类型 host）。",
            ),
        ),
        Finding::NoAvx2 { guest: false } => (
            say(
                "The processor has no AVX2; hob computes many times slower on it.",
                "Processors since about 2014 have it; here only the smallest models are usable.",
            ),
            say(
                "处理器没有 AVX2；hob 在上面会慢很多倍。",
                "2014 年以后的处理器一般都有；这台机器只适合最小的模型。",
            ),
        ),
        Finding::SlowMemory { measured, expected } => {
            let (measured, expected) = (measured / 1e9, expected / 1e9);
            (
                say(
                    format!(
                        "Memory was read at {measured:.0} GB/s; this processor can do {expected:.0}. Answers are as slow as that."
                    ),
                    "Often one module is alone: two equal ones in the right sockets double it. See also that the BIOS runs them at their speed (XMP, EXPO).",
                ),
                say(
                    format!(
                        "内存实测读取 {measured:.0} GB/s，而这款处理器可达 {expected:.0} GB/s；生成速度也随之变慢。"
                    ),
                    "常见原因是只插了一条内存：在正确的插槽插两条相同的可加倍。也请在 BIOS 中确认内存频率（XMP、EXPO）。",
                ),
            )
        }
        Finding::FewerThreads { usable, all } => (
            say(
                format!("This process may use {usable} of {all} hardware threads."),
                "An affinity mask or a CPU quota sets that (taskset; docker run --cpus; systemd: CPUQuota=).",
            ),
            say(
                format!("本进程可用 {all} 个硬件线程中的 {usable} 个。"),
                "由亲和性或 CPU 配额设定（taskset；docker run --cpus；systemd：CPUQuota=）。",
            ),
        ),
        Finding::SavesPower { setting } => (
            say(
                format!("The processor is set to save power ({setting}), and computes slowly."),
                "powerprofilesctl set performance, or: sudo cpupower frequency-set -g performance",
            ),
            say(
                format!("处理器处于省电模式（{setting}），计算较慢。"),
                "执行 powerprofilesctl set performance，或 sudo cpupower frequency-set -g performance",
            ),
        ),
        Finding::Nodes { count } => (
            say(
                format!(
                    "Memory is in {count} NUMA nodes, and hob does not place models by node: reading from the far one is slower."
                ),
                "Spread models over all nodes: numactl --interleave=all hob serve",
            ),
            say(
                format!(
                    "内存分为 {count} 个 NUMA 节点，而 hob 不按节点放置模型：读取远端节点较慢。"
                ),
                "请让模型均匀分布到各节点：numactl --interleave=all hob serve",
            ),
        ),
        Finding::NotMeasured => (
            say(
                "This machine has not been measured: speeds are told by tables.",
                "`hob doctor` without --no-probe measures it, in some seconds.",
            ),
            say(
                "尚未实测这台机器：速度以表格为准。",
                "运行 `hob doctor`（不加 --no-probe）即可实测，约需数秒。",
            ),
        ),
        _ => Default::default(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::path::PathBuf;

    const GIB: u64 = 1 << 30;

    /// One of every finding that has words of its own.
    pub fn every_finding() -> Vec<Finding> {
        let name = || "NVIDIA GeForce RTX 4090".to_owned();
        let gpu = |problem| Finding::Gpu {
            name: name(),
            vendor: Vendor::Nvidia,
            problem,
            inside: Some(Container::Docker),
        };
        let shared = |lender| Finding::SharedLimit {
            name: name(),
            limit: 16 * GIB,
            installed: 32 * GIB,
            lender,
        };
        vec![
            gpu(Problem::NoDriver),
            gpu(Problem::DisplayDriver("nouveau".to_owned())),
            gpu(Problem::SetAside),
            gpu(Problem::DriverHangs),
            gpu(Problem::NoLibrary("libnvidia-ml.so.1".to_owned())),
            gpu(Problem::DriverMismatch),
            gpu(Problem::DriverSays("the device fell off the bus".to_owned())),
            gpu(Problem::MemoryUnknown),
            gpu(Problem::NoDeviceFile("renderD128".to_owned())),
            gpu(Problem::NoPermission("renderD128".to_owned())),
            gpu(Problem::Divided),
            gpu(Problem::BehindWindows),
            Finding::Unseen { makers: "NVIDIA".to_owned() },
            Finding::NoAvx2 { guest: true },
            Finding::NoAvx2 { guest: false },
            Finding::LittleMemory { free: GIB, total: 16 * GIB },
            Finding::MemoryLimit { limit: 8 * GIB, installed: 32 * GIB, inside: None },
            Finding::WslMemory { memory: 16 * GIB },
            Finding::SwapInUse { used: 2 * GIB },
            Finding::NoSwap { total: 16 * GIB },
            Finding::OneChannel,
            Finding::SlowMemory { measured: 38e9, expected: 89.6e9 },
            Finding::FewerThreads { usable: 4, all: 16 },
            Finding::SavesPower { setting: "scaling_governor = powersave".to_owned() },
            Finding::LittleRoom { free: GIB, store: PathBuf::from("/home/ann/.hob") },
            Finding::SlowDisk,
            Finding::FarDisk { wsl: false },
            Finding::FarDisk { wsl: true },
            Finding::MemoryDisk,
            Finding::NoDisk { error: "timed out".to_owned() },
            Finding::IdleGpu { name: name(), vendor: Vendor::Nvidia, shares_memory: false },
            shared(Lender::Amd),
            shared(Lender::Intel),
            shared(Lender::Apple),
            Finding::NoGpuInside { inside: Container::Docker },
            Finding::Nodes { count: 2 },
            Finding::NotMeasured,
        ]
    }

    #[test]
    fn every_finding_has_words_in_both_languages() {
        let chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        for finding in every_finding() {
            let (english, other) = (of(&finding, Lang::En), of(&finding, Lang::Zh));
            assert!(english.text.ends_with('.') && !chinese(&english.text), "{english:?}");
            assert!(other.text.ends_with('。') && chinese(&other.text), "{other:?}");
            assert_eq!(english.change.is_some(), other.change.is_some(), "{finding:?}");
            assert!(!english.change.is_some_and(|c| chinese(&c)), "{finding:?}");
        }
    }

    #[test]
    fn the_document_lists_every_finding() {
        let document = include_str!("../../../../docs/doctor.md");
        let listed: std::collections::BTreeSet<&str> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | ").map(|(id, _)| id))
            .collect();
        let known: std::collections::BTreeSet<&str> =
            every_finding().iter().map(Finding::id).collect();
        assert_eq!(listed, known);
    }

    #[test]
    fn limits_are_raised_by_numbers() {
        let shared = Finding::SharedLimit {
            name: "AMD Radeon 780M".to_owned(),
            limit: 16 * GIB,
            installed: 32 * GIB,
            lender: Lender::Amd,
        };
        let change = of(&shared, Lang::En).change.unwrap();
        assert!(change.contains("ttm.pages_limit=6710886 "), "{change}");
    }
}
