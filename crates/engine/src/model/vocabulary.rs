//! How many rows the embedding and the head have, and what the rows are that the files lack.
//!
//! ```text
//! mean[c] = 1/R · Σ_r W[r, c]        over the R rows of the files; each new row is this one
//! ```
//! as the scripts of Stanford Alpaca and QLoRA make them. The sum runs in f64 over fixed blocks of rows;
//! it is rounded to f32, then to the matrix's dtype, as torch rounds a mean. Shapes: W `[R, C]`.
//! Never decides which tokens there are, and touches no row that the files have.

use super::{Model, ModelError};
use crate::Result;
use crate::families::Family;
use crate::formats::peft::{self, AdapterTensor, Part};
use crate::formats::write::TensorBytes;
use crate::formats::{FormatError, StoredDtype};
use crate::model::Linear;
use crate::options::{EngineOptions, MethodOptions};
use crate::spec::{DecoderSpec, Slot};
use crate::token_ids::TokenIds;
use crate::weight::{Elements, Weight};
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;
use serde::Deserialize;

/// Rows that are summed in one go: enough to read a matrix at memory's speed, few sums to hold.
const BLOCK_ROWS: usize = 4096;

/// Whether embedding and head are saved with an adapter: PEFT's `save_embedding_layers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveEmbeddings {
    /// Where they are not those of the base model's files.
    #[default]
    Auto,
    Always,
    Never,
}

/// What a model knows of its vocabulary beside its size, `spec.vocab_size`.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    /// Rows that the files have.
    pub stored_rows: usize,
    /// Whether an adapter brought an embedding or a head of its own.
    pub replaced: bool,
    pub save: SaveEmbeddings,
    /// The tokenizer's, for the config of a model that is written.
    pub ids: TokenIds,
}

impl Vocabulary {
    pub fn stored(stored_rows: usize) -> Vocabulary {
        let (save, ids) = (SaveEmbeddings::Auto, TokenIds::default());
        Vocabulary { stored_rows, replaced: false, save, ids }
    }
}

/// The rows that embedding and head get: those of the adapter that is read where it has an embedding,
/// else those of the files; more where the options ask for more. Reads headers alone.
pub fn rows(options: &EngineOptions, family: &Family, spec: &DecoderSpec) -> Result<usize> {
    let name = peft::tensor_name(&(family.module)(Slot::Embedding, 0), Part::Weight);
    let brought = match (&options.adapter, &options.method) {
        (None, _) | (_, MethodOptions::Full) => None,
        (Some(dir), _) => peft::tensor_rows(dir, &name)?,
    };
    Ok(brought.unwrap_or(spec.vocab_size).max(options.vocab_rows.unwrap_or(0)))
}

/// The matrix with so many rows, in its dtype. The one that has them already comes back as it is.
pub fn resize(weight: Weight, rows: usize) -> Result<Weight> {
    let (stored, cols) = weight.dims()?;
    if stored == rows {
        return Ok(weight);
    }
    let shape = (rows, cols);
    let resized = weight.with_elements(|elements| match elements {
        Elements::Bf16(w) => {
            let values = resize_values(w, cols, rows, bf16::to_f32, bf16::from_f32)?;
            Ok::<_, crate::Error>(Tensor::from_vec(values, shape, &Device::Cpu)?)
        }
        Elements::F16(w) => {
            let values = resize_values(w, cols, rows, f16::to_f32, f16::from_f32)?;
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
        }
        Elements::F32(w) => {
            Ok(Tensor::from_vec(resize_values(w, cols, rows, |x| x, |x| x)?, shape, &Device::Cpu)?)
        }
        // No embedding is kept in few bits; a head where bitsandbytes was told to.
        codes @ (Elements::FourBits(_) | Elements::Int8(_)) => {
            let values = resize_values(&codes.to_f32(), cols, rows, |x| x, |x| x)?;
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
        }
    })??;
    Ok(Weight::Tensor(resized))
}

/// The same of f32 values that will be trained.
pub fn resize_f32(values: Vec<f32>, cols: usize, rows: usize) -> Result<Vec<f32>> {
    match values.len() == rows * cols {
        true => Ok(values),
        false => Ok(resize_values(&values, cols, rows, |x| x, |x| x)?),
    }
}

fn resize_values<T: Copy + Send + Sync>(
    w: &[T],
    cols: usize,
    rows: usize,
    to_f32: fn(T) -> f32,
    from_f32: fn(f32) -> T,
) -> Result<Vec<T>, FormatError> {
    let len = rows.checked_mul(cols);
    let full = || FormatError::Memory {
        tensor: format!("a vocabulary of {rows} rows"),
        bytes: (size_of::<T>() as u64).saturating_mul(len.unwrap_or(usize::MAX) as u64),
    };
    let len = len.ok_or_else(full)?;
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|_| full())?;
    out.extend_from_slice(&w[..len.min(w.len())]);
    if len > w.len() {
        let mean: Vec<T> = mean_row(w, cols, to_f32).into_iter().map(from_f32).collect();
        while out.len() < len {
            out.extend_from_slice(&mean);
        }
    }
    Ok(out)
}

/// The mean over the rows. The same bits on any number of threads: blocks of rows are summed apart,
/// and their sums in order.
fn mean_row<T: Copy + Send + Sync>(w: &[T], cols: usize, to_f32: fn(T) -> f32) -> Vec<f32> {
    let sums: Vec<Vec<f64>> = w
        .par_chunks(BLOCK_ROWS * cols)
        .map(|block| {
            let mut sum = vec![0.0; cols];
            for row in block.chunks_exact(cols) {
                sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(to_f32(x)));
            }
            sum
        })
        .collect();
    let n_rows = (w.len() / cols) as f64;
    let column = |c: usize| sums.iter().map(|sum| sum[c]).sum::<f64>();
    (0..cols).map(|c| (column(c) / n_rows) as f32).collect()
}

/// Puts the embedding and the head that an adapter brought in place of the base's, in the base's
/// dtype. Those that are trained are the caller's. Returns the names that were taken.
pub fn replace(model: &mut Model, tensors: &[AdapterTensor]) -> Result<Vec<String>> {
    let brought = |linear: &Linear| {
        let name = peft::tensor_name(&linear.name, Part::Weight);
        let trained = model.params.iter().any(|param| param.name == name);
        tensors.iter().find(|tensor| !trained && tensor.name == name)
    };
    let (embedding, head) = (brought(&model.embedding), brought(&model.head));
    if let Some(tensor) = embedding {
        model.embedding.weight = in_place_of(&model.embedding.weight, tensor)?;
        if model.spec.tied_head && model.head.dweight.is_none() {
            model.head.weight = model.embedding.weight.clone();
        }
    }
    // PEFT writes a tied matrix twice.
    let twin = |head: &AdapterTensor| embedding.is_some_and(|e| e.data == head.data);
    if let Some(tensor) = head.filter(|head| !(model.spec.tied_head && twin(head))) {
        model.head.weight = in_place_of(&model.head.weight, tensor)?;
    }
    let names: Vec<String> =
        [embedding, head].into_iter().flatten().map(|t| t.name.clone()).collect();
    model.vocabulary.replaced |= !names.is_empty();
    Ok(names)
}

fn in_place_of(weight: &Weight, tensor: &AdapterTensor) -> Result<Weight> {
    let (rows, cols) = weight.dims()?;
    if tensor.shape != [rows, cols] {
        let (name, found) = (tensor.name.clone(), tensor.shape.clone());
        return Err(ModelError::AdapterShape { name, found, expected: vec![rows, cols] }.into());
    }
    let value = Tensor::from_slice(&tensor.data, (rows, cols), &Device::Cpu)?;
    Ok(match weight {
        Weight::FourBits(_) | Weight::Int8(_) => Weight::Tensor(value),
        _ => Weight::Tensor(value.to_dtype(weight.dtype())?),
    })
}

/// Calls `f` with the embedding and the head as PEFT saves them beside an adapter, each where it lies (in
/// f32 what is stored in few bits): both, also where they are one matrix. None where they are not to be
/// saved, or are trained and so among the adapter's own tensors.
pub fn with_saved<R>(model: &Model, f: impl FnOnce(&[TensorBytes]) -> Result<R>) -> Result<R> {
    let Vocabulary { stored_rows, replaced, save, .. } = model.vocabulary;
    let saves = match save {
        SaveEmbeddings::Always => true,
        SaveEmbeddings::Never => false,
        SaveEmbeddings::Auto => replaced || model.spec.vocab_size != stored_rows,
    };
    let named = [&model.embedding, &model.head]
        .map(|linear| (peft::tensor_name(&linear.name, Part::Weight), linear));
    let trained = |name: &str| model.params.iter().any(|param| param.name == name);
    let mut saved = Vec::new();
    for (name, linear) in named.iter().filter(|(name, _)| saves && !trained(name)) {
        let weight = &linear.weight;
        let values = weight.quantized().map(|_| weight.to_tensor(&Device::Cpu));
        saved.push((name, values.transpose()?.map_or(weight.clone(), Weight::Tensor)));
    }
    let shape = [model.spec.vocab_size, model.spec.hidden_size];
    match saved.as_slice() {
        [] => f(&[]),
        [(name, weight)] => weight.with_elements(|x| f(&[tensor_bytes(name, &shape, x)]))?,
        [(name, weight), (second, other), ..] => weight.with_elements(|x| {
            let x = tensor_bytes(name, &shape, x);
            other.with_elements(|y| f(&[x, tensor_bytes(second, &shape, y)]))?
        })?,
    }
}

fn tensor_bytes<'a>(name: &'a str, shape: &'a [usize], elements: Elements<'a>) -> TensorBytes<'a> {
    let (dtype, bytes) = match elements {
        Elements::F32(w) => (StoredDtype::F32, bytemuck::cast_slice(w)),
        Elements::Bf16(w) => (StoredDtype::Bf16, bytemuck::cast_slice(w)),
        Elements::F16(w) => (StoredDtype::F16, bytemuck::cast_slice(w)),
        Elements::FourBits(_) | Elements::Int8(_) => {
            unreachable!("values in few bits are unpacked before they are saved")
        }
    };
    TensorBytes { name, dtype, shape, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    fn rows_of(weight: &Weight) -> Vec<Vec<f32>> {
        weight.to_tensor(&Device::Cpu).and_then(|t| Ok(t.to_vec2()?)).expect("a matrix")
    }

    #[test]
    fn a_new_row_is_the_mean_of_the_old_ones() -> Result<()> {
        let w = Tensor::new(&[[1f32, 2.0], [3.0, 6.0], [5.0, -2.0]], &Device::Cpu)?;
        let grown = resize(Weight::Tensor(w.clone()), 5)?;
        let mean = vec![3.0, 2.0];
        assert_eq!(
            rows_of(&grown),
            [vec![1.0, 2.0], vec![3.0, 6.0], vec![5.0, -2.0], mean.clone(), mean]
        );
        let cut = resize(Weight::Tensor(w.clone()), 2)?;
        assert_eq!(rows_of(&cut), [[1.0, 2.0], [3.0, 6.0]]);
        assert_eq!(rows_of(&resize(Weight::Tensor(w), 3)?).len(), 3);
        Ok(())
    }

    #[test]
    fn the_mean_is_rounded_once_to_the_stored_dtype() -> Result<()> {
        // 1 + 2⁻⁷ is the bf16 after 1: the mean of 1, 1 and it, 1.0026…, rounds to 1; of 1 and two
        // of it, 1.0052…, to it.
        for (values, mean) in
            [([1.0f32, 1.0, 1.0078125], 1.0), ([1.0, 1.0078125, 1.0078125], 1.0078125)]
        {
            let w = Tensor::new(&values, &Device::Cpu)?.reshape((3, 1))?.to_dtype(DType::BF16)?;
            let grown = resize(Weight::Tensor(w), 4)?;
            assert_eq!(grown.dtype(), DType::BF16);
            assert_eq!(rows_of(&grown)[3], [mean]);
        }
        Ok(())
    }

    #[test]
    fn the_mean_has_the_same_bits_on_any_number_of_threads() {
        let (n_rows, cols) = (3 * BLOCK_ROWS + 7, 5);
        let w = crate::testing::values(3, n_rows * cols);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a thread pool").install(|| mean_row(&w, cols, |x| x))
        };
        assert_eq!(on(1), on(3));
        let exact = |c: usize| {
            let column = w.iter().skip(c).step_by(cols).map(|&x| f64::from(x));
            column.sum::<f64>() / n_rows as f64
        };
        for (c, mean) in on(2).into_iter().enumerate() {
            assert!((f64::from(mean) - exact(c)).abs() <= 1e-9, "{mean}");
        }
    }

    #[test]
    fn rows_that_no_memory_holds_are_an_error() {
        let w = Weight::Tensor(Tensor::zeros((2, 3), DType::F32, &Device::Cpu).expect("zeros"));
        for rows in [usize::MAX / 4, usize::MAX / 64] {
            let error = resize(w.clone(), rows).err().expect("refused");
            assert_eq!(error.code(), crate::Code::Memory, "{error}");
        }
    }
}
