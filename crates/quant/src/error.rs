//! What can be wrong with a row of blocks. One enum for the crate; every count that matters is in
//! the message.

use crate::GgmlType;

/// Why bytes and weights do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// The number of weights is no multiple of the block length (or its bytes overflow).
    #[error("{weights} weights do not fill blocks of {ty} ({} weights each)", ty.block_len())]
    PartialBlock {
        /// The row's type.
        ty: GgmlType,
        /// Weights asked for.
        weights: usize,
    },
    /// The bytes are not those of that many weights.
    #[error("{weights} weights of {ty} take {expected} bytes, found {found}")]
    Length {
        /// The row's type.
        ty: GgmlType,
        /// Weights asked for.
        weights: usize,
        /// Bytes that they take.
        expected: u64,
        /// Bytes that are there.
        found: usize,
    },
    /// The bytes cannot be viewed as whole blocks.
    #[error("{bytes} bytes are no whole number of {ty} blocks ({} bytes each)", ty.block_bytes())]
    PartialBytes {
        /// The blocks' type.
        ty: GgmlType,
        /// Bytes that are there.
        bytes: usize,
    },
    /// The bytes start at an odd address and cannot be viewed in place.
    #[error("{ty} blocks must start at an even address")]
    Misaligned {
        /// The blocks' type.
        ty: GgmlType,
    },
    /// There is no encoder for this type here.
    #[error("no encoder for {ty}")]
    NoEncoder {
        /// The type asked for.
        ty: GgmlType,
    },
    /// The importance weights are not one per weight.
    #[error("{found} importance weights for a row of {expected} weights")]
    Importance {
        /// Weights of the row.
        expected: usize,
        /// Importance weights given.
        found: usize,
    },
}
