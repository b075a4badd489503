use std::cell::Cell;

use super::*;
use crate::metric::set::SetError;
use crate::store::NetKind;
use crate::store::fault::{Fault, FaultFs};

fn features(n: usize) -> FeatureSet {
    let ids = (0..n).map(|i| format!("s{i}")).collect();
    let data = (0..4 * n).map(|i| ((i * 37 + i * i * 11) % 101) as f32 / 50.0).collect();
    FeatureSet::new(ids, 4, data).unwrap()
}

fn info(identity: &str, n: usize) -> ReferenceInfo {
    let net =
        FeatureNet { name: "mini".to_owned(), identity: identity.to_owned(), dims: 4, kind: NetKind::Other };
    ReferenceInfo::new(&net, "manifest", &features(n))
}

fn make(n: usize) -> Result<Reference, SetError> {
    Reference::from_features(&features(n))
}

fn bits(reference: &Reference) -> (Option<usize>, Vec<u64>) {
    let factor = reference.factor().col_iter().flat_map(|column| column.iter().copied());
    (reference.n(), reference.mean().iter().copied().chain(factor).map(f64::to_bits).collect())
}

#[test]
fn statistics_are_read_back_bit_for_bit() {
    let fs = FaultFs::new(Path::new("/run"));
    // More samples than dimensions, and fewer: a square and a narrow factor.
    for n in [20, 3] {
        let (path, reference) = (Path::new("/run/r"), make(n).unwrap());
        write_reference(&fs, path, &info("w", n), &reference).unwrap();
        let (found, again) = read_reference(&fs, path).unwrap().unwrap();
        assert_eq!((found, bits(&again)), (info("w", n), bits(&reference)));
    }
    assert!(read_reference(&fs, Path::new("/run/none")).unwrap().is_none());
}

#[test]
fn half_written_and_altered_files_are_errors() {
    let fs = FaultFs::new(Path::new("/run"));
    let path = Path::new("/run/r");
    write_reference(&fs, path, &info("w", 20), &make(20).unwrap()).unwrap();
    let bytes = fs.read(path).unwrap();
    for cut in 0..bytes.len() {
        write_atomic(&fs, path, &bytes[..cut]).unwrap();
        assert!(read_reference(&fs, path).is_err(), "{cut}");
    }
    let mut altered = bytes;
    *altered.last_mut().unwrap() ^= 1;
    write_atomic(&fs, path, &altered).unwrap();
    assert!(read_reference(&fs, path).unwrap_err().to_string().contains("hash"));
}

#[test]
fn wrong_dimensions_and_foreign_files_are_errors() {
    let fs = FaultFs::new(Path::new("/run"));
    let path = Path::new("/run/r");
    let mut wrong = info("w", 20);
    wrong.net.dims = 5;
    write_reference(&fs, path, &wrong, &make(20).unwrap()).unwrap();
    let error = read_reference(&fs, path).unwrap_err().to_string();
    assert!(error.contains("4 dimensions, its network 5"), "{error}");
    let none: [(&str, TensorView<'_>); 0] = [];
    write_atomic(&fs, path, &safetensors::serialize(none, None).unwrap()).unwrap();
    assert!(read_reference(&fs, path).unwrap_err().to_string().contains("no reference statistics"));
}

#[test]
fn a_cache_is_filled_once_and_knows_weights_and_samples() {
    let fs = FaultFs::new(Path::new("/run"));
    let folder = Path::new("/run/cache");
    let made = Cell::new(0);
    let cached = |identity: &str, n: usize| {
        let make = || {
            made.set(made.get() + 1);
            make(n)
        };
        bits(&cached_reference(&fs, folder, &info(identity, n), make).unwrap())
    };
    let first = cached("w", 20);
    assert_eq!((cached("w", 20), made.get()), (first.clone(), 1));
    cached("w", 19);
    cached("v", 20);
    assert_eq!(made.get(), 3);
    // A damaged file is made anew.
    let path = folder.join(info("w", 20).file_name());
    write_atomic(&fs, &path, b"half").unwrap();
    assert_eq!((cached("w", 20), made.get()), (first.clone(), 4));
    assert_eq!((cached("w", 20), made.get()), (first, 4));
}

#[test]
fn a_cache_that_cannot_be_written_costs_nothing_but_time() {
    for k in 0..6 {
        let fs = FaultFs::new(Path::new("/run"));
        fs.inject(k, Fault::Fail(std::io::ErrorKind::PermissionDenied));
        let reference = cached_reference(&fs, Path::new("/run/cache"), &info("w", 20), || make(20)).unwrap();
        assert_eq!(bits(&reference), bits(&make(20).unwrap()));
    }
}
