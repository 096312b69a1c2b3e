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
    /// Seconds of a step beside its products and its attention, per block of the model (barriers, norms, copies).
    pub seconds_per_block: f64,
    /// Bytes of cached keys and values per second that attention of one row goes through.
    pub attention_bytes_per_second: f64,
    /// Operations (two per product of a score or a value) per second of attention over many rows.
    pub attention_operations_per_second: f64,
}

/// The speed of products with weights of one type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelSpeed {
    /// GGUF's name of the type, such as `Q4_K`.
    pub ty: String,
    /// Bytes of weights per second when one row is multiplied, from memory.
    pub decode_bytes_per_second: f64,
    /// Operations (two per weight and row) per second with many rows.
    pub prefill_operations_per_second: f64,
}
