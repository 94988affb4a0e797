//! The slopes of ALiBi (Press et al., 2022): one per head, in the two orders that models use where
//! the number of heads is no power of two.
//!
//! ```text
//! n a power of two:   2^(−8i/n), i = 1…n
//! ```

/// BLOOM, Falcon: the slopes of the power `p` below `n`, then `2^(−8j/2p)` for j = 1, 3, 5….
pub(super) fn bloom_slopes(n_heads: usize) -> Vec<f32> {
    let p = 1 << n_heads.ilog2();
    let slope = |j: usize, of: usize| (-8.0 * j as f64 / of as f64).exp2() as f32;
    let of_power = (1..=p).map(|i| slope(i, p));
    of_power.chain((0..n_heads - p).map(|j| slope(2 * j + 1, 2 * p))).collect()
}

/// MPT: the slopes of the power above, every second one from the second on, then from the first on,
/// cut to `n`. `bias_max` stands in place of the 8.
pub(super) fn mpt_slopes(n_heads: usize, bias_max: f64) -> Vec<f32> {
    let p = n_heads.next_power_of_two();
    let slope = |i: usize| (-bias_max * i as f64 / p as f64).exp2() as f32;
    if p == n_heads {
        return (1..=p).map(slope).collect();
    }
    (2..=p).step_by(2).chain((1..=p).step_by(2)).map(slope).take(n_heads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Written by `bench/goldens/make_alibi.py`: the slopes of Transformers, whose f32 powers are off
    /// by up to 1e-6 (they raise a rounded base).
    const EXPECTED: &str = include_str!("../../../../test/goldens/alibi.json");

    fn check(name: &str, slopes: impl Fn(usize) -> Vec<f32>) {
        let expected: Value = serde_json::from_str(EXPECTED).unwrap();
        let heads = expected[name].as_array().unwrap();
        assert_eq!(heads.len(), 40);
        for (i, want) in heads.iter().enumerate() {
            let got = slopes(i + 1);
            let want: Vec<f64> =
                want.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            assert_eq!(got.len(), want.len(), "{name}, {} heads", i + 1);
            for (head, (got, want)) in got.iter().zip(&want).enumerate() {
                let off = (f64::from(*got) / want - 1.0).abs();
                assert!(off < 2e-6, "{name}, {} heads, head {head}: {got} != {want}", i + 1);
            }
        }
    }

    #[test]
    fn slopes_are_those_of_the_published_code_for_1_to_40_heads() {
        check("bloom", bloom_slopes);
        check("mpt_8", |n| mpt_slopes(n, 8.0));
        check("mpt_5", |n| mpt_slopes(n, 5.0));
    }
}
