//! How a training is laid out: which blocks backward computes again, by the memory of the devices, and what each
//! device holds then.

use super::layout::{Layout, Part};
use super::{DevicePlan, MappedBytes, PlanBytes};
use crate::decoder::Recomputation;
use crate::options::PlanOptions;

/// A layout with its recomputed blocks chosen.
pub(super) struct Made {
    pub recomputation: Recomputation,
    pub parts: Vec<(Part, PlanBytes, MappedBytes)>,
}

impl Made {
    /// The fewest recomputed blocks that fit; as many as can be, or none, where the options say so. The last block is
    /// never one of them: backward begins with it. They keep what attention made where that is worth its memory
    /// and fits.
    pub fn of(
        layout: &Layout,
        budgets: &[u64],
        size: PlanOptions,
        checkpointing: Option<bool>,
    ) -> Made {
        let most = layout.spec.n_layers.saturating_sub(1);
        let with = |blocks: usize, keeps_attention: bool| {
            let recomputation =
                Recomputation { blocks, keeps_attention: keeps_attention && blocks > 0 };
            let parts = match budgets.len() {
                1 => vec![layout.whole()],
                _ => layout.split(size, recomputation, budgets),
            };
            let counted = parts.into_iter().map(|part| {
                let (bytes, mapped) = layout.bytes(&part, size, recomputation);
                (part, bytes, mapped)
            });
            Made { recomputation, parts: counted.collect() }
        };
        let keeps_attention = layout.attention_is_dear(size) && with(most, true).fits(budgets);
        match checkpointing {
            Some(true) => with(most, keeps_attention),
            Some(false) => with(0, false),
            // More of them never take more.
            None => {
                let (mut low, mut high) = (0, most);
                while low < high {
                    let middle = low + (high - low) / 2;
                    let fits = with(middle, keeps_attention).fits(budgets);
                    if fits { high = middle } else { low = middle + 1 }
                }
                with(low, keeps_attention)
            }
        }
    }

    pub fn fits(&self, budgets: &[u64]) -> bool {
        self.parts.iter().zip(budgets).all(|((_, bytes, _), budget)| bytes.total() <= *budget)
    }

    pub fn sum(&self) -> PlanBytes {
        self.parts.iter().fold(PlanBytes::default(), |sum, (_, bytes, _)| sum.plus(*bytes))
    }

    pub fn mapped(&self) -> MappedBytes {
        self.parts.iter().fold(MappedBytes::default(), |sum, (_, _, mapped)| MappedBytes {
            weights: sum.weights + mapped.weights,
            optimizer: sum.optimizer + mapped.optimizer,
        })
    }

    pub fn devices(&self, budgets: &[u64]) -> Vec<DevicePlan> {
        let device =
            |((part, bytes, _), &budget_bytes): (&(Part, PlanBytes, _), &u64)| DevicePlan {
                bytes: *bytes,
                peak_bytes: bytes.total(),
                budget_bytes,
                first_block: part.blocks.start,
                n_blocks: part.blocks.len(),
                embedding: part.embedding,
                head: part.head,
            };
        self.parts.iter().zip(budgets).map(device).collect()
    }
}
