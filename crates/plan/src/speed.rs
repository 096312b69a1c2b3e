//! How fast a model runs, as an interval that holds four truths of five: bytes over bandwidth, operations over arithmetic, and what a block and
//! a token cost beside them, with constants fitted to measured speeds (docs/speed.md). Pure functions of numbers: which layers lie on which
//! unit is `placement`'s business. Deliberately absent: tensor parallelism, speculation, vision, and what a machine does when it gets hot.

pub mod calibration;
mod parameters;
mod time;

use std::collections::BTreeMap;
use std::fmt;

use hob_machine::{Kind, Probe, Vendor};
use hob_model::KvType;
use hob_quant::GgmlType;
use serde::Serialize;

use parameters::{BATCH, FITTED, PROBED};
use time::Time;

use crate::units;

/// The speed of doing nothing.
const NO_WORK: f64 = 1e12;

/// Tokens per second: four of five measured speeds lie between `low` and `high`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// One speed of ten is lower.
    pub low: f64,
    /// As likely too low as too high.
    pub mid: f64,
    /// One speed of ten is higher.
    pub high: f64,
}

/// Something that computes from a memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// Where its memory is.
    pub kind: Kind,
    /// Its maker.
    pub vendor: Vendor,
    /// Bytes per second of that memory, by the data sheet.
    pub bandwidth: f64,
    /// Dense F16 operations per second with F32 sums; of a CPU those of F32 with fused multiply-adds.
    pub operations: f64,
    /// Bytes per second from main memory to it, for cards.
    pub link: Option<f64>,
    /// hob's own kernels on this CPU, measured: these replace what the table says of it.
    pub probe: Option<Probe>,
}

/// What one unit does for one token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// Bytes of weights that decoding reads, by type; of experts, those of the token.
    pub weights: BTreeMap<GgmlType, u64>,
    /// Bytes of weights that lie there. Far more than are read: a model of experts.
    pub all_weights: u64,
    /// Bytes of keys, values and state that are read at the asked depth.
    pub cache: u64,
    /// Blocks, or parts of blocks, that are done here.
    pub blocks: usize,
    /// Operations of the products with weights: two per weight that is read.
    pub operations: f64,
    /// Those of them that make logits: of a prompt only the last token needs them.
    pub head: f64,
    /// Numbers that go into the matrices of blocks and come out of them.
    pub activations: f64,
    /// Operations of attention at the asked depth.
    pub attention: f64,
    /// Heads that CPUs share out attention of one token by: the fewest of a block.
    pub heads: usize,
    /// Type of the cached keys and values.
    pub kv: KvType,
}

/// A unit and what it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Who computes.
    pub unit: Unit,
    /// What.
    pub work: Work,
}

/// Tokens per second of one sequence, the segments being done one after another.
pub fn decode(segments: &[Segment]) -> Interval {
    decode_batch(segments, 1)
}

/// Tokens per second of all of `sequences` together that are decoded in common steps: weights are read once a step, each sequence's own
/// cache by itself. Nobody's measurements of several sequences are in the fit, so their interval is wider.
pub fn decode_batch(segments: &[Segment], sequences: usize) -> Interval {
    let sequences = sequences.max(1);
    let time = time::decode(segments, sequences, &FITTED);
    let many = 1.0 - 1.0 / sequences as f64;
    interval(sequences as f64, &time, FITTED.decode_scale, BATCH * many)
}

/// Tokens per second over a prompt of so many tokens, read in steps of 512. `Work::attention` is that of the prompt's last token.
pub fn prefill(segments: &[Segment], tokens: usize) -> Interval {
    let tokens = tokens.max(1);
    let time = time::prefill(segments, tokens, &FITTED);
    interval(tokens as f64, &time, FITTED.prefill_scale, 0.0)
}

impl Interval {
    /// Around `mid`, by a factor of `e^half_width` to both sides.
    fn around(mid: f64, half_width: f64) -> Self {
        Interval { low: mid * (-half_width).exp(), mid, high: mid * half_width.exp() }
    }

    /// `low`, `mid` and `high` with as many digits as they deserve.
    pub fn texts(self) -> [String; 3] {
        [self.low, self.mid, self.high].map(units::speed)
    }
}

/// As in `about 4.2 tok/s (3.7 to 4.8)`.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, mid, high] = self.texts();
        write!(f, "about {mid} tok/s ({low} to {high})")
    }
}

/// The interval of a speed: `amount` of tokens in a time.
fn interval(amount: f64, time: &Time, scale: f64, more: f64) -> Interval {
    let mid = if time.seconds > 0.0 { (amount / time.seconds).min(NO_WORK) } else { NO_WORK };
    let measured = if time.probed { PROBED } else { scale * time.spread() };
    Interval::around(mid, measured.hypot(more))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hob_machine::{AttentionSpeed, KernelSpeed};
    use proptest::prelude::*;

    fn unit(kind: Kind, vendor: Vendor, bandwidth: f64, operations: f64) -> Unit {
        let link = (kind == Kind::Discrete).then_some(25e9);
        Unit { kind, vendor, bandwidth, operations, link, probe: None }
    }

    /// `part` of an 8B model in four bits, at a depth of 4096.
    fn work(part: f64) -> Work {
        let bytes = |of: f64| (of * part) as u64;
        Work {
            weights: BTreeMap::from([
                (GgmlType::Q4_K, bytes(3.4e9)),
                (GgmlType::Q6_K, bytes(1.2e9)),
            ]),
            all_weights: bytes(4.9e9),
            cache: bytes(5.4e8),
            blocks: (32.0 * part) as usize,
            operations: 1.5e10 * part,
            head: 0.0,
            activations: 2e6 * part,
            attention: 1.1e9 * part,
            heads: 8,
            kv: KvType::F16,
        }
    }

    fn segment(unit: Unit, part: f64) -> Segment {
        Segment { unit, work: work(part) }
    }

    fn probe() -> Probe {
        Probe {
            fingerprint: String::new(),
            taken: 0,
            threads: 2,
            read_bytes_per_second: 3e10,
            kernels: vec![
                KernelSpeed {
                    ty: "Q4_K".into(),
                    decode_bytes_per_second: 2e10,
                    seconds_per_block: 1e-4,
                    prefill_operations_per_second: 4e11,
                },
                KernelSpeed {
                    ty: "Q6_K".into(),
                    decode_bytes_per_second: 3e10,
                    seconds_per_block: 2e-4,
                    prefill_operations_per_second: 3e11,
                },
            ],
            seconds_per_activation: 1e-9,
            attention: vec![attention(KvType::F16, 1e10), attention(KvType::Q8_0, 8e9)],
        }
    }

    fn attention(kv: KvType, row: f64) -> AttentionSpeed {
        AttentionSpeed {
            cache: kv.name().to_owned(),
            row_operations_per_second: row,
            operations_per_second: 10.0 * row,
        }
    }

    #[test]
    fn a_probe_is_arithmetic_on_what_was_measured() {
        let mut cpu = unit(Kind::Cpu, Vendor::Amd, 9e10, 1e12);
        cpu.probe = Some(probe());
        let segments = [segment(cpu, 1.0)];
        // Reading the cache and computing with it meet as `time::join` has it.
        let attention = ((5.4e8f64 / 3e10).powi(3) + (1.1e9f64 / 1e10).powi(3)).cbrt();
        // Blocks are of both types, by their bytes.
        let blocks = 32.0 * (1e-4 * 3.4 + 2e-4 * 1.2) / 4.6;
        let seconds = 3.4e9 / 2e10 + 1.2e9 / 3e10 + attention + blocks;
        let decoded = decode(&segments);
        assert!((decoded.mid * seconds - 1.0).abs() < 1e-9, "{decoded:?}");
        assert!(decoded.high / decoded.mid < 1.15 && decoded.low / decoded.mid > 0.85);
        let (four, six) = (3.4e9 * 256.0 / 144.0, 1.2e9 * 256.0 / 210.0);
        let product = 1.5e10 * (four / 4e11 + six / 3e11) / (four + six);
        let token = product + 0.5 * 1.1e9 / 1e11 + 2e6 * 1e-9;
        let seconds = 100.0 * token + blocks;
        let filled = prefill(&segments, 100);
        assert!((filled.mid * seconds / 100.0 - 1.0).abs() < 1e-9, "{filled:?}");
    }

    #[test]
    fn three_heads_keep_two_threads_busy_for_three_quarters_of_the_time() {
        let mut cpu = unit(Kind::Cpu, Vendor::Amd, 9e10, 1e12);
        cpu.probe = Some(probe());
        let seconds = |heads| {
            let work = Work { attention: 1e10, heads, ..Work::default() };
            1.0 / decode(&[Segment { unit: cpu.clone(), work }]).mid
        };
        assert!((seconds(3) / seconds(8) - 4.0 / 3.0).abs() < 1e-6);
        assert_eq!(seconds(8), seconds(2));
    }

    #[test]
    fn attention_is_as_fast_as_its_cache_was_measured() {
        let mut cpu = unit(Kind::Cpu, Vendor::Amd, 9e10, 1e12);
        cpu.probe = Some(probe());
        let work = |kv| Work { attention: 1e10, heads: 2, kv, ..Work::default() };
        let speed = |kv| decode(&[Segment { unit: cpu.clone(), work: work(kv) }]).mid;
        assert!((speed(KvType::F16) - 1.0).abs() < 1e-6);
        assert!((speed(KvType::Q8_0) - 0.8).abs() < 1e-6);
        assert_eq!(speed(KvType::F32), speed(KvType::Q8_0));
    }

    #[test]
    fn what_was_not_measured_of_a_type_is_taken_for_the_slowest() {
        let mut cpu = unit(Kind::Cpu, Vendor::Amd, 9e10, 1e12);
        cpu.probe = Some(probe());
        let weights = BTreeMap::from([(GgmlType::Q8_0, 2_000_000_000)]);
        let work = Work { weights, all_weights: 2_000_000_000, ..Work::default() };
        assert!((decode(&[Segment { unit: cpu, work }]).mid - 10.0).abs() < 1e-6);
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        for kind in [Kind::Discrete, Kind::Integrated, Kind::Unified, Kind::Cpu] {
            let dead = unit(kind, Vendor::Huawei, 0.0, 0.0);
            let none = Interval { low: 0.0, mid: 0.0, high: 0.0 };
            assert_eq!(decode(&[segment(dead.clone(), 1.0)]), none);
            assert_eq!(prefill(&[segment(dead.clone(), 1.0)], 512), none);
            let idle = Segment { unit: dead, work: Work::default() };
            assert!(decode(&[idle]).mid > 100.0);
        }
        assert!(decode(&[]).high.is_finite() && prefill(&[], 0).high.is_finite());
    }

    #[test]
    fn sequences_share_the_weights_until_arithmetic_ends_it() {
        let card = [segment(unit(Kind::Discrete, Vendor::Nvidia, 1e12, 1e14), 1.0)];
        let speeds = [1, 4, 16, 64, 256].map(|n| decode_batch(&card, n).mid);
        assert!(speeds[1] > 2.0 * speeds[0] && speeds[4] > speeds[0], "{speeds:?}");
        assert!(speeds.is_sorted(), "{speeds:?}");
        assert_eq!(decode_batch(&card, 1), decode(&card));
        assert_eq!(decode_batch(&card, 0), decode(&card));
    }

    #[test]
    fn a_split_model_runs_between_its_units_and_says_less_surely() {
        let card = || unit(Kind::Discrete, Vendor::Nvidia, 6e11, 6e13);
        let cpu = || unit(Kind::Cpu, Vendor::Intel, 8e10, 1e12);
        let whole = decode(&[segment(card(), 1.0)]);
        let split = decode(&[segment(card(), 0.5), segment(cpu(), 0.5)]);
        let host = decode(&[segment(cpu(), 1.0)]);
        assert!(host.mid < split.mid && split.mid < whole.mid);
        assert!(split.high / split.mid > whole.high / whole.mid);
    }

    #[test]
    fn what_was_never_measured_has_the_widest_interval() {
        let width = |vendor| {
            let speed = decode(&[segment(unit(Kind::Discrete, vendor, 4e11, 1e14), 1.0)]);
            speed.high / speed.low
        };
        assert!(width(Vendor::Huawei) > 1.5 * width(Vendor::Nvidia));
    }

    fn kinds() -> impl Strategy<Value = (Kind, Vendor)> {
        let kinds = [Kind::Discrete, Kind::Integrated, Kind::Unified, Kind::Cpu];
        let vendors = [Vendor::Nvidia, Vendor::Amd, Vendor::Intel, Vendor::Apple, Vendor::Other];
        (prop::sample::select(kinds.to_vec()), prop::sample::select(vendors.to_vec()))
    }

    fn works() -> impl Strategy<Value = Work> {
        let bytes = (0u64..1 << 30).prop_map(|kilobytes| kilobytes << 10);
        let ty = prop::sample::select(GgmlType::ALL.to_vec());
        let weights = prop::collection::btree_map(ty, bytes.clone(), 0..4);
        let rest = (bytes.clone(), bytes, 0usize..200, 0.0..1e15, 0.0..1e13);
        (weights, rest).prop_map(
            |(weights, (all_weights, cache, blocks, operations, attention))| Work {
                weights,
                all_weights,
                cache,
                blocks,
                operations,
                head: 0.0,
                activations: 0.0,
                attention,
                heads: 8,
                kv: KvType::F16,
            },
        )
    }

    proptest! {
        #[test]
        fn intervals_are_finite_and_in_order(
            units in prop::collection::vec((kinds(), 0.0..1e13, 0.0..1e16, works()), 0..4),
            many in 0usize..3000,
        ) {
            let segments: Vec<Segment> = units
                .into_iter()
                .map(|((kind, vendor), bandwidth, operations, work)| {
                    Segment { unit: unit(kind, vendor, bandwidth, operations), work }
                })
                .collect();
            for speed in [decode(&segments), decode_batch(&segments, many), prefill(&segments, many)] {
                prop_assert!(speed.low >= 0.0 && speed.high.is_finite(), "{speed:?}");
                prop_assert!(speed.low <= speed.mid && speed.mid <= speed.high, "{speed:?}");
            }
        }

        #[test]
        fn more_of_a_machine_is_never_slower(
            (kind, vendor) in kinds(), work in works(), tokens in 1usize..5000,
            bandwidth in 1e9..1e13, operations in 1e10..1e16, more in 1.0..4.0,
        ) {
            let at = |bandwidth, operations| {
                [Segment { unit: unit(kind, vendor, bandwidth, operations), work: work.clone() }]
            };
            let base = at(bandwidth, operations);
            for better in [at(bandwidth * more, operations), at(bandwidth, operations * more)] {
                prop_assert!(decode(&better).mid >= decode(&base).mid * (1.0 - 1e-9));
                prop_assert!(decode_batch(&better, 8).mid >= decode_batch(&base, 8).mid * (1.0 - 1e-9));
                prop_assert!(prefill(&better, tokens).mid >= prefill(&base, tokens).mid * (1.0 - 1e-9));
            }
        }

        #[test]
        fn less_to_read_is_never_slower(
            (kind, vendor) in kinds(), work in works(), halves in 1u64..5,
            bandwidth in 1e9..1e13, deeper in 0u64..1 << 40,
        ) {
            let of = |work: &Work| {
                decode(&[Segment { unit: unit(kind, vendor, bandwidth, 1e13), work: work.clone() }]).mid
            };
            // A smaller recipe shrinks what is read and what lies there alike.
            let mut smaller = work.clone();
            smaller.weights.values_mut().for_each(|bytes| *bytes /= 1 << halves);
            smaller.all_weights /= 1 << halves;
            prop_assert!(of(&smaller) >= of(&work) * (1.0 - 1e-6));
            let deep = Work { cache: work.cache + deeper, ..work.clone() };
            prop_assert!(of(&deep) <= of(&work) * (1.0 + 1e-9));
            let deep = Work { attention: work.attention + deeper as f64, ..work.clone() };
            let filled = |work: &Work| {
                prefill(&[Segment { unit: unit(kind, vendor, bandwidth, 1e13), work: work.clone() }], 777).mid
            };
            prop_assert!(filled(&deep) <= filled(&work) * (1.0 + 1e-9));
        }
    }
}
