//! The passes of linears that read one input, with their adapters: q, k and v; gate and up; one alone.
//! What the adapters do with the input is computed for all of them together, where they read the same.
//!
//! Shapes: x, dx `[N, I]` · y, dy `[N, O]` · h, dh `[Σr, N]` (the adapters' inner values).

use crate::Result;
use crate::ctx::Ctx;
use crate::model::{Linear, Lora};
use crate::ops::dropout::DropKey;
use crate::ops::{dropout, elementwise, linear, lora};
use candle_core::{DType, Tensor};

/// What keys the dropout of one pass of a step; layers and modules add theirs.
#[derive(Clone, Copy, Debug)]
pub struct StepKey {
    pub seed: u64,
    pub step: u64,
    pub pass: u32,
}

/// How adapters act in a pass.
#[derive(Clone, Copy, Debug)]
pub enum Adapters {
    Off,
    /// Without dropout: evaluation and generation.
    On,
    Training(StepKey),
}

/// Adapters of a group that read the same values: all together, or one alone that has dropout.
#[derive(Default)]
struct Readers<'a> {
    /// The places of their linears in the group.
    places: Vec<usize>,
    factors: Vec<lora::Factors<'a>>,
    grads: Vec<[&'a Tensor; 2]>,
    dropout: Option<(f32, DropKey)>,
}

/// The adapters that act on a group of linears in this pass, by what they read.
fn readers<'a>(group: &[&'a Linear], adapters: Adapters) -> Vec<Readers<'a>> {
    let mut all: Vec<Readers> = vec![];
    for (place, linear) in group.iter().enumerate() {
        let Some(module) = &linear.lora else { continue };
        let dropout = match adapters {
            Adapters::Off => continue,
            Adapters::Training(StepKey { seed, step, pass }) if module.dropout > 0.0 => {
                let key = DropKey { seed, step, layer: 0, module: module.index, pass };
                Some((module.dropout, key))
            }
            _ => None,
        };
        let same = |other: &Readers| other.dropout.is_none() && dropout.is_none();
        let index = all.iter().position(same).unwrap_or(all.len());
        if index == all.len() {
            all.push(Readers { dropout, ..Readers::default() });
        }
        let Lora { a, b, da, db, scale, .. } = module;
        all[index].places.push(place);
        all[index].factors.push(lora::Factors { a, b, scale: *scale });
        all[index].grads.push([da, db]);
    }
    all
}

impl Readers<'_> {
    /// Calls `f` with what they read: `x`, or what dropout leaves of it.
    fn with_input<R>(
        &self,
        ctx: &Ctx,
        x: &Tensor,
        f: impl FnOnce(&Tensor) -> Result<R>,
    ) -> Result<R> {
        let Some((p, key)) = &self.dropout else { return f(x) };
        let dropped = dropout::drop(ctx, x, *p, key)?;
        let result = f(&dropped)?;
        ctx.recycle([dropped]);
        Ok(result)
    }

    /// Adds to the gradients of the adapters and returns `dh`.
    fn backward(&self, ctx: &Ctx, dys: &[Tensor], x: &Tensor, h: &Tensor) -> Result<Tensor> {
        let grads: Vec<lora::Grads> = (self.places.iter().zip(&self.grads))
            .map(|(&place, &[da, db])| lora::Grads { dy: &dys[place], da, db })
            .collect();
        self.with_input(ctx, x, |x| lora::backward_factors(ctx, (x, h), &self.factors, &grads))
    }
}

/// One linear's adapter, with its rows of `h` or `dh`.
struct Acting<'a> {
    factors: lora::Factors<'a>,
    rows: Tensor,
    dropout: Option<(f32, DropKey)>,
}

/// What acts on each linear of a group of so many. `h`: that of all readers.
fn acting<'a>(
    linears: usize,
    readers: &[Readers<'a>],
    h: &[Tensor],
) -> Result<Vec<Option<Acting<'a>>>> {
    let mut acting: Vec<Option<Acting>> = (0..linears).map(|_| None).collect();
    for (readers, h) in readers.iter().zip(h) {
        let rows = lora::rows_of_each(h, &readers.factors)?;
        for ((&place, &factors), rows) in readers.places.iter().zip(&readers.factors).zip(rows) {
            acting[place] = Some(Acting { factors, rows, dropout: readers.dropout });
        }
    }
    Ok(acting)
}

/// `h` of a group's adapters: one tensor for all that read the same values, in the order of the linears.
#[derive(Default)]
pub struct GroupSaved {
    h: Vec<Tensor>,
}

impl GroupSaved {
    /// Gives its memory to the next tensors.
    pub fn recycle(self, ctx: &Ctx) {
        self.h.into_iter().for_each(|h| ctx.recycle([h]));
    }
}

/// Returns `y`, in `dtype`, of each linear of a group that reads `x`.
pub fn group_forward(
    ctx: &Ctx,
    group: &[&Linear],
    x: &Tensor,
    adapters: Adapters,
    dtype: DType,
) -> Result<(Vec<Tensor>, GroupSaved)> {
    let readers = readers(group, adapters);
    let h = inner(ctx, &readers, x)?;
    let y: Result<Vec<Tensor>> = (group.iter().zip(&acting(group.len(), &readers, &h)?))
        .map(|(linear, adapter)| {
            let term = adapter.as_ref().map(|it| it.factors.forward_term(&it.rows));
            let forward = match dtype {
                DType::BF16 => linear::forward_rounded,
                _ => linear::forward,
            };
            forward(ctx, x, &linear.weight, linear.bias.as_ref(), term)
        })
        .collect();
    Ok((y?, GroupSaved { h }))
}

/// What [`group_forward`] saves, computed again.
pub fn group_inner(
    ctx: &Ctx,
    group: &[&Linear],
    x: &Tensor,
    adapters: Adapters,
) -> Result<GroupSaved> {
    Ok(GroupSaved { h: inner(ctx, &readers(group, adapters), x)? })
}

fn inner(ctx: &Ctx, readers: &[Readers], x: &Tensor) -> Result<Vec<Tensor>> {
    let of_each = |it: &Readers| it.with_input(ctx, x, |x| lora::forward(ctx, x, &it.factors));
    readers.iter().map(of_each).collect()
}

/// `y`, in f32, of a linear that reads `x` alone.
pub fn linear_forward(
    ctx: &Ctx,
    module: &Linear,
    x: &Tensor,
    adapters: Adapters,
) -> Result<(Tensor, GroupSaved)> {
    let (mut y, saved) = group_forward(ctx, &[module], x, adapters, DType::F32)?;
    Ok((y.remove(0), saved))
}

/// Adds to the gradients of a group's modules, and to `dx` where it is wanted (`None` inside: made
/// here).
pub fn group_backward(
    ctx: &Ctx,
    group: &[&Linear],
    dys: &[Tensor],
    (x, saved): (&Tensor, &GroupSaved),
    adapters: Adapters,
    dx: Option<&mut Option<Tensor>>,
) -> Result<()> {
    assert_eq!(group.len(), dys.len(), "a gradient for each linear of a group");
    for (linear, dy) in group.iter().zip(dys) {
        if let Some(dweight) = &linear.dweight {
            linear::backward_weight(ctx, dy, x, dweight)?;
        }
        if let Some(dbias) = &linear.dbias {
            linear::backward_bias(ctx, dy, dbias)?;
        }
    }
    let readers = readers(group, adapters);
    let dh: Result<Vec<Tensor>> =
        readers.iter().zip(&saved.h).map(|(it, h)| it.backward(ctx, dys, x, h)).collect();
    let dh = dh?;
    if let Some(dx) = dx {
        let acting = acting(group.len(), &readers, &dh)?;
        for ((linear, dy), adapter) in group.iter().zip(dys).zip(&acting) {
            add_input_gradient(ctx, linear, dy, adapter.as_ref(), dx)?;
        }
    }
    dh.into_iter().for_each(|dh| ctx.recycle([dh]));
    Ok(())
}

/// Adds `dy · w` and what goes through the adapter to `dx`, which is made here where there is none yet.
fn add_input_gradient(
    ctx: &Ctx,
    linear: &Linear,
    dy: &Tensor,
    adapter: Option<&Acting>,
    dx: &mut Option<Tensor>,
) -> Result<()> {
    let undropped = adapter.filter(|it| it.dropout.is_none());
    let term = undropped.map(|it| it.factors.backward_term(&it.rows));
    match dx {
        Some(dx) => linear::backward_input_add(ctx, dy, &linear.weight, term, dx)?,
        None => *dx = Some(linear::backward_input(ctx, dy, &linear.weight, term)?),
    }
    if let (Some(dx), Some(Acting { factors, rows, dropout: Some((p, key)) })) = (dx, adapter) {
        let before = lora::backward_input(ctx, rows, factors)?;
        let through = dropout::drop(ctx, &before, *p, key)?;
        elementwise::add_assign(ctx, dx, &through)?;
        ctx.recycle([before, through]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::{Precision, read};
    use crate::testing::tensor;
    use crate::weight::Weight;
    use kernels::Isa;
    use kernels::gemm::{Elements, Mat, Store, Term, gemm_sum};

    /// So many that each instruction set cuts sums over either into blocks.
    const N: usize = 1030;
    const I: usize = 530;
    const KEY: StepKey = StepKey { seed: 3, step: 5, pass: 1 };
    /// Outputs and rank of each linear: ranks differ, and one has no adapter.
    const GROUP: [(usize, usize); 4] = [(40, 4), (24, 0), (33, 7), (16, 16)];

    fn linear(place: usize, dropout: f32) -> Linear {
        let ((o, r), seed) = (GROUP[place], 10 * place as u64);
        let lora = (r > 0).then(|| Lora {
            a: tensor(seed + 1, &[r, I]),
            b: tensor(seed + 2, &[o, r]),
            da: tensor(seed + 3, &[r, I]),
            db: tensor(seed + 4, &[o, r]),
            scale: 0.3 + place as f32,
            dropout,
            index: place as u32,
        });
        let weight = Weight::Tensor(tensor(seed, &[o, I]));
        Linear { name: place.to_string(), weight, bias: None, dweight: None, dbias: None, lora }
    }

    fn values(x: &Tensor) -> Vec<f32> {
        read::<f32, _>(x, <[f32]>::to_vec).expect("f32 on the CPU")
    }

    /// y, dA and dB of one linear.
    type Results = [Vec<f32>; 3];

    /// Those of one linear by itself, whose h and dh have a row for each row of x; and what it
    /// adds to dx.
    fn by_itself(
        ctx: &Ctx,
        place: usize,
        (x, dy): (&Tensor, &Tensor),
        dropout: f32,
        dx: &mut Option<Vec<f32>>,
    ) -> Result<Results> {
        let linear = linear(place, dropout);
        let (o, r) = GROUP[place];
        let key = DropKey { seed: 3, step: 5, layer: 0, module: place as u32, pass: 1 };
        let dropped = values(&dropout::drop(ctx, x, dropout, &key)?);
        let (x, dy) = (values(x), values(dy));
        let w = values(&linear.weight.to_tensor(&ctx.device)?);
        let [a, b, mut da, mut db] = match &linear.lora {
            Some(lora) => [&lora.a, &lora.b, &lora.da, &lora.db].map(values),
            None => [const { vec![] }; 4],
        };
        let scale = linear.lora.as_ref().map_or(0.0, |lora| lora.scale);
        let mat = |rows, cols, x| Mat::new(rows, cols, Elements::F32(x));
        let (x, dropped, dy) = (mat(N, I, &x), mat(N, I, &dropped), mat(N, o, &dy));
        let (w, a, b) = (mat(o, I, &w), mat(r, I, &a), mat(o, r, &b));
        let term = |alpha, a, b| Term { alpha, a, b };
        let sum = |terms: &[Term], store, out: &mut [f32]| {
            gemm_sum(ctx.isa, ctx.precision, terms, store, out);
        };

        let (mut h, mut dh, mut y) = (vec![0.0; N * r], vec![0.0; N * r], vec![0.0; N * o]);
        sum(&[term(1.0, dropped, a.t())], Store::Overwrite, &mut h);
        sum(&[term(1.0, x, w.t()), term(scale, mat(N, r, &h), b.t())], Store::Overwrite, &mut y);
        sum(&[term(scale, dy, b)], Store::Overwrite, &mut dh);
        sum(&[term(scale, dy.t(), mat(N, r, &h))], Store::Add, &mut db);
        sum(&[term(1.0, mat(N, r, &dh).t(), dropped)], Store::Add, &mut da);

        let store = if dx.is_some() { Store::Add } else { Store::Overwrite };
        let dx = dx.get_or_insert_with(|| vec![0.0; N * I]);
        let (through_w, through_a) = (term(1.0, dy, w), term(1.0, mat(N, r, &dh), a));
        if dropout == 0.0 {
            sum(&[through_w, through_a], store, dx);
        } else {
            let mut before = vec![0.0; N * I];
            sum(&[through_w], store, dx);
            sum(&[through_a], Store::Overwrite, &mut before);
            let through = dropout::drop(ctx, &ctx.tensor(before, &[N, I])?, dropout, &key)?;
            dx.iter_mut().zip(values(&through)).for_each(|(dx, through)| *dx += through);
        }
        Ok([y, da, db])
    }

    /// Those of each linear of the group, then dx.
    fn together(
        ctx: &Ctx,
        (x, dys): (&Tensor, &[Tensor]),
        dropout: f32,
    ) -> Result<(Vec<Results>, Vec<f32>)> {
        let linears: Vec<Linear> = (0..GROUP.len()).map(|place| linear(place, dropout)).collect();
        let group: Vec<&Linear> = linears.iter().collect();
        let adapters = Adapters::Training(KEY);
        let (ys, saved) = group_forward(ctx, &group, x, adapters, DType::F32)?;
        let mut dx = None;
        group_backward(ctx, &group, dys, (x, &saved), adapters, Some(&mut dx))?;
        saved.recycle(ctx);
        let each = ys.iter().zip(&linears).map(|(y, linear)| match &linear.lora {
            Some(lora) => [y, &lora.da, &lora.db].map(values),
            None => [values(y), vec![], vec![]],
        });
        Ok((each.collect(), values(&dx.expect("asked for"))))
    }

    #[test]
    fn adapters_that_share_an_input_have_the_bits_of_each_by_itself() -> Result<()> {
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let x = tensor(100, &[N, I]);
        let dys: Vec<Tensor> =
            (0..).zip(GROUP).map(|(i, (o, _))| tensor(200 + i, &[N, o])).collect();
        for isa in Isa::available() {
            for precision in [Precision::F32, Precision::Bf16] {
                for (dropout, threads) in [(0.0, 1), (0.0, 3), (0.25, 1)] {
                    let case = format!("{} {precision:?} dropout {dropout}", isa.name());
                    let ctx = Ctx::new(isa, precision);
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                    let (each, dx) =
                        pool.expect("a pool").install(|| together(&ctx, (&x, &dys), dropout))?;
                    let mut want_dx = None;
                    for (place, got) in each.iter().enumerate() {
                        let want =
                            by_itself(&ctx, place, (&x, &dys[place]), dropout, &mut want_dx)?;
                        for (name, (got, want)) in
                            ["y", "dA", "dB"].iter().zip(got.iter().zip(&want))
                        {
                            assert!(bits(got) == bits(want), "{case}: {name} of linear {place}");
                        }
                    }
                    assert!(bits(&dx) == bits(&want_dx.expect("dx")), "{case}: dx");
                }
            }
        }
        Ok(())
    }
}
