//! The model itself: seconds of a step, segment by segment, and which part of them is fixed cost. All terms are sums of quotients of what a
//! caller states, so more bandwidth is never slower and more bytes are never faster; where two limits meet they join smoothly.

use hob_machine::{AttentionSpeed, KernelSpeed, Kind, Probe, Vendor, busy_part};
use hob_model::KvType;
use hob_quant::GgmlType;

use super::calibration::Constants;
use super::parameters::{Decode, GRID_CPU, Prefill};
use super::{Segment, Unit, Work};

/// Tokens of one step of prefill.
const STEP: usize = 512;

/// How sharply two limits meet: the sum of their powers.
const SHARPNESS: f64 = 3.0;

/// Weights that are read, of all that lie there: below the first it is experts for certain, above the second it is certainly not. Dense models
/// read all but their embeddings.
const SPARSE: (f64, f64) = (0.5, 0.75);

/// Seconds of a step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Time {
    /// All of them.
    pub seconds: f64,
    /// Those that pass whatever the size of the model: launches, sampling, changes between units.
    fixed: f64,
    /// Sum of seconds times the squared deviation of its unit's kind.
    variance: f64,
    /// Whether several kinds of unit share the work.
    split: bool,
    /// Whether every segment was computed from a probe.
    pub probed: bool,
}

impl Time {
    /// Deviation of the logarithm of the speed, before it is scaled to hold four truths of five: that of the kinds of unit, more where the work
    /// is split between a card and its host, more where fixed costs outweigh bytes.
    pub fn spread(&self) -> f64 {
        if !(self.seconds > 0.0 && self.seconds.is_finite()) {
            return 0.0;
        }
        let split = if self.split { 0.4 } else { 0.0 };
        let fixed = 0.3 * self.fixed / self.seconds;
        (self.variance / self.seconds + split * split + fixed * fixed).sqrt()
    }

    fn add(&mut self, unit: &Unit, seconds: f64, fixed: f64) {
        self.seconds += seconds + fixed;
        self.fixed += fixed;
        self.variance += (seconds + fixed) * deviation(unit).powi(2);
    }
}

/// Deviation by kind; the last are units of which no row was measured.
fn deviation(unit: &Unit) -> f64 {
    match (unit.kind, unit.vendor) {
        (Kind::Cpu, _) => 0.22,
        (Kind::Discrete, Vendor::Nvidia | Vendor::Amd) => 0.12,
        (Kind::Unified, Vendor::Apple | Vendor::Nvidia) => 0.16,
        (Kind::Integrated, Vendor::Amd) => 0.14,
        _ => 0.35,
    }
}

/// Nothing takes no time, whatever it is divided by.
fn over(amount: f64, rate: f64) -> f64 {
    if amount <= 0.0 { 0.0 } else { amount / rate }
}

fn join(a: f64, b: f64) -> f64 {
    if a.is_infinite() || b.is_infinite() {
        return f64::INFINITY;
    }
    let most = a.max(b);
    if most <= 0.0 {
        return 0.0;
    }
    most * ((a / most).powf(SHARPNESS) + (b / most).powf(SHARPNESS)).powf(1.0 / SHARPNESS)
}

/// How a type's bits are stored, as far as speed goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Fine,
    Usual,
    Coarse,
    Grid,
}

fn class(ty: GgmlType) -> Class {
    use GgmlType::*;
    match ty {
        IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S => Class::Grid,
        _ => match 8.0 * ty.block_bytes() as f64 / ty.block_len() as f64 {
            bits if bits < 3.6 => Class::Coarse,
            bits if bits < 8.0 => Class::Usual,
            _ => Class::Fine,
        },
    }
}

impl Work {
    fn read(&self) -> f64 {
        self.weights.values().map(|&bytes| bytes as f64).sum()
    }

    /// From 0, a dense model, to 1, one of experts.
    fn sparseness(&self) -> f64 {
        let all = self.all_weights as f64;
        let part = if all > 0.0 { self.read() / all } else { 1.0 };
        ((SPARSE.1 - part) / (SPARSE.1 - SPARSE.0)).clamp(0.0, 1.0)
    }

    /// Bytes that a step of several sequences reads: each picks its own experts.
    fn read_by(&self, sequences: usize) -> f64 {
        let (one, all) = (self.read(), self.all_weights as f64);
        if sequences <= 1 || all <= one {
            return one;
        }
        let union = all * (1.0 - (1.0 - one / all).powf(sequences as f64));
        one + self.sparseness() * (union - one)
    }
}

/// A unit's constants.
struct Rates<'a> {
    unit: &'a Unit,
    constants: &'a Constants,
    /// Whether it is the host beside a card.
    host: bool,
}

impl Rates<'_> {
    fn get(&self, which: Decode) -> f64 {
        self.constants.decode[which as usize]
    }

    fn of_kind(&self, kinds: [Decode; 4]) -> f64 {
        let [discrete, integrated, unified, cpu] = kinds;
        self.get(match self.unit.kind {
            Kind::Discrete => discrete,
            Kind::Integrated => integrated,
            Kind::Unified => unified,
            Kind::Cpu => cpu,
        })
    }

    fn cpu(&self) -> bool {
        self.unit.kind == Kind::Cpu
    }

    fn amd_card(&self) -> bool {
        self.unit.kind == Kind::Discrete && self.unit.vendor == Vendor::Amd
    }

    /// Bytes per second of weights of the usual types.
    fn bandwidth(&self) -> f64 {
        let part =
            self.of_kind([Decode::Discrete, Decode::Integrated, Decode::Unified, Decode::Cpu]);
        let amd = if self.amd_card() { self.get(Decode::Amd) } else { 1.0 };
        let host = if self.host { self.get(Decode::Host) } else { 1.0 };
        self.unit.bandwidth * part * amd * host
    }

    fn class(&self, class: Class) -> f64 {
        let of = |gpu, cpu| self.get(if self.cpu() { cpu } else { gpu });
        match class {
            Class::Usual => 1.0,
            Class::Fine => of(Decode::FineGpu, Decode::FineCpu),
            Class::Coarse => of(Decode::CoarseGpu, Decode::CoarseCpu),
            Class::Grid => {
                of(Decode::CoarseGpu, Decode::CoarseCpu) * if self.cpu() { GRID_CPU } else { 1.0 }
            }
        }
    }

    /// Seconds to read the weights once, and what that is of one sequence's reading.
    fn reading(&self, work: &Work, sequences: usize) -> f64 {
        let bandwidth = self.bandwidth();
        let once: f64 = work
            .weights
            .iter()
            .map(|(&ty, &bytes)| over(bytes as f64, bandwidth * self.class(class(ty))))
            .sum();
        let gather = self.get(if self.cpu() { Decode::GatherCpu } else { Decode::GatherGpu });
        let sparse = 1.0 + work.sparseness() * (1.0 / gather - 1.0);
        once * sparse * over(work.read_by(sequences), work.read()).max(1.0)
    }

    /// Seconds of arithmetic of a decode step. Of GPUs it only counts with many sequences.
    fn arithmetic(&self, work: &Work, sequences: usize) -> f64 {
        let operations = work.operations * sequences as f64;
        match self.cpu() {
            true => over(operations, self.unit.operations * self.get(Decode::ArithmeticCpu)),
            false if sequences > 1 => over(operations, 0.5 * self.products()),
            false => 0.0,
        }
    }

    /// Operations per second of products with many rows.
    fn products(&self) -> f64 {
        let part = |which: Prefill| self.constants.prefill[which as usize];
        let kind = match self.unit.kind {
            Kind::Discrete => part(Prefill::Discrete),
            Kind::Integrated => part(Prefill::Integrated),
            Kind::Unified => part(Prefill::Unified),
            Kind::Cpu => part(Prefill::Cpu),
        };
        self.unit.operations * kind * if self.amd_card() { part(Prefill::Amd) } else { 1.0 }
    }

    fn blocks(&self, work: &Work) -> f64 {
        let block = self.of_kind([
            Decode::BlockDiscrete,
            Decode::BlockIntegrated,
            Decode::BlockUnified,
            Decode::BlockCpu,
        ]);
        let experts = self.get(if self.cpu() { Decode::ExpertsCpu } else { Decode::ExpertsGpu });
        work.blocks as f64 * (block + work.sparseness() * experts * self.launches())
    }

    fn launches(&self) -> f64 {
        if self.amd_card() { self.get(Decode::AmdLaunches) } else { 1.0 }
    }

    fn token(&self) -> f64 {
        let token = self.of_kind([
            Decode::TokenDiscrete,
            Decode::TokenIntegrated,
            Decode::TokenUnified,
            Decode::TokenCpu,
        ]);
        token * self.launches()
    }
}

/// Whether a segment is the host's part of work that it shares with a card.
fn is_host(segment: &Segment, segments: &[Segment]) -> bool {
    segment.unit.kind == Kind::Cpu && segments.iter().any(|s| s.unit.kind != Kind::Cpu)
}

/// One step of decoding: a token for each of the sequences.
pub(super) fn decode(segments: &[Segment], sequences: usize, constants: &Constants) -> Time {
    let mut time = Time { probed: !segments.is_empty(), ..Time::default() };
    let mut token = 0.0f64;
    for segment in segments {
        let (unit, work) = (&segment.unit, &segment.work);
        let host = is_host(segment, segments);
        if let (Some(probe), Kind::Cpu) = (&unit.probe, unit.kind) {
            let (seconds, fixed) = probed_decode(probe, work, sequences);
            time.add(unit, seconds, fixed);
        } else {
            time.probed = false;
            let rates = Rates { unit, constants, host };
            let weights = join(rates.reading(work, sequences), rates.arithmetic(work, sequences));
            let bandwidth = rates.bandwidth() * rates.get(Decode::Cache);
            let cache = over(work.cache as f64 * sequences as f64, bandwidth);
            time.add(unit, weights + cache, rates.blocks(work));
            token = token.max(rates.token());
        }
        if host {
            // Experts are apart from the rest of their block, so that each block comes and goes.
            let hops = 1.0 + work.sparseness() * (work.blocks as f64 - 1.0).max(0.0);
            time.split = true;
            time.add(unit, 0.0, hops * constants.decode[Decode::Hop as usize]);
        }
    }
    if let Some(first) = segments.first() {
        // Sampling is done sequence by sequence, and is a small part of that time.
        time.add(&first.unit, 0.0, token * (1.0 + 0.05 * (sequences as f64 - 1.0)));
    }
    time
}

/// A prompt of so many tokens.
pub(super) fn prefill(segments: &[Segment], tokens: usize, constants: &Constants) -> Time {
    let mut time = Time { probed: !segments.is_empty(), ..Time::default() };
    let steps = tokens.div_ceil(STEP) as f64;
    for segment in segments {
        let (unit, work) = (&segment.unit, &segment.work);
        if let (Some(probe), Kind::Cpu) = (&unit.probe, unit.kind) {
            let (seconds, fixed) = probed_prefill(probe, work, tokens);
            time.add(unit, seconds, fixed);
            continue;
        }
        time.probed = false;
        let host = is_host(segment, segments);
        let rates = Rates { unit, constants, host };
        let mut seconds = segment_prefill(&rates, work, tokens, steps);
        if host {
            time.split = true;
            seconds = seconds.min(lent_prefill(segments, work, tokens, steps, constants));
        }
        let block = constants.prefill[Prefill::Block as usize];
        time.add(unit, seconds, steps * work.blocks as f64 * block);
    }
    time
}

fn segment_prefill(rates: &Rates, work: &Work, tokens: usize, steps: f64) -> f64 {
    let part = |which: Prefill| rates.constants.prefill[which as usize];
    let coarse: u64 = work
        .weights
        .iter()
        .filter(|(ty, _)| matches!(class(**ty), Class::Coarse | Class::Grid))
        .map(|(_, bytes)| bytes)
        .sum();
    let coarse = if coarse > 0 { coarse as f64 / work.read() } else { 0.0 };
    let slower = 1.0
        + coarse * (1.0 / part(Prefill::Coarse) - 1.0)
        + work.sparseness() * (1.0 / part(Prefill::Experts) - 1.0);
    let rate = rates.products();
    let products = over(tokens as f64 * work.operations, rate) * slower;
    // Short prompts are bound by reading all weights, whichever experts they ask for.
    let read = (work.all_weights as f64).min(work.read() * tokens as f64).max(work.read());
    let reading = steps * over(read, rates.bandwidth());
    // On average a token sees half of what the last one sees.
    let attention = 0.5 * tokens as f64 * work.attention;
    join(products, reading) + over(attention, rate * part(Prefill::Attention))
}

/// The host's part done by a card to which its weights are sent anew in every step, as llama.cpp does with long prompts.
fn lent_prefill(
    segments: &[Segment],
    work: &Work,
    tokens: usize,
    steps: f64,
    constants: &Constants,
) -> f64 {
    let cards = segments.iter().filter_map(|s| Some((&s.unit, s.unit.link?)));
    let seconds = cards.map(|(unit, link)| {
        let rates = Rates { unit, constants, host: false };
        steps * over(work.all_weights as f64, link) + segment_prefill(&rates, work, tokens, steps)
    });
    seconds.fold(f64::INFINITY, f64::min)
}

/// A kernel of the probe; types that it did not measure are taken for the slowest that it did.
fn kernel(probe: &Probe, ty: GgmlType, rate: fn(&KernelSpeed) -> f64) -> Option<f64> {
    let found = probe.kernels.iter().find(|k| k.ty.eq_ignore_ascii_case(ty.name())).map(rate);
    found.or_else(|| probe.kernels.iter().map(rate).min_by(f64::total_cmp))
}

/// Likewise of attention over a cache; reading memory bounds what was not measured at all.
fn attention(probe: &Probe, kv: KvType, rate: fn(&AttentionSpeed) -> f64) -> f64 {
    let found = probe.attention.iter().find(|a| a.cache == kv.name()).map(rate);
    let slowest = || probe.attention.iter().map(rate).min_by(f64::total_cmp);
    found.or_else(slowest).unwrap_or(probe.read_bytes_per_second)
}

/// Seconds and fixed seconds of a step on hob's own kernels, as measured on this machine.
fn probed_decode(probe: &Probe, work: &Work, sequences: usize) -> (f64, f64) {
    let more = over(work.read_by(sequences), work.read()).max(1.0);
    let reading: f64 = work
        .weights
        .iter()
        .map(|(&ty, &bytes)| {
            let rate = kernel(probe, ty, |k| k.decode_bytes_per_second);
            over(bytes as f64, rate.unwrap_or(probe.read_bytes_per_second))
        })
        .sum();
    let products = match sequences {
        0 | 1 => 0.0,
        many => {
            let beside = work.activations * probe.seconds_per_activation;
            many as f64 * (probed_products(probe, work) + beside)
        }
    };
    (
        join(reading * more, products) + probed_attention(probe, work, sequences),
        probed_blocks(probe, work),
    )
}

/// Seconds that blocks cost beside what is in them: by the types of their weights.
fn probed_blocks(probe: &Probe, work: &Work) -> f64 {
    let blocks = |(&ty, &bytes): (&GgmlType, &u64)| {
        let part = work.blocks as f64 * over(bytes as f64, work.read());
        // Blocks per second: of what was not measured the slowest stands in, as everywhere.
        over(part, kernel(probe, ty, |k| k.seconds_per_block.recip()).unwrap_or(f64::INFINITY))
    };
    work.weights.iter().map(blocks).sum()
}

/// Seconds of attention, one row for each sequence: of its arithmetic, or of reading the cache where that takes longer.
fn probed_attention(probe: &Probe, work: &Work, sequences: usize) -> f64 {
    let (many, tasks) = (sequences as f64, work.heads.saturating_mul(sequences));
    let rate = attention(probe, work.kv, |a| a.row_operations_per_second)
        * busy_part(tasks, probe.threads);
    join(
        over(work.attention * many, rate),
        over(work.cache as f64 * many, probe.read_bytes_per_second),
    )
}

fn probed_prefill(probe: &Probe, work: &Work, tokens: usize) -> (f64, f64) {
    let operations = 0.5 * tokens as f64 * work.attention;
    // Logits are made of the last token alone.
    let head = over(work.head, work.operations).min(1.0);
    let whole = tokens as f64 * (1.0 - head) + head;
    let seconds = whole * probed_products(probe, work)
        + tokens as f64 * work.activations * probe.seconds_per_activation
        + over(operations, attention(probe, work.kv, |a| a.operations_per_second));
    (seconds, tokens.div_ceil(STEP) as f64 * probed_blocks(probe, work))
}

/// Seconds of one token's products among many, its operations shared among the types by their weights.
fn probed_products(probe: &Probe, work: &Work) -> f64 {
    let weights = |ty: GgmlType, bytes: u64| {
        bytes as f64 * ty.block_len() as f64 / ty.block_bytes().max(1) as f64
    };
    let all: f64 = work.weights.iter().map(|(&ty, &bytes)| weights(ty, bytes)).sum();
    let part = |(&ty, &bytes): (&GgmlType, &u64)| {
        let operations = work.operations * over(weights(ty, bytes), all);
        let rate = kernel(probe, ty, |k| k.prefill_operations_per_second);
        over(operations, rate.unwrap_or(probe.read_bytes_per_second))
    };
    work.weights.iter().map(part).sum()
}
