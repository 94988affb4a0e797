//! Tensors whose values do not lie one after another: where they are, and a copy in order.
//!
//! Shapes and strides count values; a stride is the way from one index to the next. Checks nothing: the
//! readers did.

/// Whether the values lie one after another. Dimensions of one may have any stride.
pub(super) fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut expected = 1;
    for (&dim, &stride) in shape.iter().zip(strides).rev() {
        if dim != 1 && stride != expected {
            return false;
        }
        expected *= dim;
    }
    true
}

/// Values from the first to the last, both included. `None`: more than can be counted.
pub(super) fn span(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    let reach = |n: usize, (&dim, &stride): (&usize, &usize)| {
        (dim - 1).checked_mul(stride).and_then(|way| n.checked_add(way))
    };
    shape.iter().zip(strides).try_fold(1, reach)
}

/// Appends to `out` the values of `size` bytes, in the order of their indices.
pub(super) fn gather(
    bytes: &[u8],
    size: usize,
    shape: &[usize],
    strides: &[usize],
    out: &mut Vec<u8>,
) {
    match (shape, strides) {
        ([len], [1]) => out.extend_from_slice(&bytes[..len * size]),
        ([len, inner @ ..], [stride, inner_strides @ ..]) => {
            for i in 0..*len {
                gather(&bytes[i * stride * size..], size, inner, inner_strides, out);
            }
        }
        _ => out.extend_from_slice(&bytes[..size]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_found_and_copied_in_order() {
        let bytes: Vec<u8> = (0..24).collect();
        // [2, 3, 4] in order, its transposes, a column, a repeated row, nothing.
        for (shape, strides, contiguous, expected_span, first) in [
            (vec![2, 3, 4], vec![12, 4, 1], true, 24, vec![0, 1, 2, 3, 4]),
            (vec![4, 3, 2], vec![1, 4, 12], false, 24, vec![0, 12, 4, 16, 8]),
            (vec![3, 1], vec![4, 99], false, 9, vec![0, 4, 8]),
            (vec![1, 4], vec![7, 1], true, 4, vec![0, 1, 2, 3]),
            (vec![2, 2], vec![0, 1], false, 2, vec![0, 1, 0, 1]),
            (vec![0, 2], vec![5, 5], true, 0, vec![]),
            (vec![], vec![], true, 1, vec![0]),
        ] {
            assert_eq!(is_contiguous(&shape, &strides), contiguous, "{shape:?} {strides:?}");
            assert_eq!(span(&shape, &strides), Some(expected_span), "{shape:?} {strides:?}");
            let mut out = vec![];
            gather(&bytes, 1, &shape, &strides, &mut out);
            assert_eq!(out.len(), shape.iter().product::<usize>());
            assert!(out.starts_with(&first), "{shape:?} {strides:?}: {out:?}");
        }
        assert_eq!(span(&[3, 2], &[usize::MAX / 2 + 1, 1]), None);
    }
}
