//! The small matrix product inside an attention tile: `c = a·b` or `c += a·b` on strided views.
//!
//! One form serves all seven products of forward and backward, because `a` is read element by
//! element (any strides) and only `b` and `c` are read along their rows. The body is written once,
//! over [`Lanes`]; a block of `c` stays in registers while `k` runs.

use super::lanes::{Lanes, PlainLanes};
use crate::Isa;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

/// Element `(r, p)` is `data[r·row_stride + p·col_stride]`.
#[derive(Clone, Copy)]
pub(super) struct Scalars<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub col_stride: usize,
}

/// Row `p` starts at `data[p·stride]`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T = f32> {
    pub data: &'a [T],
    pub stride: usize,
}

/// Whether `c` is replaced or added to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    Overwrite,
    Add,
}

/// `c[m, n]`, its rows one after another, `= ` or `+= a[m, k] · b[k, n]`.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a: Scalars<'a>,
    pub b: Rows<'a>,
    pub store: Store,
}

/// Runs the product. Each element is summed in the order of `k`. Panics where a view is too short.
pub(super) fn product(isa: Isa, x: Product, c: &mut [f32]) {
    let Product { m, n, k, a, b, .. } = x;
    if m == 0 || n == 0 {
        return;
    }
    assert!(c.len() >= m * n, "product: c is too short");
    if k > 0 {
        let a_last = (m - 1) * a.row_stride + (k - 1) * a.col_stride;
        assert!(a.data.len() > a_last, "product: a is too short");
        assert!(b.data.len() >= (k - 1) * b.stride + n, "product: b is too short");
    }
    match isa.for_f32() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves that this CPU has what `product_avx2` enables; the views hold
        // `m`, `n` and `k`, as just checked.
        Isa::Avx2(_) => unsafe { product_avx2(x, c) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves that this CPU has what `product_avx512` enables; the views
        // hold `m`, `n` and `k`, as just checked.
        Isa::Avx512(_) => unsafe { product_avx512(x, c) },
        // SAFETY: plain lanes need no feature; the views hold `m`, `n` and `k`, as just checked.
        _ => unsafe { product_body::<PlainLanes, 4>(x, c) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn product_avx2(x: Product, c: &mut [f32]) {
    // SAFETY: the features of `Lanes for __m256` are enabled here; the caller checked the views.
    unsafe { product_body::<__m256, 4>(x, c) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn product_avx512(x: Product, c: &mut [f32]) {
    // SAFETY: the feature of `Lanes for __m512` is enabled here; the caller checked the views.
    unsafe { product_body::<__m512, 8>(x, c) }
}

/// Blocks of `R` rows × two vectors, and narrower ones for what is left.
///
/// # Safety
/// - The CPU features of `V` are present, and the caller's shell enables them.
/// - `a`, `b` and `c` hold `m`, `n` and `k`.
#[inline(always)]
unsafe fn product_body<V: Lanes, const R: usize>(x: Product, c: &mut [f32]) {
    // SAFETY: the caller's promises are those of `row_block`; rows end at `m`.
    unsafe {
        let mut row = 0;
        while row + R <= x.m {
            row_block::<V, R>(&x, c, row);
            row += R;
        }
        while row + 2 <= x.m {
            row_block::<V, 2>(&x, c, row);
            row += 2;
        }
        if row < x.m {
            row_block::<V, 1>(&x, c, row);
        }
    }
}

/// # Safety
/// - As [`product_body`], and `row + R` is at most `m`.
#[inline(always)]
unsafe fn row_block<V: Lanes, const R: usize>(x: &Product, c: &mut [f32], row: usize) {
    // SAFETY: the caller's promises are those of `block`; columns end at `n`.
    unsafe {
        let mut col = 0;
        while col + 2 * V::LEN <= x.n {
            block::<V, R, 2, false>(x, c, row, col);
            col += 2 * V::LEN;
        }
        if col + V::LEN <= x.n {
            block::<V, R, 1, false>(x, c, row, col);
            col += V::LEN;
        }
        if col < x.n {
            block::<V, R, 1, true>(x, c, row, col);
        }
    }
}

/// `R` rows × `W` vectors of `c` from `(row, col)`; a partial vector ends at `n`.
///
/// # Safety
/// - As [`product_body`], and the block lies inside `m × n`.
#[inline(always)]
unsafe fn block<V: Lanes, const R: usize, const W: usize, const PARTIAL: bool>(
    x: &Product,
    c: &mut [f32],
    row: usize,
    col: usize,
) {
    let n = x.n - col;
    // SAFETY: every index below is one of row `row + r < m`, column `col + w·LEN + lane < n` (loads
    // and stores of a partial vector touch `n − col` lanes) and `p < k`, which the views hold.
    unsafe {
        let a = x.a.data.as_ptr().add(row * x.a.row_stride);
        let b = x.b.data.as_ptr().add(col);
        let mut sums = [[V::splat(0.0); W]; R];
        for p in 0..x.k {
            let mut columns = [V::splat(0.0); W];
            for (w, column) in columns.iter_mut().enumerate() {
                let at = b.add(p * x.b.stride + w * V::LEN);
                *column = if PARTIAL { V::load_first(at, n) } else { V::load(at) };
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = V::splat(*a.add(r * x.a.row_stride + p * x.a.col_stride));
                for (sum, &column) in sums.iter_mut().zip(&columns) {
                    *sum = a.mul_add(column, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (w, &sum) in sums.iter().enumerate() {
                let at = c.as_mut_ptr().add((row + r) * x.n + col + w * V::LEN);
                match (x.store, PARTIAL) {
                    (Store::Overwrite, false) => sum.store(at),
                    (Store::Overwrite, true) => sum.store_first(at, n),
                    (Store::Add, false) => sum.add(V::load(at)).store(at),
                    (Store::Add, true) => sum.add(V::load_first(at, n)).store_first(at, n),
                }
            }
        }
    }
}
