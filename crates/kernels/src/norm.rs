//! RMS norm and layer norm over rows, and their gradients.
//!
//! ```text
//! RMS    r  = 1 / √(mean(x²) + eps)               y = (w + offset) · x · r
//!        dx = r · (ŵ·dy − x · r² · mean(ŵ·dy·x))   ŵ = w + offset
//!        dw = Σ_rows dy · x · r
//! layer  r  = 1 / √(mean((x − μ)²) + eps)         y = w · (x − μ) · r + b
//!        x̂  = (x − μ) · r
//!        dx = r · (w·dy − mean(w·dy) − x̂ · mean(w·dy·x̂))
//!        dw = Σ_rows dy · x̂        db = Σ_rows dy
//! ```
//! Shapes: x, y, dy, dx `[N, C]` · w, b, dw, db `[C]` · mean, rstd `[N]`. `eps` stands inside the
//! root; sums over a row are made in f32, in 16 partial sums. dw and db are added to, dx is written.

use crate::Isa;
use crate::blocks::{add_partials, block_slices, partials, rows_per_block};
use crate::simd::{shells, sum, sum_map, sum_map2, sum_map3};
use crate::value::Value;
use rayon::prelude::*;

/// What is added to an RMS norm's weight before it multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightOffset {
    Zero,
    /// Gemma keeps `weight − 1`.
    One,
}

impl WeightOffset {
    pub fn value(self) -> f32 {
        match self {
            WeightOffset::Zero => 0.0,
            WeightOffset::One => 1.0,
        }
    }
}

/// The inputs of an RMS norm: x `[N, C]`, w `[C]`.
#[derive(Clone, Copy)]
pub struct RmsNorm<'a> {
    pub x: &'a [f32],
    pub w: &'a [f32],
    pub offset: WeightOffset,
}

/// The inputs of a layer norm: x `[N, C]`, w `[C]`.
#[derive(Clone, Copy)]
pub struct LayerNorm<'a> {
    pub x: &'a [f32],
    pub w: &'a [f32],
}

/// What a layer norm's gradient needs of each row: mean and rstd `[N]`.
#[derive(Clone, Copy)]
pub struct LayerNormStats<'a> {
    pub mean: &'a [f32],
    pub rstd: &'a [f32],
}

/// Writes y `[N, C]` and rstd `[N]`.
pub fn rms_norm_forward<Y: Value>(
    isa: Isa,
    norm: RmsNorm,
    eps: f32,
    y: &mut [Y],
    rstd: &mut [f32],
) {
    let RmsNorm { x, w, offset } = norm;
    check_rows("rms_norm_forward", w.len(), rstd.len(), [x.len(), y.len()]);
    let block = rows_per_block(rstd.len());
    let elements = block * w.len();
    y.par_chunks_mut(elements)
        .zip(x.par_chunks(elements))
        .zip(rstd.par_chunks_mut(block))
        .for_each(|((y, x), rstd)| rms_rows(isa, RmsNorm { x, w, offset }, eps, y, rstd));
}

/// Writes dx `[N, C]` and adds to dw `[C]` where there is one.
pub fn rms_norm_backward(
    isa: Isa,
    dy: &[f32],
    norm: RmsNorm,
    rstd: &[f32],
    dx: &mut [f32],
    dw: Option<&mut [f32]>,
) {
    let RmsNorm { x, w, offset } = norm;
    check_rows("rms_norm_backward", w.len(), rstd.len(), [x.len(), dy.len(), dx.len()]);
    let block = rows_per_block(rstd.len());
    let elements = block * w.len();
    let blocks = rstd.len().div_ceil(block);
    let mut partial = partials(dw.is_some(), w.len(), blocks);
    dx.par_chunks_mut(elements)
        .zip(x.par_chunks(elements))
        .zip(dy.par_chunks(elements))
        .zip(rstd.par_chunks(block))
        .zip(block_slices(&mut partial, w.len(), blocks))
        .for_each(|((((dx, x), dy), rstd), dw)| {
            rms_rows_backward(isa, dy, RmsNorm { x, w, offset }, rstd, dx, dw);
        });
    if let (Some(dw), Some(mut partial)) = (dw, partial) {
        assert_eq!(dw.len(), w.len(), "rms_norm_backward: dw and w differ in length");
        add_partials(&mut partial, dw);
    }
}

/// Writes y `[N, C]`, mean and rstd `[N]`.
pub fn layer_norm_forward<Y: Value>(
    isa: Isa,
    norm: LayerNorm,
    b: Option<&[f32]>,
    eps: f32,
    y: &mut [Y],
    (mean, rstd): (&mut [f32], &mut [f32]),
) {
    let LayerNorm { x, w } = norm;
    check_rows("layer_norm_forward", w.len(), rstd.len(), [x.len(), y.len()]);
    assert_eq!(mean.len(), rstd.len(), "layer_norm_forward: mean and rstd differ in length");
    assert!(b.is_none_or(|b| b.len() == w.len()), "layer_norm_forward: b and w differ in length");
    let block = rows_per_block(rstd.len());
    let elements = block * w.len();
    y.par_chunks_mut(elements)
        .zip(x.par_chunks(elements))
        .zip(mean.par_chunks_mut(block))
        .zip(rstd.par_chunks_mut(block))
        .for_each(|(((y, x), mean), rstd)| {
            layer_rows(isa, LayerNorm { x, w }, b, eps, y, mean, rstd)
        });
}

/// Writes dx `[N, C]` and adds to dw and db `[C]` where there are some.
pub fn layer_norm_backward(
    isa: Isa,
    dy: &[f32],
    norm: LayerNorm,
    stats: LayerNormStats,
    dx: &mut [f32],
    (dw, db): (Option<&mut [f32]>, Option<&mut [f32]>),
) {
    let LayerNorm { x, w } = norm;
    let LayerNormStats { mean, rstd } = stats;
    check_rows("layer_norm_backward", w.len(), rstd.len(), [x.len(), dy.len(), dx.len()]);
    assert_eq!(mean.len(), rstd.len(), "layer_norm_backward: mean and rstd differ in length");
    let block = rows_per_block(rstd.len());
    let elements = block * w.len();
    let blocks = rstd.len().div_ceil(block);
    let mut dw_partial = partials(dw.is_some(), w.len(), blocks);
    let mut db_partial = partials(db.is_some(), w.len(), blocks);
    dx.par_chunks_mut(elements)
        .zip(x.par_chunks(elements))
        .zip(dy.par_chunks(elements))
        .zip(mean.par_chunks(block).zip(rstd.par_chunks(block)))
        .zip(block_slices(&mut dw_partial, w.len(), blocks))
        .zip(block_slices(&mut db_partial, w.len(), blocks))
        .for_each(|(((((dx, x), dy), (mean, rstd)), dw), db)| {
            layer_rows_backward(
                isa,
                dy,
                LayerNorm { x, w },
                LayerNormStats { mean, rstd },
                dx,
                (dw, db),
            );
        });
    for (sums, partial) in [(dw, dw_partial), (db, db_partial)] {
        if let (Some(sums), Some(mut partial)) = (sums, partial) {
            assert_eq!(sums.len(), w.len(), "layer_norm_backward: dw or db and w differ in length");
            add_partials(&mut partial, sums);
        }
    }
}

fn check_rows<const K: usize>(what: &str, hidden_size: usize, rows: usize, lens: [usize; K]) {
    assert!(hidden_size > 0, "{what}: rows of no element");
    assert!(
        lens.iter().all(|&len| len == hidden_size * rows),
        "{what}: lengths {lens:?} for {rows} rows of {hidden_size}"
    );
}

shells! {
    fn rms_rows<Y: Value>(norm: RmsNorm, eps: f32, y: &mut [Y], rstd: &mut [f32]) = rms_rows_body;
    fn rms_rows_backward(
        dy: &[f32], norm: RmsNorm, rstd: &[f32], dx: &mut [f32], dw: Option<&mut [f32]>,
    ) = rms_rows_backward_body;
    fn layer_rows<Y: Value>(
        norm: LayerNorm, b: Option<&[f32]>, eps: f32, y: &mut [Y], mean: &mut [f32], rstd: &mut [f32],
    ) = layer_rows_body;
    fn layer_rows_backward(
        dy: &[f32], norm: LayerNorm, stats: LayerNormStats, dx: &mut [f32],
        grads: (Option<&mut [f32]>, Option<&mut [f32]>),
    ) = layer_rows_backward_body;
}

#[inline(always)]
fn rms_rows_body<Y: Value>(norm: RmsNorm, eps: f32, y: &mut [Y], rstd: &mut [f32]) {
    let RmsNorm { x, w, offset } = norm;
    let (c, offset) = (w.len(), offset.value());
    for ((x, y), rstd) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(rstd) {
        let r = 1.0 / (sum_map(x, |x| x * x) / c as f32 + eps).sqrt();
        for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
            *y = Y::round((w + offset) * (x * r));
        }
        *rstd = r;
    }
}

#[inline(always)]
fn rms_rows_backward_body(
    dy: &[f32],
    norm: RmsNorm,
    rstd: &[f32],
    dx: &mut [f32],
    mut dw: Option<&mut [f32]>,
) {
    let RmsNorm { x, w, offset } = norm;
    let (c, offset) = (w.len(), offset.value());
    let rows = dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(dy.chunks_exact(c)).zip(rstd);
    for (((dx, x), dy), &r) in rows {
        let mean = sum_map3(dy, x, w, |dy, x, w| dy * (w + offset) * x) / c as f32;
        let pull = r * r * mean;
        for (((dx, &x), &dy), &w) in dx.iter_mut().zip(x).zip(dy).zip(w) {
            *dx = r * ((w + offset) * dy - x * pull);
        }
        if let Some(dw) = dw.as_deref_mut() {
            for ((dw, &x), &dy) in dw.iter_mut().zip(x).zip(dy) {
                *dw += dy * (x * r);
            }
        }
    }
}

#[inline(always)]
fn layer_rows_body<Y: Value>(
    norm: LayerNorm,
    b: Option<&[f32]>,
    eps: f32,
    y: &mut [Y],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let LayerNorm { x, w } = norm;
    let c = w.len();
    let stats = mean.iter_mut().zip(rstd);
    for ((x, y), (mean, rstd)) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(stats) {
        let mu = sum(x) / c as f32;
        let r = 1.0 / (sum_map(x, |x| (x - mu) * (x - mu)) / c as f32 + eps).sqrt();
        if let Some(b) = b {
            for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(w).zip(b) {
                *y = Y::round(w * ((x - mu) * r) + b);
            }
        } else {
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
                *y = Y::round(w * ((x - mu) * r));
            }
        }
        (*mean, *rstd) = (mu, r);
    }
}

#[inline(always)]
fn layer_rows_backward_body(
    dy: &[f32],
    norm: LayerNorm,
    stats: LayerNormStats,
    dx: &mut [f32],
    (mut dw, mut db): (Option<&mut [f32]>, Option<&mut [f32]>),
) {
    let LayerNorm { x, w } = norm;
    let c = w.len();
    let stats = stats.mean.iter().zip(stats.rstd);
    let rows = dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(dy.chunks_exact(c)).zip(stats);
    for (((dx, x), dy), (&mu, &r)) in rows {
        let mean = sum_map2(dy, w, |dy, w| w * dy) / c as f32;
        let pull = sum_map3(dy, x, w, |dy, x, w| w * dy * ((x - mu) * r)) / c as f32;
        for (((dx, &x), &dy), &w) in dx.iter_mut().zip(x).zip(dy).zip(w) {
            *dx = r * (w * dy - mean - (x - mu) * r * pull);
        }
        if let Some(dw) = dw.as_deref_mut() {
            for ((dw, &x), &dy) in dw.iter_mut().zip(x).zip(dy) {
                *dw += dy * ((x - mu) * r);
            }
        }
        if let Some(db) = db.as_deref_mut() {
            for (db, &dy) in db.iter_mut().zip(dy) {
                *db += dy;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{rounded, same_bits, values, widened};
    use half::bf16;

    /// Rows of a whole block and of parts, widths that are no multiple of a register.
    const SHAPES: [(usize, usize); 5] = [(1, 1), (3, 5), (16, 64), (50, 33), (2100, 24)];

    #[test]
    fn the_same_bits_on_every_set_and_for_any_number_of_threads() {
        for (rows, c) in SHAPES {
            let (x, dy, w) = (values(1, rows * c), values(2, rows * c), values(3, c));
            let (w, b) = (&w[..], &values(4, c)[..]);
            same_bits(|isa| {
                let norm = RmsNorm { x: &x, w, offset: WeightOffset::One };
                let (mut y, mut rstd) = (vec![0.0; rows * c], vec![0.0; rows]);
                rms_norm_forward(isa, norm, 1e-6, &mut y, &mut rstd);
                let (mut dx, mut dw) = (vec![0.0; rows * c], vec![1.0; c]);
                rms_norm_backward(isa, &dy, norm, &rstd, &mut dx, Some(&mut dw));
                [y, rstd, dx, dw].concat()
            });
            same_bits(|isa| {
                let norm = LayerNorm { x: &x, w };
                let mut y = vec![0.0; rows * c];
                let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
                layer_norm_forward(isa, norm, Some(b), 1e-5, &mut y, (&mut mean, &mut rstd));
                let stats = LayerNormStats { mean: &mean, rstd: &rstd };
                let (mut dx, mut dw, mut db) = (vec![0.0; rows * c], vec![1.0; c], vec![2.0; c]);
                layer_norm_backward(isa, &dy, norm, stats, &mut dx, (Some(&mut dw), Some(&mut db)));
                [y, mean, rstd, dx, dw, db].concat()
            });
        }
    }

    #[test]
    fn in_bf16_they_are_those_of_f32_rounded() {
        for (rows, c) in SHAPES {
            let (x, w, b) = (values(1, rows * c), values(3, c), values(4, c));
            let [mut y, mut rms, mut mean, mut rstd] =
                [rows * c, rows, rows, rows].map(|n| vec![0.0; n]);
            let norm = RmsNorm { x: &x, w: &w, offset: WeightOffset::One };
            rms_norm_forward(Isa::best(), norm, 1e-6, &mut y, &mut rms);
            let mut want = vec![widened(&rounded(&y)), rms];
            let norm = LayerNorm { x: &x, w: &w };
            for b in [None, Some(&b[..])] {
                let stats = (&mut mean[..], &mut rstd[..]);
                layer_norm_forward(Isa::best(), norm, b, 1e-5, &mut y, stats);
                want.extend([widened(&rounded(&y)), mean.clone(), rstd.clone()]);
            }
            let got = same_bits(|isa| {
                let (mut y, mut rms) = (vec![bf16::ZERO; rows * c], vec![0.0; rows]);
                let norm = RmsNorm { x: &x, w: &w, offset: WeightOffset::One };
                rms_norm_forward(isa, norm, 1e-6, &mut y, &mut rms);
                let mut got = vec![widened(&y), rms];
                let norm = LayerNorm { x: &x, w: &w };
                for b in [None, Some(&b[..])] {
                    let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
                    let stats = (&mut mean[..], &mut rstd[..]);
                    layer_norm_forward(isa, norm, b, 1e-5, &mut y, stats);
                    got.extend([widened(&y), mean, rstd]);
                }
                got.concat()
            });
            assert_eq!(got, want.concat(), "{rows} rows of {c}");
        }
    }

    #[test]
    fn no_row_at_all_is_fine() {
        let (w, mut dw) = ([1.0, 2.0], [5.0, 6.0]);
        let norm = RmsNorm { x: &[], w: &w, offset: WeightOffset::Zero };
        rms_norm_forward::<f32>(Isa::best(), norm, 1e-6, &mut [], &mut []);
        rms_norm_backward(Isa::best(), &[], norm, &[], &mut [], Some(&mut dw));
        assert_eq!(dw, [5.0, 6.0]);
    }
}
