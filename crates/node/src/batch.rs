//! A step's sequences as typed arrays, cut into the engine's micro-batches.

use engine::decoder::MicroBatch;
use napi::bindgen_prelude::{Int32Array, Uint32Array};
use napi_derive::napi;

/// Sequence s is `ids[seqStarts[s]..seqStarts[s + 1]]`; `microStarts` cuts the sequences into
/// micro-batches. Labels are not shifted, −100 is masked.
#[napi(object, object_to_js = false)]
pub struct StepBatch {
    pub ids: Uint32Array,
    pub labels: Int32Array,
    pub seq_starts: Uint32Array,
    pub micro_starts: Uint32Array,
}

/// Copies the arrays, since JavaScript may change them while the engine works. Positions that point
/// outside are cut to the arrays' ends: the engine refuses the batch then.
pub fn micro_batches(batch: &StepBatch) -> Vec<MicroBatch> {
    let (ids, labels): (&[u32], &[i32]) = (&batch.ids, &batch.labels);
    let (seqs, micros): (&[u32], &[u32]) = (&batch.seq_starts, &batch.micro_starts);
    let cut = |from: usize, to: usize, len: usize| from.min(len)..to.max(from).min(len);
    let micro = |w: &[u32]| {
        let starts = seqs.get(w[0] as usize..=w[1] as usize).unwrap_or_default();
        let from = starts.first().copied().unwrap_or(0) as usize;
        let to = starts.last().copied().unwrap_or(0) as usize;
        MicroBatch {
            ids: ids[cut(from, to, ids.len())].to_vec(),
            labels: labels[cut(from, to, labels.len())].to_vec(),
            seq_starts: starts.iter().map(|s| (*s as usize).saturating_sub(from)).collect(),
        }
    };
    micros.windows(2).map(micro).collect()
}
