//! Copies of words to where nobody reads soon: past the caches, where there is an instruction for it.
//! Memory is then written only, and not read before.

use super::unpack::Unpacked;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Copies words to their values; `out` may lie anywhere.
///
/// # Safety
/// - The same thread calls [`fence`] before anything else touches `out`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn pass<T: Unpacked>(words: &[u32], out: &mut [T]) {
    use std::arch::x86_64::{_mm_loadu_si128, _mm_stream_si128};

    let before = out.as_ptr().align_offset(16).min(out.len());
    if !before.is_multiple_of(T::PER_WORD) {
        return T::from_words(words, out);
    }
    let (head, out) = out.split_at_mut(before);
    let (words_head, words) = words.split_at(before / T::PER_WORD);
    T::from_words(words_head, head);
    let whole = out.len() / (4 * T::PER_WORD);
    let (vectors, tail) = out.split_at_mut(whole * 4 * T::PER_WORD);
    let (words, words_tail) = words.split_at(4 * whole);
    for (vector, words) in vectors.chunks_exact_mut(4 * T::PER_WORD).zip(words.as_chunks::<4>().0) {
        // SAFETY: both are 16 bytes, which mean the same as words and as values; `vector` is
        // aligned to 16, and the caller fences. SSE2 is part of every x86-64 CPU.
        unsafe {
            let words = _mm_loadu_si128(words.as_ptr().cast());
            _mm_stream_si128(vector.as_mut_ptr().cast(), words);
        }
    }
    T::from_words(words_tail, tail);
}

/// Ends a series of [`pass`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn fence() {
    // SAFETY: SSE is part of every x86-64 CPU.
    unsafe { std::arch::x86_64::_mm_sfence() };
}

/// Copies words to their values, through the caches.
///
/// # Safety
/// - None; it is as unsafe as the one of x86-64, which has a condition.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) unsafe fn pass<T: Unpacked>(words: &[u32], out: &mut [T]) {
    T::from_words(words, out);
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn fence() {}
