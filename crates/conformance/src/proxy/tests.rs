use std::time::Duration;

use tokio::time::timeout;

use super::*;

/// A server that answers each line with the same line, and remembers what reached it.
struct Echo {
    proxy: Proxy,
    reached: Arc<std::sync::Mutex<Vec<u8>>>,
}

async fn echo() -> Echo {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let reached = Arc::new(std::sync::Mutex::new(Vec::new()));
    let all = Arc::clone(&reached);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let all = Arc::clone(&all);
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    all.lock().unwrap().extend_from_slice(&buffer[..read]);
                    let _ = stream.write_all(&buffer[..read]).await;
                }
            });
        }
    });
    Echo { proxy: Proxy::before(address).await, reached }
}

impl Echo {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.proxy.port())).await.unwrap()
    }

    fn reached(&self, text: &str) -> bool {
        self.reached.lock().unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// Says something and returns the answer; `None` if the connection ended instead.
async fn ask(stream: &mut TcpStream, text: &str) -> Option<String> {
    stream.write_all(text.as_bytes()).await.ok()?;
    let mut buffer = vec![0; 1024];
    match timeout(Duration::from_secs(60), stream.read(&mut buffer)).await.expect("neither answer nor end") {
        Ok(read @ 1..) => Some(String::from_utf8_lossy(&buffer[..read]).into_owned()),
        _ => None,
    }
}

#[tokio::test]
async fn it_passes_on_until_a_pattern_comes() {
    let echo = echo().await;
    for (failure, arrives) in
        [(Failure::Unsent(b"COMMIT".to_vec()), false), (Failure::Unanswered(b"COMMIT".to_vec()), true)]
    {
        let mut stream = echo.connect().await;
        echo.reached.lock().unwrap().clear();
        echo.proxy.fail(failure);
        assert_eq!(ask(&mut stream, "BEGIN").await.as_deref(), Some("BEGIN"));
        assert_eq!(ask(&mut stream, "COMMIT").await, None);
        assert_eq!(echo.reached("COMMIT"), arrives);
        // It happens once.
        let mut stream = echo.connect().await;
        assert_eq!(ask(&mut stream, "COMMIT").await.as_deref(), Some("COMMIT"));
    }
    assert_eq!(echo.proxy.happened(), 2);
}

#[tokio::test]
async fn it_cuts_after_so_many_bytes() {
    let echo = echo().await;
    let mut stream = echo.connect().await;
    echo.proxy.fail(Failure::Cut { bytes: 7 });
    assert_eq!(ask(&mut stream, "abc").await.as_deref(), Some("abc"));
    assert_eq!(ask(&mut stream, "def").await, None);
    let arrived = async {
        while !echo.reached("abcd") {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), arrived).await.expect("one more byte passes");
    assert!(!echo.reached("abcde"), "and no other");
    assert_eq!(ask(&mut echo.connect().await, "ghi").await.as_deref(), Some("ghi"));
}

#[tokio::test]
async fn a_black_hole_keeps_what_comes_and_gives_it_back() {
    let echo = echo().await;
    let mut stream = echo.connect().await;
    assert!(ask(&mut stream, "a").await.is_some());
    echo.proxy.fail(Failure::BlackHole);
    stream.write_all(b"held").await.unwrap();
    let mut buffer = [0; 16];
    assert!(timeout(Duration::from_millis(50), stream.read(&mut buffer)).await.is_err());
    assert!(!echo.reached("held"));
    echo.proxy.heal();
    let read = timeout(Duration::from_secs(60), stream.read(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..read], b"held");
}

#[tokio::test]
async fn a_server_that_is_gone_takes_nobody_until_it_is_back() {
    let echo = echo().await;
    let mut stream = echo.connect().await;
    assert!(ask(&mut stream, "a").await.is_some());
    echo.proxy.fail(Failure::Gone);
    assert_eq!(ask(&mut stream, "b").await, None);
    assert_eq!(ask(&mut echo.connect().await, "c").await, None);
    echo.proxy.heal();
    assert!(ask(&mut echo.connect().await, "d").await.is_some());
}
