//! A relay before a broker, which may lose what ends a transaction: the request, or its answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The number of the request that ends a transaction.
const END_TRANSACTION: [u8; 2] = 26_i16.to_be_bytes();

const HOST: &str = "127.0.0.1";

/// What gets lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The broker does not get the request.
    Request,
    /// The client does not get the answer.
    Answer,
}

/// It says of itself that it is the broker. With what it loses every connection ends, and no other one is made until it is
/// healed.
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    broker: String,
    /// What the broker says of its address, and what is said instead.
    address: [Vec<u8>; 2],
    lose: Mutex<Option<Lost>>,
    cut: AtomicBool,
    over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    pub fn before(broker: &str) -> Self {
        let listener = TcpListener::bind((HOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let theirs: u16 = broker.rsplit_once(':').unwrap().1.parse().unwrap();
        let address = |port: u16| [HOST.as_bytes(), &u32::from(port).to_be_bytes()].concat();
        let shared = Arc::new(Shared {
            broker: broker.to_owned(),
            address: [address(theirs), address(port)],
            lose: Mutex::default(),
            cut: AtomicBool::new(false),
            over: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { port, shared }
    }

    pub fn address(&self) -> String {
        format!("{HOST}:{}", self.port)
    }

    /// Loses this of the next transaction that ends.
    pub fn lose(&self, what: Lost) {
        *self.shared.lose.lock().unwrap() = Some(what);
    }

    /// Whether it did.
    pub fn has_lost(&self) -> bool {
        self.shared.cut.load(Ordering::SeqCst)
    }

    /// Lets clients connect again.
    pub fn heal(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.shared.end();
    }
}

impl Shared {
    fn end(&self) {
        for connection in self.open.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    fn lost(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.end();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.over.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((client, _)) if !shared.cut.load(Ordering::SeqCst) => {
                client.set_nonblocking(false).unwrap();
                let Ok(broker) = TcpStream::connect(&shared.broker) else { continue };
                client.set_nodelay(true).unwrap();
                broker.set_nodelay(true).unwrap();
                let both = || (client.try_clone().unwrap(), broker.try_clone().unwrap());
                let ((from, to), (back_to, back_from)) = (both(), both());
                shared.open.lock().unwrap().extend([client, broker]);
                let awaited = Arc::new(Mutex::new(None));
                let (forth, back) = (Arc::clone(shared), Arc::clone(shared));
                let asked = Arc::clone(&awaited);
                std::thread::spawn(move || requests(from, to, &forth, &asked));
                std::thread::spawn(move || answers(back_from, back_to, &back, &awaited));
            }
            Ok(_) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The number of a request, which its answer has, too.
type Number = Arc<Mutex<Option<Vec<u8>>>>;

fn requests(mut client: TcpStream, mut broker: TcpStream, shared: &Shared, awaited: &Number) {
    while let Some(frame) = frame(&mut client) {
        if frame.get(..2) == Some(&END_TRANSACTION) {
            match shared.lose.lock().unwrap().take() {
                Some(Lost::Request) => {
                    shared.lost();
                    return;
                }
                Some(Lost::Answer) => *awaited.lock().unwrap() = frame.get(4..8).map(<[u8]>::to_vec),
                None => {}
            }
        }
        if pass(&mut broker, &frame).is_err() {
            break;
        }
    }
    let _ = broker.shutdown(Shutdown::Both);
}

fn answers(mut broker: TcpStream, mut client: TcpStream, shared: &Shared, awaited: &Number) {
    while let Some(mut frame) = frame(&mut broker) {
        if awaited.lock().unwrap().as_deref().is_some_and(|number| frame.get(..4) == Some(number)) {
            shared.lost();
            return;
        }
        let [theirs, ours] = &shared.address;
        for at in 0..frame.len() {
            if frame[at..].starts_with(theirs) {
                frame[at..at + ours.len()].copy_from_slice(ours);
            }
        }
        if pass(&mut client, &frame).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

fn frame(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut frame).ok()?;
    Some(frame)
}

fn pass(to: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    to.write_all(&[&(frame.len() as u32).to_be_bytes(), frame].concat())
}
