//! The state by name: what is shown is what is taken back, what does not fit is refused, and where it
//! lies changes no bit.

use super::*;
use crate::ctx::{Ctx, Precision, read, write};
use crate::formats::ModelFiles;
use crate::model::{self, LoadOptions, Method};
use crate::signal::Signal;
use std::path::Path;

const KINDS: [Kind; 3] = [Kind::Adamw, Kind::Adamw32bit, Kind::Adamw8bit];

fn open(kind: Kind, paged: bool) -> (Model, Optimizer) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens/models/llama-yarn");
    let files = ModelFiles::open(&dir).expect("the golden opens");
    let load = LoadOptions { method: &Method::Full, quantization: None, seed: 1 };
    let model = model::load(&Ctx::cpu(Precision::F32), &files, load, &Signal::default());
    let model = model.expect("a model");
    for (i, param) in model.params.iter().enumerate() {
        let fill = |g: &mut [f32]| {
            let n = g.len();
            g.copy_from_slice(&crate::testing::values(i as u64, n));
        };
        write(&param.grad, fill).expect("a gradient");
    }
    let options = OptimizerOptions {
        kind,
        paged,
        weight_decay: 0.01,
        max_grad_norm: 1.0,
        ..OptimizerOptions::adamw()
    };
    let optimizer = Optimizer::new(&model, &options, &Signal::default()).expect("an optimizer");
    (model, optimizer)
}

fn bits(model: &Model) -> Vec<u32> {
    let values = |p: &model::Param| read::<f32, _>(&p.value, <[f32]>::to_vec).expect("values");
    model.params.iter().flat_map(|p| values(p).into_iter().map(f32::to_bits)).collect()
}

#[test]
fn a_restored_optimizer_goes_on_to_the_same_bits() {
    for kind in KINDS {
        let (model, mut straight) = open(kind, false);
        for step in 1..=3 {
            straight.update(&model, 1e-3, 2.0, step).expect("a step");
        }
        let mut tensors = straight.state_tensors();
        tensors.reverse();
        let (_, mut resumed) = open(kind, false);
        resumed.restore(&tensors, &Signal::default()).expect("its own state");
        assert_eq!(resumed.state_tensors(), straight.state_tensors());

        let (resumed_model, _) = open(kind, false);
        for (to, from) in resumed_model.params.iter().zip(&model.params) {
            let from = read::<f32, _>(&from.value, <[f32]>::to_vec).expect("values");
            write(&to.value, |to| to.copy_from_slice(&from)).expect("a value");
        }
        straight.update(&model, 1e-3, 2.0, 4).expect("a step");
        resumed.update(&resumed_model, 1e-3, 2.0, 4).expect("a step");
        assert!(bits(&resumed_model) == bits(&model));
        assert_eq!(resumed.state_tensors(), straight.state_tensors());
    }
}

#[test]
fn state_that_does_not_fit_is_refused_by_name_and_changes_nothing() {
    let (model, mut optimizer) = open(Kind::Adamw, false);
    optimizer.update(&model, 1e-3, 2.0, 1).expect("a step");
    let (_, other) = open(Kind::Adamw, false);
    let good = other.state_tensors();
    let name = good[3].name.clone();
    let changed = |change: &dyn Fn(&mut Vec<StateTensor>)| {
        let mut tensors = good.clone();
        change(&mut tensors);
        tensors
    };
    let cases: [(&str, Vec<StateTensor>); 6] = [
        ("has no `", changed(&|t| drop(t.remove(3)))),
        ("` twice", changed(&|t| t.push(t[3].clone()))),
        (
            "nothing here is trained by",
            changed(&|t| t.push(StateTensor { name: name.clone() + ".old", ..t[3].clone() })),
        ),
        ("and should be F32", changed(&|t| t[3].shape = vec![7])),
        ("is BF16 [", changed(&|t| t[3].dtype = StoredDtype::Bf16)),
        ("bytes, and should have", changed(&|t| t[3].bytes = &t[3].bytes[4..])),
    ];
    for (says, tensors) in cases {
        let error = optimizer.restore(&tensors, &Signal::default()).expect_err(says);
        let text = error.to_string();
        assert!(text.contains(says) && text.contains(&name), "{text}");
        assert_eq!(error.code(), crate::Code::ModelFiles);
        assert!(optimizer.state_tensors()[0].bytes.iter().any(|byte| *byte != 0), "{says}");
    }
    optimizer.restore(&good, &Signal::default()).expect("a state of zeros");
    assert!(optimizer.state_tensors().iter().all(|t| t.bytes.iter().all(|byte| *byte == 0)));
}

#[test]
fn paged_state_gives_the_same_bits() {
    for kind in KINDS {
        let (model, mut optimizer) = open(kind, false);
        let (paged_model, mut paged) = open(kind, true);
        for step in 1..=3 {
            optimizer.update(&model, 1e-3, 2.0, step).expect("a step");
            paged.update(&paged_model, 1e-3, 2.0, step).expect("a step");
        }
        assert!(bits(&model) == bits(&paged_model), "{kind:?}");
        assert_eq!(optimizer.state_tensors(), paged.state_tensors(), "{kind:?}");
    }
}

#[test]
fn small_tensors_keep_f32_state_with_eight_bits_too() {
    let (model, optimizer) = open(Kind::Adamw8bit, false);
    let state = optimizer.state_tensors();
    let of = |name: String| state.iter().find(|tensor| tensor.name == name);
    let (mut small, mut large) = (0, 0);
    for param in &model.params {
        let values = param.value.elem_count();
        let codes = of(format!("{}.state1", param.name)).expect("a first moment");
        assert_eq!(codes.shape, param.value.dims());
        let absmax = of(format!("{}.absmax2", param.name));
        if values < 4096 {
            assert_eq!((codes.dtype, absmax), (StoredDtype::F32, None));
            small += 1;
        } else {
            assert_eq!(codes.dtype, StoredDtype::U8);
            assert_eq!(absmax.map(|a| a.shape.clone()), Some(vec![values.div_ceil(256)]));
            large += 1;
        }
    }
    assert!(small > 3 && large > 3, "{small} small, {large} large");
}
