//! Files as torch wrote them (`tools/reference/weights.py`), and what damage does to them.

use std::path::PathBuf;

use ::safetensors::Dtype;
use ::safetensors::tensor::TensorView;
use proptest::prelude::*;

use super::*;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/weights").join(name)
}

fn ramp(count: u8) -> Vec<f32> {
    (0..count).map(|i| f32::from(i) / 8.0).collect()
}

fn safetensors_file(tensors: &[(&str, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    ::safetensors::serialize(views, None).unwrap()
}

fn small() -> Weights {
    let file = safetensors_file(&[
        ("in.weight", vec![2, 3], ramp(6)),
        ("in.bias", vec![2], ramp(2)),
        ("out.weight", vec![1, 2], ramp(2)),
    ]);
    Weights::from_bytes("small.safetensors".as_ref(), &file).unwrap()
}

#[test]
fn every_element_type_and_stride_of_torch_is_read() {
    for file in ["state_dict.pt", "state_dict_protocol4.npy"] {
        let weights = Weights::read(&golden(file)).unwrap();
        let expected: [(&str, &[usize], Vec<f32>); 12] = [
            ("bf16", &[5], ramp(5)),
            ("bool", &[2], vec![0.0, 1.0]),
            ("empty", &[0, 3], vec![]),
            ("expanded", &[3], vec![0.0; 3]),
            ("f16", &[2, 3], ramp(6)),
            ("f32", &[2, 2, 3], ramp(12)),
            ("f64", &[7], ramp(7)),
            ("i64", &[4], vec![0.0, 1.0, 2.0, 3.0]),
            ("parameter", &[3], ramp(3)),
            ("scalar", &[], ramp(1)),
            ("transposed", &[2, 3], ramp(6)),
            ("view", &[2, 3], ramp(6)),
        ];
        let found: Vec<_> = weights.iter().map(|(name, t)| (name, &*t.shape, t.values.clone())).collect();
        assert_eq!(found, expected, "{file}");
        assert_eq!(weights.parameters(), expected.iter().map(|(_, _, values)| values.len()).sum::<usize>());
    }
}

#[test]
fn nested_checkpoints_have_dotted_names_that_can_be_stripped() {
    let weights = Weights::read(&golden("checkpoint.pth")).unwrap();
    let names: Vec<_> = weights.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ema.state_dict.a.weight", "model.0.bias", "model.0.weight"]);
    let weights = weights.strip_prefix("ema.state_dict.");
    assert_eq!(weights.get("a.weight").unwrap().values, ramp(4));
    assert_eq!(weights.len(), 1);
}

#[test]
fn the_hash_is_that_of_the_whole_file() {
    let path = golden("state_dict.pt");
    let expected = blake3::hash(&std::fs::read(&path).unwrap()).to_hex().to_string();
    assert_eq!(Weights::read(&path).unwrap().blake3(), expected);
}

fn network(tensors: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
    tensors.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
}

#[test]
fn the_tensors_of_a_network_fit_it() {
    let expected = network(&[("out.weight", &[1, 2]), ("in.weight", &[2, 3]), ("in.bias", &[2])]);
    small().check(&expected).unwrap();
}

#[test]
fn all_that_does_not_fit_is_reported_together() {
    let expected = network(&[("in.weight", &[3, 3]), ("in.biases", &[2]), ("nothing_like_it", &[])]);
    let error = small().check(&expected).unwrap_err();
    let WeightsError::Mismatch { problems, .. } = &error else { panic!("{error}") };
    let text = |text: &str| text.to_owned();
    assert_eq!(
        *problems,
        [
            Problem::Misshapen { name: text("in.weight"), wanted: vec![3, 3], found: vec![2, 3] },
            Problem::Missing { name: text("in.biases"), shape: vec![2], nearest: Some(text("in.bias")) },
            Problem::Missing { name: text("nothing_like_it"), shape: vec![], nearest: None },
            Problem::Extra { name: text("in.bias"), shape: vec![2] },
            Problem::Extra { name: text("out.weight"), shape: vec![1, 2] },
        ]
    );
    let message = error.to_string();
    for part in
        ["small.safetensors", "1 misshapen, 2 missing, 2 extra", "`in.weight` has shape [2, 3]", "`in.bias`)"]
    {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_long_list_of_problems_is_cut() {
    let expected: Vec<_> = (0..50).map(|i| (format!("layer{i}"), vec![1])).collect();
    let message = small().check(&expected).unwrap_err().to_string();
    assert!(message.contains("50 missing") && message.contains("and 42 more"), "{message}");
    assert!(message.lines().count() < 20, "{message}");
}

#[test]
fn a_value_that_is_not_finite_is_an_error_that_names_the_tensor() {
    let error = Weights::read(&golden("nan.pt")).unwrap_err().to_string();
    assert!(error.contains("tensor `a` holds NaN at index 1"), "{error}");
    let file = safetensors_file(&[("w", vec![3], vec![0.0, 1.0, f32::NEG_INFINITY])]);
    let error = Weights::from_bytes("x".as_ref(), &file).unwrap_err().to_string();
    assert!(error.contains("tensor `w` holds -inf at index 2"), "{error}");
}

#[test]
fn what_is_no_weight_file_is_named() {
    let cases: [(&[u8], &str); 7] = [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"\x93NUMPY\x01\x00", "NumPy"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x80\x04\x95", "bare pickle"),
        (b"GIF89a", "neither"),
        (b"PK\x03\x04", "truncated or damaged"),
    ];
    for (bytes, expected) in cases {
        let error = Weights::from_bytes("file.pt".as_ref(), bytes).unwrap_err().to_string();
        assert!(error.contains("file.pt") && error.contains(expected), "{error}");
    }
    for (file, expected) in [
        ("legacy.pth", "weights_only=True"),
        ("no_tensors.pt", "no dictionary of tensors"),
        ("absent", "absent"),
    ] {
        let error = Weights::read(&golden(file)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Reads damaged bytes: an error, or (where the damage hit nothing that is read) tensors.
fn read(bytes: &[u8]) -> Result<Weights, WeightsError> {
    Weights::from_bytes("damaged".as_ref(), bytes)
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let files = [
        std::fs::read(golden("state_dict.pt")).unwrap(),
        std::fs::read(golden("checkpoint.pth")).unwrap(),
        safetensors_file(&[("a", vec![4], ramp(4)), ("b", vec![2, 2], ramp(4))]),
    ];
    for bytes in files {
        for length in 0..bytes.len() {
            let error = read(&bytes[..length]).err();
            let message = error.unwrap_or_else(|| panic!("{length} of {}", bytes.len())).to_string();
            assert!(message.contains("damaged"), "{message}");
        }
    }
}

#[test]
fn a_flipped_byte_never_changes_values_silently() {
    let bytes = std::fs::read(golden("state_dict.pt")).unwrap();
    let original = read(&bytes).unwrap().tensors;
    for position in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[position] ^= flip;
            if let Ok(weights) = read(&damaged) {
                assert_eq!(weights.tensors, original, "byte {position} ^ {flip:#x}");
            }
        }
    }
}

/// A state dict as torch.save would write it, with this data.pkl and one storage of 16 bytes.
fn torch_zip(data_pkl: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in [("x/data.pkl", data_pkl), ("x/data/0", &[0; 16])] {
        zip.start_file(name, options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The pickle of `{"a": tensor}` with these fields, each the opcodes of its value.
fn tensor_pickle(storage_len: &[u8], offset: &[u8], shape: &[u8], stride: &[u8]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n(".to_vec();
    pickle.extend(b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu");
    for part in [storage_len, b"tQ", offset, shape, stride, b"\x89N", b"tRs."] {
        pickle.extend(part);
    }
    pickle
}

#[test]
fn tensors_that_reach_outside_their_storage_are_errors() {
    let good = tensor_pickle(b"K\x04", b"K\0", b"K\x02K\x02\x86", b"K\x02K\x01\x86");
    assert_eq!(read(&torch_zip(&good)).unwrap().get("a").unwrap().shape, [2, 2]);
    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
    let huge_shape = [b"(".as_slice(), huge, huge, b"t"].concat();
    let huge_empty = [b"(K\0".as_slice(), huge, huge, b"t"].concat();
    let bad: [(&str, Vec<u8>); 10] = [
        ("offset", tensor_pickle(b"K\x04", b"K\x01", b"K\x02K\x02\x86", b"K\x02K\x01\x86")),
        ("stride", tensor_pickle(b"K\x04", b"K\0", b"K\x02K\x02\x86", b"K\x09K\x01\x86")),
        ("storage length", tensor_pickle(b"K\x05", b"K\0", b"K\x02K\x02\x86", b"K\x02K\x01\x86")),
        ("huge storage", tensor_pickle(huge, b"K\0", b"K\x02\x85", b"K\x01\x85")),
        ("huge shape", tensor_pickle(b"K\x04", b"K\0", &huge_shape, &huge_shape)),
        ("huge empty shape", tensor_pickle(b"K\x04", b"K\0", &huge_empty, &huge_empty)),
        ("huge offset", tensor_pickle(b"K\x04", huge, b"K\x02\x85", huge)),
        ("negative", tensor_pickle(b"K\x04", b"K\0", b"J\xff\xff\xff\xff\x85", b"K\x01\x85")),
        ("axes", tensor_pickle(b"K\x04", b"K\0", b"K\x02\x85", b"K\x01K\x01\x86")),
        ("expanded bomb", tensor_pickle(b"K\x04", b"K\0", b"J\xff\xff\xff\x7f\x85", b"K\0\x85")),
    ];
    for (what, pickle) in bad {
        let error = read(&torch_zip(&pickle)).expect_err(what).to_string();
        assert!(error.contains("damaged") || error.contains("data.pkl"), "{what}: {error}");
    }
}

#[test]
fn nothing_that_a_pickle_names_is_run() {
    let file = torch_zip(b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.");
    let error = read(&file).unwrap_err().to_string();
    assert!(error.contains("os.system"), "{error}");
}

#[test]
fn shared_cyclic_and_deep_pickles_end_in_errors() {
    let mut deep = b"\x80\x02K\0".to_vec();
    deep.extend(vec![0x85; 1 << 20]);
    deep.push(b'.');
    // d = {}; d["a"] = d
    let cyclic = b"\x80\x02}q\0X\x01\0\0\0ah\0s.".to_vec();
    // Thirty levels of a pair of the level below: 2^30 leaves if anything copied.
    let mut laughs = b"\x80\x02K\0".to_vec();
    (0..30).for_each(|_| laughs.extend(b"q\0h\0\x86"));
    laughs.push(b'.');
    for pickle in [deep, cyclic, laughs] {
        assert!(matches!(read(&torch_zip(&pickle)), Err(WeightsError::Format { .. })));
    }
}

proptest! {
    #[test]
    fn any_pickle_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = pickle::parse(&bytes);
    }

    #[test]
    fn any_mutated_pickle_is_read_or_refused(
        edits in proptest::collection::vec((0usize..400, any::<u8>()), 1..8)
    ) {
        let mut pickle = tensor_pickle(b"K\x04", b"K\0", b"K\x02K\x02\x86", b"K\x02K\x01\x86");
        let length = pickle.len();
        for (position, byte) in edits {
            pickle[position % length] = byte;
        }
        let _ = read(&torch_zip(&pickle));
    }

    #[test]
    fn any_bytes_after_a_safetensors_header_are_read_or_refused(
        length in 0u64..64, tail in proptest::collection::vec(any::<u8>(), 0..64)
    ) {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.push(b'{');
        bytes.extend(tail);
        let _ = read(&bytes);
    }
}
