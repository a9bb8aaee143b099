use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;

use hapax_conformance::http::{Api, Secure};
use hapax_conformance::tls::Authority;
use hapax_engine::Fut;
use tokio::sync::mpsc;

use super::guard::Names;
use super::*;

/// A name that leads to one address after the other, and to the last one ever after.
struct Turning {
    addresses: Mutex<Vec<IpAddr>>,
    asked: Mutex<usize>,
}

impl Names for Turning {
    fn look_up<'a>(&'a self, host: &'a str, port: u16) -> Fut<'a, Vec<SocketAddr>, std::io::Error> {
        assert_eq!(host, "turning.test");
        *self.asked.lock().unwrap() += 1;
        let mut addresses = self.addresses.lock().unwrap();
        let address = if addresses.len() > 1 { addresses.remove(0) } else { addresses[0] };
        Box::pin(std::future::ready(Ok(vec![SocketAddr::new(address, port)])))
    }
}

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// For these tests one of the two is a private address, and the other is none.
fn is_inside(address: IpAddr) -> bool {
    address == IpAddr::V4(INSIDE)
}

fn manner(headers: &BTreeMap<String, String>) -> Manner<'_> {
    Manner {
        auth: None,
        headers,
        rate: None,
        timeout: Duration::from_secs(5),
        concurrency: 1,
        allow_private: false,
        tls: None,
        secrets: &[],
    }
}

fn get(host: &Host) -> Request {
    let headers = Arc::new(host.dressed(HeaderMap::new()));
    Request { method: Method::GET, path: PathAndQuery::from_static("/x"), headers, body: None }
}

/// Two listeners at one port: one outside, and one inside.
fn listeners() -> (TcpListener, TcpListener, u16) {
    for _ in 0..20 {
        let outside = TcpListener::bind((OUTSIDE, 0)).unwrap();
        let port = outside.local_addr().unwrap().port();
        if let Ok(inside) = TcpListener::bind((INSIDE, port)) {
            inside.set_nonblocking(true).unwrap();
            return (outside, inside, port);
        }
    }
    panic!("no port is free at both addresses");
}

/// Answers one request of each connection, ends it, and says so.
fn answers(listener: TcpListener, keeps: bool) -> mpsc::UnboundedReceiver<()> {
    let (say, ended) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while lines.read_line(&mut head).is_ok_and(|read| read > 2) {}
            let connection = if keeps { "keep-alive" } else { "close" };
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: {connection}\r\n\r\nok");
            stream.write_all(answer.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Both).unwrap();
            if say.send(()).is_err() {
                return;
            }
        }
    });
    ended
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_later_leads_nowhere() {
    let (outside, inside, port) = listeners();
    let mut ended = answers(outside, false);
    let names = Arc::new(Turning {
        addresses: Mutex::new(vec![IpAddr::V4(OUTSIDE), IpAddr::V4(INSIDE)]),
        asked: Mutex::new(0),
    });
    let url = Url::parse(&format!("http://turning.test:{port}/x")).unwrap();
    let none = BTreeMap::new();
    let guard = |allow_private| {
        let names: Arc<dyn Names> = Arc::<Turning>::clone(&names);
        Guard::of(allow_private, is_inside, names)
    };
    let host = Host::guarded(&url, manner(&none), guard).unwrap();
    // What was looked at is what is connected to: the name leads elsewhere as soon as it was looked up.
    host.reach().await.unwrap();
    assert_eq!(*names.asked.lock().unwrap(), 1);
    let answer = host.send(&get(&host), SHORT).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::OK, &b"ok"[..]));
    assert_eq!(*names.asked.lock().unwrap(), 1, "a connection was made to something that was not looked at");
    ended.recv().await.unwrap();
    // The next connection looks again, and goes nowhere.
    match host.send(&get(&host), SHORT).await {
        Err(Lost::Never(HostFault::Private { what })) => assert!(what.contains("127.0.0.2"), "{what}"),
        Err(other) => panic!("{other:?}"),
        Ok(answer) => panic!("{}", answer.status),
    }
    assert_eq!(*names.asked.lock().unwrap(), 2);
    assert!(matches!(host.reach().await, Err(HostFault::Private { .. })));
    assert_eq!(
        inside.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "a connection was made inside"
    );
}

#[tokio::test]
async fn a_connection_that_the_server_ended_is_not_used_again() {
    let listener = TcpListener::bind((OUTSIDE, 0)).unwrap();
    let url = Url::parse(&format!("http://{}/x", listener.local_addr().unwrap())).unwrap();
    let mut ended = answers(listener, true);
    let none = BTreeMap::new();
    let host = Host::open(&url, Manner { allow_private: true, ..manner(&none) }).unwrap();
    for round in 0..20 {
        // It said that it would keep the connection, and did not.
        let answer = host.send(&get(&host), SHORT).await;
        assert!(answer.is_ok_and(|answer| answer.status == StatusCode::OK), "{round}");
        ended.recv().await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let api = Api::start_secure(&Secure {
        authority: &authority,
        protocols: &["h2"],
        asks_clients: false,
        streams_max: None,
    });
    let tls = Tls { ca: Some(authority.file("ca.pem").into()), ..Tls::default() };
    let none = BTreeMap::new();
    let names = || Turning { addresses: Mutex::new(vec![IpAddr::V4(OUTSIDE)]), asked: Mutex::new(0) };
    let guard = |allow_private| Guard::of(allow_private, is_inside, Arc::new(names()));
    let url = Url::parse(&format!("https://turning.test:{}/x", api.port())).unwrap();
    let host = Host::guarded(&url, Manner { tls: Some(&tls), ..manner(&none) }, guard).unwrap();
    match host.reach().await {
        Err(HostFault::Tls { reason, .. }) => assert!(reason.contains("turning.test"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(api.state().requests.len(), 0);
}

#[test]
fn what_may_be_secret_in_a_url_is_not_shown() {
    for (url, expected) in [
        ("ftp://u:pass@h/x?key=k", "ftp://…@h/x?…"),
        ("ftp://h/x?mail=a@b", "ftp://h/x?…"),
        ("ftp://h/x", "ftp://h/x"),
    ] {
        let error = address(url).unwrap_err().to_string();
        assert!(error.starts_with(&format!("the URL {expected} cannot")), "{error}");
    }
}
