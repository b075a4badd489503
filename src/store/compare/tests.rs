//! Comparisons of rows and of runs.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::store::Store;
use crate::store::attempt::AttemptId;
use crate::store::fault::FaultFs;
use crate::store::merge::merge;
use crate::store::record::Status;
use crate::store::samples::{failed, record};

#[test]
fn equal_rows_are_the_same_whatever_the_machine() {
    let rows: Vec<Record> = (0..6).map(record).collect();
    let mut others = rows.clone();
    for (i, row) in others.iter_mut().enumerate() {
        row.wall_seconds += 1.0;
        row.device_seconds += 1.0;
        row.peak_memory = None;
        row.device = "cpu:7".to_owned();
        row.host = "other".to_owned();
        row.attempt = i.to_string();
        row.trace.iter_mut().for_each(|point| point.seconds += 1.0);
    }
    others.reverse();
    let comparison = compare(&rows, &others);
    assert!(comparison.is_same() && comparison.same == 6, "{comparison:?}");
}

#[test]
fn every_reproducible_column_is_compared_bit_for_bit() {
    let zero = Record { reproducible: true, ssim_tm13: Some(0.0), ..record(1) };
    let changes: [(&str, Record); 6] = [
        ("ssim_tm13", Record { ssim_tm13: Some(-0.0), ..zero.clone() }),
        ("psnr", Record { psnr: zero.psnr.map(f64::next_up), ..zero.clone() }),
        ("status", Record { status: Status::Failed, ..zero.clone() }),
        ("label", Record { label: None, ..zero.clone() }),
        ("trace", Record { trace: Vec::new(), ..zero.clone() }),
        ("evals", Record { evals: 0, ..zero.clone() }),
    ];
    for (column, changed) in changes {
        let comparison = compare(std::slice::from_ref(&zero), std::slice::from_ref(&changed));
        let found: Vec<_> = comparison.differences.iter().map(|found| found.column.as_str()).collect();
        assert_eq!(found, [column]);
    }
}

#[test]
fn rows_ended_by_time_limit_are_not_compared() {
    let timed = Record { reproducible: false, evals: 3, ..record(1) };
    let comparison = compare(&[record(1), record(2)], &[timed]);
    assert_eq!((comparison.not_comparable, comparison.different), (1, 0));
    assert_eq!(comparison.only_left, [record(2).key()]);
}

/// Writes rows of one attempt; of every `part` rows a part is made.
fn write(fs: &FaultFs, run: &Layout, attempt: &str, rows: &[Record], part: usize) {
    let attempt = AttemptId::from_text(attempt);
    let mut store = Store::with_fs(Arc::new(fs.clone()), run.clone(), attempt).unwrap();
    for (i, row) in rows.iter().enumerate() {
        store.append(row).unwrap();
        if i % part == part - 1 {
            store.flush_part().unwrap();
        }
    }
}

#[test]
fn runs_are_compared_as_their_rows_are_however_they_lie_in_files() {
    let changed = |i: usize| Record { loss: Some(1.5 + i as f64), ..record(i) };
    let lefts: Vec<Record> = (0..40).map(record).chain([failed(40)]).collect();
    let rights: Vec<Record> =
        (3..12).map(record).chain((12..35).map(changed)).chain([record(40), record(41)]).collect();
    let expected = compare(&lefts, &rights);
    assert_eq!((expected.same, expected.different), (9, 24));
    assert_eq!((expected.only_left.len(), expected.only_right.len()), (8, 1));
    assert_eq!(expected.differences.len(), Comparison::LIMIT);

    for (part, merge_left, merge_right) in
        [(7, false, false), (7, true, false), (100, true, true), (1, false, true)]
    {
        let fs = FaultFs::new(Path::new("/reports"));
        let [left, right] = ["/reports/left", "/reports/right"].map(Layout::new);
        write(&fs, &left, "b", &lefts, part);
        // A second copy of some rows, by a later attempt: they do not count.
        write(
            &fs,
            &left,
            "c",
            &lefts[20..30].iter().map(|row| Record { loss: None, ..row.clone() }).collect::<Vec<_>>(),
            4,
        );
        write(&fs, &right, "a", &rights, part + 1);
        for (run, is_merged) in [(&left, merge_left), (&right, merge_right)] {
            if is_merged {
                merge(&fs, run, "run").unwrap();
            }
        }
        let operations = fs.operations();
        assert_eq!(same_as(&fs, &left, &right).unwrap(), expected);
        assert_eq!(same_as(&fs, &left, &left).unwrap().same, 41);
        assert_eq!(fs.operations(), operations, "a comparison writes nothing");
    }
}

#[test]
fn of_several_tries_within_one_attempt_the_one_that_a_merge_keeps_is_compared() {
    let tries: Vec<Record> = (0..3).map(|i| Record { loss: Some(f64::from(i)), ..record(1) }).collect();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let fs = FaultFs::new(Path::new("/reports"));
        let [left, right] = ["/reports/left", "/reports/right"].map(Layout::new);
        for (run, order) in [(&left, order), (&right, [0, 1, 2])] {
            write(&fs, run, "a", &order.map(|i| tries[i].clone()), 2);
        }
        let same = || {
            let comparison = same_as(&fs, &left, &right).unwrap();
            comparison.is_same() && comparison.same == 1
        };
        assert!(same(), "{order:?}");
        merge(&fs, &right, "run").unwrap();
        assert!(same(), "{order:?}, one of them merged");
    }
}

#[test]
fn a_merged_run_is_compared_by_its_merged_rows_alone() {
    let fs = FaultFs::new(Path::new("/reports"));
    let run = Layout::new("/reports/run");
    write(&fs, &run, "a", &(0..30).map(record).collect::<Vec<_>>(), 30);
    let rows_read = || {
        let index = Rounds::default().index(&fs, &run).unwrap();
        index.places_to_read().of_sources.iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(rows_read().iter().sum::<usize>(), 30);
    merge(&fs, &run, "run").unwrap();
    assert_eq!(rows_read().iter().sum::<usize>(), 30, "the part's copies are not read again");
    write(&fs, &run, "b", &[record(30)], 9);
    assert_eq!(rows_read().iter().sum::<usize>(), 61, "until there is something to merge");
}
