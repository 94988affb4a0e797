//! What the optimizer keeps of each parameter, and where: names, dtypes, shapes and places in one run
//! of bytes. Made from shapes alone; holds no state.

use super::{Kind, MIN_8BIT_VALUES};
use crate::formats::StoredDtype;
use crate::ops::adamw::{BLOCK_SIZE, Order};
use std::ops::Range;

/// Each part begins at a multiple of this: a line of the cache, and a register of AVX-512.
const ALIGNMENT: usize = 64;

/// One tensor of the state.
pub(super) struct Part {
    pub name: String,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
    pub bytes: Range<usize>,
}

/// The state of one parameter.
pub(super) enum State {
    /// The first and the second moment, of the parameter's shape.
    F32(Order, [Part; 2]),
    /// The codes of both, of the parameter's shape, and their blocks' maxima.
    Bits8([Part; 4]),
}

impl State {
    fn parts(&self) -> &[Part] {
        match self {
            State::F32(_, parts) => parts,
            State::Bits8(parts) => parts,
        }
    }
}

/// The states of all parameters, in their order.
pub(super) struct Layout {
    pub states: Vec<State>,
    /// Of all of them together.
    pub bytes: usize,
}

impl Layout {
    /// `params`: names and shapes.
    pub fn of<'a>(kind: Kind, params: impl Iterator<Item = (&'a str, &'a [usize])>) -> Layout {
        let mut end = 0usize;
        let mut part = |param: &str, suffix: &str, dtype: StoredDtype, shape: &[usize]| {
            let begin = end;
            // A plan may be made for shapes that no machine holds.
            let bytes = values_of(shape).saturating_mul(dtype.block().1);
            let after = begin.saturating_add(bytes);
            end = after.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX);
            let name = format!("{param}.{suffix}");
            Part { name, dtype, shape: shape.to_vec(), bytes: begin..after }
        };
        let mut state = |(name, shape): (&str, &[usize])| {
            let values = values_of(shape);
            let mut f32s = |suffixes: [&str; 2]| {
                suffixes.map(|suffix| part(name, suffix, StoredDtype::F32, shape))
            };
            match kind {
                Kind::Adamw => State::F32(Order::Torch, f32s(["exp_avg", "exp_avg_sq"])),
                Kind::Adamw8bit if values >= MIN_8BIT_VALUES => {
                    let blocks = [values.div_ceil(BLOCK_SIZE)];
                    State::Bits8([
                        part(name, "state1", StoredDtype::U8, shape),
                        part(name, "state2", StoredDtype::U8, shape),
                        part(name, "absmax1", StoredDtype::F32, &blocks),
                        part(name, "absmax2", StoredDtype::F32, &blocks),
                    ])
                }
                Kind::Adamw32bit | Kind::Adamw8bit => {
                    State::F32(Order::BitsAndBytes, f32s(["state1", "state2"]))
                }
            }
        };
        let states = params.map(&mut state).collect();
        Layout { states, bytes: end }
    }

    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.states.iter().flat_map(State::parts)
    }
}

fn values_of(shape: &[usize]) -> usize {
    shape.iter().fold(1, |values: usize, dim| values.saturating_mul(*dim))
}
