//! Which addresses a request may go to.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hapax_engine::Fut;
use url::{Host, Url};

/// A name leads to an address that nobody outside of a network sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Private {
    /// The name.
    pub host: String,
    /// The address.
    pub address: IpAddr,
}

impl fmt::Display for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is at {}, a private address", self.host, self.address)
    }
}

impl Error for Private {}

/// Looks names up.
pub(super) trait Names: Send + Sync {
    /// The addresses that a name leads to now.
    fn look_up<'a>(&'a self, host: &'a str, port: u16) -> Fut<'a, Vec<SocketAddr>, io::Error>;
}

/// The names as this system knows them.
struct System;

impl Names for System {
    fn look_up<'a>(&'a self, host: &'a str, port: u16) -> Fut<'a, Vec<SocketAddr>, io::Error> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Looks names up, and gives no answer that holds a private address. A connection is made to what it gave, so that a name
/// which leads elsewhere the next time leads nowhere.
pub(super) struct Guard {
    allow_private: bool,
    is_private: fn(IpAddr) -> bool,
    names: Arc<dyn Names>,
}

impl Guard {
    pub(super) fn new(allow_private: bool) -> Self {
        Self { allow_private, is_private, names: Arc::new(System) }
    }

    /// One that asks somebody else, and thinks otherwise of addresses.
    #[cfg(test)]
    pub(super) fn of(allow_private: bool, is_private: fn(IpAddr) -> bool, names: Arc<dyn Names>) -> Self {
        Self { allow_private, is_private, names }
    }

    /// Looks a name up. An error that wraps a [`Private`] says that it is at a private address.
    pub(super) async fn find(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = self.names.look_up(host, port).await?;
        self.allowed(host, found).map_err(io::Error::other)
    }

    /// All of the addresses, or none if one of them is private.
    fn allowed(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Private> {
        let private = |address: &IpAddr| !self.allow_private && (self.is_private)(*address);
        match found.iter().map(SocketAddr::ip).find(private) {
            Some(address) => Err(Private { host: host.to_owned(), address }),
            None => Ok(found),
        }
    }

    /// The private address that a URL names itself, unless it may: no name is looked up for it.
    pub(super) fn literal(&self, url: &Url) -> Option<Private> {
        let address = match url.host()? {
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
            Host::Domain(_) => return None,
        };
        let private = !self.allow_private && (self.is_private)(address);
        private.then(|| Private { host: "the URL's host".to_owned(), address })
    }
}

/// Whether an address is private, loopback, link-local, shared, or no host's at all.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let for_protocols = (a, b, c) == (192, 0, 0);
    let for_tests = a == 198 && (b == 18 || b == 19);
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || shared
        || for_protocols
        || for_tests
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, ..] = address.segments();
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_private_v4(mapped);
    }
    // Addresses of the older protocol inside of the newer one: NAT64, and 6to4.
    let [.., c, d] = address.segments();
    let within = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    if (first, second) == (0x64, 0xff9b) {
        return within(c, d);
    }
    if first == 0x2002 {
        return within(second, third);
    }
    let unique_local = first & 0xfe00 == 0xfc00;
    let link_local = first & 0xffc0 == 0xfe80;
    let documentation = (first, second) == (0x2001, 0xdb8);
    // The first 96 bits are zero: unspecified, loopback, and the old form of a mapped address.
    let ancient = address.segments().iter().take(6).all(|part| *part == 0);
    ancient || unique_local || link_local || documentation || address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_known() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12:3456::1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "ff02::1",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:8.8.8.8"]
        {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn an_answer_with_a_private_address_in_it_is_none() {
        let both: Vec<SocketAddr> = vec!["1.1.1.1:0".parse().unwrap(), "10.0.0.1:0".parse().unwrap()];
        let (strict, open) = (Guard::new(false), Guard::new(true));
        assert!(strict.allowed("h", both.clone()).is_err());
        assert_eq!(open.allowed("h", both.clone()), Ok(both.clone()));
        assert_eq!(strict.allowed("h", both[..1].to_vec()), Ok(both[..1].to_vec()));
        let literal = |url: &str| strict.literal(&Url::parse(url).unwrap()).is_some();
        assert!(open.literal(&Url::parse("http://127.0.0.1/").unwrap()).is_none());
        assert!(literal("http://127.0.0.1/") && literal("http://[::1]/") && literal("http://0x7f000001/"));
        assert!(!literal("http://example.com/") && !literal("http://1.1.1.1/"));
    }
}
