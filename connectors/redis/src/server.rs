//! What a server says of itself.

use crate::client::text;
use redis::Value;

/// A server as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Server {
    /// Major and minor version.
    pub version: (u32, u32),
    /// Whether it is a node of a cluster.
    pub cluster: bool,
    /// Whether it follows another one.
    pub replica: bool,
    /// What it does when its memory is full.
    pub eviction: String,
    /// How many others follow it.
    pub replicas: u64,
    /// Whether it appends what is written to a file, and that file holds everything.
    pub appends: bool,
}

impl Server {
    /// Reads the answer to INFO.
    pub(crate) fn of(info: &Value) -> Option<Self> {
        let info = text(info)?;
        let find = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let mut numbers = find("redis_version")?.split('.').map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        Some(Self {
            version: (next()?, next()?),
            cluster: find("cluster_enabled") == Some("1"),
            replica: find("role") == Some("slave"),
            replicas: find("connected_slaves").and_then(|count| count.parse().ok()).unwrap_or(0),
            eviction: find("maxmemory_policy").unwrap_or("unknown").to_owned(),
            // While the file is first made from what there is, it does not count yet.
            appends: find("aof_enabled") == Some("1")
                && (find("aof_rewrite_in_progress") != Some("1")
                    || find("aof_base_size").is_none_or(|size| size != "0")),
        })
    }

    /// Whether everything that Hapax uses is there.
    pub(crate) fn is_enough(&self) -> bool {
        self.version >= (7, 0)
    }

    /// Whether it keeps every key until somebody removes it.
    pub(crate) fn keeps_keys(&self) -> bool {
        self.eviction == "noeviction"
    }

    /// Whether it stands alone: nobody takes over from it who may lack what it had answered.
    pub(crate) fn is_alone(&self) -> bool {
        !self.cluster && self.replicas == 0
    }
}

/// What is on the disk, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// Before it is answered.
    Always,
    /// Within a second or two.
    EverySecond,
    /// When the operating system likes.
    Whenever,
    /// From time to time, as a whole.
    Snapshots,
    /// Never.
    None,
    /// The user may not ask.
    Unknown,
}

impl Persistence {
    /// Sorts what INFO and CONFIG GET say; `None` is what may not be asked. `waives` is `no-appendfsync-on-rewrite`: with
    /// it nothing is synced while a child process writes a snapshot or the file anew.
    pub(crate) fn of(appends: bool, fsync: Option<&str>, save: Option<&str>, waives: Option<&str>) -> Self {
        match (appends, fsync, save) {
            (true, Some("always"), _) => match waives {
                Some("no") => Self::Always,
                Some(_) => Self::Whenever,
                None => Self::Unknown,
            },
            (true, Some("everysec"), _) => Self::EverySecond,
            (true, Some(_), _) => Self::Whenever,
            (false, _, Some("")) => Self::None,
            (false, _, Some(_)) => Self::Snapshots,
            (true, None, _) | (false, _, None) => Self::Unknown,
        }
    }

    /// What a power loss, or a kill of the server, takes away.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Always => "nothing that was answered (appendfsync always)",
            Self::EverySecond => "the last second or two (appendfsync everysec)",
            Self::Whenever => {
                "what the operating system had not written yet (appendfsync no, or no-appendfsync-on-rewrite yes)"
            }
            Self::Snapshots => "everything since the last snapshot (appendonly no)",
            Self::None => "everything (appendonly no, save \"\")",
            Self::Unknown => "what is not known: this user may not ask for it (CONFIG GET)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_say_what_they_are() {
        let info = "# Server\r\nredis_version:7.0.15\r\nrole:slave\r\ncluster_enabled:1\r\nconnected_slaves:2\r\n\
                    maxmemory_policy:allkeys-lru\r\naof_enabled:1\r\n";
        let server = Server::of(&Value::BulkString(info.into())).unwrap();
        assert!(server.is_enough() && server.cluster && server.replica && server.appends);
        assert!(!server.keeps_keys() && !server.is_alone());
        assert!(Server { replicas: 0, cluster: false, ..server }.is_alone());
        let old = Server::of(&Value::BulkString("redis_version:6.2.1\n".into())).unwrap();
        assert!(!old.is_enough());
        assert_eq!(Server::of(&Value::BulkString("valkey".into())), None);
    }

    #[test]
    fn what_power_loss_costs_is_told_from_the_settings() {
        assert_eq!(Persistence::of(true, Some("always"), Some(""), Some("no")), Persistence::Always);
        assert_eq!(Persistence::of(true, Some("always"), None, Some("yes")), Persistence::Whenever);
        assert_eq!(Persistence::of(true, Some("always"), None, None), Persistence::Unknown);
        assert_eq!(Persistence::of(true, Some("everysec"), None, Some("no")), Persistence::EverySecond);
        assert_eq!(Persistence::of(true, Some("no"), None, Some("no")), Persistence::Whenever);
        assert_eq!(
            Persistence::of(false, Some("always"), Some("3600 1"), Some("no")),
            Persistence::Snapshots
        );
        assert_eq!(Persistence::of(false, None, Some(""), Some("no")), Persistence::None);
        assert_eq!(Persistence::of(true, None, None, Some("no")), Persistence::Unknown);
    }
}
