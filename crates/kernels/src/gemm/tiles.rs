//! Packing for AMX: a panel as tiles, in which the words of a lane lie side by side. `pack.rs` reads.

use super::Elements;
use super::pack::{GROUP, PackOps, Panel, STAGE, pack_panel, read_lane};
use super::source::Source;

/// Lanes, and words of k, of the tiles that [`pack_tiles`] makes.
pub(super) const TILE: usize = GROUP;

/// Packs one panel as tiles, in which the words of a lane lie side by side.
///
/// ```text
/// out[(g · k_words + t · TILE + lane) · TILE + p] = word(t · TILE + p, g · TILE + lane)
/// ```
/// `width` and `k_words` are multiples of [`TILE`]; words are pairs.
#[inline(always)]
pub(super) fn pack_tiles<O: PackOps>(ops: O, panel: &Panel, out: &mut [u32]) {
    assert!(
        out.len() == panel.words()
            && panel.k_words.is_multiple_of(TILE)
            && panel.width.is_multiple_of(TILE)
    );
    for (group, out) in out.chunks_mut(TILE * panel.k_words).enumerate() {
        let first = group * TILE;
        let group = Panel {
            start: panel.start + first * panel.lane_stride,
            lanes: panel.lanes.saturating_sub(first).min(TILE),
            width: TILE,
            ..*panel
        };
        let tiles = out.as_chunks_mut::<TILE>().0.as_chunks_mut::<TILE>().0;
        match panel.data {
            _ if panel.k_stride != 1 => {
                pack_panel(ops, &group, tiles.as_flattened_mut().as_flattened_mut());
                tiles.iter_mut().for_each(|tile| turn(ops, tile));
            }
            Elements::F32(x) => fill_tiles(ops, x, &group, tiles),
            Elements::Bf16(x) => fill_tiles(ops, x, &group, tiles),
            Elements::F16(x) => fill_tiles(ops, x, &group, tiles),
            Elements::FourBits(x) => fill_tiles(ops, x, &group, tiles),
            Elements::Int8(x) => fill_tiles(ops, x, &group, tiles),
        }
    }
}

/// Lanes are contiguous: reads each into its row of the tiles.
#[inline(always)]
fn fill_tiles<O: PackOps>(
    ops: O,
    source: impl Source,
    panel: &Panel,
    tiles: &mut [[[u32; TILE]; TILE]],
) {
    let (whole, rest) = tiles.split_at_mut(panel.k / (2 * TILE));
    for lane in 0..panel.lanes {
        let mut start = panel.start + lane * panel.lane_stride;
        for tile in &mut *whole {
            source.read_pairs(ops, start, &mut tile[lane]);
            start += 2 * TILE;
        }
        if let [tile] = rest {
            let k = panel.k % (2 * TILE);
            tile[lane][k / 2..].fill(0);
            read_lane(ops, source, panel.encoding, (start, k), &mut tile[lane]);
        }
    }
    for tile in tiles {
        tile[panel.lanes..].as_flattened_mut().fill(0);
    }
}

/// Swaps rows and columns.
#[inline(always)]
fn turn<O: PackOps>(ops: O, tile: &mut [[u32; TILE]; TILE]) {
    let mut rows = [[0; STAGE]; GROUP];
    for (to, from) in rows.iter_mut().zip(&*tile) {
        to[..TILE].copy_from_slice(from);
    }
    ops.transpose(&rows, TILE, TILE, tile.as_flattened_mut(), TILE);
}
