//! Which rows of a source's tensor make which tensor of the GGUF file: every [`How`] as a list of slabs and the new
//! dimensions, after checking the shape that it needs. Deliberately absent: names and types.

use super::error::ConvertError;
use super::families::{How, Tile};
use super::plan::{Match, Planner, shape};
use super::rows::{Order, Scales, Slab};
use super::safetensors::{Dtype, Tensor};
use super::value_heads::Heads;

/// Slabs, and the dimensions of the tensor that they make, the row length first.
pub(super) type Made = Result<(Vec<Slab>, Vec<u64>), ConvertError>;

impl Planner<'_> {
    /// What a rule makes of a tensor.
    pub(super) fn slabs(&self, m: &Match<'_>) -> Made {
        let tensor = m.tensor;
        if tensor.shape.contains(&0) {
            return Err(shape(tensor, "something in it"));
        }
        match m.rule.how {
            How::Mx => return self.mx(m, Order::Same),
            How::MxAlternate(from) => return self.mx(m, Order::Alternate { from }),
            _ if matches!(tensor.dtype, Dtype::U8 | Dtype::Other) => {
                return Err(ConvertError::Dtype {
                    tensor: tensor.name.clone(),
                    found: tensor.dtype_name.clone(),
                    expected: "F32, F16, BF16 or F8_E4M3",
                });
            }
            _ => {}
        }
        let part = Part { m, scales: self.scales(tensor)? };
        match m.rule.how {
            How::QueryRows => part.neighbours(self.heads),
            How::KeyRows => part.neighbours(self.heads_kv),
            How::Stack => part.matrix(),
            How::Half(half) => part.each(|rows, cols| {
                let rows = even(rows)?;
                Some((half * rows, rows, Order::Same, vec![cols, rows]))
            }),
            How::HalfRows(half) => part.half(half),
            How::Turned => part.each(|rows, cols| Some((0, rows, Order::Turned, vec![rows, cols]))),
            How::TurnedAlternate(from) => part.each(|rows, cols| {
                let order = Order::TurnedAlternate { from };
                Some((0, rows, order, vec![rows, even(cols)?]))
            }),
            How::AlternateColumns(from) => part.columns(from),
            How::LatentKeys => {
                self.latent(&part, |plain, _, rank| (0, plain, Order::Turned, vec![plain, rank]))
            }
            How::LatentValues => self
                .latent(&part, |plain, value, rank| (plain, value, Order::Same, vec![rank, value])),
            How::Vocabulary => part.cut(self.vocabulary),
            How::Positions => part.after(1 + u64::from(self.keys.need_count("pad_token_id")?)),
            How::Below => part.below(self.experts, |cols, rows| (Order::Same, [cols, rows])),
            How::BelowTurned => {
                part.below(self.experts, |cols, rows| (Order::Turned, [rows, cols]))
            }
            How::Squeezed => part.squeezed(),
            How::Column | How::ColumnDecay => part.column(),
            How::Groups => part.groups(self.keys.need_count("mamba_n_groups")?.into()),
            How::TiledDecay => Heads::of(self.keys)?.tiled(&part, Tile::Each),
            How::Tiled(tile) => Heads::of(self.keys)?.tiled(&part, tile),
            How::DeltaInput => Heads::of(self.keys)?.input(&part),
            How::DeltaGate => Heads::of(self.keys)?.gate(&part),
            _ => part.cut(None),
        }
    }

    /// One slab for each head of a projection from the latent: `of` gives the first row, the number of rows, their
    /// order and the dimensions, from the lengths of keys without position, of values, and of the latent.
    fn latent(
        &self,
        part: &Part<'_>,
        of: impl Fn(u64, u64, u64) -> (u64, u64, Order, Vec<u64>),
    ) -> Made {
        let length = |key| self.keys.need_count(key).map(u64::from);
        let (plain, value) = (length("qk_nope_head_dim")?, length("v_head_dim")?);
        let rows = (plain + value).checked_mul(self.heads_kv);
        let rank = match part.m.tensor.shape[..] {
            [found, rank] if Some(found) == rows => rank,
            _ => return Err(shape(part.m.tensor, &format!("{rows:?} rows"))),
        };
        let (first, rows, order, mut dims) = of(plain, value, rank);
        let head = |h| part.slab(rank, h * (plain + value) + first, rows, order);
        dims.push(self.heads_kv);
        Ok(((0..self.heads_kv).map(head).collect(), dims))
    }

    /// MXFP4 blocks: codes as `[experts, rows, blocks, 16]`, exponents as `[experts, rows, blocks]`.
    fn mx(&self, m: &Match<'_>, order: Order) -> Made {
        let name = m.tensor.name.strip_suffix("_blocks").unwrap_or_default();
        let name = format!("{name}_scales");
        let Some((place, (_, scales))) =
            self.places.get(name.as_str()).and_then(|p| Some((*p, self.folder.get(*p)?)))
        else {
            return Err(ConvertError::Missing { count: 1, names: vec![name] });
        };
        for tensor in [m.tensor, scales] {
            if tensor.dtype != Dtype::U8 {
                let (tensor, found) = (tensor.name.clone(), tensor.dtype_name.clone());
                return Err(ConvertError::Dtype { tensor, found, expected: "U8" });
            }
        }
        let wrong = || shape(m.tensor, "[experts, rows, blocks, 16] with as many scales");
        let [experts, rows, blocks, 16] = m.tensor.shape[..] else { return Err(wrong()) };
        let kept = if order == Order::Same { Some(rows) } else { even(rows) };
        let (Some(kept), true) = (kept, scales.shape == [experts, rows, blocks]) else {
            return Err(wrong());
        };
        let cols = blocks * 32;
        let (scales, rows) = (Scales::Mx { place }, experts * rows);
        let slab = Slab { place: m.place, scales, cols, first: 0, rows, order };
        Ok((vec![slab], vec![cols, kept, experts]))
    }
}

/// A tensor to be taken apart.
pub(super) struct Part<'m> {
    m: &'m Match<'m>,
    scales: Scales,
}

impl Part<'_> {
    pub fn tensor(&self) -> &Tensor {
        self.m.tensor
    }

    pub fn slab(&self, cols: u64, first: u64, rows: u64, order: Order) -> Slab {
        Slab { place: self.m.place, scales: self.scales, cols, first, rows, order }
    }

    /// All of it, or the first `most` rows.
    fn cut(&self, most: Option<u64>) -> Made {
        let mut dims: Vec<u64> = self.tensor().shape.iter().rev().copied().collect();
        if dims.is_empty() || dims.len() > 4 {
            return Err(shape(self.tensor(), "one to four dimensions"));
        }
        if let (Some(most), [_, rows]) = (most, &mut dims[..]) {
            *rows = (*rows).min(most);
        }
        let (cols, rows) = (dims.iter().take(1).product(), dims.iter().skip(1).product());
        Ok((vec![self.slab(cols, 0, rows, Order::Same)], dims))
    }

    /// The rows of a matrix from this one on.
    fn after(&self, first: u64) -> Made {
        match self.tensor().shape[..] {
            [rows, cols] if rows > first => {
                let rows = rows - first;
                Ok((vec![self.slab(cols, first, rows, Order::Same)], vec![cols, rows]))
            }
            _ => Err(shape(self.tensor(), &format!("a matrix of more than {first} rows"))),
        }
    }

    /// So many matrices, one below the other: `of` gives their order and dimensions from columns and rows.
    fn below(&self, count: u64, of: impl Fn(u64, u64) -> (Order, [u64; 2])) -> Made {
        match self.tensor().shape[..] {
            [rows, cols] if count > 0 && rows.is_multiple_of(count) => {
                let rows = rows / count;
                let (order, [a, b]) = of(cols, rows);
                let slabs = (0..count).map(|i| self.slab(cols, i * rows, rows, order));
                Ok((slabs.collect(), vec![a, b, count]))
            }
            _ => Err(shape(self.tensor(), &format!("{count} matrices of as many rows"))),
        }
    }

    /// All of it, without dimensions of one.
    fn squeezed(&self) -> Made {
        let (slabs, mut dims) = self.cut(None)?;
        dims.retain(|n| *n != 1);
        if dims.is_empty() {
            return Err(shape(self.tensor(), "more than one number"));
        }
        Ok((slabs, dims))
    }

    /// The numbers of a row, each a row of its own.
    fn column(&self) -> Made {
        match self.tensor().shape[..] {
            [n] => Ok((vec![self.slab(1, 0, n, Order::Same)], vec![1, n])),
            _ => Err(shape(self.tensor(), "a row")),
        }
    }

    /// The numbers of a row in so many rows.
    fn groups(&self, groups: u64) -> Made {
        match self.tensor().shape[..] {
            [n] if groups > 0 && n.is_multiple_of(groups) => {
                let cols = n / groups;
                Ok((vec![self.slab(cols, 0, groups, Order::Same)], vec![cols, groups]))
            }
            _ => Err(shape(self.tensor(), &format!("a row of {groups} groups"))),
        }
    }

    /// The first or second half of the rows of a matrix.
    fn half(&self, half: u64) -> Made {
        match self.tensor().shape[..] {
            [rows, cols] if rows.is_multiple_of(2) => {
                let rows = rows / 2;
                Ok((vec![self.slab(cols, half * rows, rows, Order::Same)], vec![cols, rows]))
            }
            _ => Err(shape(self.tensor(), "a matrix with an even number of rows")),
        }
    }

    /// A matrix of its own.
    fn matrix(&self) -> Made {
        match self.tensor().shape[..] {
            [_, _] => self.cut(None),
            _ => Err(shape(self.tensor(), "a matrix")),
        }
    }

    /// Rows of heads, or the numbers of a bias.
    fn neighbours(&self, heads: u64) -> Made {
        let (rows, cols) = match self.tensor().shape[..] {
            [rows] => (rows, 1),
            [rows, cols] => (rows, cols),
            _ => return Err(shape(self.tensor(), "a matrix or a row")),
        };
        let head = rows.checked_div(heads).unwrap_or(0);
        if head == 0 || !rows.is_multiple_of(heads) || !head.is_multiple_of(2) {
            return Err(shape(self.tensor(), &format!("rows of {heads} heads of even length")));
        }
        let dims = self.tensor().shape.iter().rev().copied().collect();
        Ok((vec![self.slab(cols, 0, rows, Order::Neighbours { head })], dims))
    }

    /// One slab for each matrix of a stack: `of` gives its first row, the number of rows, their order and the dimensions.
    fn each(&self, of: impl Fn(u64, u64) -> Option<(u64, u64, Order, Vec<u64>)>) -> Made {
        let wrong = || shape(self.tensor(), "a stack of matrices, an even number of rows each");
        let [count, rows, cols] = self.tensor().shape[..] else { return Err(wrong()) };
        let (first, taken, order, mut dims) = of(rows, cols).ok_or_else(wrong)?;
        dims.push(count);
        let slabs = (0..count).map(|i| self.slab(cols, i * rows + first, taken, order));
        Ok((slabs.collect(), dims))
    }

    /// Every second number of each row.
    fn columns(&self, from: u64) -> Made {
        match self.tensor().shape[..] {
            [rows, cols] if cols.is_multiple_of(2) => {
                let order = Order::Alternate { from };
                Ok((vec![self.slab(1, 0, rows * cols, order)], vec![cols / 2, rows]))
            }
            _ => Err(shape(self.tensor(), "a matrix with an even number of columns")),
        }
    }
}

/// Half of an even number.
fn even(n: u64) -> Option<u64> {
    n.is_multiple_of(2).then_some(n / 2)
}
