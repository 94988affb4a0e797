//! The small matrix product inside an attention tile: `c = a·b` or `c += a·b` on strided views.
//!
//! One form serves all seven products of forward and backward, because `a` is read element by
//! element (any strides) and only `b` and `c` are read along their rows. The body is written once;
//! the compiler keeps a block of `c` in the registers of each instruction set.

use crate::Isa;

/// Element `(r, p)` is `data[r·row_stride + p·col_stride]`.
#[derive(Clone, Copy)]
pub(super) struct Scalars<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub col_stride: usize,
}

/// Row `p` starts at `data[p·stride]`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub data: &'a [f32],
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
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves that this CPU has what `product_avx2` enables.
        Isa::Avx2(_) => unsafe { product_avx2(x, c) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: either token proves that this CPU has what `product_avx512` enables.
        Isa::Avx512(_) | Isa::Avx512Bf16(_) => unsafe { product_avx512(x, c) },
        Isa::Neon(_) => product_body::<true, 4, 16>(x, c),
        _ => product_body::<false, 4, 8>(x, c),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn product_avx2(x: Product, c: &mut [f32]) {
    product_body::<true, 4, 16>(x, c)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
fn product_avx512(x: Product, c: &mut [f32]) {
    product_body::<true, 8, 32>(x, c)
}

/// Blocks of `R` rows × `W` columns, then what is left in powers of two. `product` checked the views.
#[inline(always)]
fn product_body<const FUSED: bool, const R: usize, const W: usize>(x: Product, c: &mut [f32]) {
    let mut row = 0;
    while row + R <= x.m {
        row_block::<FUSED, R, W>(&x, c, row);
        row += R;
    }
    while row < x.m {
        row_block::<FUSED, 1, W>(&x, c, row);
        row += 1;
    }
}

#[inline(always)]
fn row_block<const FUSED: bool, const R: usize, const W: usize>(
    x: &Product,
    c: &mut [f32],
    row: usize,
) {
    let mut col = 0;
    while col + W <= x.n {
        block::<FUSED, R, W>(x, c, row, col);
        col += W;
    }
    if W > 16 && col + 16 <= x.n {
        block::<FUSED, R, 16>(x, c, row, col);
        col += 16;
    }
    if W > 8 && col + 8 <= x.n {
        block::<FUSED, R, 8>(x, c, row, col);
        col += 8;
    }
    if col + 4 <= x.n {
        block::<FUSED, R, 4>(x, c, row, col);
        col += 4;
    }
    while col < x.n {
        block::<FUSED, R, 1>(x, c, row, col);
        col += 1;
    }
}

/// `R` rows × `W` columns of `c` from `(row, col)`, which lie inside `m × n`.
#[inline(always)]
fn block<const FUSED: bool, const R: usize, const W: usize>(
    x: &Product,
    c: &mut [f32],
    row: usize,
    col: usize,
) {
    let mut sums = [[0.0f32; W]; R];
    for p in 0..x.k {
        // SAFETY: `product` checked that `b` holds `k` rows of `n`; `col + W ≤ n` and `p < k`.
        let b: &[f32; W] = unsafe { &*x.b.data.as_ptr().add(p * x.b.stride + col).cast() };
        for (r, sums) in sums.iter_mut().enumerate() {
            let at = (row + r) * x.a.row_stride + p * x.a.col_stride;
            // SAFETY: `product` checked the last element of `a`; `row + r < m` and `p < k`.
            let a = unsafe { *x.a.data.get_unchecked(at) };
            for (sum, &b) in sums.iter_mut().zip(b) {
                *sum = if FUSED { a.mul_add(b, *sum) } else { a * b + *sum };
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let c = &mut c[(row + r) * x.n + col..][..W];
        for (c, &sum) in c.iter_mut().zip(sums) {
            *c = if x.store == Store::Add { *c + sum } else { sum };
        }
    }
}
