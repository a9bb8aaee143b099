//! The functions a transform may call.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use datafusion_expr::{ScalarUDF, Volatility};

use crate::vocabulary::{self, Meaning};

/// By name and alias, in small letters. `version` is left out: it changes with Hapax, not with the record.
static FUNCTIONS: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let mut by_name = HashMap::new();
    for function in datafusion_functions::all_default_functions() {
        if function.name() == "version" {
            continue;
        }
        for alias in function.aliases() {
            by_name.insert(alias.to_lowercase(), Arc::clone(&function));
        }
        by_name.insert(function.name().to_lowercase(), function);
    }
    by_name
});

/// What a function's name leads to.
pub(crate) enum Lookup {
    /// A function that may be called.
    Callable,
    /// One that may not, because of what stands behind the name.
    Refused(Meaning),
    /// None; the likeliest name that exists.
    Unknown(Option<String>),
}

/// The function of this name in small letters, if there is one; also those that may not be called.
pub(crate) fn named(name: &str) -> Option<Arc<ScalarUDF>> {
    FUNCTIONS.get(name).map(Arc::clone)
}

/// Every name that may be called, sorted.
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> =
        FUNCTIONS.iter().filter(|(_, function)| immutable(function)).map(|(name, _)| name.clone()).collect();
    names.sort();
    names
}

/// Whether this function may be called.
pub(crate) fn look_up(name: &str) -> Lookup {
    match named(name) {
        Some(function) if immutable(&function) => Lookup::Callable,
        found => match vocabulary::meaning(name) {
            Some(meaning) => Lookup::Refused(meaning),
            None if found.is_some() => Lookup::Refused(Meaning::Changes("may change between two runs")),
            None => {
                let names = names();
                let likely = vocabulary::nearest(name, names.iter().map(String::as_str));
                Lookup::Unknown(likely.map(str::to_owned))
            }
        },
    }
}

/// Whether it gives the same value for the same arguments, always.
pub(crate) fn immutable(function: &ScalarUDF) -> bool {
    function.signature().volatility == Volatility::Immutable
}
