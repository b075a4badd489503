#!/usr/bin/env python3
"""Opens a run's samples.parquet with every reader that is installed, and compares what they see.

    python tools/check_parquet.py reports/RUN

Readers: pyarrow, polars, pandas, duckdb (pip install pyarrow polars pandas duckdb). Also reads one kept reconstruction
with numpy alone, as reports/SCHEMA.md describes, and checks its shape.
"""

import importlib
import math
import sys
from pathlib import Path


def with_pyarrow(path):
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return {name: table.column(name).to_pylist() for name in table.column_names}


def with_polars(path):
    import polars as pl

    frame = pl.read_parquet(path)
    return {name: frame[name].to_list() for name in frame.columns}


def with_pandas(path):
    import pandas as pd

    frame = pd.read_parquet(path, dtype_backend="numpy_nullable")
    return {name: [plain(value) for value in frame[name]] for name in frame.columns}


def with_duckdb(path):
    import duckdb

    relation = duckdb.sql(f"select * from read_parquet('{path}')")
    rows = relation.fetchall()
    return {name: [row[i] for row in rows] for i, name in enumerate(relation.columns)}


def plain(value):
    """pandas' missing values and numpy's scalars and arrays as Python's own."""
    import pandas as pd

    if value is pd.NA:
        return None
    if hasattr(value, "tolist"):
        value = value.tolist()
    return value


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    # A dataframe may show a null number as NaN.
    missing = [value is None or (isinstance(value, float) and math.isnan(value)) for value in (a, b)]
    return a == b or all(missing)


def check_reconstruction(run, columns):
    import numpy as np

    for file, offset, shape in zip(columns["x1_file"], columns["x1_offset"], columns["x1_shape"]):
        if file is not None:
            floats = np.fromfile(run / "artifacts" / file, "<f4", math.prod(shape), offset=offset)
            image = floats.reshape(shape)
            return f"reconstruction {list(image.shape)}, mean {image.mean():.4f}"
    return "no reconstruction was kept"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    run = Path(sys.argv[1])
    path = run / "samples.parquet"
    readers = {"pyarrow": with_pyarrow, "polars": with_polars, "pandas": with_pandas, "duckdb": with_duckdb}
    seen = {}
    for name, read in readers.items():
        try:
            version = importlib.import_module(name).__version__
        except ImportError:
            print(f"{name}: not installed")
            continue
        seen[name] = read(path)
        rows = len(next(iter(seen[name].values())))
        print(f"{name} {version}: {rows} rows, {len(seen[name])} columns")
    first, *others = seen
    for other in others:
        assert list(seen[first]) == list(seen[other]), f"{first} and {other} see other columns"
        for column, values in seen[first].items():
            different = [i for i, pair in enumerate(zip(values, seen[other][column])) if not same(*pair)]
            assert not different, f"{first} and {other} differ in {column}, row {different[0]}"
    print("all readers agree;", check_reconstruction(run, seen[first]))


if __name__ == "__main__":
    main()
