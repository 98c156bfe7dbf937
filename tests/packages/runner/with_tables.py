import tempfile
from pathlib import Path


def pandas_groups():
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 1, 2], "b": [1.0, 2.0, 3.0]})
    return frame.groupby("a")["b"].sum().to_dict()


def polars_groups():
    import polars as pl

    frame = pl.DataFrame({"a": [1, 1, 2], "b": [1.0, 2.0, 3.0]})
    return dict(frame.group_by("a").agg(pl.col("b").sum()).sort("a").iter_rows())


def parquet():
    import pyarrow as pa
    from pyarrow import parquet as pq

    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table({"a": list(range(1000))}), Path(folder, "t.parquet"))
        return pq.read_table(Path(folder, "t.parquet"))["a"].to_numpy().sum().item()


def duck():
    import duckdb

    with tempfile.TemporaryDirectory() as folder, duckdb.connect(str(Path(folder, "d.db"))) as connection:
        connection.execute("create table t as select range as i from range(100000)")
        return connection.execute("select sum(i) from t").fetchone()[0]


def hdf():
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        with h5py.File(Path(folder, "f.h5"), "w") as file:
            file["x"] = list(range(100))
        with h5py.File(Path(folder, "f.h5")) as file:
            return int(file["x"][:].sum())


def sqlite():
    import sqlite3

    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder, "s.db"))
        connection.execute("pragma journal_mode=wal")
        connection.execute("create table t (x)")
        connection.executemany("insert into t values (?)", [(i,) for i in range(100)])
        connection.commit()
        return connection.execute("select sum(x) from t").fetchone()[0]
