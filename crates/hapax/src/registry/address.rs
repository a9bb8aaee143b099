//! Addresses as they are typed: `data.csv`, `-`, `sqlite:shop.db?table=orders`.

use super::{FILES, KAFKA, MYSQL, POSTGRES, SQLITE};
use crate::codes;
use crate::exit::{Exit, Failure, Report};

/// One end of a pipeline: a system and what its section says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The system.
    pub system: &'static str,
    /// Keys and values of its section.
    pub settings: Vec<(&'static str, String)>,
}

/// Which end of a pipeline an address stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where records come from.
    Source,
    /// Where they go.
    Sink,
}

const EXTENSIONS: [&str; 7] = [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".pq"];
const DATABASES: [&str; 3] = [".db", ".sqlite", ".sqlite3"];
const STORES: [&str; 9] = ["file", "s3", "s3a", "gs", "az", "azure", "abfs", "http", "https"];

impl Endpoint {
    /// Reads an address.
    pub fn read(address: &str, format: Option<&str>, side: Side) -> Result<Self, Failure> {
        let path = address.split('?').next().unwrap_or(address);
        if let Some(rest) = address.strip_prefix("sqlite:") {
            return Self::sqlite(address, rest.strip_prefix("//").unwrap_or(rest), side);
        }
        if address.starts_with("postgres://") || address.starts_with("postgresql://") {
            return Self::server(POSTGRES, address, side);
        }
        if address.starts_with("mysql://") || address.starts_with("mariadb://") {
            return Self::server(MYSQL, address, side);
        }
        if DATABASES.iter().any(|extension| path.to_lowercase().ends_with(extension)) {
            return Self::sqlite(address, address, side);
        }
        if let Some((scheme, _)) = address.split_once(':')
            && scheme.len() > 1
            && scheme.chars().all(|c| c.is_ascii_alphanumeric())
            && !STORES.contains(&scheme)
        {
            return Err(refusal(
                format!("`{address}` names the system `{scheme}`, which Hapax does not know"),
                "Write a path (`data.csv`, `data/*.parquet`, `-`), a URL (`s3://…`), `sqlite:FILE?table=NAME`, or \
                 `postgres://USER:PASSWORD@HOST/DATABASE?table=NAME` (or `mysql://…`).",
            ));
        }
        Self::files(address, format, side)
    }

    /// The same end with the path of a local file spelt from the root, whatever directory it was typed in.
    pub fn absolute(mut self) -> Self {
        for (key, value) in &mut self.settings {
            if *key == "path"
                && value != "-"
                && !value.contains("://")
                && let Ok(path) = std::path::absolute(&*value)
            {
                *value = path.display().to_string();
            }
        }
        self
    }

    /// What the end is, without how it is read or written.
    pub fn place(&self) -> String {
        let settings = self.settings.iter().filter_map(|(key, value)| match *key {
            "path" | "table" | "query" => Some(format!("{key}={value}")),
            "url" => Some(format!("{key}={}", without_password(value))),
            _ => None,
        });
        let words: Vec<String> = settings.collect();
        format!("{} {}", self.system, words.join(" "))
    }

    fn files(address: &str, format: Option<&str>, side: Side) -> Result<Self, Failure> {
        let lower = address.to_lowercase();
        let plain = lower.strip_suffix(".gz").or_else(|| lower.strip_suffix(".zst")).unwrap_or(&lower);
        if format.is_none() && !EXTENSIONS.iter().any(|extension| plain.ends_with(extension)) {
            let option = if side == Side::Source { "--from-format" } else { "--to-format" };
            let mut help = format!("Add `{option} csv` (or `jsonl`, `parquet`).");
            if side == Side::Source && address.ends_with('/') {
                help = format!("Name the files in it, for instance `{address}*.csv`.");
            }
            return Err(refusal(format!("`{address}` does not say which format it has"), &help));
        }
        let mut settings = vec![("path", address.to_owned())];
        settings.extend(format.map(|format| ("format", format.to_owned())));
        Ok(Self { system: FILES, settings })
    }

    fn sqlite(address: &str, rest: &str, side: Side) -> Result<Self, Failure> {
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let mut settings = vec![("path", path.to_owned())];
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("table", name)) => settings.push(("table", name.to_owned())),
                Some(("query", sql)) if side == Side::Source => settings.push(("query", sql.to_owned())),
                _ => {
                    let known = if side == Side::Source {
                        "`table=NAME` or `query=SELECT …`"
                    } else {
                        "`table=NAME`"
                    };
                    return Err(refusal(
                        format!("`{parameter}` in `{address}` means nothing"),
                        &format!("Behind the `?` stands {known}."),
                    ));
                }
            }
        }
        if settings.len() < 2 || path.is_empty() {
            return Err(refusal(
                format!("`{address}` does not say which table"),
                &format!("Write `sqlite:{}?table=NAME`.", if path.is_empty() { "FILE" } else { path }),
            ));
        }
        Ok(Self { system: SQLITE, settings })
    }

    /// A database behind a URL, in whose query the table or a SELECT stands beside what the URL itself takes.
    fn server(system: &'static str, address: &str, side: Side) -> Result<Self, Failure> {
        let (place, parameters) = address.rsplit_once('?').unwrap_or((address, ""));
        let (mut what, mut rest) = (Vec::new(), Vec::new());
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("table", name)) => what.push(("table", decoded(name))),
                Some(("query", sql)) if side == Side::Source => what.push(("query", decoded(sql))),
                _ => rest.push(parameter),
            }
        }
        if what.is_empty() {
            return Err(refusal(
                format!("`{}` does not say which table", without_password(address)),
                "Add `?table=NAME` (or `&table=NAME`) to the URL.",
            ));
        }
        let url = if rest.is_empty() { place.to_owned() } else { format!("{place}?{}", rest.join("&")) };
        let mut settings = vec![("url", url)];
        settings.extend(what);
        Ok(Self { system, settings })
    }

    /// The end that `init` writes for a system's bare name; `None` if it is no such name.
    pub fn sample(system: &str, side: Side) -> Option<Self> {
        let (path, database) = match side {
            Side::Source => ("data.csv", "data.db"),
            Side::Sink => ("copy.jsonl", "copy.db"),
        };
        match system {
            FILES => Some(Self { system: FILES, settings: vec![("path", path.into())] }),
            SQLITE => Some(Self {
                system: SQLITE,
                settings: vec![("path", database.into()), ("table", "data".into())],
            }),
            KAFKA => Some(Self {
                system: KAFKA,
                settings: vec![
                    ("brokers", "localhost:9092".into()),
                    ("topic", if side == Side::Source { "data" } else { "copy" }.into()),
                ],
            }),
            MYSQL => Some(Self {
                system: MYSQL,
                settings: vec![
                    ("url", "mysql://hapax@localhost:3306/database".into()),
                    ("table", if side == Side::Source { "data" } else { "copy" }.into()),
                ],
            }),
            POSTGRES => Some(Self {
                system: POSTGRES,
                settings: vec![
                    ("url", "postgres://hapax@localhost:5432/database".into()),
                    ("table", if side == Side::Source { "data" } else { "copy" }.into()),
                ],
            }),
            _ => None,
        }
    }

    /// The value of a key.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str())
    }

    /// Whether it is a stream of this process, which cannot be read or looked at a second time.
    pub fn is_stream(&self) -> bool {
        self.setting("path") == Some("-")
    }

    /// A short name: the table, or the file without its extensions.
    pub fn short_name(&self) -> String {
        let path = self.setting("path").unwrap_or_default();
        let file = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
        let stem = self.setting("table").or_else(|| file.split('.').next()).unwrap_or_default();
        let plain: String = stem
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
            .take(20)
            .collect();
        match plain.trim_matches('-') {
            "" if path == "-" => "stream".into(),
            "" => "data".into(),
            plain => plain.to_owned(),
        }
    }

    /// What the section may say beside, as comments for a new file.
    pub fn notes(&self, side: Side) -> &'static [&'static str] {
        match (self.system, side) {
            (FILES, Side::Source) => &[
                "# path: a file, a glob (data/*.csv), - for standard input, or a URL (s3://, gs://, az://)",
                "# format: csv               # csv | jsonl | parquet; by default from the extension",
                "# compression: gzip         # none | gzip | zstd; by default from the extension",
                "# schema:                   # types, where a first look cannot know them",
                "#   id: int64",
            ],
            (FILES, Side::Sink) => &[
                "# path: a file, a directory of parts (out/, then with a format), or - for standard output",
                "# format: jsonl             # csv | jsonl | parquet; by default from the extension",
                "# compression: zstd         # none | gzip | zstd, and snappy for Parquet",
            ],
            (SQLITE, Side::Source) => &[
                "# query: SELECT …           # instead of `table`",
                "# read: incremental         # only what is new since the last run, by a `cursor`",
                "# cursor: updated_at",
            ],
            (KAFKA, Side::Source) => &[
                "# format: json              # json (with `schema`) | avro (with `registry`) | raw",
                "# schema: { id: int64, note: string }",
                "# metadata: [_key, _timestamp]  # also _topic, _partition, _offset, _headers, _deleted",
                "# security: { user: hapax, password: \"${env:KAFKA_PASSWORD}\", tls: true }",
            ],
            (KAFKA, Side::Sink) => &[
                "# create: { partitions: 6 } # makes the topic if it is missing",
                "# key: [id]                 # by default the columns of `identity`",
                "# security: { user: hapax, password: \"${env:KAFKA_PASSWORD}\", tls: true }",
            ],
            (MYSQL, Side::Sink) => &[
                "# url: mysql://hapax:${env:MYSQL_PASSWORD}@localhost:3306/database",
                "# write: upsert             # append | upsert | ignore; the last two need `identity: { key: … }`",
                "# schema_changes: add       # adds columns that the table has not; without it the run is refused",
            ],
            (MYSQL, Side::Source) => &[
                "# url: mysql://hapax:${env:MYSQL_PASSWORD}@localhost:3306/database",
                "# query: SELECT …           # instead of `table`",
                "# read: incremental         # only what is new since the last run, by a `cursor`",
                "# cursor: updated_at        # a TIMESTAMP",
                "# cursor_set_by: database   # database | application; the latter needs `lateness: 5m`",
                "# read: marked              # only what is not marked, by a `mark: processed_at`",
            ],
            (POSTGRES, Side::Sink) => &[
                "# url: postgres://hapax:${env:PGPASSWORD}@localhost:5432/database",
                "# write: upsert             # append | upsert | ignore; the last two need `identity: { key: … }`",
                "# schema_changes: add       # adds columns that the table has not; without it the run is refused",
            ],
            (POSTGRES, Side::Source) => &[
                "# url: postgres://hapax:${env:PGPASSWORD}@localhost:5432/database",
                "# read: incremental         # snapshot (default) | incremental | marked",
                "# cursor: updated_at        # incremental: the column that grows with every write",
                "# cursor_set_by: database   # of a timestamp: by now() in the transaction that writes, or by an application",
                "# mark: processed_at        # marked: the column that is set once a row has arrived",
            ],
            _ => &[
                "# write: upsert             # append | upsert | ignore; the last two need `identity: { key: … }`",
            ],
        }
    }
}

/// A URL without the password in it.
pub fn without_password(url: &str) -> String {
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let (credentials, place) = rest.split_once('@')?;
        let (user, _) = credentials.split_once(':')?;
        Some(format!("{scheme}://{user}@{place}"))
    });
    parts.unwrap_or_else(|| url.to_owned())
}

/// The password in a URL, if there is one.
pub fn password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (credentials, _) = rest.split_once('@')?;
    credentials.split_once(':').map(|(_, password)| password).filter(|password| !password.is_empty())
}

/// Text with its `%XX` resolved.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let hex = behind.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = behind.get(if byte.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn refusal(message: String, help: &str) -> Failure {
    Report::new(codes::ADDRESS, Exit::BadCommand, message, help).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Result<Endpoint, String> {
        Endpoint::read(address, None, Side::Source).map_err(|failure| match failure {
            Failure::Report(report) => report.message,
            Failure::Mistakes { .. } => String::new(),
        })
    }

    #[test]
    fn addresses_are_read() {
        let files = |path: &str| Endpoint { system: FILES, settings: vec![("path", path.into())] };
        for path in ["a.csv", "data/*.jsonl.gz", "s3://bucket/a.parquet", "A.CSV.ZST"] {
            assert_eq!(source(path), Ok(files(path)));
        }
        let sqlite =
            Endpoint { system: SQLITE, settings: vec![("path", "a.db".into()), ("table", "t".into())] };
        for address in ["sqlite:a.db?table=t", "sqlite://a.db?table=t", "a.db?table=t"] {
            assert_eq!(source(address), Ok(sqlite.clone()));
        }
        assert_eq!(source("sqlite:/x/a?query=SELECT 1").map(|e| e.settings.len()), Ok(2));
        let settings =
            vec![("url", "postgresql://u:p%20w@h:1/d?sslmode=require".into()), ("table", "a.\"b c\"".into())];
        let address = "postgresql://u:p%20w@h:1/d?table=a.%22b%20c%22&sslmode=require";
        assert_eq!(source(address), Ok(Endpoint { system: POSTGRES, settings }));
        let settings = vec![("url", "mysql://u@h:1/d".into()), ("table", "t".into())];
        assert_eq!(source("mysql://u@h:1/d?table=t"), Ok(Endpoint { system: MYSQL, settings }));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        assert!(source("a.db").is_err_and(|m| m.contains("which table")));
        assert!(source("gopher://x/y").is_err_and(|m| m.contains("`gopher`")));
        assert!(
            source("postgres://u:secret@x/y")
                .is_err_and(|m| m.contains("which table") && !m.contains("secret"))
        );
        assert!(source("a.txt").is_err_and(|m| m.contains("format")));
        assert!(source("-").is_err_and(|m| m.contains("format")));
        assert!(source("a.db?tabel=t").is_err_and(|m| m.contains("tabel=t")));
        assert!(Endpoint::read("a.db?query=x", None, Side::Sink).is_err());
    }

    #[test]
    fn a_password_is_no_part_of_a_place() {
        let place = |url: &str| Endpoint::read(url, None, Side::Sink).map(|end| end.place()).ok();
        assert_eq!(
            place("postgres://u:secret@h/d?table=t"),
            Some("postgres url=postgres://u@h/d table=t".into())
        );
        assert_eq!(place("postgres://u@h/d?table=t"), place("postgres://u:new@h/d?table=t"));
        assert_eq!(password("postgres://u:secret@h/d"), Some("secret"));
        assert_eq!(password("postgres://u@h:1/d"), None);
    }

    #[test]
    fn short_names_can_be_part_of_a_pipeline_name() {
        let name = |address: &str| Endpoint::read(address, Some("csv"), Side::Source).map(|e| e.short_name());
        assert_eq!(name("/x/orders.csv.gz").ok().as_deref(), Some("orders"));
        assert_eq!(name("data/*.csv").ok().as_deref(), Some("data"));
        assert_eq!(name("-").ok().as_deref(), Some("stream"));
        assert_eq!(name("a.db?table=über t").ok().as_deref(), Some("ber-t"));
    }
}
