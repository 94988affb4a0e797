//! Whether the files hold every tensor that a decoder needs, in the shape that config.json makes it.
//! From headers alone: a model that can't be loaded is refused before a weight is read. And which tensors
//! of the files no module has a place for.

use super::{ModelError, Source};
use crate::families::Family;
use crate::spec::{DecoderSpec, Slot};
use std::collections::HashSet;

/// The first tensor that is missing or of another shape is the error.
pub fn verify(files: &dyn Source, spec: &DecoderSpec, family: &Family) -> Result<(), ModelError> {
    let outer = spec.outer_slots().into_iter().map(|slot| (slot, 0));
    let blocks = spec.block_slots();
    let inner = (0..spec.n_layers).flat_map(|layer| blocks.iter().map(move |&slot| (slot, layer)));
    for (slot, layer) in outer.chain(inner) {
        let module = (family.module)(slot, layer);
        let (rows, cols) = spec.weight_dims(slot);
        let weight = if slot.is_norm() { vec![rows] } else { vec![rows, cols] };
        expect(files, format!("{module}.weight"), weight)?;
        if spec.has_bias(slot) {
            expect(files, format!("{module}.bias"), vec![rows])?;
        }
    }
    Ok(())
}

/// What no module asked for, without what checkpoints are known to carry along.
pub fn unused(
    files: &dyn Source,
    spec: &DecoderSpec,
    family: &Family,
    used: &HashSet<String>,
) -> Vec<String> {
    let tied = format!("{}.weight", (family.module)(Slot::Head, 0));
    let carried = |name: &str| {
        name.ends_with("rotary_emb.inv_freq")
            || name.ends_with("attn.bias") // causal masks that old exports keep
            || name.ends_with("attn.masked_bias")
            || name.ends_with("attention.bias")
            || name.ends_with("attention.masked_bias")
            || (spec.tied_head && name == tied)
    };
    let names = files.tensors().iter().map(|t| &t.name);
    names.filter(|name| !used.contains(*name) && !carried(name)).cloned().collect()
}

fn expect(files: &dyn Source, name: String, expected: Vec<usize>) -> Result<(), ModelError> {
    let path = || files.path().to_owned();
    match files.info(&name) {
        None => Err(ModelError::MissingTensor { path: path(), name }),
        Some(info) if info.shape != expected => {
            let found = info.shape.clone();
            Err(ModelError::WrongShape { path: path(), name, found, expected })
        }
        Some(_) => Ok(()),
    }
}
