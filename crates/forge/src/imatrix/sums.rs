//! Sums of squares per column, for every weight that was multiplied. Sixteen rows are summed in f32, such partial sums
//! in f64, always in the order of the rows: the result does not depend on the number of threads, which share columns.

use hob_model::{Model, OpsError, Weight, WeightId};

use super::Entry;

/// Rows summed in f32 before f64 takes over.
const BLOCK: usize = 16;
/// Columns at a time, so that a block's partial sums stay in registers or the nearest cache.
const TILE: usize = 256;
/// Least elements that are worth a thread.
const SHARE: usize = 1 << 17;

/// What was multiplied by one weight, or by each of a stack of them.
struct Slot {
    sums: Vec<f64>,
    rows: Vec<u64>,
}

/// All sums of one collection.
pub(super) struct Sums {
    /// By weight id; none until the weight is used.
    slots: Vec<Option<Slot>>,
    /// Matrices of each weight.
    stacked: Vec<usize>,
    threads: usize,
    /// Sums of the rows looked at last, and how many they are.
    squares: Vec<f64>,
    rows: usize,
    /// Why rows could not be looked at.
    pub(super) failed: Option<OpsError>,
}

impl Sums {
    pub(super) fn new(model: &Model, threads: usize) -> Self {
        let slots = model.weights.iter().map(|_| None).collect();
        let count = |w: &Weight| w.shape.get(2).map_or(1, |&n| n as usize);
        let stacked = model.weights.iter().map(count).collect();
        let threads = threads.max(1);
        Sums { slots, stacked, threads, squares: Vec::new(), rows: 0, failed: None }
    }

    /// Looks at the first `columns` of `rows` rows; [`Sums::add`] gives them to weights.
    pub(super) fn look(&mut self, x: &[f32], rows: usize, columns: usize) {
        let stride = x.len().checked_div(rows).unwrap_or(0).max(1);
        self.rows = rows;
        self.squares.clear();
        self.squares.resize(columns, 0.0);
        let threads = (rows * columns / SHARE).clamp(1, self.threads);
        let share = columns.div_ceil(threads).max(1);
        let mut parts = self.squares.chunks_mut(share).enumerate();
        let run = |(part, sums): (usize, &mut [f64])| add_squares(sums, x, stride, part * share);
        std::thread::scope(|scope| {
            let first = parts.next();
            parts.for_each(|part| drop(scope.spawn(move || run(part))));
            first.map(run)
        });
    }

    /// The rows looked at last were multiplied by the `nth` matrix of this weight.
    pub(super) fn add(&mut self, id: WeightId, nth: usize) {
        let (columns, count) = (self.squares.len(), self.stacked[id.index()]);
        let new = || Slot { sums: vec![0.0; columns * count], rows: vec![0; count] };
        let slot = self.slots[id.index()].get_or_insert_with(new);
        slot.rows[nth] += self.rows as u64;
        let sums = &mut slot.sums[nth * columns..(nth + 1) * columns];
        sums.iter_mut().zip(&self.squares).for_each(|(sum, x)| *sum += x);
    }

    /// The entry of a weight, if it was used.
    pub(super) fn entry(&self, id: WeightId) -> Option<Entry> {
        let slot = self.slots.get(id.index())?.as_ref()?;
        let sums = slot.sums.iter().map(|&x| x as f32).collect();
        Some(Entry { sums, counts: slot.rows.iter().map(|&rows| rows as f32).collect() })
    }
}

/// Adds the squares of the columns from `first` on of all rows, `stride` apart, as many as there are sums.
fn add_squares(sums: &mut [f64], x: &[f32], stride: usize, first: usize) {
    let mut partial = [0f32; TILE];
    for (tile, sums) in sums.chunks_mut(TILE).enumerate() {
        let columns = first + tile * TILE..first + tile * TILE + sums.len();
        for block in x.chunks(BLOCK * stride) {
            let partial = &mut partial[..sums.len()];
            partial.fill(0.0);
            for row in block.chunks_exact(stride) {
                partial.iter_mut().zip(&row[columns.clone()]).for_each(|(p, x)| *p += x * x);
            }
            sums.iter_mut().zip(&*partial).for_each(|(sum, &p)| *sum += f64::from(p));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hob_testkit::{Family, Rng, Tiny};

    #[test]
    fn any_shape_and_number_of_threads_sums_all_squares_of_its_columns() {
        let model = hob_model::describe(&Tiny::new(Family::Llama).gguf()).unwrap();
        let weight = WeightId(1);
        for (rows, columns, stride) in [(1, 1, 1), (17, 300, 300), (33, 5, 9), (700, 1111, 1200)] {
            let x = Rng::new(3).floats(rows * stride, 2.0);
            let entries = [1, 2, 7].map(|threads| {
                let mut sums = Sums::new(&model, threads);
                for (x, rows) in [(&x[..], rows), (&x[..stride], 1), (&[], 0)] {
                    sums.look(x, rows, columns);
                    sums.add(weight, 0);
                }
                assert_eq!(sums.entry(WeightId(0)), None);
                sums.entry(weight).unwrap()
            });
            assert!(entries.iter().all(|e| *e == entries[0]));
            assert_eq!(entries[0].counts, [rows as f32 + 1.0]);
            let square = |x: f32| f64::from(x) * f64::from(x);
            for (column, &sum) in entries[0].sums.iter().enumerate() {
                let all = x.chunks(stride).chain([&x[..stride]]).map(|row| square(row[column]));
                let exact: f64 = all.sum();
                assert!((f64::from(sum) - exact).abs() <= 1e-6 * exact, "{sum}, not {exact}");
            }
        }
    }
}
