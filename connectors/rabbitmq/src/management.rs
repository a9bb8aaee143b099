//! What a broker says of a queue over HTTP: whether it counts deliveries, and what it does past the last one.

use hapax_engine::glance::glance;
use serde_json::Value;
use url::Url;

use crate::client::Address;

/// What RabbitMQ 4 and later give a quorum queue that sets no limit.
const DEFAULT_LIMIT: i64 = 20;

/// How a queue treats what comes back to it, in words. An error says what is wrong with `url`: a broker that does not answer
/// keeps nobody from reading.
pub(crate) async fn redelivery(url: &str, address: &Address, queue: &str) -> Result<String, String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    let host = parsed.host_str().filter(|_| parsed.scheme() == "http" && parsed.username().is_empty());
    let host = host.ok_or_else(|| "it is written http://host:port, without a user".to_owned())?;
    let place = format!("{host}:{}", parsed.port().unwrap_or(15_672));
    Ok(asked(&parsed, &place, address, queue).await.unwrap_or_else(|reason| {
        format!(
            "{queue}: `management` does not say whether it counts deliveries ({reason}): the plugin `rabbitmq_management` has to be on, and the user of `url` to have the tag `management`"
        )
    }))
}

async fn asked(url: &Url, place: &str, address: &Address, queue: &str) -> Result<String, String> {
    let ask = async |steps: &[&str]| {
        let mut path = url.clone();
        path.path_segments_mut().map_err(|()| "it has no path".to_owned())?.pop_if_empty().extend(steps);
        let body = glance(place, path.path(), Some(&address.authorization())).await?;
        serde_json::from_slice(&body).map_err(|_| "the answer is not JSON".to_owned())
    };
    let says: Value = ask(&["api", "queues", address.vhost(), queue]).await?;
    let kind =
        says.get("type").and_then(Value::as_str).ok_or_else(|| "the answer tells no type".to_owned())?;
    if kind != "quorum" {
        return Ok(format!(
            "{queue} is a {kind} queue: it gives a message out again as often as it comes back"
        ));
    }
    let broker: Value = ask(&["api", "overview"]).await?;
    Ok(words(queue, &says, broker.get("rabbitmq_version").and_then(Value::as_str).unwrap_or("")))
}

fn words(queue: &str, says: &Value, version: &str) -> String {
    let set = |name: &str| {
        let argument = says.get("arguments").and_then(|all| all.get(format!("x-{name}")));
        let policy = says.get("effective_policy_definition").and_then(|all| all.get(name));
        (argument, policy)
    };
    let (argument, policy) = set("delivery-limit");
    let both = || [argument, policy].into_iter().flatten().filter_map(Value::as_i64);
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    // From version 4 on a negative one is none, and the other counts. A version that cannot be read is taken for a later one.
    let counts = major.is_none_or(|major| major >= 4);
    let said = if counts && both().any(|limit| limit < 0) { both().max() } else { both().min() };
    let limit = said.or_else(|| counts.then_some(DEFAULT_LIMIT)).filter(|limit| *limit >= 0);
    let Some(limit) = limit else {
        return format!(
            "{queue} is a quorum queue without a delivery limit: it gives a message out again as often as it comes back"
        );
    };
    let (argument, policy) = set("dead-letter-exchange");
    let end = match argument.or(policy).and_then(Value::as_str) {
        Some("") => "sends it by its default exchange to where it has dead letters".to_owned(),
        Some(exchange) => format!("sends it to the exchange {exchange:?}"),
        None => "drops it: it has no dead-letter exchange".to_owned(),
    };
    format!(
        "{queue} is a quorum queue with a delivery limit of {limit}: a message that comes back {} times without an effect is not given out again, the broker {end}; it comes back with each run that ends while it is in hand, and no run holds it back at its last delivery (`metadata: [delivery_count]` shows it)",
        limit.saturating_add(1)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_lesser_limit_counts_and_the_default_of_version_4() {
        let limit = |says: Value, version: &str| {
            let words = words("q", &says, version);
            words.split("limit of ").nth(1).map(|rest| rest.split(':').next().unwrap().to_owned())
        };
        let both = json!({ "arguments": { "x-delivery-limit": 7 }, "effective_policy_definition": { "delivery-limit": 3 } });
        assert_eq!(limit(both, "3.10.8").as_deref(), Some("3"));
        let none = json!({ "arguments": {}, "effective_policy_definition": {} });
        assert_eq!(limit(none.clone(), "3.13.1"), None);
        assert_eq!(limit(none, "4.0.2").as_deref(), Some("20"));
        let unlimited = json!({ "arguments": { "x-delivery-limit": -1 } });
        assert_eq!(limit(unlimited, "4.1.0"), None);
        let one = json!({ "arguments": { "x-delivery-limit": -1 }, "effective_policy_definition": { "delivery-limit": 5 } });
        assert_eq!(limit(one, "4.1.0").as_deref(), Some("5"));
        assert_eq!(limit(json!({ "arguments": {} }), "").as_deref(), Some("20"));
        let kept = json!({ "arguments": { "x-delivery-limit": 0, "x-dead-letter-exchange": "dead" } });
        assert!(words("q", &kept, "").contains("comes back 1 times without an effect is not given out again, the broker sends it to the exchange \"dead\""));
    }
}
