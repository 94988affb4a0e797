//! Checks a SentencePiece `precompiled_charsmap` before the `tokenizers` crate walks through it. Never normalises.
//!
//! ```text
//! u32 bytes of the trie · the trie, u32 units · replacements, each ended by a 0 byte
//! ```
//! The trie is a double array (Darts): a state is a place in it, byte `c` leads to unit `state ^ c` where that
//! unit's label is `c`, and from there to state `place ^ offset`. A unit with a leaf has its value at that state: a
//! place in the replacements. The crate looks neither at places nor at values, and would panic on a wrong one.

/// The largest in use, nmt_nfkc_cf, has 0.3 MB.
const BYTES_MAX: usize = 4 << 20;

/// An empty one maps nothing. Errors: what would lead out of the trie or the replacements.
pub(super) fn check(charsmap: &[u8]) -> Result<(), &'static str> {
    if charsmap.is_empty() {
        return Ok(());
    }
    if charsmap.len() > BYTES_MAX {
        return Err("is a precompiled_charsmap of more than 4 MiB");
    }
    let cut = "is a precompiled_charsmap whose trie is cut off";
    let (size, rest) = charsmap.split_first_chunk().ok_or(cut)?;
    let size = u32::from_le_bytes(*size) as usize;
    let (trie, replacements) = rest.split_at_checked(size).ok_or(cut)?;
    let (trie, odd) = trie.as_chunks();
    if !odd.is_empty() || trie.is_empty() {
        return Err(cut);
    }
    let trie: Vec<u32> = trie.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    let replacements = std::str::from_utf8(replacements)
        .map_err(|_| "is a precompiled_charsmap whose replacements are not UTF-8")?;
    walk(&trie, replacements)
}

/// Visits each state that some text can lead to, once.
fn walk(trie: &[u32], replacements: &str) -> Result<(), &'static str> {
    let outside = "is a precompiled_charsmap whose trie leads out of itself";
    let mut seen = vec![false; trie.len()];
    let mut states = vec![offset(trie[0])];
    while let Some(state) = states.pop() {
        // Any byte may come next, so that the state's whole block has to be there.
        if state | 0xFF >= trie.len() {
            return Err(outside);
        }
        if std::mem::replace(&mut seen[state], true) {
            continue;
        }
        for byte in 1..=255 {
            let place = state ^ byte as usize;
            let unit = trie[place];
            if unit & LABEL != byte {
                continue;
            }
            let next = place ^ offset(unit);
            if unit & HAS_LEAF != 0 {
                let value = (*trie.get(next).ok_or(outside)? & !VALUE_FLAG) as usize;
                if !replacements.is_char_boundary(value) {
                    return Err("is a precompiled_charsmap that points past its replacements");
                }
            }
            states.push(next);
        }
    }
    Ok(())
}

const HAS_LEAF: u32 = 1 << 8;
const VALUE_FLAG: u32 = 1 << 31;
/// A value's own flag is part of the label, so that no byte matches a value.
const LABEL: u32 = VALUE_FLAG | 0xFF;

fn offset(unit: u32) -> usize {
    ((unit >> 10) as usize) << ((unit & 1 << 9) >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` → `b`: root with state 256, whose unit for `a` has its leaf at state 512.
    fn one_rule() -> (Vec<u32>, Vec<u8>) {
        let mut trie = vec![0u32; 768];
        trie[0] = 256 << 10;
        let place = 256 ^ usize::from(b'a');
        trie[place] = ((place as u32 ^ 512) << 10) | HAS_LEAF | u32::from(b'a');
        trie[512] = VALUE_FLAG;
        (trie, b"b\0".to_vec())
    }

    fn packed((trie, replacements): &(Vec<u32>, Vec<u8>)) -> Vec<u8> {
        let size = (trie.len() as u32 * 4).to_le_bytes();
        let units = trie.iter().flat_map(|unit| unit.to_le_bytes());
        size.into_iter().chain(units).chain(replacements.iter().copied()).collect()
    }

    #[test]
    fn a_rule_is_found_where_the_crate_finds_it() {
        let bytes = packed(&one_rule());
        assert_eq!(check(&bytes), Ok(()));
        let map = tokenizers::normalizers::precompiled::Precompiled::from(&bytes).unwrap();
        assert_eq!(map.normalize_string("abc"), "bbc");
    }

    #[test]
    fn wrong_places_are_refused() {
        let bytes = packed(&one_rule());
        for cut in 0..bytes.len() - 2 {
            // Nothing at all is no map; whatever lacks a unit of the trie is refused.
            assert_eq!(check(&bytes[..cut]).is_ok(), cut == 0, "{cut}");
        }
        type Change = fn(&mut (Vec<u32>, Vec<u8>));
        let changes: [Change; 5] = [
            |(trie, _)| trie[0] = 768 << 10,
            |(trie, _)| trie[256 ^ usize::from(b'a')] |= 0x7FF << 20,
            |(trie, _)| trie[512] = VALUE_FLAG | 3,
            |(trie, _)| trie.truncate(600),
            |(_, replacements)| replacements[0] = 0xFF,
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut parts = one_rule();
            change(&mut parts);
            assert!(check(&packed(&parts)).is_err(), "change {at}");
        }
        // A trie that leads back to itself ends.
        let mut parts = one_rule();
        let place = 256 ^ usize::from(b'a');
        parts.0[place] = ((place as u32 ^ 256) << 10) | u32::from(b'a');
        assert_eq!(check(&packed(&parts)), Ok(()));
    }
}
