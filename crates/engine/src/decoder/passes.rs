//! How the sequences of a step are grouped for the passes of the decoder: micro-batches of short rows
//! together, long micro-batches in several.
//!
//! The loss is the mean over all supervised tokens of a step, so the grouping is free; too few tokens at
//! a time leave the products waiting for weights, too many keep activations that nothing is gained from.
//! It depends on the batch and on the largest micro-batch alone, never on the memory, so the bits don't.

use super::MicroBatch;

/// Tokens of a pass: with more, SmolLM2's step is no faster (1,024 against 2,048: 2 % faster, in the
/// cache more often), with 512 it is 6 % slower.
pub const PASS_TOKENS: usize = 1024;

/// The most tokens that a pass holds where micro-batches have `micro_batch` rows of `seq_length` tokens
/// at most: not more than one of them, and a whole row.
pub fn pass_tokens(seq_length: usize, micro_batch: usize) -> usize {
    seq_length.saturating_mul(micro_batch).min(PASS_TOKENS).max(seq_length)
}

/// The same sequences in the same order, in passes of about equal size and of at most `tokens_max`
/// tokens; a longer sequence is a pass by itself.
pub fn passes(micros: &[MicroBatch], tokens_max: usize) -> Vec<MicroBatch> {
    let total: usize = micros.iter().map(MicroBatch::n_tokens).sum();
    let count = total.div_ceil(tokens_max.max(1)).max(1);
    let (mut passes, mut done) = (vec![MicroBatch::empty()], 0);
    for sequence in micros.iter().flat_map(MicroBatch::sequences) {
        let held = passes.last().map_or(0, MicroBatch::n_tokens);
        // The pass ends where the sum of all passes so far is nearest to its share of the tokens.
        let share = total * passes.len() / count;
        let is_full = held + sequence.0.len() > tokens_max || done + sequence.0.len() / 2 >= share;
        if held > 0 && is_full {
            passes.push(MicroBatch::empty());
        }
        passes.last_mut().expect("at least one").push(sequence);
        done += sequence.0.len();
    }
    passes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micro(lengths: &[usize]) -> MicroBatch {
        let mut micro = MicroBatch::empty();
        for (i, &length) in lengths.iter().enumerate() {
            let ids: Vec<u32> = (0..length).map(|at| (100 * i + at) as u32).collect();
            let labels: Vec<i32> = ids.iter().map(|id| *id as i32 + 1).collect();
            micro.push((&ids, &labels));
        }
        micro
    }

    fn lengths(passes: &[MicroBatch]) -> Vec<Vec<usize>> {
        let of_each = |pass: &MicroBatch| pass.sequences().map(|(ids, _)| ids.len()).collect();
        passes.iter().map(of_each).collect()
    }

    #[test]
    fn short_micro_batches_go_together_and_long_ones_in_parts() {
        let cut = |micros: &[&[usize]], tokens_max| {
            let micros: Vec<MicroBatch> = micros.iter().map(|lengths| micro(lengths)).collect();
            lengths(&passes(&micros, tokens_max))
        };
        assert_eq!(cut(&[&[3, 4], &[5]], 100), [vec![3, 4, 5]]);
        assert_eq!(cut(&[&[8, 8, 8, 8]], 16), [[8, 8], [8, 8]]);
        assert_eq!(cut(&[&[8, 8, 8, 8]], 8), [[8], [8], [8], [8]]);
        // Three are needed: of about equal size rather than two full ones and what is left.
        assert_eq!(cut(&[&[4, 4, 4], &[4, 4, 4]], 10), [[4, 4], [4, 4], [4, 4]]);
        // A sequence is never cut, nor is a pass empty.
        assert_eq!(cut(&[&[20, 3], &[0, 30, 2]], 10), [vec![20], vec![3], vec![0, 30], vec![2]]);
        assert_eq!(cut(&[], 10), [[0usize; 0]]);
    }

    #[test]
    fn no_pass_is_larger_than_it_may_be_and_none_loses_a_token() {
        let mut seed = 1u64;
        for tokens_max in [64, 100, 1000] {
            let mut random = |below: u64| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 33) % below
            };
            let rows: Vec<usize> = (0..50).map(|_| 1 + random(60) as usize).collect();
            let micros: Vec<MicroBatch> = rows.chunks(4).map(micro).collect();
            let cut = passes(&micros, tokens_max);
            assert_eq!(lengths(&cut).concat(), rows);
            assert!(cut.iter().all(|pass| pass.n_tokens() <= tokens_max));
            let values = |all: &[MicroBatch]| -> Vec<(u32, i32)> {
                let pairs =
                    |pass: &MicroBatch| pass.ids.clone().into_iter().zip(pass.labels.clone());
                all.iter().flat_map(pairs).collect()
            };
            assert_eq!(values(&cut), values(&micros));
        }
    }
}
