//! The values that the 4-bit codes stand for, and the borders between them: NF4's and FP4's.
//!
//! ```text
//! code(s) = order[#{midpoints < s}]      midpoints of neighbours in ascending order of the values
//! ```
//! NF4's codes ascend with their values. FP4's are a sign, two bits of exponent and one of fraction, with
//! the exponents in an order of bitsandbytes' own; code 8 is a second zero.

use crate::dynamic::midpoints;

/// Which values the codes stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantType {
    Nf4,
    Fp4,
}

impl QuantType {
    pub const ALL: [QuantType; 2] = [QuantType::Nf4, QuantType::Fp4];

    /// As bitsandbytes has it.
    pub fn name(self) -> &'static str {
        match self {
            QuantType::Nf4 => "nf4",
            QuantType::Fp4 => "fp4",
        }
    }

    pub fn by_name(name: &str) -> Option<QuantType> {
        QuantType::ALL.into_iter().find(|it| it.name() == name)
    }

    /// By code.
    pub fn values(self) -> &'static [f32; 16] {
        &self.table().values
    }

    pub(super) fn table(self) -> &'static Table {
        match self {
            QuantType::Nf4 => &NF4,
            QuantType::Fp4 => &FP4,
        }
    }
}

/// What a value's code is found with, and a code's value.
#[derive(Debug)]
pub(crate) struct Table {
    pub(super) quant_type: QuantType,
    /// By code.
    pub(super) values: [f32; 16],
    /// The codes in ascending order of their values, of equal ones the lower first.
    pub(super) order: [u8; 16],
    /// A value's place in that order is the number of midpoints strictly below it: the nearest, of two the
    /// lower.
    pub(super) midpoints: [f32; 15],
    /// The midpoints as a search tree: node i asks for midpoint < s, its answers lead to 2i and 2i + 1, and
    /// after four answers from node 1 on a leaf is 16 + place. Node 0 does not exist.
    pub(super) tree: [f32; 16],
    /// The code of 0.
    pub(super) zero: u8,
}

/// Quantiles of a normal distribution, scaled to ±1, with an exact zero.
/// Source: QLoRA (Dettmers et al., 2023), appendix E.
pub(super) static NF4: Table = Table::new(
    QuantType::Nf4,
    [
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
    ],
);

/// 0, 1/16, 8, 12, 4, 6, 2, 3 and the same below zero, scaled to ±1. The second zero has no sign.
/// Source: bitsandbytes' `get_4bit_type`, whose table its checkpoints hold.
pub(super) static FP4: Table = Table::new(QuantType::Fp4, {
    let magnitudes = [0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0];
    let mut values = [0.0; 16];
    let mut code = 1;
    while code < 8 {
        values[code] = magnitudes[code] / 12.0;
        values[code + 8] = -values[code];
        code += 1;
    }
    values
});

impl Table {
    const fn new(quant_type: QuantType, values: [f32; 16]) -> Table {
        let order = ascending(&values);
        let mut sorted = [0.0; 16];
        let mut place = 0;
        while place < 16 {
            sorted[place] = values[order[place] as usize];
            place += 1;
        }
        let midpoints = midpoints(&sorted);
        let mut below = 0;
        while below < 15 && midpoints[below] < 0.0 {
            below += 1;
        }
        let zero = order[below];
        Table { quant_type, values, order, midpoints, tree: tree(&midpoints), zero }
    }

    /// Values outside of ±1 get the code of ±1: clamping them first would change nothing.
    #[inline(always)]
    pub(super) fn nearest(&self, s: f32) -> u8 {
        let mut below = 0u32;
        for midpoint in self.midpoints {
            below += u32::from(midpoint < s);
        }
        self.order[below as usize]
    }
}

/// Sorts by insertion, which keeps equal values in their order.
const fn ascending(values: &[f32; 16]) -> [u8; 16] {
    let mut order = [0; 16];
    let mut code = 0;
    while code < 16 {
        let mut place = code;
        while place > 0 && values[order[place - 1] as usize] > values[code] {
            order[place] = order[place - 1];
            place -= 1;
        }
        order[place] = code as u8;
        code += 1;
    }
    order
}

const fn tree(midpoints: &[f32; 15]) -> [f32; 16] {
    let mut tree = [0.0; 16];
    let mut node = 1usize;
    while node < 16 {
        let level = node.ilog2();
        let step = 16 >> level; // places below a node of this level
        tree[node] = midpoints[(node - (1 << level)) * step + step / 2 - 1];
        node += 1;
    }
    tree
}
