//! A micro-batch: sequences one after another, without padding between them.

/// `ids`, `labels` have length N; sequence s is `seq_starts[s]..seq_starts[s + 1]`. Labels are not
/// shifted; −100 is masked.
#[derive(Clone, Debug, Default)]
pub struct MicroBatch {
    pub ids: Vec<u32>,
    pub labels: Vec<i32>,
    pub seq_starts: Vec<usize>,
}

impl MicroBatch {
    /// Without a sequence.
    pub fn empty() -> MicroBatch {
        MicroBatch { ids: vec![], labels: vec![], seq_starts: vec![0] }
    }

    /// Adds a sequence's ids and labels.
    pub fn push(&mut self, (ids, labels): (&[u32], &[i32])) {
        self.ids.extend_from_slice(ids);
        self.labels.extend_from_slice(labels);
        self.seq_starts.push(self.ids.len());
    }

    /// Ids and labels of each sequence.
    pub fn sequences(&self) -> impl Iterator<Item = (&[u32], &[i32])> {
        self.seq_starts.windows(2).map(|w| (&self.ids[w[0]..w[1]], &self.labels[w[0]..w[1]]))
    }

    pub fn n_tokens(&self) -> usize {
        self.ids.len()
    }

    pub fn longest(&self) -> usize {
        self.seq_starts.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0)
    }

    /// The position of each token in its sequence.
    pub fn positions(&self) -> Vec<u32> {
        self.seq_starts.windows(2).flat_map(|w| 0..(w[1] - w[0]) as u32).collect()
    }

    /// `(row, target)` of each supervised row: the label of a sequence's next token, if it has one.
    pub fn targets(&self) -> Vec<(u32, u32)> {
        let within = |w: &[usize]| (w[0]..w[1].saturating_sub(1)).collect::<Vec<_>>();
        let rows = self.seq_starts.windows(2).flat_map(within);
        rows.filter_map(|row| Some((row as u32, u32::try_from(self.labels[row + 1]).ok()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_shift_inside_each_sequence_only() {
        let batch = MicroBatch {
            ids: vec![5, 6, 7, 8, 9],
            labels: vec![5, -100, 7, 8, 9],
            seq_starts: vec![0, 3, 5],
        };
        assert_eq!(batch.targets(), [(1, 7), (3, 9)]); // row 2 ends a sequence: 8 is not its target
        assert_eq!(batch.positions(), [0, 1, 2, 0, 1]);
        assert_eq!(batch.longest(), 3);
    }
}
