//! `hapax copy`.

use clap::Args;
use hapax_config::File;
use serde_json::{Map, Value, json};

use super::run;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::registry::address::{Endpoint, Side};
use crate::wiring::Loaded;

#[derive(Debug, Args)]
#[command(
    after_help = "Addresses: data.csv · 'data/*.jsonl.gz' · s3://bucket/x.parquet · - · sqlite:shop.db?table=orders ·\n\
                        postgres://user:password@host/shop?table=orders · mysql://…\n\
                        Running the same command again goes on where it stopped: positions are kept at the destination."
)]
pub struct Arguments {
    /// Where records come from
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// Where they go
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// The columns that tell records apart, with commas between
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    key: Vec<String>,
    /// What happens to a record whose key is already there: append, upsert or ignore
    #[arg(long)]
    write: Option<String>,
    /// One SQL statement over each record: SELECT … FROM input
    #[arg(long)]
    sql: Option<String>,
    /// The format of the source, where its name does not say it: csv, jsonl or parquet
    #[arg(long, value_name = "FORMAT")]
    from_format: Option<String>,
    /// The format of the destination, where its name does not say it
    #[arg(long, value_name = "FORMAT")]
    to_format: Option<String>,
    /// Read and count, move nothing
    #[arg(long)]
    dry_run: bool,
}

/// Moves records between two addresses.
pub async fn act(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    let source = Endpoint::read(&arguments.from, arguments.from_format.as_deref(), Side::Source)?.absolute();
    let mut sink = Endpoint::read(&arguments.to, arguments.to_format.as_deref(), Side::Sink)?.absolute();
    sink.settings.extend(arguments.write.clone().map(|write| ("write", write)));
    let file = File::new("(hapax copy)", pipeline_text(arguments, &source, &sink));
    let loaded = Loaded::from_text(file, output)?;
    run::go(loaded, arguments.dry_run, output).await
}

/// The pipeline as a file would say it: JSON is YAML.
fn pipeline_text(arguments: &Arguments, source: &Endpoint, sink: &Endpoint) -> String {
    let mut document = Map::new();
    document.insert("name".into(), name(source, sink).into());
    document.insert("source".into(), section(source));
    document.insert("sink".into(), section(sink));
    if !arguments.key.is_empty() {
        document.insert("identity".into(), json!({"key": arguments.key}));
    }
    if let Some(sql) = &arguments.sql {
        document.insert("transform".into(), sql.clone().into());
    }
    format!("{:#}", Value::Object(document))
}

fn section(end: &Endpoint) -> Value {
    let settings: Map<String, Value> =
        end.settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
    json!({ end.system: settings })
}

/// The same for the same two ends, so that running again goes on, however the addresses are spelt.
fn name(source: &Endpoint, sink: &Endpoint) -> String {
    let digest = blake3::hash(format!("{}\n{}", source.place(), sink.place()).as_bytes()).to_hex();
    let digest: String = digest.chars().take(8).collect();
    format!("copy-{}-to-{}-{digest}", source.short_name(), sink.short_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_depends_on_both_addresses_only() {
        let named = |from: &str, to: &str| {
            let end =
                |address: &str, side| Endpoint::read(address, None, side).expect("an address").absolute();
            name(&end(from, Side::Source), &end(to, Side::Sink))
        };
        let one = named("a.csv", "b.db?table=t");
        assert_eq!(one, named("./a.csv", "sqlite:././b.db?table=t"));
        assert_ne!(one, named("a.csv", "b.db?table=u"));
        assert_ne!(one, named("x/a.csv", "b.db?table=t"));
        assert!(one.starts_with("copy-a-to-t-"), "{one}");
        assert!(hapax_protocol::lease::PipelineName::new(one).is_ok());
    }
}
