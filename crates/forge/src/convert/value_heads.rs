//! Value heads of a gated delta-net, in the order that GGUF has them. A checkpoint keeps the value heads of one key head
//! together; GGUF has the first one of each key head, then the second one of each, so that key heads can be repeated as a
//! whole. Qwen3-Next also has queries, keys, values and gate of one key head together. Deliberately absent: names.

use hob_model::hf::{Config, bad};

use super::error::ConvertError;
use super::families::Tile;
use super::plan::shape;
use super::rows::{Order, Slab};
use super::slabs::{Made, Part};

/// How many heads there are and how long they are.
pub(super) struct Heads {
    keys: u64,
    /// Value heads of a key head.
    per_key: u64,
    key: u64,
    value: u64,
}

impl Heads {
    pub fn of(config: &Config) -> Result<Self, ConvertError> {
        let count = |key| config.need_count(key).map(u64::from);
        let (keys, values) = (count("linear_num_key_heads")?, count("linear_num_value_heads")?);
        if keys == 0 || values == 0 || !values.is_multiple_of(keys) {
            let expected = format!("a multiple of {keys} key heads");
            return Err(bad("linear_num_value_heads", &values.to_string(), &expected).into());
        }
        let (key, value) = (count("linear_key_head_dim")?, count("linear_value_head_dim")?);
        Ok(Heads { keys, per_key: values / keys, key, value })
    }

    /// A tensor whose value heads are put in tiled order.
    pub fn tiled(&self, part: &Part<'_>, tile: Tile) -> Made {
        let values = self.keys * self.per_key;
        let (size, before) = match tile {
            Tile::Each => (1, 0),
            Tile::Rows => (self.value, 0),
            Tile::Tail => (self.value, 2 * self.keys * self.key),
            Tile::Columns => return self.columns(part),
        };
        let (cols, dims) = rows(part, before + values * size)?;
        let head = (0..self.per_key).flat_map(|j| (0..self.keys).map(move |k| (k, j)));
        let first = head.map(|(k, j)| before + (k * self.per_key + j) * size);
        let heads = first.map(|first| part.slab(cols, first, size, Order::Same));
        let keys = (before > 0).then(|| part.slab(cols, 0, before, Order::Same));
        Ok((keys.into_iter().chain(heads).collect(), dims))
    }

    fn columns(&self, part: &Part<'_>) -> Made {
        let expected = self.keys * self.per_key * self.value;
        match part.tensor().shape[..] {
            [rows, cols] if cols == expected => {
                let (keys, per_key, head) = (self.keys, self.per_key, self.value);
                let order = Order::TiledColumns { keys, per_key, head };
                Ok((vec![part.slab(cols, 0, rows, order)], vec![cols, rows]))
            }
            _ => Err(shape(part.tensor(), &format!("a matrix of {expected} columns"))),
        }
    }

    /// Queries, keys and values out of a tensor that has them and a gate by key heads.
    pub fn input(&self, part: &Part<'_>) -> Made {
        let values = self.per_key * self.value;
        self.blocks(part, &[(0, self.key), (self.key, self.key), (2 * self.key, values)])
    }

    /// The gate out of it.
    pub fn gate(&self, part: &Part<'_>) -> Made {
        let values = self.per_key * self.value;
        self.blocks(part, &[(2 * self.key + values, values)])
    }

    /// Rows of all key heads, block for block; a block is its first row and its rows in each head.
    fn blocks(&self, part: &Part<'_>, blocks: &[(u64, u64)]) -> Made {
        let all = 2 * (self.key + self.per_key * self.value);
        let (cols, _) = rows(part, self.keys * all)?;
        let slab =
            |k: u64, (first, rows): (u64, u64)| part.slab(cols, k * all + first, rows, Order::Same);
        let of_block = |block: &(u64, u64)| (0..self.keys).map(|k| slab(k, *block)).collect();
        let slabs: Vec<Slab> = blocks.iter().map(of_block).collect::<Vec<Vec<Slab>>>().concat();
        let taken = self.keys * blocks.iter().map(|(_, rows)| rows).sum::<u64>();
        Ok((slabs, vec![cols, taken]))
    }
}

/// Row length and dimensions (without those of one) of a tensor that must have so many rows, or so many numbers in one.
fn rows(part: &Part<'_>, expected: u64) -> Result<(u64, Vec<u64>), ConvertError> {
    match part.tensor().shape[..] {
        [rows] if rows == expected => Ok((1, vec![rows])),
        [rows, cols] | [rows, 1, cols] if rows == expected => Ok((cols, vec![cols, rows])),
        _ => Err(shape(part.tensor(), &format!("{expected} rows"))),
    }
}
