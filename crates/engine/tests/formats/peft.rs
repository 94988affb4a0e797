//! Adapters that PEFT wrote: read, written again to the same bytes; and those that are refused.

use crate::shared;
use crate::support::{TempDir, golden, le_bytes, reference_safetensors};
use engine::formats::FormatError;
use engine::formats::peft::{
    AdapterConfig, Bias, Modules, Part, parse_name, read_adapter, tensor_name, write_adapter,
};
use engine::signal::Signal;
use safetensors::Dtype;
use serde_json::{Value, json};
use std::path::Path;

/// Reads an adapter, writes it elsewhere, compares both files.
fn round_trip(folder: &Path) -> AdapterConfig {
    let (config, tensors) = read_adapter(folder).expect("PEFT's adapter can be read");
    assert_eq!(config.unknown_keys, Vec::<String>::new());
    let out = TempDir::new();
    let target = out.0.join("adapter");
    write_adapter(&target, &config, &tensors, &[], &Signal::default()).expect("it can be written");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let bytes = |folder: &Path| std::fs::read(folder.join(name)).expect("the file");
        assert!(bytes(folder) == bytes(&target), "{name} of {} differs", folder.display());
    }
    for tensor in &tensors {
        let (module, part) = parse_name(&tensor.name).expect("a name of LoRA's");
        assert_eq!(tensor_name(module, part), tensor.name);
    }
    config
}

#[test]
fn adapters_of_peft_are_written_again_to_the_byte() {
    let plain = round_trip(&golden("peft/plain"));
    let expected = AdapterConfig {
        base_model_name_or_path: Some("tiny-llama".into()),
        lora_alpha: 3.0,
        r: 2,
        target_modules: plain.target_modules.clone(),
        ..AdapterConfig::default()
    };
    assert_eq!(plain, expected, "the defaults are PEFT's");
    let rich = round_trip(&golden("peft/rich"));
    assert_eq!(
        (rich.r, rich.lora_alpha, rich.lora_dropout, rich.bias),
        (2, 3.5, 0.25, Bias::LoraOnly)
    );
    assert_eq!((rich.rank_pattern["v_proj"], rich.alpha_pattern["v_proj"]), (3, 5.0));
    assert_eq!(rich.modules_to_save, Some(vec!["lm_head".into()]));
    assert!(matches!(rich.target_modules, Some(Modules::Names(names)) if names.len() == 2));
}

#[test]
fn the_shared_adapters_are_written_again_to_the_byte() {
    let Some(models) = shared("goldens/models") else { return };
    let mut count = 0;
    for model in std::fs::read_dir(models).expect("the goldens can be listed") {
        let adapter = model.expect("an entry").path().join("adapter");
        if adapter.is_dir() {
            assert_eq!(round_trip(&adapter).r, 4);
            count += 1;
        }
    }
    assert!(count >= 13, "{count} adapters");
    if let Some(smollm2) = shared("goldens/smollm2/adapter") {
        assert_eq!(round_trip(&smollm2).r, 2);
    }
}

#[test]
fn names_of_tensors_have_a_module_and_a_part() {
    let cases = [
        ("base_model.model.h.0.Wqkv.lora_A.weight", Some(("h.0.Wqkv", Part::LoraA))),
        ("base_model.model.h.0.Wqkv.lora_B.weight", Some(("h.0.Wqkv", Part::LoraB))),
        ("base_model.model.wte.lora_embedding_A", Some(("wte", Part::EmbeddingA))),
        ("base_model.model.h.0.Wqkv.base_layer.bias", Some(("h.0.Wqkv", Part::BaseBias))),
        ("base_model.model.lm_head.weight", Some(("lm_head", Part::Weight))),
        ("base_model.model.h.0.Wqkv.lora_magnitude_vector", None),
        ("base_model.model.h.0.Wqkv.lora_B.bias", None),
        ("h.0.Wqkv.lora_A.weight", None),
    ];
    for (name, expected) in cases {
        assert_eq!(parse_name(name), expected, "{name}");
    }
}

/// An adapter of one module with changes in the config.
fn adapter(change: Value, tensors: &[(&str, Vec<usize>)]) -> (TempDir, String) {
    let folder = TempDir::new();
    let mut config =
        serde_json::to_value(AdapterConfig { r: 2, ..AdapterConfig::default() }).expect("JSON");
    if let (Some(config), Value::Object(change)) = (config.as_object_mut(), change) {
        config.extend(change);
    }
    folder.write("adapter_config.json", config.to_string());
    let name = |end: &str| format!("base_model.model.q{end}");
    let named: Vec<(String, Vec<usize>)> =
        tensors.iter().map(|(end, shape)| (name(end), shape.clone())).collect();
    let zeros = |shape: &[usize]| le_bytes(&vec![0.0; shape.iter().product()]);
    let tensors: Vec<_> = named
        .iter()
        .map(|(name, shape)| (name.as_str(), Dtype::F32, shape.clone(), zeros(shape)))
        .collect();
    folder.write("adapter_model.safetensors", reference_safetensors(&tensors));
    let text = match read_adapter(&folder.0) {
        Ok(_) => "ok".into(),
        Err(e) => e.to_string().replace(&format!("{}/adapter_", folder.0.display()), ""),
    };
    (folder, text)
}

#[test]
fn what_is_no_plain_lora_is_refused_by_name() {
    let right = [(".lora_A.weight", vec![2, 8]), (".lora_B.weight", vec![6, 2])];
    let said = |change| adapter(change, &right).1;
    assert_eq!(said(json!({})), "ok");
    assert_eq!(
        said(json!({"peft_type": "IA3"})),
        "config.json: `peft_type` is IA3, which is not supported"
    );
    assert_eq!(
        said(json!({"use_dora": true})),
        "config.json: `use_dora` is true, which is not supported"
    );
    assert_eq!(said(json!({"r": 0})), "config.json: `r` is 0, which is not supported");
    assert_eq!(
        said(json!({"layer_replication": [[0, 2]]})),
        "config.json: `layer_replication` is [[0,2]], which is not supported"
    );
    assert_eq!(
        said(json!({"init_lora_weights": "pissa_niter_4"})),
        "config.json: `init_lora_weights` is \"pissa_niter_4\", which is not supported"
    );
    assert_eq!(said(json!({"init_lora_weights": "gaussian"})), "ok");
    assert!(said(json!({"r": "two"})).starts_with("config.json, line 1, column "));
}

#[test]
fn tensors_that_do_not_fit_the_config_are_refused_by_name() {
    let said = |tensors: &[(&str, Vec<usize>)]| adapter(json!({}), tensors).1;
    assert_eq!(
        said(&[(".lora_A.weight", vec![2, 8])]),
        "model.safetensors: module `q` has no lora_B"
    );
    assert_eq!(
        said(&[(".lora_B.weight", vec![8, 2])]),
        "model.safetensors: module `q` has no lora_A"
    );
    assert_eq!(
        said(&[(".lora_A.weight", vec![3, 8]), (".lora_B.weight", vec![6, 3])]),
        "model.safetensors: tensor `base_model.model.q.lora_A.weight` has the shape [3, 8], \
         needed is [r, inputs] with r = 2"
    );
    assert_eq!(
        said(&[(".lora_magnitude_vector", vec![6])]),
        "model.safetensors: tensor `base_model.model.q.lora_magnitude_vector` is none of a LoRA adapter's"
    );
    let pattern = json!({"rank_pattern": {"q": 3}});
    let (_, said) =
        adapter(pattern, &[(".lora_A.weight", vec![3, 8]), (".lora_B.weight", vec![6, 2])]);
    assert_eq!(
        said,
        "model.safetensors: tensor `base_model.model.q.lora_B.weight` has the shape [6, 2], \
         needed is [outputs, 3], as lora_A has it"
    );
}

#[test]
fn unknown_keys_are_told_and_pickles_are_not_opened() {
    let right = [(".lora_A.weight", vec![2, 8]), (".lora_B.weight", vec![6, 2])];
    let (folder, said) = adapter(json!({"new_in_peft_9": 1}), &right);
    assert_eq!(said, "ok");
    let (config, _) = read_adapter(&folder.0).expect("it opens");
    assert_eq!(config.unknown_keys, ["new_in_peft_9"]);
    std::fs::rename(folder.0.join("adapter_model.safetensors"), folder.0.join("adapter_model.bin"))
        .expect("a rename");
    assert!(matches!(read_adapter(&folder.0), Err(FormatError::PickleOnly { .. })));
}
