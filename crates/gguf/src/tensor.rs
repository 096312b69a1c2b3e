//! The tensor directory: name, type, shape and place of every tensor, each checked against the file's size,
//! its neighbours and the limits before anything is kept. Knows nothing of what tensors mean.

use hob_quant::GgmlType;

use crate::cursor::Cursor;
use crate::error::{GgufError, TensorFault};
use crate::limits::{MAX_DIMS, MAX_NAME_BYTES, MAX_TENSORS};

/// Bytes of the smallest entry: name length, rank, type, offset.
const MIN_ENTRY: u64 = 8 + 4 + 4 + 8;

/// One tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, unique in the model.
    pub name: String,
    /// Type of its blocks.
    pub ty: GgmlType,
    /// Shape in ggml's order: `dims[0]` is the length of a row (innermost). One to four, none zero;
    /// a file's scalar of no dimensions appears as `[1]`.
    pub dims: Vec<u64>,
    /// Index of its file in [`crate::Gguf::paths`].
    pub shard: usize,
    /// Where its data start, in bytes from the start of its file's data section.
    pub offset: u64,
    pub(crate) bytes: u64,
}

impl TensorInfo {
    /// A tensor that is to be written: place unknown, size computed and checked.
    pub(crate) fn new(name: &str, ty: GgmlType, dims: &[u64]) -> Result<Self, GgufError> {
        let bytes = byte_size(ty, dims).map_err(|fault| GgufError::tensor(name, fault))?;
        let (name, dims) = (name.to_owned(), dims.to_vec());
        Ok(TensorInfo { name, ty, dims, shard: 0, offset: 0, bytes })
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.row_len() * self.rows()
    }

    /// Elements in a row.
    pub fn row_len(&self) -> u64 {
        self.dims.first().copied().unwrap_or(1)
    }

    /// Number of rows: the product of all dimensions but the innermost.
    pub fn rows(&self) -> u64 {
        self.dims.iter().skip(1).product()
    }

    /// Size of the data in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn parse(cur: &mut Cursor<'_>) -> Result<Self, GgufError> {
        let name = cur.name("a tensor name", MAX_NAME_BYTES)?.to_owned();
        let rank = cur.u32("a tensor's rank")?;
        if rank > MAX_DIMS {
            return Err(GgufError::Tensor { name, fault: TensorFault::Rank(rank) });
        }
        let mut dims = Vec::with_capacity(MAX_DIMS as usize);
        for _ in 0..rank {
            dims.push(cur.u64("a tensor's dimension")?);
        }
        if dims.is_empty() {
            dims.push(1);
        }
        let id = cur.u32("a tensor's type")?;
        let offset = cur.u64("a tensor's offset")?;
        let Some(ty) = GgmlType::from_id(id) else {
            return Err(GgufError::Tensor { name, fault: TensorFault::Type(id) });
        };
        match byte_size(ty, &dims) {
            Ok(bytes) => Ok(TensorInfo { name, ty, dims, shard: 0, offset, bytes }),
            Err(fault) => Err(GgufError::Tensor { name, fault }),
        }
    }

    /// Checks the place of the data in a data section of `available` bytes.
    fn check_place(&self, alignment: u32, available: u64) -> Result<(), TensorFault> {
        let (offset, bytes) = (self.offset, self.bytes);
        if !offset.is_multiple_of(u64::from(alignment)) {
            return Err(TensorFault::Misaligned { offset, alignment });
        }
        if offset.checked_add(bytes).is_none_or(|end| end > available) {
            return Err(TensorFault::OutOfFile { offset, bytes, available });
        }
        Ok(())
    }
}

/// Bytes of a tensor. Also shows that the number of elements fits in 64 bits.
fn byte_size(ty: GgmlType, dims: &[u64]) -> Result<u64, TensorFault> {
    if dims.contains(&0) {
        return Err(TensorFault::ZeroDim(dims.to_vec()));
    }
    let overflow = || TensorFault::Overflow(dims.to_vec());
    let (&row, rows) = dims.split_first().unwrap_or((&1, &[]));
    let block = ty.block_len() as u64;
    if !row.is_multiple_of(block) {
        return Err(TensorFault::Block { row, block, ty: ty.name() });
    }
    let product = |first: u64| rows.iter().try_fold(first, |n, &d| n.checked_mul(d));
    product(row).ok_or_else(overflow)?;
    ty.row_bytes(row).and_then(product).ok_or_else(overflow)
}

/// Reads `count` entries. Their places are checked by [`check_places`] once the data section is known.
pub(crate) fn parse(cur: &mut Cursor<'_>, count: u64) -> Result<Vec<TensorInfo>, GgufError> {
    if count > MAX_TENSORS {
        let what = "the number of tensors";
        return Err(GgufError::Limit { what, found: count, limit: MAX_TENSORS });
    }
    cur.expect("the tensor directory", count, MIN_ENTRY)?;
    (0..count).map(|_| TensorInfo::parse(cur)).collect()
}

/// Checks that all tensors lie aligned inside a data section of `available` bytes and don't overlap.
pub(crate) fn check_places(
    tensors: &[TensorInfo],
    alignment: u32,
    available: u64,
) -> Result<(), GgufError> {
    for t in tensors {
        t.check_place(alignment, available).map_err(|fault| GgufError::tensor(&t.name, fault))?;
    }
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_unstable_by_key(|t| t.offset);
    for (a, b) in by_offset.iter().zip(by_offset.iter().skip(1)) {
        if a.offset + a.bytes > b.offset {
            return Err(GgufError::tensor(&b.name, TensorFault::Overlap(a.name.clone())));
        }
    }
    Ok(())
}

/// Indices of the tensors, sorted by name.
///
/// # Errors
/// [`TensorFault::Duplicate`] if a name occurs twice.
pub(crate) fn index(tensors: &[TensorInfo]) -> Result<Vec<u32>, GgufError> {
    let name = |i: &u32| tensors.get(*i as usize).map(|t| t.name.as_str());
    // At most MAX_TENSORS, so indices fit.
    let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
    by_name.sort_unstable_by(|a, b| name(a).cmp(&name(b)));
    for (a, b) in by_name.iter().zip(by_name.iter().skip(1)) {
        if name(a) == name(b) {
            return Err(GgufError::tensor(name(a).unwrap_or_default(), TensorFault::Duplicate));
        }
    }
    Ok(by_name)
}
