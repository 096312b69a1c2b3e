//! Everything that was found out, as one value: what the screen is made from, and the JSON of docs/doctor.md. Values of variables that are
//! secrets are left out here, so that nobody downstream can print them.

use std::ffi::OsString;
use std::path::PathBuf;

use hob_machine::{Disk, Machine, Probe, fingerprint};
use serde_json::{Value, json};

use super::advice::{Finding, findings};
use super::lang::Lang;
use super::words;

/// The version of the JSON; it changes when a field changes its meaning or goes.
const SCHEMA: u32 = 3;
/// Characters of a variable's value that are shown.
const MAX_VALUE: usize = 200;

/// What was found out.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the system says.
    pub machine: Machine,
    /// What was measured.
    pub probe: Option<Probe>,
    /// Threads that hob computes with, unless told otherwise.
    pub threads: usize,
    /// The folder of the models.
    pub store: PathBuf,
    /// The disk it is on, or why that is not known.
    pub disk: Result<Disk, String>,
    /// Variables that change what hob, or programs for GPUs, do.
    pub variables: Vec<(String, String)>,
}

impl Report {
    /// The report for programs; sentences in one language.
    pub fn to_json(&self, lang: Lang) -> Value {
        let machine = &self.machine;
        let devices: Vec<Value> = machine
            .gpus
            .iter()
            .map(|gpu| {
                let mut device = json!(gpu);
                device["ready"] = gpu.is_ready().into();
                device["used"] = false.into();
                device
            })
            .collect();
        let disk = match &self.disk {
            Ok(disk) => json!(disk),
            Err(error) => json!({"error": error}),
        };
        let variables: serde_json::Map<String, Value> =
            self.variables.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({
            "schema": SCHEMA,
            "hob": env!("CARGO_PKG_VERSION"),
            "fingerprint": fingerprint(machine),
            "system": machine.system,
            "cpu": machine.cpu,
            "memory": machine.memory,
            "swap": machine.swap,
            "numa": machine.numa,
            "devices": devices,
            "store": {"path": self.store.to_string_lossy(), "disk": disk},
            "uses": {
                "device": "cpu",
                "threads": self.threads,
                "memory_bytes": machine.memory.available_bytes,
            },
            "probe": self.probe,
            "variables": variables,
            "advice": findings(self).iter().map(|f| item(f, lang)).collect::<Vec<_>>(),
        })
    }
}

fn item(finding: &Finding, lang: Lang) -> Value {
    let words = words::of(finding, lang);
    json!({
        "id": finding.id(),
        "severity": finding.severity(),
        "text": words.text,
        "change": words.change,
    })
}

/// Of all variables those that matter, by name. Keys and the like are told to be set, not what they are.
pub fn in_effect(all: impl Iterator<Item = (OsString, OsString)>) -> Vec<(String, String)> {
    const OTHERS: [&str; 5] = [
        "CUDA_VISIBLE_DEVICES",
        "GGML_VK_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "HSA_OVERRIDE_GFX_VERSION",
        "ROCR_VISIBLE_DEVICES",
    ];
    const SECRET: [&str; 4] = ["KEY", "TOKEN", "SECRET", "PASSWORD"];
    let matters = |name: &str| {
        name.starts_with("HOB_") || name.starts_with("OLLAMA_") || OTHERS.contains(&name)
    };
    let mut variables: Vec<(String, String)> = all
        .filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| matters(name))?;
            let is_secret = SECRET.iter().any(|s| name.contains(s)) && !name.ends_with("_FILE");
            let value = value.to_string_lossy();
            let shown = value.chars().filter(|c| !c.is_control()).take(MAX_VALUE).collect();
            Some((name, if is_secret { "***".to_owned() } else { shown }))
        })
        .collect();
    variables.sort();
    variables
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use hob_machine::{
        AttentionSpeed, Cache, Clock, Container, Cpu, DiskKind, Gpu, Isa, KernelSpeed, Kind, Link,
        Memory, Node, Problem, Swap, System, Vendor,
    };

    const GIB: u64 = 1 << 30;

    pub fn probe() -> Probe {
        let kernel = |ty: &str, decode: f64, prefill: f64| KernelSpeed {
            ty: ty.to_owned(),
            decode_bytes_per_second: decode * 1e9,
            seconds_per_block: 1e-5,
            prefill_operations_per_second: prefill * 1e9,
        };
        Probe {
            fingerprint: "x".to_owned(),
            taken: 1_795_000_000,
            threads: 8,
            read_bytes_per_second: 61.4e9,
            kernels: vec![kernel("Q4_K", 55.0, 640.0), kernel("Q8_0", 60.2, 810.0)],
            seconds_per_activation: 1e-9,
            attention: vec![AttentionSpeed {
                cache: "f16".to_owned(),
                row_operations_per_second: 3e10,
                operations_per_second: 2e11,
            }],
        }
    }

    /// A laptop with graphics in its processor and a card beside it.
    pub fn laptop() -> Report {
        let cpu = Cpu {
            brand: "AMD Ryzen 7 7840HS w/ Radeon 780M Graphics".to_owned(),
            physical_cores: 8,
            logical_cores: 16,
            usable_cores: 16,
            isa: Isa::Avx512Vnni,
            features: vec!["avx2".to_owned(), "avx512vnni".to_owned()],
            caches: vec![
                Cache { level: 2, bytes: 1 << 20, count: 8 },
                Cache { level: 3, bytes: 16 << 20, count: 1 },
            ],
            clock: Some(Clock {
                driver: Some("amd-pstate-epp".to_owned()),
                governor: Some("powersave".to_owned()),
                preference: Some("balance_performance".to_owned()),
            }),
        };
        let memory = Memory {
            installed_bytes: 31 * GIB,
            total_bytes: 31 * GIB,
            available_bytes: 24 * GIB,
            ..Memory::default()
        };
        let radeon = Gpu {
            name: "AMD Radeon 780M Graphics".to_owned(),
            vendor: Vendor::Amd,
            kind: Kind::Integrated,
            memory_bytes: Some(16 * GIB),
            free_bytes: Some(15 * GIB),
            pci_id: Some((0x1002, 0x15bf)),
            address: Some("0000:c1:00.0".to_owned()),
            driver: Some("amdgpu".to_owned()),
            ..Gpu::unknown()
        };
        let geforce = Gpu {
            name: "NVIDIA GeForce RTX 4070 Laptop GPU".to_owned(),
            vendor: Vendor::Nvidia,
            memory_bytes: Some(8 * GIB),
            free_bytes: Some(15 * GIB / 2),
            pci_id: Some((0x10de, 0x2820)),
            address: Some("0000:01:00.0".to_owned()),
            driver: Some("nvidia 550.54.14".to_owned()),
            link: Some(Link { generation: 4, lanes: 8 }),
            power_limit_watts: Some(105.0),
            ..Gpu::unknown()
        };
        let system = System {
            name: "Ubuntu 24.04.1 LTS".to_owned(),
            kernel: Some("6.8.0-45-generic".to_owned()),
            architecture: "x86_64".to_owned(),
            model: Some("Framework Laptop 16 (AMD Ryzen 7040 Series)".to_owned()),
            ..System::default()
        };
        let node =
            Node { id: 0, cpus: (0..16).collect(), memory_bytes: 31 * GIB, free_bytes: 4 * GIB };
        Report {
            machine: Machine {
                cpu,
                memory,
                swap: Swap { total_bytes: 8 * GIB, free_bytes: 8 * GIB },
                numa: vec![node],
                gpus: vec![radeon, geforce],
                system,
                problems: Vec::new(),
            },
            probe: Some(probe()),
            threads: 8,
            store: PathBuf::from("/home/ann/.hob"),
            disk: Ok(Disk {
                total_bytes: 1_000_000_000_000,
                free_bytes: 412_000_000_000,
                kind: DiskKind::Ssd,
                device: Some("/dev/nvme0n1p2".to_owned()),
                file_system: Some("ext4".to_owned()),
            }),
            variables: vec![("HOB_CONTEXT".to_owned(), "16384".to_owned())],
        }
    }

    /// A container on a server with two sockets: one card without a driver, one whose driver hangs.
    pub fn server() -> Report {
        let mut report = laptop();
        let machine = &mut report.machine;
        machine.cpu = Cpu {
            brand: "Intel(R) Xeon(R) Gold 6330 CPU @ 2.00GHz".to_owned(),
            physical_cores: 56,
            logical_cores: 112,
            usable_cores: 16,
            isa: Isa::Avx512Vnni,
            caches: vec![Cache { level: 3, bytes: 42 << 20, count: 2 }],
            ..Cpu::default()
        };
        machine.memory = Memory {
            installed_bytes: 252 * GIB,
            total_bytes: 64 * GIB,
            available_bytes: 9 * GIB,
            limit_bytes: Some(64 * GIB),
            channels: Some(16),
        };
        machine.swap = Swap::default();
        let node = |id: u32| Node {
            id,
            cpus: (id * 56..id * 56 + 56).collect(),
            memory_bytes: 126 * GIB,
            free_bytes: 9 * GIB,
        };
        machine.numa = vec![node(0), node(1)];
        let card = |address: &str, driver: Option<&str>, problem| Gpu {
            name: "NVIDIA A100-PCIE-40GB".to_owned(),
            vendor: Vendor::Nvidia,
            pci_id: Some((0x10de, 0x20f1)),
            address: Some(address.to_owned()),
            driver: driver.map(str::to_owned),
            problems: vec![problem],
            ..Gpu::unknown()
        };
        machine.gpus = vec![
            card("0000:31:00.0", None, Problem::NoDriver),
            card("0000:ca:00.0", Some("nvidia"), Problem::DriverHangs),
        ];
        machine.system = System {
            name: "Debian GNU/Linux 12 (bookworm)".to_owned(),
            kernel: Some("5.15.0-91-generic".to_owned()),
            architecture: "x86_64".to_owned(),
            container: Some(Container::Docker),
            virtual_machine: Some("KVM".to_owned()),
            ..System::default()
        };
        report.probe = None;
        report.threads = 16;
        report.store = PathBuf::from(
            "/models/a-rather-long-folder-name-that-has-no-spaces/shared/between/many/users/.hob",
        );
        report.disk = Ok(Disk {
            total_bytes: 20_000_000_000_000,
            free_bytes: 11_000_000_000,
            kind: DiskKind::Network,
            device: Some("10.0.0.5:/export/models".to_owned()),
            file_system: Some("nfs4".to_owned()),
        });
        report.variables = Vec::new();
        report
    }

    #[test]
    fn the_json_has_what_is_documented() {
        let json = laptop().to_json(Lang::En);
        assert_eq!(json["schema"], 3);
        assert_eq!(json["cpu"]["isa"], "avx512-vnni");
        assert_eq!(json["devices"][1]["vendor"], "nvidia");
        assert_eq!(json["devices"][1]["used"], false);
        assert_eq!(json["uses"]["threads"], 8);
        assert_eq!(json["store"]["disk"]["kind"], "ssd");
        assert_eq!(json["variables"]["HOB_CONTEXT"], "16384");
        assert_eq!(json["advice"][0]["severity"], "hint");
        let document = include_str!("../../../../docs/doctor.md");
        for name in json.as_object().unwrap().keys() {
            assert!(document.contains(&format!("`{name}`")), "{name} is not documented");
        }
        let failed = Report { disk: Err("timed out".to_owned()), ..laptop() };
        assert_eq!(failed.to_json(Lang::Zh)["store"]["disk"]["error"], "timed out");
    }

    #[test]
    fn secrets_stay_secret() {
        let all = [
            ("PATH", "/bin"),
            ("HOB_API_KEY", "mq3vX0c9yq2bT7lw"),
            ("HOB_API_KEY_FILE", "/etc/hob/keys"),
            ("OLLAMA_HOST", "0.0.0.0\x1b[2J"),
            ("CUDA_VISIBLE_DEVICES", "0"),
        ];
        let shown = in_effect(all.into_iter().map(|(n, v)| (n.into(), v.into())));
        let expected = [
            ("CUDA_VISIBLE_DEVICES", "0"),
            ("HOB_API_KEY", "***"),
            ("HOB_API_KEY_FILE", "/etc/hob/keys"),
            ("OLLAMA_HOST", "0.0.0.0[2J"),
        ];
        assert_eq!(shown, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }
}
