//! The suites that every source, sink and ledger must pass.
