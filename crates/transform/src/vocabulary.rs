//! Names people write that are not functions over one record, and what stands behind them.

/// Functions that look at many records.
const AGGREGATES: &[&str] = &[
    "any_value",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar",
    "covar_pop",
    "covar_samp",
    "first_value",
    "group_concat",
    "grouping",
    "json_agg",
    "last_value",
    "listagg",
    "max",
    "mean",
    "median",
    "min",
    "mode",
    "nth_value",
    "percentile_cont",
    "regr_slope",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "total",
    "var",
    "var_pop",
    "var_samp",
    "variance",
];

/// Functions that look at neighbouring records.
const WINDOWS: &[&str] =
    &["cume_dist", "dense_rank", "lag", "lead", "ntile", "percent_rank", "rank", "row_number"];

/// Functions that make several records of one.
const MULTIPLIERS: &[&str] =
    &["explode", "generate_series", "regexp_split_to_table", "unnest", "unnest_outer"];

const CLOCKS: &[&str] = &[
    "clock_timestamp",
    "current_date",
    "current_time",
    "current_timestamp",
    "curdate",
    "curtime",
    "getdate",
    "localtime",
    "localtimestamp",
    "now",
    "statement_timestamp",
    "sysdate",
    "today",
    "transaction_timestamp",
    "unix_timestamp",
    "utc_timestamp",
];

const DICE: &[&str] = &[
    "gen_random_uuid",
    "newid",
    "rand",
    "random",
    "randomblob",
    "uuid",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
];

const BATCHES: &[&str] = &["file_row_index", "input_file_name"];

/// What a name that is no function over one record stands for.
pub(crate) enum Meaning {
    /// It looks at other records.
    Many(String),
    /// It makes several records of one.
    Multiplies,
    /// Its value changes between two runs, because of this.
    Changes(&'static str),
}

/// What stands behind a name in small letters.
pub(crate) fn meaning(name: &str) -> Option<Meaning> {
    if AGGREGATES.contains(&name) {
        Some(Meaning::Many(format!("the aggregate `{name}`")))
    } else if WINDOWS.contains(&name) {
        Some(Meaning::Many(format!("the window function `{name}`")))
    } else if MULTIPLIERS.contains(&name) {
        Some(Meaning::Multiplies)
    } else if CLOCKS.contains(&name) {
        Some(Meaning::Changes("reads the clock"))
    } else if DICE.contains(&name) {
        Some(Meaning::Changes("gives a new value on each call"))
    } else if BATCHES.contains(&name) {
        Some(Meaning::Changes("depends on how the input was cut into batches"))
    } else {
        None
    }
}

/// Of these names the one most like the name as written; `None` if none is close.
pub(crate) fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let small = written.to_lowercase();
    names
        .map(|name| (strsim::jaro_winkler(&small, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= 0.85)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// A column's name as it must be written in SQL.
pub(crate) fn written(column: &str) -> String {
    let mut letters = column.chars();
    let starts = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if starts && letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        column.to_owned()
    } else {
        format!("\"{}\"", column.replace('"', "\"\""))
    }
}
