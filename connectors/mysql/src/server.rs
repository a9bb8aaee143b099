//! Which server it is, and what it can do.

/// A server as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Whether it is MariaDB rather than MySQL.
    pub mariadb: bool,
    /// Major, minor and patch version.
    pub version: (u32, u32, u32),
}

impl Server {
    /// Reads `8.0.36`, `10.11.6-MariaDB-log` or `5.5.5-10.4.1-MariaDB`; `None` for anything else.
    pub(crate) fn of(version: &str) -> Option<Self> {
        let mariadb = version.contains("MariaDB");
        // MariaDB once put this before its own version, for clients that knew only MySQL.
        let bare = version.strip_prefix("5.5.5-").filter(|_| mariadb).unwrap_or(version);
        let mut numbers = bare.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        Some(Self { mariadb, version: (next()?, next()?, next().unwrap_or(0)) })
    }

    /// Whether everything that Hapax uses is there.
    pub(crate) fn is_enough(&self) -> bool {
        self.version >= if self.mariadb { (10, 5, 0) } else { (8, 0, 19) }
    }

    /// Whether a reader can pass over rows that somebody has locked.
    pub(crate) fn skips_locked(&self) -> bool {
        !self.mariadb || self.version >= (10, 6, 0)
    }

    /// A collation of utf8mb4 in which two texts are equal only if they are the same, trailing spaces included.
    pub(crate) fn exact_collation(&self) -> &'static str {
        if self.mariadb { "utf8mb4_nopad_bin" } else { "utf8mb4_0900_bin" }
    }

    /// How many digits behind the point a DECIMAL may have.
    pub(crate) fn scale_max(&self) -> u8 {
        if self.mariadb { 38 } else { 30 }
    }

    /// The value that an upsert would have inserted into a column.
    pub(crate) fn inserted(&self, column: &str) -> String {
        if self.mariadb { format!("VALUES({column})") } else { format!("_hapax_new.{column}") }
    }

    /// What stands between the values and ON DUPLICATE KEY UPDATE, so that [`inserted`](Self::inserted) has meaning.
    pub(crate) fn alias(&self) -> &'static str {
        if self.mariadb { "" } else { " AS _hapax_new" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_say_which_they_are() {
        let of = |version| Server::of(version).unwrap();
        let maria = of("10.11.6-MariaDB-0+deb12u1");
        assert_eq!((maria.mariadb, maria.version, maria.is_enough()), (true, (10, 11, 6), true));
        assert!(!of("10.4.34-MariaDB-log").is_enough());
        assert_eq!(of("5.5.5-10.6.1-MariaDB").version, (10, 6, 1));
        assert!(of("8.0.36").is_enough() && of("8.4.0-0ubuntu1").is_enough());
        assert!(!of("8.0.18").is_enough() && !of("5.7.44-log").is_enough());
        assert_eq!(Server::of("Postgres"), None);
    }
}
