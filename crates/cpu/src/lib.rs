//! The processor as a device: `Ops` with threads and vector instructions chosen at run time. Weights are used where
//! they are mapped; panels of them are unpacked into cache on the way. Absent: any copy or repacking at load.

#![allow(clippy::needless_range_loop)] // kernels index parallel arrays of registers

mod attention;
mod device;
mod isa;
mod kv;
mod linear;
mod ops;
mod pool;
mod products;
mod route;
mod rows;
mod state;

pub use device::CpuOps;
pub use isa::IsaKind;
pub use pool::Pool;

/// Why a model cannot run on this processor.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// A worker thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The memory is not there.
    #[error("cannot allocate {bytes} bytes")]
    Memory {
        /// Bytes of the allocation that failed.
        bytes: usize,
    },
    /// Sizes overflow the address space.
    #[error("the sizes overflow the address space")]
    TooLarge,
    /// No kernel for a part of the model.
    #[error("not supported on the processor yet: {0}")]
    Unsupported(&'static str),
    /// A tensor whose bytes do not have the size that its shape and type say.
    #[error("tensor '{0}' does not have the size that its shape and type say")]
    Tensor(String),
}

/// `len` zeros, or an error instead of an abort.
fn zeroed<T: Copy + Default>(len: usize) -> Result<Vec<T>, CpuError> {
    let bytes = len.saturating_mul(size_of::<T>());
    // A probe of the same size turns the allocator's abort into an error; the second request is served lazily.
    Vec::<T>::new().try_reserve_exact(len).map_err(|_| CpuError::Memory { bytes })?;
    Ok(vec![T::default(); len])
}
