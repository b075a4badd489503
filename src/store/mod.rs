//! Durable results: journal, parts, samples.parquet.
