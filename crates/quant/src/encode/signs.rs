//! Signs apart from magnitudes, as IQ2 and IQ3 have them. Where eight signs are kept in seven bits the number of minus signs
//! must be even: where it is odd, the weight that costs least gets the wrong sign, and its magnitude counts as negative.

use super::objective::Row;

/// The row's weights become magnitudes; returns the signs of each 8, a set bit for a minus.
pub(super) fn split(row: &mut Row, even: bool) -> Vec<u8> {
    let groups = row.x.as_chunks_mut::<8>().0.iter_mut().zip(row.w.as_chunks::<8>().0);
    groups.map(|(x, w)| split_group(x, w, even)).collect()
}

#[inline(always)]
fn split_group(x: &mut [f32; 8], w: &[f32; 8], even: bool) -> u8 {
    let mut signs = 0;
    for (j, x) in x.iter_mut().enumerate() {
        signs |= u8::from(*x < 0.0) << j;
        *x = x.abs();
    }
    if even && signs.count_ones() % 2 == 1 {
        let cost = |j: usize| w[j] * x[j];
        let least = (1..8).fold(0, |best, j| if cost(j) < cost(best) { j } else { best });
        signs ^= 1 << least;
        x[least] = -x[least];
    }
    signs
}
