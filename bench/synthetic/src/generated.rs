//! A source of tensors that holds none: values follow from a seed, the tensor's name and their place in it.
//! A matrix is made when the loader asks for it, and is gone when the loader has quantised it.

use candle_core::{Device, Tensor};
use engine::families::{self, ConfigError};
use engine::formats::{FormatError, Residency, StoredDtype, TensorInfo};
use engine::model::Source;
use engine::weight::Weight;
use half::bf16;
use rayon::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Of a matrix's values, as Transformers initialises Llama's.
const STANDARD_DEVIATION: f32 = 0.02;
/// What a thread makes at a time; a multiple of the four values that a hash gives.
const PIECE: usize = 1 << 16;

/// All tensors of a config in bf16.
pub struct Generated {
    config: Value,
    seed: u64,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
}

impl Generated {
    /// Errors: a config that no family reads.
    pub fn new(config: Value, seed: u64) -> Result<Generated, ConfigError> {
        let (family, spec) = families::read(&config, |_| false)?;
        let outer = spec.outer_slots().into_iter().map(|slot| (slot, 0));
        let inner = (0..spec.n_layers)
            .flat_map(|layer| spec.block_slots().into_iter().map(move |slot| (slot, layer)));
        let tensors: Vec<TensorInfo> = outer
            .chain(inner)
            .map(|(slot, layer)| {
                let (rows, cols) = spec.weight_dims(slot);
                let shape = if slot.is_norm() { vec![rows] } else { vec![rows, cols] };
                let bytes = shape.iter().product::<usize>() * size_of::<bf16>();
                let name = format!("{}.weight", (family.module)(slot, layer));
                TensorInfo { name, shape, dtype: StoredDtype::Bf16, bytes }
            })
            .collect();
        let by_name = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(Generated { config, seed, tensors, by_name })
    }

    fn find(&self, name: &str) -> Result<&TensorInfo, FormatError> {
        self.info(name).ok_or_else(|| FormatError::MissingTensor {
            path: self.path().into(),
            tensor: name.into(),
        })
    }

    /// Uniform with mean 0: four values of 16 bits from each hash of key and counter.
    fn values(&self, info: &TensorInfo) -> Vec<bf16> {
        let scale = STANDARD_DEVIATION * 3f32.sqrt() / f32::from(i16::MAX);
        let key = info.name.bytes().fold(self.seed, |key, byte| mix(key ^ u64::from(byte)));
        let mut values = vec![bf16::ZERO; info.shape.iter().product()];
        values.par_chunks_mut(PIECE).enumerate().for_each(|(piece, values)| {
            for (i, four) in values.chunks_mut(4).enumerate() {
                let bits = mix(key ^ (piece * PIECE / 4 + i) as u64);
                for (j, value) in four.iter_mut().enumerate() {
                    *value = bf16::from_f32(scale * f32::from((bits >> (16 * j)) as i16));
                }
            }
        });
        values
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014), after its increment.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Source for Generated {
    fn path(&self) -> &Path {
        Path::new("(generated)")
    }

    fn config(&self) -> &Value {
        &self.config
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// Norms start as ones, as they do in a model that was never trained.
    fn read_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), FormatError> {
        let info = self.find(name)?;
        let values = match info.shape.as_slice() {
            [len] => vec![1.0; *len],
            _ => self.values(info).into_iter().map(bf16::to_f32).collect(),
        };
        Ok((info.shape.clone(), values))
    }

    fn matrix(&self, name: &str, _: Residency) -> engine::Result<Weight> {
        let info = self.find(name)?;
        Ok(Weight::Tensor(Tensor::from_vec(self.values(info), info.shape.clone(), &Device::Cpu)?))
    }

    fn release(&self, _: &str) {}
}
