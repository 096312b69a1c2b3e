//! The hardware that a question is about: this machine, or devices that the user names.

pub mod words;

use anyhow::Result;
use hob_hub::Hub;
use hob_machine::Machine;
use hob_machine::devices::{self, Wanted};
use hob_plan::{Rig, rig_of_devices, rig_of_machine};
use hob_server::here;

/// Which hardware a question is about.
#[derive(clap::Args)]
pub struct Hardware {
    /// Hardware to ask about instead of this machine: "RTX 5090", "2x A100 80GB", "M3 Ultra 512GB"
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// GiB that the GPU was given of memory that it shares, by a setting of firmware or system
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub gpu_memory: Option<u32>,
}

impl Hardware {
    /// The devices of `--device`.
    ///
    /// # Errors
    /// When no device is called that, with those that are.
    pub fn named(&self) -> Result<Option<Vec<Wanted>>> {
        self.device.as_deref().map(|text| Ok(devices::parse(text)?)).transpose()
    }

    /// The rig of `--device`, else this machine with its GPUs; with the memory that its GPU was given. What hob itself computes on is
    /// [`here::cores`], which is the same where there is no GPU.
    ///
    /// # Errors
    /// As [`Hardware::named`], or when the system tells nothing of itself.
    pub fn rig(&self) -> Result<Rig> {
        let rig = match self.named()? {
            Some(wanted) => rig_of_devices(&wanted),
            None => {
                let machine = Machine::detect()?;
                let probe = here::kept(Hub::open()?.root(), &machine);
                rig_of_machine(&machine, probe.as_ref())
            }
        };
        Ok(self.given(rig))
    }

    /// A rig with the memory that its GPU was given.
    pub fn given(&self, rig: Rig) -> Rig {
        match self.gpu_memory {
            Some(gib) => rig.with_gpu_memory(u64::from(gib) << 30),
            None => rig,
        }
    }
}
