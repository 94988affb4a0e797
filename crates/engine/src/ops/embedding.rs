//! Rows of a table by token id, and the gradient of the table.
//!
//! ```text
//! x[n] = table[ids[n]]            dtable[v] += Σ_{n: ids[n] = v} dx[n]
//! ```
//! The sum runs over n in ascending order, whatever the threads.
//! Shapes: table, dtable `[V, C]` · ids `[N]` · x, dx `[N, C]`.

use super::{read_all, refuse};
use crate::ctx::{Ctx, write};
use crate::error::Result;
use crate::weight::{Elements, Weight};
use candle_core::Tensor;
use rayon::prelude::*;

/// Rows that a task of the gather copies.
const GATHER_ROWS: usize = 64;

/// Returns `x` in f32, whatever the table's dtype.
pub fn forward(ctx: &Ctx, table: &Weight, ids: &[u32]) -> Result<Tensor> {
    let (vocab_size, hidden_size) = table.dims()?;
    check_ids(ids, vocab_size)?;
    if !ctx.is_cpu() {
        return reference::forward(ctx, table, ids);
    }
    let mut x = ctx.buffer(ids.len() * hidden_size);
    if hidden_size > 0 {
        table.with_elements(|table| {
            x.par_chunks_mut(GATHER_ROWS * hidden_size).zip(ids.par_chunks(GATHER_ROWS)).for_each(
                |(x, ids)| {
                    for (x, &id) in x.chunks_exact_mut(hidden_size).zip(ids) {
                        copy_row(table, id as usize * hidden_size, x);
                    }
                },
            );
        })?;
    }
    ctx.tensor(x, &[ids.len(), hidden_size])
}

/// The row that starts at element `at`, as f32.
fn copy_row(table: Elements, at: usize, x: &mut [f32]) {
    let row = at..at + x.len();
    match table {
        Elements::F32(table) => x.copy_from_slice(&table[row]),
        Elements::Bf16(table) => x.iter_mut().zip(&table[row]).for_each(|(x, v)| *x = v.to_f32()),
        Elements::F16(table) => x.iter_mut().zip(&table[row]).for_each(|(x, v)| *x = v.to_f32()),
        Elements::FourBits(_) | Elements::Int8(_) => x.copy_from_slice(&table.slice(row).to_f32()),
    }
}

/// Adds to `dtable` the rows of `dx`.
pub fn backward(ctx: &Ctx, dx: &Tensor, ids: &[u32], dtable: &Tensor) -> Result<()> {
    let (vocab_size, hidden_size) = dtable.dims2()?;
    check_ids(ids, vocab_size)?;
    if dx.elem_count() != ids.len() * hidden_size {
        return refuse(
            "embedding",
            format!("dx {:?} for {} ids of {hidden_size}", dx.dims(), ids.len()),
        );
    }
    if !ctx.is_cpu() {
        return reference::backward(ctx, dx, ids, dtable);
    }
    if hidden_size == 0 {
        return Ok(());
    }
    // Sorted by id, and by n within an id: each id's run of rows is one task's.
    let mut order: Vec<(u32, u32)> = ids.iter().copied().zip(0..).collect();
    order.par_sort_unstable();
    let runs: Vec<&[(u32, u32)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
    write(dtable, |dtable| {
        let rows = rows_at(dtable, hidden_size, runs.iter().map(|run| run[0].0 as usize));
        read_all([dx], |[dx]| {
            rows.into_par_iter().zip(&runs).with_min_len(16).for_each(|(row, run)| {
                for &(_, n) in *run {
                    let dx = &dx[n as usize * hidden_size..][..hidden_size];
                    row.iter_mut().zip(dx).for_each(|(row, dx)| *row += dx);
                }
            });
        })
    })?
}

/// The rows of `table` at strictly ascending indices, each to be written by another thread.
fn rows_at(
    mut table: &mut [f32],
    hidden_size: usize,
    indices: impl Iterator<Item = usize>,
) -> Vec<&mut [f32]> {
    let mut passed = 0;
    let mut rows = Vec::new();
    for index in indices {
        let (_, rest) = table.split_at_mut((index - passed) * hidden_size);
        let (row, rest) = rest.split_at_mut(hidden_size);
        rows.push(row);
        table = rest;
        passed = index + 1;
    }
    rows
}

/// Ids come from the tokenizer or from a caller's rows; both are checked where they enter, so this is
/// the second side of that border.
fn check_ids(ids: &[u32], vocab_size: usize) -> Result<()> {
    match ids.iter().position(|&id| id as usize >= vocab_size) {
        Some(at) => {
            refuse("embedding", format!("id {} at {at}, the table has {vocab_size} rows", ids[at]))
        }
        None => Ok(()),
    }
}

/// The same, composed of candle's operations.
pub mod reference {
    use super::{Ctx, Result, Tensor, Weight};

    pub fn forward(ctx: &Ctx, table: &Weight, ids: &[u32]) -> Result<Tensor> {
        let ids = ctx.tensor(ids.to_vec(), &[ids.len()])?;
        Ok(table.to_tensor(&ctx.device)?.index_select(&ids, 0)?)
    }

    pub fn backward(ctx: &Ctx, dx: &Tensor, ids: &[u32], dtable: &Tensor) -> Result<()> {
        let ids = ctx.tensor(ids.to_vec(), &[ids.len()])?;
        let sum = dtable.index_add(&ids, dx, 0)?;
        crate::ops::elementwise::reference::assign(dtable, &sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Precision;
    use crate::testing::{distance, tensor};
    use candle_core::DType;

    #[test]
    fn rows_come_from_tables_of_every_dtype() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let ids: Vec<u32> = (0..200).map(|n| n * 7 % 11).collect();
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let table = Weight::Tensor(tensor(1, &[11, 6]).to_dtype(dtype)?);
            let x = forward(&ctx, &table, &ids)?;
            assert_eq!(
                x.to_vec2::<f32>()?,
                reference::forward(&ctx, &table, &ids)?.to_vec2::<f32>()?
            );
        }
        Ok(())
    }

    #[test]
    fn gradients_are_added_in_row_order_for_any_number_of_threads() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let ids: Vec<u32> = (0..2000).map(|n| n * n % 97 + 2).collect();
        let dx = tensor(1, &[2000, 6]);
        let mut want = tensor(2, &[100, 6]).to_vec2::<f32>()?;
        for (dx, &id) in dx.to_vec2::<f32>()?.iter().zip(&ids) {
            want[id as usize].iter_mut().zip(dx).for_each(|(sum, dx)| *sum += dx);
        }
        for threads in 1..=3 {
            let dtable = tensor(2, &[100, 6]);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a thread pool").install(|| backward(&ctx, &dx, &ids, &dtable))?;
            assert_eq!(dtable.to_vec2::<f32>()?, want, "{threads} threads");
        }
        let composed = tensor(2, &[100, 6]);
        reference::backward(&ctx, &dx, &ids, &composed)?;
        let fused = tensor(2, &[100, 6]);
        backward(&ctx, &dx, &ids, &fused)?;
        assert!(distance(&fused, &composed) < 1e-6);
        Ok(())
    }

    #[test]
    fn an_id_behind_the_table_is_refused() {
        let ctx = Ctx::cpu(Precision::F32);
        let table = tensor(1, &[11, 6]);
        let refused = [
            forward(&ctx, &Weight::Tensor(table.clone()), &[3, 11]).err(),
            backward(&ctx, &tensor(2, &[2, 6]), &[3, 11], &table).err(),
        ];
        for error in refused {
            let message = error.map(|error| error.to_string());
            assert_eq!(message.as_deref(), Some("embedding: id 11 at 1, the table has 11 rows"));
        }
    }
}
