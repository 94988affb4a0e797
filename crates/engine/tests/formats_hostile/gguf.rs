//! GGUF: every rule of the header, broken; metadata that make no model; scalings.

use crate::build::{gguf, key, tensor, text, with_data};
use crate::support::TempDir;
use engine::Code;
use engine::formats::gguf::Gguf;
use engine::formats::{FormatError, ModelFiles};
use serde_json::json;

#[test]
fn damaged_ggufs_are_refused_with_file_tensor_and_byte() {
    let list = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    let nested = [list(9, 1), list(9, 1), list(9, 1), list(9, 1), list(9, 1)].concat();
    let n = u64::MAX;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "byte 0: the file does not begin with GGUF"),
        (b"GGUF".to_vec(), "byte 4: the file ends inside the version"),
        (
            [&b"GGUF"[..], &9u32.to_le_bytes()].concat(),
            "byte 4: GGUF version 9 is not known; 2 and 3 are",
        ),
        (
            [&b"GGUF"[..], &3u32.to_be_bytes()].concat(),
            "byte 4: the file is written for big-endian machines",
        ),
        (
            gguf(n, 0, &[]),
            "byte 8: 18446744073709551615 tensors are more than the 0 that can be there",
        ),
        (
            gguf(0, 1 << 40, &[]),
            "byte 16: 1099511627776 keys are more than the 0 that can be there",
        ),
        (gguf(0, 1, &n.to_le_bytes().repeat(2)), {
            "byte 24: 18446744073709551615 bytes of a key are more than the 8 that can be there"
        }),
        (gguf(0, 1, &key("k", 99, &[0; 8])), "byte 33: value type 99 is not known"),
        (gguf(0, 1, &key("k", 7, &[2])), "byte 37: a truth value is 2"),
        (
            gguf(0, 1, &key("k", 8, &[&1u64.to_le_bytes()[..], &[0xff]].concat())),
            "byte 45: a text is not UTF-8",
        ),
        (gguf(0, 1, &key("k", 8, &n.to_le_bytes())), {
            "byte 37: 18446744073709551615 bytes of a text are more than the 0 that can be there"
        }),
        (gguf(0, 1, &key("k", 9, &list(8, 1 << 50))), {
            "byte 41: 1125899906842624 elements of a list are more than the 0 that can be there"
        }),
        (gguf(0, 1, &key("k", 9, &list(13, 0))), "byte 37: value type 13 is not known"),
        (gguf(0, 1, &key("k", 9, &nested)), "byte 85: lists are nested more than 4 deep"),
        (
            gguf(0, 2, &[key("k", 7, &[0]), key("k", 7, &[0])].concat()),
            "byte 38: the key `k` is there twice",
        ),
        (gguf(0, 1, &key("general.alignment", 4, &24u32.to_le_bytes())), {
            "byte 57: general.alignment is not a power of two from 8 to 65536"
        }),
        (
            gguf(1, 0, &tensor("t", &[4], 16, 0)),
            "byte 24: tensor `t` has the GGML type 16, which can't be read",
        ),
        (gguf(1, 0, &tensor("t", &[1, 1, 1, 1, 1], 0, 0)), {
            "byte 24: 5 dimensions are more than the 4 that can be there"
        }),
        (gguf(1, 0, &tensor("t", &[33], 2, 0)), {
            "byte 24: tensor `t` of shape [33] is no whole number of Q4_0 blocks, or overflows"
        }),
        // Two rows of 16: a whole block, but no whole row.
        (gguf(1, 0, &tensor("t", &[16, 2], 2, 0)), {
            "byte 24: tensor `t` of shape [2, 16] is no whole number of Q4_0 blocks, or overflows"
        }),
        (gguf(1, 0, &tensor("t", &[1 << 40, 1 << 40], 0, 0)), {
            "byte 24: tensor `t` of shape [1099511627776, 1099511627776] is no whole number of F32 blocks, \
             or overflows"
        }),
        (gguf(1, 0, &tensor("t", &[4], 0, 7)), {
            "byte 24: the offset 7 of tensor `t` is no multiple of the alignment 32"
        }),
        (with_data(gguf(1, 0, &tensor("t", &[9], 0, 0)), 32), {
            "byte 24: tensor `t` ends at byte 100, the file at 96"
        }),
        (with_data(gguf(1, 0, &tensor("t", &[1], 0, n - 31)), 32), {
            "byte 24: tensor `t` ends at byte 18446744073709551615, the file at 96"
        }),
        (
            with_data(
                gguf(2, 0, &[tensor("a", &[16], 0, 0), tensor("b", &[8], 0, 32)].concat()),
                64,
            ),
            { "byte 57: tensors `a` and `b` overlap" },
        ),
        (
            with_data(
                gguf(2, 0, &[tensor("a", &[8], 0, 0), tensor("a", &[8], 0, 32)].concat()),
                64,
            ),
            { "byte 57: tensor `a` is there twice" },
        ),
    ];
    let folder = TempDir::new();
    for (bytes, expected) in cases {
        let path = folder.write("model.gguf", bytes);
        let error = Gguf::open(&path).expect_err(expected);
        assert_eq!(error.to_string(), format!("{}, {expected}", path.display()));
        assert_eq!(error.code(), Code::ModelFiles);
        assert!(matches!(ModelFiles::open(&path), Err(FormatError::Gguf { .. })));
    }
}

/// Metadata of a small Llama, without those that `but` names.
fn llama_keys(but: &str) -> Vec<Vec<u8>> {
    let number = |v: u32| v.to_le_bytes();
    let all = [
        key("general.architecture", 8, &text("llama")),
        key("llama.block_count", 4, &number(1)),
        key("llama.context_length", 4, &number(64)),
        key("llama.embedding_length", 4, &number(8)),
        key("llama.feed_forward_length", 4, &number(16)),
        key("llama.attention.head_count", 4, &number(2)),
        key("llama.attention.layer_norm_rms_epsilon", 6, &1e-6f32.to_le_bytes()),
    ];
    let name = text(but);
    all.into_iter().filter(|key| !key.starts_with(&name)).collect()
}

/// Opens a Llama of these keys, an embedding and another tensor of 8×8.
fn open_llama(keys: &[Vec<u8>], tensor_name: &str) -> (TempDir, Result<ModelFiles, FormatError>) {
    let tensors =
        [tensor("token_embd.weight", &[8, 8], 0, 0), tensor(tensor_name, &[8, 8], 0, 256)].concat();
    let header = gguf(2, keys.len() as u64, &[keys.concat(), tensors].concat());
    let folder = TempDir::new();
    let model = ModelFiles::open(&folder.write("m.gguf", with_data(header, 512)));
    (folder, model)
}

#[test]
fn metadata_that_make_no_model_are_refused_by_key() {
    const OUTPUT: &str = "output.weight";
    let said = |keys: &[Vec<u8>], tensor: &str| {
        let (folder, model) = open_llama(keys, tensor);
        let text = model.err().map_or("ok".to_owned(), |e| e.to_string());
        text.replace(&format!("{}/m.gguf: ", folder.0.display()), "")
    };
    let with = |more: Vec<u8>| [llama_keys(""), vec![more]].concat();
    assert_eq!(said(&llama_keys(""), OUTPUT), "ok");
    for key in
        ["general.architecture", "llama.block_count", "llama.attention.layer_norm_rms_epsilon"]
    {
        assert!(
            said(&llama_keys(key), OUTPUT)
                .starts_with(&format!("the metadata has no `{key}`, or not as"))
        );
    }
    let list =
        [&5u32.to_le_bytes()[..], &2u64.to_le_bytes(), &2i32.to_le_bytes(), &1i32.to_le_bytes()]
            .concat();
    assert_eq!(
        said(&with(key("llama.attention.head_count_kv", 9, &list)), OUTPUT),
        "the metadata has no `llama.attention.head_count_kv`, or not as a whole number, the same for all blocks"
    );
    assert_eq!(
        said(&with(key("llama.rope.dimension_count", 4, &2u32.to_le_bytes())), OUTPUT),
        "ok",
        "the head's size, where no key names it"
    );
    assert_eq!(
        said(&with(key("llama.rope.scaling.type", 8, &text("longrope"))), OUTPUT),
        "the rotary embedding is scaled by `longrope`, which is not known"
    );
    for wrong in
        ["blk.0.ffn_gate_exps.weight", "blk.1.ffn_up.weight", "blk.0.ffn_up", "blk.0.ffn_up.scale"]
    {
        assert_eq!(
            said(&llama_keys(""), wrong),
            format!("tensor `{wrong}` has no place in a llama model")
        );
    }
    let heads = [
        llama_keys("llama.attention.head_count"),
        vec![key("llama.attention.head_count", 4, &[3, 0, 0, 0])],
    ];
    assert_eq!(
        said(&heads.concat(), "blk.0.attn_q.weight"),
        "tensor `blk.0.attn_q.weight` has the shape [8, 8], needed is rows for 3 heads of even size"
    );
}

#[test]
fn scalings_of_the_rotary_embedding_are_translated() {
    let rope = |keys: &[(&str, u32, Vec<u8>)]| {
        let more =
            keys.iter().map(|(name, kind, value)| key(&format!("llama.rope.{name}"), *kind, value));
        let (_folder, model) = open_llama(
            &llama_keys("").into_iter().chain(more).collect::<Vec<_>>(),
            "output.weight",
        );
        model.expect("a model").config()["rope_parameters"].clone()
    };
    let number = |v: f32| v.to_le_bytes().to_vec();
    let linear = json!({"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0});
    assert_eq!(rope(&[]), json!({"rope_type": "default", "rope_theta": 10000.0}));
    assert_eq!(rope(&[("scale_linear", 6, number(4.0))]), linear);
    assert_eq!(
        rope(&[("scaling.type", 8, text("linear")), ("scaling.factor", 6, number(4.0))]),
        linear
    );
    let yarn = [
        ("freq_base", 6, number(5e5)),
        ("scaling.type", 8, text("yarn")),
        ("scaling.factor", 6, number(2.0)),
        ("scaling.original_context_length", 4, 32u32.to_le_bytes().to_vec()),
        ("scaling.yarn_beta_fast", 6, number(16.0)),
    ];
    let expected = json!({"rope_type": "yarn", "rope_theta": 500000.0, "factor": 2.0, "beta_fast": 16.0,
        "original_max_position_embeddings": 32});
    assert_eq!(rope(&yarn), expected);
}
