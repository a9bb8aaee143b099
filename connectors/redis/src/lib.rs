//! Redis as source, sink and ledger.
#![deny(missing_docs)]
