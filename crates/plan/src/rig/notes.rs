//! What was assumed of a rig, or left out of it: as data, so that every language can say it, and as plain English sentences, which JSON has.
//! Deliberately absent: other languages, which are spoken where people are (`cli`).

use std::fmt;

use hob_machine::Problem;
use hob_machine::devices::Form;
use serde::{Serialize, Serializer};

/// One of these.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// Several computers were named; this is one of them.
    OneComputer,
    /// The computer around cards that were named alone.
    Around {
        /// What it is.
        form: Form,
        /// Bytes of its memory.
        memory: u64,
        /// Channels of it.
        channels: u32,
        /// Bytes per second that they give together.
        bandwidth: f64,
    },
    /// A GPU that cannot be used.
    Hindered {
        /// Its name.
        gpu: String,
        /// Why.
        problem: Problem,
    },
    /// A GPU of this name that is not in the device table.
    Unknown(String),
    /// A GPU of this name whose memory nobody tells.
    Unsized(String),
    /// The processor's speed is the table's.
    NotMeasured,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::OneComputer => {
                f.write_str("Several computers are not planned for: this is one of them.")
            }
            Note::Around { form, memory, channels, bandwidth } => {
                let what = match form {
                    Form::Laptop => "laptop",
                    Form::Server => "server",
                    Form::Desktop | Form::MiniPc | Form::Board => "desktop",
                };
                let (memory, speed) = (memory >> 30, bandwidth / 1e9);
                write!(
                    f,
                    "Assumed around it: a {what} with {memory} GB of DDR5 in {channels} channels ({speed:.0} GB/s)."
                )
            }
            Note::Hindered { gpu, problem } => {
                write!(f, "{gpu} is left out: {problem}; see hob doctor.")
            }
            Note::Unknown(gpu) => write!(
                f,
                "{gpu} is not in the device table and is left out; name it with --device."
            ),
            Note::Unsized(gpu) => {
                write!(f, "{gpu} does not say how much memory it has and is left out.")
            }
            Note::NotMeasured => f.write_str(
                "Speeds of the CPU are by the table: this machine has not been measured.",
            ),
        }
    }
}

impl Serialize for Note {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
