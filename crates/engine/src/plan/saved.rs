//! The bytes of the files that a training writes: of their tensors, which is all but a page. From shapes
//! and stored types alone; what is written is decided by `model::write`, `model::adapter_files` and
//! `checkpoint`, and must stay the same here.

use super::Stored;
use super::units::{Counting, Unit};
use crate::formats::hf_folder::SavedDtype;
use crate::model::vocabulary::SaveEmbeddings;
use crate::model::{Method, write};
use crate::spec::Slot;
use candle_core::DType;
use serde::Serialize;

/// What the disk has to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SavedBytes {
    /// The adapter, or the model in the dtype that it came in.
    pub result: u64,
    /// One checkpoint: what is trained in f32, and the optimizer's state.
    pub checkpoint: u64,
}

const F32_BYTES: u64 = size_of::<f32>() as u64;

/// `resized`: the vocabulary has other rows than the files.
pub(super) fn saved_bytes(
    counting: &Counting,
    stored: &Stored,
    all: Unit,
    save: SaveEmbeddings,
    resized: bool,
) -> SavedBytes {
    if matches!(counting.method, Method::Full) {
        let dtype = match stored {
            Stored::Headers(files) => write::stored_dtype(files),
            Stored::Config(DType::BF16) => SavedDtype::Bf16,
            Stored::Config(DType::F16) => SavedDtype::F16,
            Stored::Config(_) => SavedDtype::F32,
        };
        let result = all.base * dtype.candle().size_in_bytes() as u64;
        return SavedBytes { result, checkpoint: all.base * F32_BYTES + all.state };
    }
    let beside = match save {
        SaveEmbeddings::Never => false,
        SaveEmbeddings::Always => true,
        SaveEmbeddings::Auto => resized,
    };
    let matrices: u64 = [Slot::Embedding, Slot::Head]
        .into_iter()
        .filter(|_| beside)
        .map(|slot| matrix_bytes(counting, stored, slot))
        .sum();
    let result = all.trainable * F32_BYTES + matrices;
    SavedBytes { result, checkpoint: result + all.state }
}

/// An embedding or a head as it goes with an adapter: none where it is trained, and so counted already.
fn matrix_bytes(counting: &Counting, stored: &Stored, slot: Slot) -> u64 {
    let Counting { spec, family, method, .. } = counting;
    let module = (family.module)(slot, 0);
    if matches!(method, Method::Lora(lora) if lora.saves(&module)) {
        return 0;
    }
    let lies = if spec.tied_head { (family.module)(Slot::Embedding, 0) } else { module };
    let dtype = stored.plain(&format!("{lies}.weight")).unwrap_or(DType::F32);
    (spec.vocab_size * spec.hidden_size * dtype.size_in_bytes()) as u64
}
