//! What tests of several modules share: the reference results beside the checkout, numbers,
//! distances, and central differences in f64.

use crate::error::Result;
use candle_core::{DType, Device, Tensor};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A temporary folder that goes away with its owner.
pub(crate) struct TempFolder(PathBuf);

impl TempFolder {
    pub(crate) fn new() -> TempFolder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lora-train-engine-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a temporary folder");
        TempFolder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // A folder that stays behind in the system's temporary folder is no failure of the test.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Numbers in ±2, the same for the same seed.
pub(crate) fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 4.0
    };
    (0..n).map(|_| next()).collect()
}

/// A tensor of [`values`] on the CPU.
pub(crate) fn tensor(seed: u64, shape: &[usize]) -> Tensor {
    let values = values(seed, shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape has")
}

pub(crate) fn f64s(x: &Tensor) -> Vec<f64> {
    let flat = x.to_dtype(DType::F64).and_then(|x| x.flatten_all()).and_then(|x| x.to_vec1());
    flat.expect("a tensor on the CPU")
}

pub(crate) fn to_f64(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F64).expect("a tensor on the CPU")
}

/// `‖a − b‖ / ‖b‖`.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (f64s(a), f64s(b));
    let squares = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    squares(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / squares(&mut b.iter().copied()).max(1e-300)
}

/// The gradient of `loss` at `x` (f64) by central differences.
pub(crate) fn central_differences(x: &Tensor, loss: impl Fn(&Tensor) -> Result<Tensor>) -> Tensor {
    const STEP: f64 = 1e-5;
    let values = f64s(x);
    let at = |i: usize, step: f64| {
        let mut moved = values.clone();
        moved[i] += step;
        let x = Tensor::from_vec(moved, x.shape(), &Device::Cpu)?;
        Ok::<f64, crate::Error>(loss(&x)?.to_dtype(DType::F64)?.sum_all()?.to_scalar()?)
    };
    let slope = |i: usize| Ok((at(i, STEP)? - at(i, -STEP)?) / (2.0 * STEP));
    let slopes: Result<Vec<f64>> = (0..values.len()).map(slope).collect();
    Tensor::from_vec(slopes.expect("the loss"), x.shape(), &Device::Cpu).expect("the shape of x")
}
