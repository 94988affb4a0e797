//! The values that NF4's codes stand for, and the borders between them.

use crate::dynamic::midpoints;

/// The 4-bit values: quantiles of a normal distribution, scaled to ±1, with an exact zero.
/// Source: QLoRA (Dettmers et al., 2023), appendix E.
pub const CODE: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];
/// The code of 0.
pub(super) const ZERO: u8 = 7;

/// A value's code is the number of midpoints strictly below it: the nearest, of two the lower.
pub(super) const MIDPOINTS: [f32; 15] = midpoints(&CODE);

/// The midpoints as a search tree: node i asks for MIDPOINT < s, its answers lead to 2i and 2i + 1, and
/// after four answers from node 1 on a leaf is 16 + code. Node 0 does not exist.
pub(super) const SEARCH_TREE: [f32; 16] = {
    let mut tree = [0.0; 16];
    let mut node = 1usize;
    while node < 16 {
        let level = node.ilog2();
        let step = 16 >> level; // codes below a node of this level
        tree[node] = MIDPOINTS[(node - (1 << level)) * step + step / 2 - 1];
        node += 1;
    }
    tree
};
