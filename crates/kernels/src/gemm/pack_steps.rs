//! Packing of operands whose lanes lie side by side, or anyhow: all lanes of one k, or of two, after another.

use super::pack::{Encoding, PackOps, Panel, STAGE, read_lane};
use super::source::Source;
use crate::value::round_bits;

/// Lanes lie side by side (or anyhow): reads all lanes of one k, or of two, after another.
#[inline(always)]
pub(super) fn pack_steps<O: PackOps>(ops: O, source: impl Source, panel: &Panel, out: &mut [u32]) {
    // The width of most panels as a constant: half of the work would be loops and their ends.
    match panel.lanes {
        32 => pack_so_many_steps(ops, source, panel, 32, out),
        16 => pack_so_many_steps(ops, source, panel, 16, out),
        12 => pack_so_many_steps(ops, source, panel, 12, out),
        8 => pack_so_many_steps(ops, source, panel, 8, out),
        lanes => pack_so_many_steps(ops, source, panel, lanes, out),
    }
}

#[inline(always)]
fn pack_so_many_steps<O: PackOps>(
    ops: O,
    source: impl Source,
    panel: &Panel,
    lanes: usize,
    out: &mut [u32],
) {
    if panel.encoding == Encoding::Pairs && panel.lane_stride == 1 {
        return pack_pair_steps(ops, source, panel, lanes, out);
    }
    let per_word = panel.encoding.per_word();
    for (word, out) in out.chunks_exact_mut(panel.width).enumerate() {
        let p = word * per_word;
        let (out, padding) = out.split_at_mut(lanes);
        clear(padding);
        read_step(ops, source, panel, p, out);
        match panel.encoding {
            Encoding::Exact => {}
            Encoding::Rounded => out.iter_mut().for_each(|word| *word = round_bits(*word)),
            Encoding::Pairs => {
                let mut high = [0u32; STAGE];
                let high = &mut high[..lanes];
                if p + 1 < panel.k {
                    read_step(ops, source, panel, p + 1, high);
                }
                ops.join(out, high);
            }
        }
    }
}

/// Lanes lie side by side: reads the lanes of two k as pairs along the lanes, then turns these.
#[inline(always)]
fn pack_pair_steps<O: PackOps>(
    ops: O,
    source: impl Source,
    panel: &Panel,
    lanes: usize,
    out: &mut [u32],
) {
    let (mut low, mut high) = ([0u32; STAGE / 2], [0u32; STAGE / 2]);
    let (low, high) = (&mut low[..lanes.div_ceil(2)], &mut high[..lanes.div_ceil(2)]);
    for (word, out) in out.chunks_exact_mut(panel.width).enumerate() {
        let start = panel.start + 2 * word * panel.k_stride;
        if panel.ahead != 0 {
            source.fetch(ops, start + panel.ahead, lanes);
            source.fetch(ops, start + panel.k_stride + panel.ahead, lanes);
        }
        read_lane(ops, source, Encoding::Pairs, (start, lanes), low);
        if 2 * word + 1 < panel.k {
            read_lane(ops, source, Encoding::Pairs, (start + panel.k_stride, lanes), high);
        } else {
            high.fill(0);
        }
        let (pairs, rest) = out.split_at_mut(lanes & !1);
        ops.zip(&low[..lanes / 2], &high[..lanes / 2], pairs);
        clear(rest);
        if lanes % 2 == 1 {
            rest[0] = low[lanes / 2] & 0xffff | high[lanes / 2] << 16;
        }
    }
}

/// Zeros, mostly none: a call for nothing would cost as much as the word before it.
#[inline(always)]
fn clear(padding: &mut [u32]) {
    if !padding.is_empty() {
        padding.fill(0);
    }
}

/// Element `p` of every lane.
#[inline(always)]
fn read_step<O: PackOps>(ops: O, source: impl Source, panel: &Panel, p: usize, out: &mut [u32]) {
    let start = panel.start + p * panel.k_stride;
    if panel.lane_stride == 1 {
        return source.read(ops, start, out);
    }
    for (lane, out) in out.iter_mut().enumerate() {
        source.read(ops, start + lane * panel.lane_stride, std::slice::from_mut(out));
    }
}
