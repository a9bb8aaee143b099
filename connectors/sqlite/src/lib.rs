//! SQLite as source and sink.
