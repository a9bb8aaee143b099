//! Files as source and sink: CSV, JSON Lines, Parquet.
