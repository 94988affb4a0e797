//! Dropout with a mask that is a function of a key and an element's index: the backward pass makes
//! the mask again instead of keeping it, and the threads don't matter.
//!
//! ```text
//! y[i] = x[i] / (1 − p) where word[i] ≥ p·2³², 0 elsewhere
//! ```
//! The words are ChaCha8's key stream (Bernstein, 2008) under the key, nonce 0. Element
//! `256·g + 16·w + l` takes word w of block `16·g + l`, as 16 blocks made side by side lie.
//! Shapes: x, y any, of one length.

use crate::Isa;
use crate::blocks::ELEMENTS;
use crate::simd::shells;
use crate::value::Value;
use rayon::prelude::*;

/// Words that one ChaCha block gives.
const BLOCK_WORDS: usize = 16;
/// ChaCha blocks that are made side by side, one a lane.
const LANES: usize = 16;
const ROUNDS: usize = 8;

/// Writes y. Forward and backward are the same function: `dx = drop(dy)`.
pub fn drop<X: Value>(isa: Isa, key: [u32; 8], p: f32, x: &[X], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "drop: x and y differ in length");
    assert!((0.0..1.0).contains(&p), "drop: a probability of {p}");
    // Exact for every f32: p·2³² has the same 24 digits.
    let threshold = (p as f64 * 4_294_967_296.0) as u32;
    let factor = (1.0 / (1.0 - p as f64)) as f32;
    y.par_chunks_mut(ELEMENTS).zip(x.par_chunks(ELEMENTS)).enumerate().for_each(|(i, (y, x))| {
        let first_block = (i * ELEMENTS / BLOCK_WORDS) as u64;
        drop_block(isa, key, first_block, (threshold, factor), x, y);
    });
}

shells! {
    fn drop_block<X: Value>(
        key: [u32; 8], first_block: u64, keep: (u32, f32), x: &[X], y: &mut [f32],
    ) = drop_body;
}

#[inline(always)]
fn drop_body<X: Value>(
    key: [u32; 8],
    first_block: u64,
    (threshold, factor): (u32, f32),
    x: &[X],
    y: &mut [f32],
) {
    const GROUP: usize = LANES * BLOCK_WORDS;
    for (i, (y, x)) in y.chunks_mut(GROUP).zip(x.chunks(GROUP)).enumerate() {
        let words = chacha_blocks::<ROUNDS>(key, first_block + (i * LANES) as u64);
        for ((y, &x), &word) in y.iter_mut().zip(x).zip(words.as_flattened()) {
            *y = if word >= threshold { x.widen() * factor } else { 0.0 };
        }
    }
}

/// [`LANES`] consecutive blocks of the key stream: word `w` of block `first + lane` is `[w][lane]`.
#[inline(always)]
fn chacha_blocks<const ROUNDS: usize>(key: [u32; 8], first: u64) -> [[u32; LANES]; BLOCK_WORDS] {
    let mut start = [[0; LANES]; BLOCK_WORDS];
    let constants = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]; // "expand 32-byte k"
    for (word, value) in start.iter_mut().zip(constants.into_iter().chain(key)) {
        *word = [value; LANES];
    }
    let counters: [u64; LANES] = std::array::from_fn(|lane| first.wrapping_add(lane as u64));
    start[12] = counters.map(|counter| counter as u32);
    start[13] = counters.map(|counter| (counter >> 32) as u32);
    let mut words = start;
    for _ in 0..ROUNDS / 2 {
        for [a, b, c, d] in [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]] {
            quarter_round(&mut words, a, b, c, d);
        }
        for [a, b, c, d] in [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]] {
            quarter_round(&mut words, a, b, c, d);
        }
    }
    for (word, start) in words.iter_mut().zip(&start) {
        for (word, &start) in word.iter_mut().zip(start) {
            *word = word.wrapping_add(start);
        }
    }
    words
}

#[inline(always)]
fn quarter_round(words: &mut [[u32; LANES]; BLOCK_WORDS], a: usize, b: usize, c: usize, d: usize) {
    for (a, b, d, turn) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        let addend = words[b];
        for (a, &b) in words[a].iter_mut().zip(&addend) {
            *a = a.wrapping_add(b);
        }
        let sum = words[a];
        for (d, &a) in words[d].iter_mut().zip(&sum) {
            *d = (*d ^ a).rotate_left(turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{rounded, same_bits, values, widened};

    const KEY: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    /// The first words under the zero key and nonce (draft-strombergson-chacha-test-vectors, TC1).
    #[test]
    fn the_key_stream_is_chacha() {
        let first = |words: [[u32; LANES]; BLOCK_WORDS]| [words[0][0], words[1][0], words[15][0]];
        let eight = first(chacha_blocks::<8>([0; 8], 0));
        assert_eq!(eight.map(u32::swap_bytes), [0x3e00_ef2f, 0x895f_40d6, 0x0e0c_fe42]);
        let twenty = first(chacha_blocks::<20>([0; 8], 0));
        assert_eq!(twenty.map(u32::swap_bytes)[..2], [0x76b8_e0ad, 0xa0f1_3d90]);
    }

    #[test]
    fn the_same_bits_on_every_set_and_for_any_number_of_threads() {
        for n in [0, 1, 15, 300, 3 * ELEMENTS + 7] {
            let x = values(1, n);
            same_bits(|isa| {
                let mut y = vec![0.0; n];
                drop(isa, KEY, 0.3, &x, &mut y);
                y
            });
        }
    }

    #[test]
    fn values_in_bf16_are_dropped_as_their_f32_are() {
        for n in [0, 1, 15, 300, 3 * ELEMENTS + 7] {
            let x = rounded(&values(1, n));
            let mut want = vec![0.0; n];
            drop(Isa::best(), KEY, 0.3, &widened(&x), &mut want);
            let got = same_bits(|isa| {
                let mut y = vec![0.0; n];
                drop(isa, KEY, 0.3, &x, &mut y);
                y
            });
            assert_eq!(got, want);
        }
    }

    #[test]
    fn the_share_of_dropped_values_is_p_and_the_rest_is_scaled() {
        let n = 200_000;
        for p in [0.05f32, 0.1, 0.5, 0.9] {
            let mut y = vec![0.0; n];
            drop(Isa::best(), KEY, p, &vec![1.0; n], &mut y);
            let dropped = y.iter().filter(|&&y| y == 0.0).count() as f64 / n as f64;
            assert!((dropped - p as f64).abs() < 0.005, "{dropped} for {p}");
            let factor = (1.0 / (1.0 - p as f64)) as f32;
            assert!(y.iter().all(|&y| y == 0.0 || y == factor));
        }
    }
}
