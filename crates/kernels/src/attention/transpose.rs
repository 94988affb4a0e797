//! Queries of a tile, turned so that one value of all of them lies side by side.

use super::QUERIES;
use super::tile::Head;
use crate::Isa;
use crate::value::Value;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// `t[d][i] = scale · x[from + i][d]` for `n` rows, 0 for the other columns. `t` is `[D][QUERIES]`.
pub(super) fn transpose<X: Value>(
    isa: Isa,
    x: Head<X>,
    from: usize,
    n: usize,
    scale: f32,
    t: &mut [f32],
) {
    assert_eq!(t.len(), x.head_dim * QUERIES, "attention: transposed queries");
    if n < QUERIES {
        t.fill(0.0);
    }
    // What is right of the whole blocks and below them goes one by one.
    let (rows, cols) = transpose_blocks(isa, x, from, n, scale, t);
    for i in 0..n {
        let first = if i < rows { cols } else { 0 };
        let columns = t.chunks_exact_mut(QUERIES).zip(x.row(from + i)).skip(first);
        columns.for_each(|(column, &value)| column[i] = scale * value.widen());
    }
}

/// Turns the whole blocks of 8 × 8; returns the rows and columns that these cover.
#[cfg(target_arch = "x86_64")]
fn transpose_blocks<X: Value>(
    isa: Isa,
    x: Head<X>,
    from: usize,
    n: usize,
    scale: f32,
    t: &mut [f32],
) -> (usize, usize) {
    if !matches!(isa.for_f32(), Isa::Avx2(_) | Isa::Avx512(_)) {
        return (0, 0);
    }
    let (rows, cols) = (n / 8 * 8, x.head_dim / 8 * 8);
    for (i, d) in (0..rows).step_by(8).flat_map(|i| (0..cols).step_by(8).map(move |d| (i, d))) {
        let block: [&[X; 8]; 8] = std::array::from_fn(|r| {
            x.row(from + i + r)[d..].first_chunk().expect("8 of the columns below `cols`")
        });
        // SAFETY: either token proves `avx2`.
        unsafe { transpose_block(block, scale, &mut t[d * QUERIES + i..]) };
    }
    (rows, cols)
}

/// No blocks without registers of 8.
#[cfg(not(target_arch = "x86_64"))]
fn transpose_blocks<X: Value>(
    _: Isa,
    _: Head<X>,
    _: usize,
    _: usize,
    _: f32,
    _: &mut [f32],
) -> (usize, usize) {
    (0, 0)
}

/// `t[c · QUERIES + r] = scale · rows[r][c]`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn transpose_block<X: Value>(rows: [&[X; 8]; 8], scale: f32, t: &mut [f32]) {
    let scale = _mm256_set1_ps(scale);
    let mut scaled = [_mm256_setzero_ps(); 8];
    for (scaled, row) in scaled.iter_mut().zip(rows) {
        let mut wide = [0.0; 8];
        for (wide, value) in wide.iter_mut().zip(row) {
            *wide = value.widen();
        }
        // SAFETY: `wide` is 8 floats.
        *scaled = _mm256_mul_ps(scale, unsafe { _mm256_loadu_ps(wide.as_ptr()) });
    }
    // Pairs of rows, then fours, then the two 128-bit halves.
    let [r0, r1, r2, r3, r4, r5, r6, r7] = scaled;
    let pair = |x, y| [_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y)];
    let four = |[xl, xh]: [__m256; 2], [yl, yh]: [__m256; 2]| {
        let low = [_mm256_shuffle_ps::<0x44>(xl, yl), _mm256_shuffle_ps::<0xEE>(xl, yl)];
        let high = [_mm256_shuffle_ps::<0x44>(xh, yh), _mm256_shuffle_ps::<0xEE>(xh, yh)];
        [low[0], low[1], high[0], high[1]]
    };
    let top = four(pair(r0, r1), pair(r2, r3));
    let bottom = four(pair(r4, r5), pair(r6, r7));
    for c in 0..4 {
        let columns = [
            _mm256_permute2f128_ps::<0x20>(top[c], bottom[c]),
            _mm256_permute2f128_ps::<0x31>(top[c], bottom[c]),
        ];
        for (column, at) in columns.into_iter().zip([c, c + 4]) {
            let to = &mut t[at * QUERIES..][..8];
            // SAFETY: `to` is 8 floats.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), column) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_turns_every_corner() {
        for (n, d) in [(1, 1), (32, 64), (31, 80), (8, 8), (9, 37), (17, 7)] {
            let x: Vec<f32> = (0..40 * 3 * d).map(|i| i as f32).collect();
            let head = Head::new(&x, (3, d), 2, 1);
            for isa in Isa::available() {
                let mut t = vec![f32::NAN; d * QUERIES];
                transpose(isa, head, 4, n, 0.5, &mut t);
                for (at, &got) in t.iter().enumerate() {
                    let (c, i) = (at / QUERIES, at % QUERIES);
                    let want = if i < n { 0.5 * x[((2 + 4 + i) * 3 + 1) * d + c] } else { 0.0 };
                    assert_eq!(got, want, "column {i}, value {c} of {n} by {d}, {}", isa.name());
                }
            }
        }
    }
}
