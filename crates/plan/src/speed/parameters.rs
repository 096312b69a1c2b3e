//! The constants of the speed model: what each means, what was thought of it before any measurement was looked at in the fit (a value and how
//! far off it may be), and what the fit over all measured rows made of it. `tests/speed.rs` refits and compares.

use super::calibration::Constants;

/// A constant: its meaning, its value before the fit, and the deviation of its logarithm that goes without evidence.
#[derive(Clone, Copy, Debug)]
pub struct Prior {
    /// For tables.
    pub name: &'static str,
    /// The value.
    pub value: f64,
    /// Standard deviation of its logarithm.
    pub spread: f64,
}

const fn prior(name: &'static str, value: f64, spread: f64) -> Prior {
    Prior { name, value, spread }
}

/// Constants of decoding, in the order of [`DECODE`].
#[allow(missing_docs)] // the table says what they are
#[derive(Clone, Copy)]
pub enum Decode {
    Discrete,
    Integrated,
    Unified,
    Cpu,
    Amd,
    CoarseGpu,
    CoarseCpu,
    FineGpu,
    FineCpu,
    BlockDiscrete,
    BlockIntegrated,
    BlockUnified,
    BlockCpu,
    TokenDiscrete,
    TokenIntegrated,
    TokenUnified,
    TokenCpu,
    AmdLaunches,
    ExpertsGpu,
    ExpertsCpu,
    GatherGpu,
    GatherCpu,
    Cache,
    Hop,
    Host,
    ArithmeticCpu,
}

/// What is assumed of decoding. Parts of a bandwidth or of arithmetic are without unit, times are in seconds.
pub const DECODE: [Prior; 26] = [
    prior("part of the bandwidth, cards", 0.78, 0.10),
    prior("part of the bandwidth, integrated GPUs", 0.75, 0.15),
    prior("part of the bandwidth, unified memory", 0.78, 0.12),
    prior("part of the bandwidth, CPUs", 0.62, 0.08),
    prior("AMD's cards: factor on that", 1.0, 0.10),
    prior("types under 3.6 bits on GPUs: factor on that", 0.85, 0.15),
    prior("types under 3.6 bits on CPUs: factor on that", 0.90, 0.10),
    prior("types of 8 and more bits on GPUs: factor on that", 1.05, 0.10),
    prior("types of 8 and more bits on CPUs: factor on that", 1.05, 0.10),
    prior("seconds per block, cards", 20e-6, 0.7),
    prior("seconds per block, integrated GPUs", 40e-6, 0.7),
    prior("seconds per block, unified memory", 25e-6, 0.7),
    prior("seconds per block, CPUs", 30e-6, 0.3),
    prior("seconds per token, cards", 400e-6, 0.7),
    prior("seconds per token, integrated GPUs", 500e-6, 0.7),
    prior("seconds per token, unified memory", 400e-6, 0.7),
    prior("seconds per token, CPUs", 80e-6, 0.4),
    prior("AMD's cards: factor on the times per token and of experts", 2.0, 0.5),
    prior("seconds per block of experts, GPUs", 40e-6, 0.7),
    prior("seconds per block of experts, CPUs", 40e-6, 0.7),
    prior("experts: factor on the bandwidth, GPUs", 0.75, 0.2),
    prior("experts: factor on the bandwidth, CPUs", 0.75, 0.2),
    prior("cached keys and values: factor on the bandwidth", 0.8, 0.3),
    prior("seconds per change between a card and its host", 300e-6, 0.4),
    prior("CPU beside a card: factor on the bandwidth", 0.8, 0.2),
    prior("part of a CPU's F32 arithmetic that decoding reaches", 0.5, 0.3),
];

/// Constants of prefill, in the order of [`PREFILL`].
#[allow(missing_docs)]
#[derive(Clone, Copy)]
pub enum Prefill {
    Discrete,
    Integrated,
    Unified,
    Cpu,
    Amd,
    Coarse,
    Experts,
    Block,
    Attention,
}

/// What is assumed of prefill.
pub const PREFILL: [Prior; 9] = [
    prior("part of the arithmetic, cards", 0.7, 0.3),
    prior("part of the arithmetic, integrated GPUs", 0.2, 0.4),
    prior("part of the arithmetic, unified memory", 0.6, 0.3),
    prior("part of the arithmetic, CPUs (F32; products are of bytes)", 0.9, 0.3),
    prior("AMD's cards: factor on that", 0.5, 0.3),
    prior("types under 3.6 bits: factor on that", 0.7, 0.2),
    prior("experts: factor on that", 0.6, 0.3),
    prior("seconds per block and step", 60e-6, 0.7),
    prior("attention: factor on the arithmetic", 0.4, 0.5),
];

/// Grids of IQ1 to IQ3 on CPUs: factor on the bandwidth beside that of few bits. Measured on a Zen 4 with llama.cpp (bench), in no row of the fit.
pub(super) const GRID_CPU: f64 = 0.5;

/// Deviation of the logarithm of a speed whose unit was measured by the probe.
pub(super) const PROBED: f64 = 0.13;

/// What is added to the deviation of many sequences' speed.
pub(super) const BATCH: f64 = 0.3;

/// The fit over all rows, as `cargo test -p hob-plan --test speed -- --nocapture` prints it.
pub(super) const FITTED: Constants = Constants {
    decode: [
        0.843, 0.8293, 0.8496, 0.6072, 0.9835, 0.8043, 0.9295, 1.04, 0.9904, 37.56e-6, 36.6e-6,
        103e-6, 32.97e-6, 319.8e-6, 497.5e-6, 348.9e-6, 66.56e-6, 1.901, 22.11e-6, 47.2e-6, 0.8974,
        0.5067, 0.9063, 263.7e-6, 0.7385, 0.3284,
    ],
    prefill: [1.15, 0.215, 0.7439, 0.7953, 0.3289, 0.7038, 0.5539, 295.8e-6, 0.3515],
    decode_scale: 1.290,
    prefill_scale: 2.316,
};
