//! Lists in pages.

use std::collections::HashMap;

use super::state::{Reply, State, unescaped};

/// A page of what is at a path. By the parameters: `page` from 1, `offset` and `limit`, `cursor`; `per` records a page;
/// `style=bare` for an array alone, `links=1` for a `Link` to the next; `since` for what changed since a moment.
pub(super) fn page(state: &State, path: &str, query: &str) -> Option<Reply> {
    let parameters: HashMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (unescaped(name), unescaped(&value.replace('+', " "))))
        .collect();
    let number = |name: &str| parameters.get(name).and_then(|text| text.parse::<usize>().ok());
    let all: Vec<String> = match state.lists.get(path) {
        Some(list) => {
            let since = parameters.get("since").map(|text| moment(text));
            let listed = list.iter().filter(|(changed, _)| since.is_none_or(|since| *changed >= since));
            listed.map(|(_, record)| record.clone()).collect()
        }
        None => {
            let prefix = format!("{}/", path.trim_end_matches('/'));
            let posted = state.posted.iter().filter(|(at, _)| at == path).map(|(_, one)| one.to_string());
            let put = state.resources.range(prefix.clone()..).take_while(|(at, _)| at.starts_with(&prefix));
            let all: Vec<String> = put.map(|(_, one)| one.to_string()).chain(posted).collect();
            if all.is_empty() && !path.ends_with('s') {
                return None;
            }
            all
        }
    };
    let per = number("limit").or(number("per")).unwrap_or(100);
    let from = match (number("offset"), number("page"), parameters.get("cursor")) {
        (Some(offset), _, _) => offset,
        (_, Some(page), _) => (page - 1) * per,
        (_, _, Some(cursor)) => cursor.trim_start_matches("at ").parse().ok()?,
        _ => 0,
    };
    let end = (from + per).min(all.len());
    let records = all.get(from..end).unwrap_or_default().join(",");
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    if parameters.contains_key("links") && end < all.len() {
        let next = format!("<{path}?{}>; rel=\"next\"", with(query, "offset", &end.to_string()));
        headers.push(("link".to_owned(), next));
    }
    let next = if end < all.len() { format!("\"at {end}\"") } else { "null".to_owned() };
    let body = match parameters.get("style").map(String::as_str) {
        Some("bare") => format!("[{records}]"),
        _ => format!("{{\"data\": [{records}], \"meta\": {{\"next\": {next}}}}}"),
    };
    Some(Reply { status: 200, headers, body: body.into_bytes() })
}

fn with(query: &str, name: &str, value: &str) -> String {
    let mut all: Vec<String> =
        query.split('&').filter(|pair| !pair.starts_with(&format!("{name}="))).map(str::to_owned).collect();
    all.push(format!("{name}={value}"));
    all.join("&")
}

/// `2026-01-31T12:00:00Z` in milliseconds since 1970.
fn moment(text: &str) -> u64 {
    let moment = hapax_engine::exact::moment(text.as_bytes()).unwrap();
    u64::try_from(moment.micros / 1_000).unwrap()
}
