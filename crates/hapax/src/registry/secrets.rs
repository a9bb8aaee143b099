//! What is secret in a pipeline file: what may not be written out in it, and what is never shown.
//!
//! Keys that hold nothing but a secret say so in their connector's schema (`writeOnly`).

use hapax_config::{Mistake, Section};

use super::{HTTP, KAFKA, address};

/// Headers that hold one.
const HEADERS: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "api-key",
    "apikey",
    "x-auth-key",
    "x-functions-key",
    "ocp-apim-subscription-key",
];

/// What the names of other headers end with that hold one.
const HEADER_ENDS: [&str; 5] = ["-token", "-secret", "-password", "-api-key", "-apikey"];

/// Parameters of a URL that hold one.
const PARAMETERS: [&str; 12] = [
    "api_key",
    "api-key",
    "apikey",
    "access_token",
    "auth_token",
    "client_secret",
    "password",
    "secret",
    "sig",
    "signature",
    "subscription-key",
    "token",
];

/// Parts of the names of a client's settings that hold one.
const SETTINGS: [&str; 5] = ["password", "passphrase", "secret", "key.pem", "oauthbearer.config"];

/// Secrets of a section that are written out where only references belong, beside those that its schema knows.
pub fn written_out(section: &Section) -> Vec<Mistake> {
    // A header of an API may hold columns of the record.
    let is_header = |name: &str, value: &str| is_header(name) && !value.replace("$${", "").contains('{');
    let headers = section.written_out("headers").filter(|(name, value, _)| is_header(name, value));
    let is_setting = |name: &str| section.system == KAFKA && has_one_of(&SETTINGS, name);
    let settings = section.written_out("options").filter(|(name, ..)| is_setting(name));
    let named = headers.chain(settings).map(|(name, _, span)| {
        let instead = format!("{name}: \"${{env:NAME}}\"");
        Mistake::written_out(name, &instead, span)
    });
    // Addresses of databases and brokers are typed whole: what is secret in them is hidden.
    let urls = section.texts().into_iter().filter(|_| section.system == HTTP);
    let parameters = urls.filter_map(|(url, span)| {
        let name = parameter_in(url)?;
        Some(Mistake::written_out(name, &format!("{name}=${{env:NAME}}"), span))
    });
    named.chain(parameters).collect()
}

/// The first parameter of a URL that is a secret without a reference, or without a column of the record.
fn parameter_in(text: &str) -> Option<&str> {
    let (_, parameters) = text.split_once("://")?.1.split_once('?')?;
    let mut pairs = parameters.split('&').filter_map(|pair| pair.split_once('='));
    let secret =
        pairs.find(|(name, value)| is_one_of(&PARAMETERS, name) && !value.is_empty() && !value.contains('{'));
    secret.map(|(name, _)| name)
}

/// What a section holds that is secret beside its references: passwords in URLs, and parts of what a reference stands for.
pub fn passwords(section: &Section) -> Vec<&str> {
    let in_url = section.text("url").and_then(address::password);
    let in_registry = section.inner_text("registry", "url").and_then(address::password);
    let is_secret = |name: &str| has_one_of(&["password", "secret", "pem", "token", "oauth"], name);
    let in_options =
        section.inner_texts("options").filter(|(name, _)| is_secret(name)).map(|(_, value)| value);
    let in_token = section.text("token").and_then(password_of);
    in_url.into_iter().chain(in_registry).chain(in_token).chain(in_options).collect()
}

/// The password in a token that is `user:password`.
fn password_of(token: &str) -> Option<&str> {
    token.split_once(':').map(|(_, password)| password).filter(|password| !password.is_empty())
}

/// What looks like a secret in the text of a file of which nobody knows yet what it means: it is shown where a mistake is.
pub fn written_in(text: &str) -> impl Iterator<Item = &str> {
    let words =
        text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '{' | '}' | '[' | ']'));
    let in_urls = words.filter_map(address::password);
    let pairs = text.split(['?', '&']).skip(1).filter_map(|pair| pair.split_once('='));
    let in_parameters = pairs
        .filter(|(name, _)| is_one_of(&PARAMETERS, name))
        .filter_map(|(_, rest)| rest.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).next());
    let of_keys = text.lines().flat_map(|line| {
        let pairs =
            line.match_indices(':').filter_map(|(at, _)| Some((line.get(..at)?, line.get(at + 1..)?)));
        pairs.filter(|(before, _)| is_secret_key(last_word(before))).flat_map(|(_, behind)| {
            let value = scalar(behind);
            // A value may go on behind a comma. A scheme is no part of what comes back.
            let alone = ["Bearer ", "Basic "].into_iter().filter_map(|scheme| value.strip_prefix(scheme));
            [value, behind.trim()].into_iter().chain(alone)
        })
    });
    // A reference is no secret.
    in_urls.chain(in_parameters).chain(of_keys).filter(|value| !value.is_empty() && !value.contains("${"))
}

fn is_secret_key(name: &str) -> bool {
    is_header(name) || is_one_of(&["bearer", "token"], name) || has_one_of(&SETTINGS, name)
}

fn is_header(name: &str) -> bool {
    let ends = HEADER_ENDS.iter().any(|end| name.to_ascii_lowercase().ends_with(end));
    ends || is_one_of(&HEADERS, name)
}

/// The last word of what stands before a colon: a key, without its quotes.
fn last_word(text: &str) -> &str {
    let text = text.trim_end_matches(['"', '\'', ' ']);
    text.rsplit(|c: char| !(c.is_alphanumeric() || "-_.".contains(c))).next().unwrap_or_default()
}

/// The value that stands behind a colon on its line, without its quotes.
fn scalar(text: &str) -> &str {
    let text = text.trim();
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            text.get(1..).and_then(|text| text.split(quote).next()).unwrap_or_default()
        }
        _ => text.split([',', '}']).next().unwrap_or_default().trim(),
    }
}

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.iter().any(|one| one.eq_ignore_ascii_case(name))
}

fn has_one_of(parts: &[&str], name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    parts.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn secrets_are_found_in_a_text_whatever_stands_around_them() {
        let text = "source: { postgres: { url: 'postgres://u:one@h/d' } }\n  url: \"redis://:two@h/0\"\n  url: \
                    nats://u:${env:THREE}@h\n  brokers: h:9092\n  url: mysql://u:fo:ur@h/d, x: http://h/a@b\n\
                    bearer: ${env:SIX}\n  \"token\": \"se,ven\"\n  Authorization: Bearer nine\npassword: a,b}c\n\
                    X-Shop-Token: 'it'\nurl: https://h/a?api_key=ten&page=2\n";
        let found: BTreeSet<&str> = written_in(text).collect();
        for secret in ["one", "two", "fo:ur", "se,ven", "nine", "a,b}c", "it", "ten"] {
            assert!(found.contains(secret), "{secret}: {found:?}");
        }
        assert!(found.iter().all(|one| !one.contains("env:") && !one.contains("9092")), "{found:?}");
    }

    #[test]
    fn a_parameter_that_is_a_column_or_a_reference_is_no_secret() {
        assert_eq!(parameter_in("https://h/a?page=1&Token=abc"), Some("Token"));
        assert_eq!(parameter_in("https://h/a?token={id}&api_key=${env:KEY}&key=1&password="), None);
        assert_eq!(parameter_in("what?token=1"), None);
    }
}
