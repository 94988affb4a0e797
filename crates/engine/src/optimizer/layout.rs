//! What the optimizer keeps of each parameter, and where: names, dtypes, shapes and places in one run
//! of bytes. Made from shapes alone; holds no state.

use super::Kind;
use crate::formats::StoredDtype;
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
    F32([Part; 2]),
}

impl State {
    fn parts(&self) -> &[Part] {
        match self {
            State::F32(parts) => parts,
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
        let mut end = 0;
        let mut part = |param: &str, suffix: &str, dtype: StoredDtype, shape: &[usize]| {
            let begin = end;
            let bytes = shape.iter().product::<usize>() * dtype.block().1;
            end = (begin + bytes).next_multiple_of(ALIGNMENT);
            let name = format!("{param}.{suffix}");
            Part { name, dtype, shape: shape.to_vec(), bytes: begin..begin + bytes }
        };
        let state = |(name, shape): (&str, &[usize])| match kind {
            Kind::Adamw => State::F32(
                ["exp_avg", "exp_avg_sq"].map(|suffix| part(name, suffix, StoredDtype::F32, shape)),
            ),
        };
        let states = params.map(state).collect();
        Layout { states, bytes: end }
    }

    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.states.iter().flat_map(State::parts)
    }
}
