//! The result of the speed probe, as plain data. `engine` measures it, the store keeps it under the machine's fingerprint, `plan` computes
//! with it.

use serde::{Deserialize, Serialize};

/// How fast this machine was when it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Of the machine and the program that were measured: another one's probe says nothing.
    pub fingerprint: String,
    /// When, in seconds since 1970.
    pub taken: u64,
    /// Threads that it ran on.
    pub threads: usize,
    /// Bytes per second that all threads together read from memory.
    pub read_bytes_per_second: f64,
    /// hob's products by type of the weights.
    pub kernels: Vec<KernelSpeed>,
    /// Seconds of a row among many, for each number that goes into a product of a block or comes out of one (norms, gates, rows made of bytes).
    pub seconds_per_activation: f64,
    /// hob's attention by type of the cache.
    pub attention: Vec<AttentionSpeed>,
}

/// The speed of attention, in operations (two per product of a score or a value) per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionSpeed {
    /// Type of the cache, such as `f16`.
    pub cache: String,
    /// Of one row, while all threads have key heads to look at.
    pub row_operations_per_second: f64,
    /// Of many rows.
    pub operations_per_second: f64,
}

/// The speed of products with weights of one type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelSpeed {
    /// GGUF's name of the type, such as `Q4_K`.
    pub ty: String,
    /// Bytes of weights per second when one row is multiplied, from memory.
    pub decode_bytes_per_second: f64,
    /// Seconds of a step of one row beside these and attention, per block of the model (barriers, what memory loses while it waits behind them).
    pub seconds_per_block: f64,
    /// Operations (two per weight and row) per second with many rows.
    pub prefill_operations_per_second: f64,
}

/// Part of the threads' time in which they have something to do where one row's attention is shared out by key heads, of which each is one
/// thread's.
pub fn busy_part(kv_heads: usize, threads: usize) -> f64 {
    let (heads, threads) = (kv_heads.max(1), threads.max(1));
    heads as f64 / heads.div_ceil(threads).saturating_mul(threads) as f64
}

#[cfg(test)]
mod tests {
    use super::busy_part;

    #[test]
    fn three_heads_leave_one_of_two_threads_idle_for_a_quarter_of_the_time() {
        assert_eq!(
            [(3, 2), (8, 2), (1, 2), (8, 16), (0, 0)].map(|(h, t)| busy_part(h, t)),
            [0.75, 1.0, 0.5, 0.5, 1.0]
        );
    }
}
