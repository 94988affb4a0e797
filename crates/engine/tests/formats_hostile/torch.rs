//! `.bin` files of PyTorch: archives that lie, pickles that do more than name tensors, views that leave
//! their storage.

use crate::build::{dict_of, rebuilt, torch, unicode, zip};
use crate::support::{TempDir, golden};
use engine::Code;
use engine::formats::torch::TorchFile;
use std::time::{Duration, Instant};

fn open(bytes: &[u8]) -> Result<TorchFile, String> {
    let folder = TempDir::new();
    let path = folder.write("pytorch_model.bin", bytes);
    TorchFile::open(&path).map_err(|error| {
        assert_eq!(error.code(), Code::ModelFiles);
        assert!(!error.hint().is_empty());
        let text = error.to_string();
        assert!(!text.ends_with('.'), "{text}");
        text.strip_prefix(&format!("{}, byte ", path.display())).expect("file and byte").to_owned()
    })
}

fn refuse(bytes: &[u8]) -> String {
    open(bytes).expect_err("the file is damaged")
}

fn plain() -> Vec<u8> {
    std::fs::read(golden("bin/hostile/plain.bin")).expect("the golden")
}

/// The places of `part`.
fn find(bytes: &[u8], part: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|&at| bytes[at..].starts_with(part)).collect()
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let bytes = plain();
    for len in 0..bytes.len() {
        let start = Instant::now();
        refuse(&bytes[..len]);
        assert!(start.elapsed() < Duration::from_secs(1), "{len}");
    }
    assert_eq!(refuse(&bytes[..8]), "8: the file ends inside the archive, before its directory");
    assert_eq!(refuse(b""), "0: the file is no ZIP archive, which torch.save writes");
    assert_eq!(refuse(b"version https://"), refuse(b""));
}

#[test]
fn what_the_test_builds_is_what_torch_reads() {
    let storage = [0u8; 24];
    let file = torch(&dict_of("w", &rebuilt("0", 6, 1, &[2, 2], &[2, 1])), &[("0", &storage)]);
    assert_eq!(open(&file).expect("a tensor").tensors()[0].shape, [2, 2]);
}

#[test]
fn archives_that_lie_are_refused() {
    let bytes = plain();
    let patched = |at: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    let end = find(&bytes, b"PK\x05\x06")[0];
    let end64 = find(&bytes, b"PK\x06\x06")[0];
    let own = find(&bytes, b"PK\x03\x04");
    let listed = find(&bytes, b"PK\x01\x02");
    let data = find(&bytes, b"plain/data/0");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        // Of the end.
        (patched(end + 10, &[9]), "the archive's directory is damaged: its two ends differ"),
        (patched(end64 + 32, &[200]), "the archive's directory is damaged: its two ends differ"),
        (
            patched(end64 + 48, &u64::MAX.to_le_bytes()),
            "the archive's directory is damaged: its two ends differ",
        ),
        (patched(end64, b"AA"), "its ZIP64 end is not where it should be"),
        (patched(end64 + 28, &[7; 4]), "ok"), // the disk's number is of no use
        (patched(end + 20, &[1]), "the file ends inside the archive, before its directory"),
        // Of the entries in the directory.
        (patched(listed[0], b"AA"), "an entry does not begin as one"),
        (patched(listed[0] + 8, &[1]), "entry `plain/data.pkl` is encrypted"),
        (patched(listed[0] + 10, &[8]), "entry `plain/data.pkl` is compressed"),
        (patched(listed[0] + 20, &[7]), "is said to be of two sizes"),
        (patched(listed[0] + 20, &[7, 0, 0, 0, 7]), "70: the file ends inside the pickle"),
        (patched(listed[0] + 28, &[255, 255]), "an entry is cut off"),
        (patched(listed[0] + 46, &[255]), "a text of the pickle is not UTF-8"),
        (patched(listed[0] + 42, &[1]), "differ in where the entry begins"),
        (patched(listed[1] + 42, &[0; 4]), "entry `plain/.format_version`"),
        (patched(listed[0] + 42, &[255; 4]), "an entry is cut off"),
        (
            patched(listed[4] + 20, &[255, 255, 0, 0, 255, 255, 0, 0]),
            "an entry reaches into the directory",
        ),
        // Of the entries before their bytes.
        (patched(own[0] + 8, &[8]), "differ in how it is packed"),
        (patched(own[0] + 6, &[1]), "differ in how it is packed"),
        (patched(own[0] + 18, &[1]), "differ in its size"),
        (patched(own[0] + 30, b"A"), "differ in its name"),
        (patched(own[0] + 28, &[255, 255]), "an entry reaches into the directory"),
        (patched(data[0] + 11, b"1"), "entry `plain/data/0`"),
        (patched(data[1] + 11, b"1"), "entry `plain/data/1`"),
        (zip(&[]), "the archive has 0 entries NAME/data.pkl"),
        (zip(&[("a/data.pkl", b"."), ("b/data.pkl", b".")]), "the archive has 2 entries"),
        (zip(&[("a/data.pkl", b"."), ("a/data.pkl", b".")]), "entry `a/data.pkl` is there twice"),
        (zip(&[("a/data.pkl", b"}."), ("a/byteorder", b"big")]), "for big-endian machines"),
    ];
    for (bytes, expected) in cases {
        let said = open(&bytes).err().unwrap_or_else(|| "ok".into());
        assert!(said.contains(expected), "{said}\nexpected {expected}");
    }
}

#[test]
fn entries_that_lie_over_each_other_are_refused() {
    // The second entry of the directory says where the first one's bytes are.
    let inner = zip(&[("a/data/0", b"0000")]);
    let mut bytes = zip(&[("a/data.pkl", &inner), ("a/data/0", b"0000")]);
    let place = bytes.len() - 22 - 8 - 4;
    bytes[place..place + 4].copy_from_slice(&40u32.to_le_bytes());
    let said = refuse(&bytes);
    assert!(said.ends_with("entries `a/data.pkl` and `a/data/0` overlap"), "{said}");
}

#[test]
fn pickles_that_do_more_than_name_tensors_are_refused() {
    let nothing_run = |what: &str| format!("{what}; nothing was run");
    let cases: Vec<(Vec<u8>, String)> = vec![
        (b"cos\nsystem\n(S'true'\ntR.".to_vec(), {
            nothing_run("40: the pickle calls for `os.system`, which is no part of a tensor")
        }),
        (
            b"(S'true'\nios\nsystem\n.".to_vec(),
            nothing_run("41: the pickle's opcode 0x53 is none that tensors need"),
        ),
        (b"(ios\nsystem\n.".to_vec(), {
            nothing_run("41: the pickle calls for `os.system`, which is no part of a tensor")
        }),
        (b"(icollections\nOrderedDict\n.".to_vec(), {
            nothing_run("41: the pickle's opcode 0x69 is none that tensors need")
        }),
        (b"c\x1b[2J\nx\n.".to_vec(), {
            nothing_run("40: the pickle calls for `\\u{1b}[2J.x`, which is no part of a tensor")
        }),
        (b"ctorch\nFloatStorage\n)R.".to_vec(), {
            nothing_run(
                "61: the pickle calls `a storage of torch` in a way that torch.save does not write",
            )
        }),
        (b"ccollections\nOrderedDict\nK\x01\x85R.".to_vec(), {
            nothing_run(
                "68: the pickle calls `collections.OrderedDict` in a way that torch.save does not write",
            )
        }),
        (b"}}b.".to_vec(), "43: ".into()), // a dict of no tensors, no fault: see below
        (b"}Nb.".to_vec(), "42: the pickle takes None where a dict should be".into()),
        (b"\x80\x09.".to_vec(), "40: pickle protocol 9 is not known; up to 5 are".into()),
        (b"K".to_vec(), "41: the file ends inside the pickle".into()),
        (b"".to_vec(), "40: the file ends inside the pickle".into()),
        (b"K\x01".to_vec(), "42: the file ends inside the pickle".into()),
        (
            b"K\x01.".to_vec(),
            "43: the pickle takes a number where a dict of tensors should be".into(),
        ),
        (b".".to_vec(), "40: the pickle takes a value that is not there".into()),
        (b"}..".to_vec(), "42: the pickle ends before its data do".into()),
        (b"t.".to_vec(), "40: the pickle takes a value that is not there".into()),
        (b"}(s.".to_vec(), "42: the pickle takes a value that is not there".into()),
        (b"}(Nu.".to_vec(), "43: the pickle takes a value that is not there".into()),
        (b"NNNs.".to_vec(), "43: the pickle takes None where a dict should be".into()),
        (b"h\x05.".to_vec(), "40: the pickle takes a value that is not there".into()),
        (b"j\xff\xff\xff\xff.".to_vec(), "40: the pickle takes a value that is not there".into()),
        (b"X\xff\xff\xff\xff.".to_vec(), "45: the file ends inside a text of the pickle".into()),
        (
            [b"\x8d", &[255; 8][..], b"."].concat(),
            "49: the file ends inside a text of the pickle".into(),
        ),
        (b"X\x01\x00\x00\x00\xff.".to_vec(), "40: a text of the pickle is not UTF-8".into()),
        (b"\x8a\xff.".to_vec(), "40: a number of the pickle has 255 bytes".into()),
        (b"NQ.".to_vec(), "41: the pickle takes None where a tuple should be".into()),
        (b")Q.".to_vec(), "41: the pickle takes a tuple where a storage's name should be".into()),
        (dict_of("e", b"K\x03"), "53: `e` is a number, not a tensor".into()),
        (b"}NNs.".to_vec(), "45: the pickle takes None where a name should be".into()),
    ];
    for (pickle, expected) in cases {
        match open(&torch(&pickle, &[])) {
            Err(said) => assert_eq!(said, expected),
            Ok(file) => assert!(pickle == b"}}b." && file.tensors().is_empty(), "{pickle:?}"),
        }
    }
}

#[test]
fn tensors_that_leave_their_storage_are_refused() {
    let storage = [0u8; 24];
    let made = |values, offset, shape: &[i64], strides: &[i64]| {
        refuse(&torch(
            &dict_of("w", &rebuilt("0", values, offset, shape, strides)),
            &[("0", &storage)],
        ))
    };
    let view = |said: &str| {
        assert!(
            said.contains("tensor `w` of shape ") && said.contains("does not fit its storage of 6"),
            "{said}"
        );
    };
    view(&made(6, 0, &[7], &[1]));
    view(&made(6, 1, &[2, 3], &[3, 1]));
    view(&made(6, 0, &[2, 3], &[4, 1]));
    view(&made(6, 0, &[2, 3], &[1]));
    view(&made(6, 7, &[0], &[1]));
    view(&made(6, i64::MAX, &[1], &[1]));
    view(&made(6, 0, &[2], &[i64::MAX]));
    view(&made(6, 0, &[i64::MAX, i64::MAX], &[1, 1]));
    // One value, shown a million million times.
    view(&made(6, 0, &[1 << 20, 1 << 20], &[0, 0]));
    assert!(made(6, -1, &[1], &[1]).ends_with("takes a number where a count should be"));
    assert!(made(6, 0, &[-1], &[1]).ends_with("takes a number where a count should be"));
    assert!(
        made(6, 0, &[1; 9], &[1; 9])
            .ends_with("9 dimensions are more than the 8 that can be there")
    );
    for values in [5, 7, i64::MAX] {
        let said = made(values, 0, &[1], &[1]);
        let expected = format!("storage `0` of {values} values in F32 does not fit its 24 bytes");
        assert!(said.ends_with(&expected), "{said}");
    }
    let none =
        refuse(&torch(&dict_of("w", &rebuilt("../1", 6, 0, &[1], &[1])), &[("0", &storage)]));
    assert!(none.ends_with("tensor `w`: the archive has no storage `../1`"), "{none}");
    let twice = [unicode("w"), rebuilt("0", 6, 0, &[1], &[1])].concat().repeat(2);
    let twice = refuse(&torch(&[b"}(", &twice[..], b"u."].concat(), &[("0", &storage)]));
    assert!(twice.ends_with("tensor `w` is there twice"), "{twice}");
}
