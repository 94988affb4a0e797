//! What every op is given: device, instruction set and precision; and the helpers that turn a candle
//! tensor on the CPU into a slice.

use crate::error::Result;
use crate::workspace::{Element, Workspace};
use candle_core::{
    CpuStorage, DType, Device, InplaceOp1, Layout, Storage, Tensor, WithDType, bail,
};
use half::bf16;
use kernels::Isa;
use kernels::gemm::Elements;
use std::marker::PhantomData;

pub use kernels::gemm::Precision;

/// The context of a session's ops.
#[derive(Clone, Debug)]
pub struct Ctx {
    pub device: Device,
    pub isa: Isa,
    pub precision: Precision,
    pub workspace: Workspace,
}

impl Ctx {
    pub fn cpu(precision: Precision) -> Ctx {
        Ctx::new(Isa::best(), precision)
    }

    /// Of the CPU, with an instruction set.
    pub fn new(isa: Isa, precision: Precision) -> Ctx {
        Ctx { device: Device::Cpu, isa, precision, workspace: Workspace::default() }
    }

    /// A CPU tensor takes the fused path, any other the composition of candle ops.
    pub fn is_cpu(&self) -> bool {
        self.device.is_cpu()
    }

    /// A tensor of the context's device that takes over `data` without a copy on the CPU.
    pub fn tensor<T: WithDType>(&self, data: Vec<T>, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_vec(data, shape, &self.device)?)
    }

    /// Memory for an output that is written whole: what it holds is left from before.
    pub fn buffer<T: Element>(&self, len: usize) -> Vec<T> {
        self.workspace.take(len)
    }

    /// The type of activations between a norm and the residual stream: products read them rounded in
    /// bf16 mode, so they are rounded when they are made, and need half the memory.
    pub fn activation_dtype(&self) -> DType {
        match self.precision {
            Precision::Bf16 if self.is_cpu() => DType::BF16,
            _ => DType::F32,
        }
    }

    /// Gives the memory of tensors to the next ones. The caller holds their last handles.
    pub fn recycle<const N: usize>(&self, tensors: [Tensor; N]) {
        tensors.into_iter().for_each(|x| self.workspace.recycle(x));
    }

    pub fn zeros(&self, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::zeros(shape, DType::F32, &self.device)?)
    }
}

/// Calls `f` with the elements of a contiguous CPU tensor.
pub fn read<T: WithDType, R>(x: &Tensor, f: impl FnOnce(&[T]) -> R) -> Result<R> {
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(candle_core::Error::Msg("read: the tensor is not on the CPU".into()).into());
    };
    let Some((from, to)) = layout.contiguous_offsets() else {
        return Err(candle_core::Error::Msg("read: the tensor is not contiguous".into()).into());
    };
    Ok(f(&storage.as_slice::<T>()?[from..to]))
}

/// Calls `f` with a contiguous CPU tensor as an operand of a product.
pub fn operand<R>(x: &Tensor, f: impl FnOnce(Elements) -> R) -> Result<R> {
    match x.dtype() {
        DType::BF16 => read::<bf16, _>(x, |x| f(Elements::Bf16(x))),
        _ => read::<f32, _>(x, |x| f(Elements::F32(x))),
    }
}

/// Calls the body with `$T` for a type of activations: bf16, or f32.
macro_rules! with_element {
    ($dtype:expr, |$T:ident| $body:expr) => {
        match $dtype {
            candle_core::DType::BF16 => {
                type $T = half::bf16;
                $body
            }
            _ => {
                type $T = f32;
                $body
            }
        }
    };
}
pub(crate) use with_element;

/// Calls `f` with the elements of a contiguous CPU tensor, to change them in place. All clones of the
/// tensor see the change.
pub fn write<T: Element, R>(x: &Tensor, f: impl FnOnce(&mut [T]) -> R) -> Result<R> {
    let call = WriteOp(std::sync::Mutex::new((Some(f), None)), PhantomData);
    x.inplace_op1(&call)?;
    let (_, result) = call.0.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    Ok(result.expect("inplace_op1 ran the closure"))
}

/// A closure as candle's in-place op. The lock is for the `&self` of the trait; it is never contended.
struct WriteOp<T, F, R>(std::sync::Mutex<(Option<F>, Option<R>)>, PhantomData<T>);

impl<T: Element, R, F: FnOnce(&mut [T]) -> R> InplaceOp1 for WriteOp<T, F, R> {
    fn name(&self) -> &'static str {
        "write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let Some(data) = T::values(storage) else {
            bail!("write: the tensor is not of {:?}", T::DTYPE);
        };
        let Some((from, to)) = layout.contiguous_offsets() else {
            bail!("write: the tensor is not contiguous");
        };
        let mut slot = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(f) = slot.0.take() {
            slot.1 = Some(f(&mut data[from..to]));
        }
        Ok(())
    }
}
