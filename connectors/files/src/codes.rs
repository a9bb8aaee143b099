//! The codes of this connector: 200-249 source, 250-299 sink.

use hapax_protocol::code::Code;

use crate::sink::codes::ALL as SINK;

/// What the pipeline file says of the source cannot be.
pub const SOURCE_CONFIG: Code = Code(200);
/// No file matches.
pub const NO_FILE: Code = Code(201);
/// A file cannot be read.
pub const UNREADABLE: Code = Code(202);
/// The storage does not answer.
pub const STORAGE: Code = Code(203);
/// The header line of a CSV file does not name its columns.
pub const HEADER: Code = Code(204);
/// A file has other columns than the schema.
pub const COLUMNS: Code = Code(205);
/// A file was replaced since it was read.
pub const REPLACED: Code = Code(206);
/// A file is shorter than what was read of it.
pub const TRUNCATED: Code = Code(207);
/// The last line of a file was continued after it was read.
pub const CONTINUED: Code = Code(208);
/// A compressed stream is damaged or ends too early.
pub const COMPRESSED: Code = Code(209);
/// A Parquet file is damaged.
pub const PARQUET: Code = Code(210);
/// Standard input cannot be read a second time.
pub const STDIN: Code = Code(211);
/// A split or position that this source did not make.
pub const POSITION: Code = Code(212);
/// Nothing to infer a schema from.
pub const NO_SAMPLE: Code = Code(213);
/// A dead letter still does not fit.
pub const STILL_UNFIT: Code = Code(214);

/// Record: another number of fields than the file has columns.
pub const FIELD_COUNT: Code = Code(220);
/// Record: a value that does not fit its column.
pub const UNFIT: Code = Code(221);
/// Record: not UTF-8.
pub const UTF8: Code = Code(222);
/// Record: longer than `record_bytes_max`.
pub const TOO_LONG: Code = Code(223);
/// Record: not a JSON object.
pub const JSON: Code = Code(224);
/// Record: a field that the schema does not have.
pub const UNKNOWN_FIELD: Code = Code(225);
/// Record: a quote that is never closed.
pub const UNCLOSED_QUOTE: Code = Code(226);

/// Every code of the source.
pub const SOURCE: &[Code] = &[
    SOURCE_CONFIG,
    NO_FILE,
    UNREADABLE,
    STORAGE,
    HEADER,
    COLUMNS,
    REPLACED,
    TRUNCATED,
    CONTINUED,
    COMPRESSED,
    PARQUET,
    STDIN,
    POSITION,
    NO_SAMPLE,
    STILL_UNFIT,
    FIELD_COUNT,
    UNFIT,
    UTF8,
    TOO_LONG,
    JSON,
    UNKNOWN_FIELD,
    UNCLOSED_QUOTE,
];

/// Every code of this crate.
pub const ALL: &[Code] = &joined();

#[allow(clippy::indexing_slicing)] // Checked by the compiler: it runs at compile time only.
const fn joined() -> [Code; SOURCE.len() + SINK.len()] {
    let mut all = [SOURCE_CONFIG; SOURCE.len() + SINK.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < SOURCE.len() { SOURCE[at] } else { SINK[at - SOURCE.len()] };
        at += 1;
    }
    all
}
