//! The report as text: sections of labels and values, wrapped to a width in columns of the terminal, in which Chinese characters take two.
//! Nothing is coloured, so that it reads the same in a file.

use std::fmt::Write as _;

use hob_machine::{Container, Cpu, DiskKind, Gpu, Isa, Kind, Machine, Probe};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::advice::{Severity, findings};
use super::lang::Lang;
use super::report::Report;
use super::words;
use crate::out::{file_size, memory_size, timestamp};

/// Columns before everything in a section.
const INDENT: usize = 2;

/// A heading and what stands below it.
struct Section {
    title: &'static str,
    rows: Vec<(String, String)>,
}

impl Section {
    fn new(title: &'static str) -> Section {
        Section { title, rows: Vec::new() }
    }

    fn row(&mut self, label: impl Into<String>, value: impl Into<String>) {
        self.rows.push((label.into(), value.into()));
    }
}

/// The report, no line of it wider than `width`.
pub fn render(report: &Report, lang: Lang, width: usize) -> String {
    let machine = &report.machine;
    let mut sections = vec![
        system(machine, lang),
        processor(&machine.cpu, lang),
        memory(machine, lang),
        gpus(machine, lang),
        models(report, lang),
    ];
    sections.extend(report.probe.as_ref().map(|probe| measured(probe, lang)));
    sections.push(used(report, lang));
    if !report.variables.is_empty() {
        let mut section = Section::new(lang.pick("Variables", "环境变量"));
        section.rows.clone_from(&report.variables);
        sections.push(section);
    }
    let mut text = String::new();
    for section in sections.iter().filter(|section| !section.rows.is_empty()) {
        lay_out(&mut text, section, width);
    }
    advice(&mut text, report, lang, width);
    text
}

fn system(machine: &Machine, lang: Lang) -> Section {
    let mut section = Section::new(lang.pick("System", "系统"));
    let system = &machine.system;
    if let Some(model) = &system.model {
        section.row(lang.pick("Computer", "电脑"), model);
    }
    let kernel =
        system.kernel.as_ref().map(|k| lang.pick(format!("kernel {k}"), format!("内核 {k}")));
    let parts = [Some(system.name.clone()), kernel, Some(system.architecture.clone())];
    section.row(
        lang.pick("System", "系统"),
        parts.into_iter().flatten().collect::<Vec<_>>().join(", "),
    );
    let container = system.container.map(|container| match container {
        Container::Docker => lang.pick("a Docker container", "Docker 容器"),
        Container::Podman => lang.pick("a Podman container", "Podman 容器"),
        Container::Kubernetes => lang.pick("a pod of Kubernetes", "Kubernetes Pod"),
        Container::Lxc => lang.pick("an LXC container", "LXC 容器"),
        Container::Other => lang.pick("a container", "容器"),
    });
    let guest = system.virtual_machine.as_deref().map(|by| match by {
        "unknown" => lang.pick("a virtual machine".to_owned(), "虚拟机".to_owned()),
        by => lang.pick(format!("a virtual machine ({by})"), format!("虚拟机（{by}）")),
    });
    let wsl = system.wsl.map(|version| format!("WSL {version}"));
    let places: Vec<String> =
        [container.map(str::to_owned), guest, wsl].into_iter().flatten().collect();
    if !places.is_empty() {
        section.row(lang.pick("Runs in", "运行于"), places.join(lang.pick(", ", "，")));
    }
    section
}

fn processor(cpu: &Cpu, lang: Lang) -> Section {
    let mut section = Section::new(lang.pick("Processor", "处理器"));
    if !cpu.brand.is_empty() {
        section.row(lang.pick("Name", "型号"), &cpu.brand);
    }
    let (cores, threads, usable) = (cpu.physical_cores, cpu.logical_cores, cpu.usable_cores);
    let mut counts = lang.pick(
        format!("{cores} cores, {threads} threads"),
        format!("{cores} 个核心，{threads} 个线程"),
    );
    if usable < threads {
        counts +=
            &lang.pick(format!(", {usable} of them usable"), format!("，其中 {usable} 个可用"));
    }
    section.row(lang.pick("Cores", "核心"), counts);
    let isa = match cpu.isa {
        Isa::Avx512Vnni => lang.pick("AVX-512 with VNNI", "AVX-512（含 VNNI）"),
        Isa::Avx512 => "AVX-512",
        Isa::Avx2 => "AVX2",
        Isa::Neon => "NEON",
        Isa::Scalar => lang.pick("none that hob has kernels for", "没有 hob 支持的向量指令"),
    };
    section.row(lang.pick("Vectors", "向量指令"), isa);
    let cache = |c: &hob_machine::Cache| match c.count {
        1 => format!("L{} {}", c.level, memory_size(c.bytes)),
        n => format!("L{} {n} x {}", c.level, memory_size(c.bytes)),
    };
    if !cpu.caches.is_empty() {
        let caches: Vec<String> = cpu.caches.iter().map(cache).collect();
        section.row(lang.pick("Caches", "缓存"), caches.join(", "));
    }
    if let Some(clock) = &cpu.clock {
        let parts = [&clock.driver, &clock.governor, &clock.preference];
        let parts: Vec<&str> = parts.into_iter().filter_map(Option::as_deref).collect();
        section.row(lang.pick("Clock", "频率策略"), parts.join(", "));
    }
    section
}

fn memory(machine: &Machine, lang: Lang) -> Section {
    let mut section = Section::new(lang.pick("Memory", "内存"));
    let (memory, swap) = (&machine.memory, machine.swap);
    let (free, total) = (memory_size(memory.available_bytes), memory_size(memory.total_bytes));
    let mut main = lang.pick(format!("{total}, {free} free"), format!("{total}，可用 {free}"));
    if memory.limit_bytes.is_some() {
        let installed = memory_size(memory.installed_bytes);
        main += &lang.pick(
            format!(" (a limit; the machine has {installed})"),
            format!("（限额；本机共 {installed}）"),
        );
    }
    if let Some(channels) = memory.channels {
        main += &lang.pick(format!(", {channels} channels"), format!("，{channels} 通道"));
    }
    section.row(lang.pick("Main memory", "主内存"), main);
    let swapped = match swap.total_bytes {
        0 => lang.pick("none", "无").to_owned(),
        total => {
            let (total, free) = (memory_size(total), memory_size(swap.free_bytes));
            lang.pick(format!("{total}, {free} free"), format!("{total}，空闲 {free}"))
        }
    };
    section.row(lang.pick("Swap", "交换空间"), swapped);
    if machine.numa.len() > 1 {
        let node = |node: &hob_machine::Node| {
            let (cpus, size) = (node.cpus.len(), memory_size(node.memory_bytes));
            lang.pick(
                format!("{}: {size}, {cpus} threads", node.id),
                format!("{}：{size}，{cpus} 个线程", node.id),
            )
        };
        let nodes: Vec<String> = machine.numa.iter().map(node).collect();
        section.row(lang.pick("NUMA nodes", "NUMA 节点"), nodes.join(lang.pick("; ", "；")));
    }
    section
}

fn gpus(machine: &Machine, lang: Lang) -> Section {
    let mut section = Section::new(lang.pick("GPUs", "显卡"));
    for gpu in &machine.gpus {
        section.row("-", describe(gpu, lang));
    }
    if machine.gpus.is_empty() {
        section.row("-", lang.pick("none found", "未找到"));
    }
    section
}

fn describe(gpu: &Gpu, lang: Lang) -> String {
    let kind = match gpu.kind {
        Kind::Integrated => Some(lang.pick("in the processor", "集成在处理器中").to_owned()),
        Kind::Unified => {
            Some(lang.pick("one memory with the processor", "与处理器共用内存").to_owned())
        }
        Kind::Discrete | Kind::Cpu => None,
    };
    let size = gpu.memory_bytes.map(memory_size);
    let memory = match (size, gpu.free_bytes.map(memory_size)) {
        (Some(size), Some(free)) => {
            Some(lang.pick(format!("{size}, {free} free"), format!("{size}，可用 {free}")))
        }
        (size, _) => size,
    };
    let link = gpu.link.map(|link| format!("PCIe {}.0 x{}", link.generation, link.lanes));
    let watts = gpu.power_limit_watts.map(|w| format!("{w:.0} W"));
    let linked = (!gpu.peers.is_empty()).then(|| {
        let n = gpu.peers.len();
        lang.pick(format!("linked with {n} others"), format!("与另外 {n} 块互联"))
    });
    let parts = [kind, memory, gpu.driver.clone(), link, watts, linked];
    let comma = lang.pick(", ", "，");
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    match parts.is_empty() {
        true => gpu.name.clone(),
        false => format!("{}{}{}", gpu.name, lang.pick(": ", "："), parts.join(comma)),
    }
}

fn models(report: &Report, lang: Lang) -> Section {
    let mut section = Section::new(lang.pick("Models", "模型"));
    section.row(lang.pick("Folder", "目录"), report.store.to_string_lossy());
    let Ok(disk) = &report.disk else { return section };
    let kind = match disk.kind {
        DiskKind::Ssd => Some(lang.pick("SSD", "固态硬盘")),
        DiskKind::Hdd => Some(lang.pick("hard disk", "机械硬盘")),
        DiskKind::Network => Some(lang.pick("network", "网络")),
        DiskKind::Memory => Some(lang.pick("main memory", "内存")),
        DiskKind::Unknown => None,
    };
    let what = [kind, disk.device.as_deref(), disk.file_system.as_deref()];
    let what: Vec<&str> = what.into_iter().flatten().collect();
    let (total, free) = (file_size(disk.total_bytes), file_size(disk.free_bytes));
    let room = lang.pick(format!("{total}, {free} free"), format!("{total}，可用 {free}"));
    let what = match what.is_empty() {
        true => String::new(),
        false => lang.pick(format!(" ({})", what.join(", ")), format!("（{}）", what.join("，"))),
    };
    section.row(lang.pick("Disk", "磁盘"), room + &what);
    section
}

fn measured(probe: &Probe, lang: Lang) -> Section {
    let mut section = Section::new(lang.pick("Measured", "实测"));
    let taken = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(probe.taken));
    if let Some(taken) = taken.map(timestamp) {
        section.row(lang.pick("When", "时间"), taken);
    }
    let (speed, threads) = (probe.read_bytes_per_second / 1e9, probe.threads);
    section.row(
        lang.pick("Memory", "内存"),
        lang.pick(
            format!("{speed:.1} GB/s read by {threads} threads"),
            format!("{threads} 个线程读取 {speed:.1} GB/s"),
        ),
    );
    for kernel in &probe.kernels {
        let (decode, prefill) =
            (kernel.decode_bytes_per_second / 1e9, kernel.prefill_operations_per_second / 1e9);
        section.row(
            &kernel.ty,
            lang.pick(
                format!("{decode:.1} GB/s of weights in answers, {prefill:.0} Gop/s in prompts"),
                format!("生成时 {decode:.1} GB/s 权重，处理提示词时 {prefill:.0} Gop/s"),
            ),
        );
    }
    section
}

fn used(report: &Report, lang: Lang) -> Section {
    let mut section = Section::new(lang.pick("What hob uses", "hob 使用"));
    let threads = report.threads;
    section.row(
        lang.pick("Computes on", "计算"),
        lang.pick(
            format!("the processor, with {threads} threads"),
            format!("处理器，{threads} 个线程"),
        ),
    );
    let free = memory_size(report.machine.memory.available_bytes);
    section.row(
        lang.pick("Memory", "内存"),
        lang.pick(
            format!("up to {free}, as much as is free now"),
            format!("最多 {free}，即目前可用的部分"),
        ),
    );
    section
}

fn advice(text: &mut String, report: &Report, lang: Lang, width: usize) {
    let found = findings(report);
    let mut section = Section::new(lang.pick("Advice", "建议"));
    for finding in &found {
        let words = words::of(finding, lang);
        let mark = match finding.severity() {
            Severity::Problem => "!!",
            Severity::Warning => "!",
            Severity::Hint => "-",
        };
        section.row(mark, words.text);
        if let Some(change) = words.change {
            section.row("", format!("-> {change}"));
        }
    }
    if found.is_empty() {
        section.row("-", lang.pick("Nothing to change.", "没有需要调整的地方。"));
    }
    lay_out(text, &section, width);
}

/// Appends a section: labels in one column, values in another, wrapped.
fn lay_out(text: &mut String, section: &Section, width: usize) {
    if !text.is_empty() {
        text.push('\n');
    }
    let _ = writeln!(text, "{}", section.title);
    let labels = section.rows.iter().map(|(label, _)| label.width()).max().unwrap_or(0);
    let start = INDENT + labels + 2;
    for (label, value) in &section.rows {
        let mut label = label.as_str();
        for line in wrap(value, width.saturating_sub(start)) {
            let pad = " ".repeat(labels.saturating_sub(label.width()) + 2);
            let _ = writeln!(text, "{}{label}{pad}{line}", " ".repeat(INDENT));
            label = "";
        }
    }
}

/// Lines of at most `width` columns (10 at least). They break at spaces and between Chinese characters, but not before what closes or
/// behind what opens; a word that is longer than a line is cut.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(10);
    let mut lines = Vec::new();
    let mut line = String::new();
    for piece in pieces(text) {
        if line.width() + piece.trim_end().width() > width && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for c in piece.chars() {
            if line.width() + c.width().unwrap_or(0) > width && c != ' ' {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    lines.push(line);
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

/// The parts between which a line may break: words with the spaces behind them, and Chinese characters with their marks. A command in backticks
/// is one word, since it is copied.
fn pieces(text: &str) -> Vec<String> {
    const CLOSING: &str = "，。；：、！？）」』》”’%";
    const OPENING: &str = "（「『《“‘";
    let is_wide = |c: char| c.width() == Some(2);
    let mut pieces: Vec<String> = Vec::new();
    let (mut previous, mut quoted) = (' ', false);
    for c in text.chars() {
        let breaks = match (previous, c) {
            (_, ' ') => false,
            (' ', _) => !quoted,
            (p, c) if OPENING.contains(p) || CLOSING.contains(c) => false,
            (p, c) => is_wide(p) || is_wide(c),
        };
        match pieces.last_mut() {
            Some(piece) if !breaks => piece.push(c),
            _ => pieces.push(c.to_string()),
        }
        previous = c;
        quoted ^= c == '`';
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{laptop, server};
    use super::*;
    use crate::grid::tests::is_as_kept;

    #[test]
    fn words_and_characters_are_wrapped_by_their_width() {
        assert_eq!(wrap("one two three", 10), ["one two", "three"]);
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("abcdefghijklmno", 10), ["abcdefghij", "klmno"]);
        assert_eq!(wrap("内存不足，请关闭程序。", 10), ["内存不足，", "请关闭程", "序。"]);
        assert_eq!(wrap("一二三四五。六", 10), ["一二三四", "五。六"]);
        assert_eq!(wrap("say `a b c` or", 10), ["say", "`a b c` or"]);
        assert_eq!(wrap("最多 16 GiB（一半）", 10), ["最多 16", "GiB（一", "半）"]);
    }

    #[test]
    fn no_line_is_too_wide_whatever_is_said() {
        for report in [laptop(), server()] {
            for width in [40, 63, 80, 120] {
                for lang in [Lang::En, Lang::Zh] {
                    for line in render(&report, lang, width).lines() {
                        assert!(line.width() <= width, "{width}: {line}");
                        assert_eq!(line.trim_end(), line);
                    }
                }
            }
        }
        for finding in words::tests::every_finding() {
            for lang in [Lang::En, Lang::Zh] {
                let lines = wrap(&words::of(&finding, lang).text, 40);
                assert!(lines.iter().all(|line| line.width() <= 40), "{lines:?}");
            }
        }
    }

    #[test]
    fn screens_are_as_they_should_be() {
        for (name, report) in [("laptop", laptop()), ("server", server())] {
            for (lang, ending) in [(Lang::En, "en"), (Lang::Zh, "zh")] {
                for width in [80, 120] {
                    let text = render(&report, lang, width);
                    is_as_kept(&format!("doctor/{name}.{width}.{ending}.txt"), &text);
                }
            }
        }
    }
}
