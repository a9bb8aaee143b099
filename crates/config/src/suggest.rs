/// The candidate that was probably meant, if one is close enough to be a slip of the pen.
pub fn closest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let found = plain(found);
    let slips_max = (found.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&found, &plain(candidate)), candidate))
        .filter(|(slips, candidate)| *slips <= slips_max && *slips < candidate.chars().count())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// `a, b or c`, each in backticks.
pub fn one_of<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = all.into_iter().map(|text| format!("`{text}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_another_word_is_not() {
        let keys = ["source", "sink", "identity", "on_error"];
        assert_eq!(closest("soruce", keys), Some("source"));
        assert_eq!(closest("on-error", keys), Some("on_error"));
        assert_eq!(closest("Sink", keys), Some("sink"));
        assert_eq!(closest("schedule", keys), None);
        assert_eq!(closest("x", ["y"]), None);
    }
}
