//! Packing: a panel of an operand, from whatever type and strides, into the words that kernels read.
//!
//! ```text
//! out[p · width + lane] = word(p, lane)       lane: a row of a, or a column of b (tiles: pack_tiles)
//! ```
//! Operands become words here and nowhere else, so a new stored type is one [`Source`] and one arm
//! in [`pack_panel`]. Each body is safe and inlined into a shell per instruction set. Nothing here
//! knows which operand it packs.

use super::Elements;
use super::pack_steps::pack_steps;
use super::source::Source;
use crate::int8;
use crate::nf4::{CodeOps, PlainCodes};
use crate::value::round_bits;
use half::bf16;
use std::ops::Range;

/// What a packed word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// An f32.
    Exact,
    /// An f32 that was rounded to bf16.
    Rounded,
    /// Two bf16: the element of even k in the low half, its successor (or 0) in the high half.
    Pairs,
}

impl Encoding {
    /// Elements along k in one word.
    pub(super) fn per_word(self) -> usize {
        if self == Encoding::Pairs { 2 } else { 1 }
    }
}

/// A strip of an operand: `lanes` rows of `a` or columns of `b`, `k` elements each.
pub(crate) struct Panel<'a> {
    pub(super) data: Elements<'a>,
    /// Index of lane 0's first element.
    pub(super) start: usize,
    pub(super) lanes: usize,
    /// Lanes of the packed panel; those from `lanes` on are zero.
    pub(super) width: usize,
    pub(super) lane_stride: usize,
    pub(super) k_stride: usize,
    pub(super) k: usize,
    /// Words of k of the packed panel; those past `k` are zero.
    pub(super) k_words: usize,
    /// Elements from here to what will be packed next; 0 if nobody should ask for it meanwhile.
    pub(super) ahead: usize,
    pub(super) encoding: Encoding,
}

impl Panel<'_> {
    pub(super) fn words(&self) -> usize {
        self.k_words * self.width
    }

    /// Some words of k of all lanes.
    pub(super) fn part(&self, words: Range<usize>) -> Self {
        let first = words.start * self.encoding.per_word();
        let k = self.k.saturating_sub(first).min(words.len() * self.encoding.per_word());
        let start = self.start + first * self.k_stride;
        Panel { start, k, k_words: words.len(), ..*self }
    }

    /// Asks for the stored cache lines of one of `parts` parts of the panel.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn prefetch(&self, part: usize, parts: usize, fetch: impl Fn(*const u8)) {
        let (first, bits) = match self.data {
            Elements::F32(x) => (x.as_ptr().cast::<u8>(), 32),
            Elements::Bf16(x) => (x.as_ptr().cast(), 16),
            Elements::F16(x) => (x.as_ptr().cast(), 16),
            Elements::FourBits(x) => (x.first_byte(), 4),
            Elements::Int8(x) => (x.first_byte(), 8),
        };
        let (runs, stride, length) = match (self.k_stride, self.lane_stride) {
            (1, stride) => (self.lanes, stride, self.k),
            (stride, 1) => (self.k, stride, self.lanes),
            _ => return,
        };
        let byte_of = |run, at| (self.start + run * stride + at) * bits / 8;
        if part == 0 {
            // The pages of all runs at a time: what waits for a page's translation lets others be translated
            // meanwhile, but no other fetch pass.
            for run in 0..runs {
                fetch(first.wrapping_add(byte_of(run, 0)));
                fetch(first.wrapping_add(byte_of(run, length.saturating_sub(1))));
            }
        }
        for run in runs * part / parts..runs * (part + 1) / parts {
            for byte in (byte_of(run, 0)..byte_of(run, length)).step_by(64) {
                fetch(first.wrapping_add(byte));
            }
        }
    }
}

#[inline(always)]
fn pair(low: u32, high: u32) -> u32 {
    round_bits(low) >> 16 | round_bits(high)
}

/// Words of a lane that are read before they are transposed into the panel.
pub(super) const STAGE: usize = 64;
/// Lanes that are transposed together.
pub(super) const GROUP: usize = 16;

/// `STAGE` words of each of `GROUP` lanes.
pub(super) type Lanes = [[u32; STAGE]; GROUP];

/// At most `GROUP` lanes that are contiguous along k, as they lie in memory and in a panel.
pub(super) struct Strip {
    pub(super) start: usize,
    pub(super) lane_stride: usize,
    /// Lanes that there are, and lanes that are packed: the others are zero.
    pub(super) filled: usize,
    pub(super) lanes: usize,
    pub(super) k: usize,
    /// Words from one k to the next in the panel.
    pub(super) width: usize,
    /// See [`Panel::ahead`].
    pub(super) ahead: usize,
}

/// What an instruction set does in registers while a panel is packed.
pub(super) trait PackOps: Copy {
    /// `out[p · width + lane] = from[lane][p]` for `p < words` and `lane < lanes`.
    fn transpose(self, from: &Lanes, words: usize, lanes: usize, out: &mut [u32], width: usize);

    /// Asks for a cache line, where a set can.
    #[inline(always)]
    fn fetch(self, _address: *const u8) {}

    /// Packs the lanes of a strip in registers alone, where a set can; else does nothing and says `false`.
    #[inline(always)]
    fn pack_strip(self, _: Encoding, _from: &[f32], _: &Strip, _out: &mut [u32]) -> bool {
        false
    }

    /// The same for elements that lie as pairs already.
    #[inline(always)]
    fn pack_pairs(self, _: Encoding, _from: &[bf16], _: &Strip, _out: &mut [u32]) -> bool {
        false
    }

    /// How 4-bit codes become values; bf16 as [`PackOps::pairs`] rounds it.
    #[inline(always)]
    fn codes(self) -> impl CodeOps {
        PlainCodes
    }

    /// `out[i]`: the bits of the value of `codes[i]`, all of one row.
    #[inline(always)]
    fn int8(self, codes: &[i8], absmax: f32, out: &mut [u32]) {
        int8::read_run(codes, absmax, out, f32::to_bits);
    }

    /// The same as pairs: `out` is half as long as `codes`.
    #[inline(always)]
    fn int8_pairs(self, codes: &[i8], absmax: f32, out: &mut [u32]) {
        let mut values = [0.0; 2 * STAGE];
        let values = &mut values[..codes.len()];
        int8::read_run(codes, absmax, values, |value| value);
        self.pairs(values, out);
    }

    /// `out[i]` becomes the pair of `from[2i]` and `from[2i + 1]`.
    #[inline(always)]
    fn pairs(self, from: &[f32], out: &mut [u32]) {
        for (out, [low, high]) in out.iter_mut().zip(from.as_chunks::<2>().0) {
            *out = pair(low.to_bits(), high.to_bits());
        }
    }

    /// Pairs of neighbours along the lanes become pairs along k: `out[2i]` holds the low halves of
    /// `low[i]` and `high[i]`, `out[2i + 1]` the high halves.
    #[inline(always)]
    fn zip(self, low: &[u32], high: &[u32], out: &mut [u32]) {
        for (out, (low, high)) in out.as_chunks_mut::<2>().0.iter_mut().zip(low.iter().zip(high)) {
            *out = [low & 0xffff | high << 16, low >> 16 | high & 0xffff_0000];
        }
    }

    /// `low[i]` becomes the pair of the f32s `low[i]` and `high[i]`.
    #[inline(always)]
    fn join(self, low: &mut [u32], high: &[u32]) {
        for (low, high) in low.iter_mut().zip(high) {
            *low = pair(*low, *high);
        }
    }
}

/// One word after another.
#[derive(Clone, Copy)]
pub(super) struct PlainOps;

impl PackOps for PlainOps {
    #[inline(always)]
    fn transpose(self, from: &Lanes, words: usize, lanes: usize, out: &mut [u32], width: usize) {
        for (p, out) in out.chunks_mut(width).take(words).enumerate() {
            for (out, lane) in out.iter_mut().zip(&from[..lanes]) {
                *out = lane[p];
            }
        }
    }
}

/// Packs one panel; `out` has [`Panel::words`] words.
#[inline(always)]
pub(super) fn pack_panel<O: PackOps>(ops: O, panel: &Panel, out: &mut [u32]) {
    assert_eq!(out.len(), panel.words());
    let words = panel.k.div_ceil(panel.encoding.per_word());
    let (out, padding) = out.split_at_mut(words * panel.width);
    padding.fill(0);
    match panel.data {
        Elements::F32(x) => pack_source(ops, x, panel, out),
        Elements::Bf16(x) => pack_source(ops, x, panel, out),
        Elements::F16(x) => pack_source(ops, x, panel, out),
        Elements::FourBits(x) => pack_source(ops, x, panel, out),
        Elements::Int8(x) => pack_source(ops, x, panel, out),
    }
}

#[inline(always)]
fn pack_source<O: PackOps>(ops: O, source: impl Source, panel: &Panel, out: &mut [u32]) {
    if panel.k_stride == 1 {
        pack_lanes(ops, source, panel, out);
    } else {
        pack_steps(ops, source, panel, out);
    }
}

/// Lanes are contiguous: packs 16 of them after another, all in the same way.
#[inline(always)]
fn pack_lanes<O: PackOps>(ops: O, source: impl Source, panel: &Panel, out: &mut [u32]) {
    let strips = (0..panel.width).step_by(GROUP).map(|first| {
        let lanes = GROUP.min(panel.width - first);
        let strip = Strip {
            start: panel.start + first * panel.lane_stride,
            lane_stride: panel.lane_stride,
            filled: panel.lanes.saturating_sub(first).min(lanes),
            lanes,
            k: panel.k,
            width: panel.width,
            ahead: panel.ahead,
        };
        (first, strip)
    });
    let packed = |(first, strip): (usize, Strip)| {
        source.pack_strip(ops, panel.encoding, &strip, &mut out[first..])
    };
    if strips.clone().all(packed) {
        return;
    }
    // Made here: to clear it takes a tenth of the time of a panel that needs none.
    let mut stage = [[0; STAGE]; GROUP];
    for (first, strip) in strips {
        let out = &mut out[first..];
        pack_staged(ops, source, panel.encoding, &strip, (&mut stage, out));
    }
}

/// Reads a run of each lane, then transposes.
#[inline(always)]
fn pack_staged<O: PackOps>(
    ops: O,
    source: impl Source,
    encoding: Encoding,
    strip: &Strip,
    (stage, out): (&mut Lanes, &mut [u32]),
) {
    let per_word = encoding.per_word();
    stage[strip.filled..strip.lanes].fill([0; STAGE]);
    for (chunk, p) in (0..strip.k).step_by(STAGE * per_word).enumerate() {
        let k = (strip.k - p).min(STAGE * per_word);
        for (lane, row) in stage[..strip.filled].iter_mut().enumerate() {
            let start = strip.start + lane * strip.lane_stride + p;
            read_lane(ops, source, encoding, (start, k), row);
        }
        let out = &mut out[chunk * STAGE * strip.width..];
        ops.transpose(stage, k.div_ceil(per_word), strip.lanes, out, strip.width);
    }
}

/// The `k` elements from `start` on, as words.
#[inline(always)]
pub(super) fn read_lane<O: PackOps>(
    ops: O,
    source: impl Source,
    encoding: Encoding,
    (start, k): (usize, usize),
    row: &mut [u32],
) {
    match encoding {
        Encoding::Exact => source.read(ops, start, &mut row[..k]),
        Encoding::Rounded => {
            source.read(ops, start, &mut row[..k]);
            row[..k].iter_mut().for_each(|word| *word = round_bits(*word));
        }
        Encoding::Pairs => {
            source.read_pairs(ops, start, &mut row[..k / 2]);
            if k % 2 == 1 {
                source.read(ops, start + k - 1, &mut row[k / 2..k / 2 + 1]);
                ops.join(&mut row[k / 2..k / 2 + 1], &[0]);
            }
        }
    }
}
