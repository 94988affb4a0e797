//! Files made by hand, byte for byte, so that they can be wrong.

/// A header and its data as a safetensors file.
pub fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// A header of GGUF with these counts, then what is given.
pub fn gguf(n_tensors: u64, n_keys: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(n_tensors.to_le_bytes());
    bytes.extend(n_keys.to_le_bytes());
    bytes.extend(rest);
    bytes
}

pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

pub fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(name)[..], &kind.to_le_bytes(), value].concat()
}

pub fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = text(name);
    bytes.extend((dims.len() as u32).to_le_bytes());
    bytes.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

/// A header, padded to the alignment, and data.
pub fn with_data(mut header: Vec<u8>, data: usize) -> Vec<u8> {
    header.resize(header.len().next_multiple_of(32) + data, 0);
    header
}

/// A ZIP archive of stored entries, as Python's zipfile writes it.
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (vec![], vec![]);
    for (name, data) in entries {
        let sizes = [data.len() as u32, data.len() as u32].map(u32::to_le_bytes).concat();
        let names = [&(name.len() as u16).to_le_bytes()[..], &[0, 0]].concat();
        // Version, flags, method, time, date, checksum.
        let begin = [&[20, 0][..], &[0; 12]].concat();
        directory.extend([b"PK\x01\x02\x14\0", &begin[..], &sizes, &names, &[0; 10]].concat());
        directory.extend((bytes.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        bytes.extend([b"PK\x03\x04", &begin[..], &sizes, &names, name.as_bytes(), data].concat());
    }
    let end = [directory.len() as u32, bytes.len() as u32].map(u32::to_le_bytes).concat();
    let count = (entries.len() as u16).to_le_bytes();
    bytes.extend(directory);
    bytes.extend([b"PK\x05\x06", &[0; 4][..], &count, &count, &end, &[0, 0]].concat());
    bytes
}

/// A `.bin` file of this pickle and these storages.
pub fn torch(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let names: Vec<String> = storages.iter().map(|(key, _)| format!("m/data/{key}")).collect();
    let data = names.iter().map(String::as_str).zip(storages.iter().map(|(_, data)| *data));
    zip(&[("m/data.pkl", pickle)].into_iter().chain(data).collect::<Vec<_>>())
}

/// BINUNICODE.
pub fn unicode(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// LONG1 of 8 bytes.
pub fn long(value: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &value.to_le_bytes()].concat()
}

/// What puts a tensor of `values` numbers in storage `key` on the stack.
pub fn rebuilt(key: &str, values: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let tuple = |dims: &[i64]| {
        [&b"("[..], &dims.iter().flat_map(|&dim| long(dim)).collect::<Vec<_>>(), b"t"].concat()
    };
    let id = [unicode("storage"), b"ctorch\nFloatStorage\n".to_vec(), unicode(key), unicode("cpu")];
    [
        &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
        &id.concat(),
        &long(values),
        b"tQ",
        &long(offset),
        &tuple(shape),
        &tuple(strides),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

/// A dict of one entry, whose value `made` puts on the stack.
pub fn dict_of(name: &str, made: &[u8]) -> Vec<u8> {
    [b"\x80\x02}", &unicode(name)[..], made, b"s."].concat()
}
