//! The API of the tests as a program, for runs that no test makes (bench/scoreboard): it writes its URL to standard output,
//! and ends when its standard input does. Three of a hundred requests that write fail in some way.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hapax_conformance::http::Api;

fn main() {
    let api = Arc::new(Api::start());
    api.state().window = Some(Duration::from_secs(3600));
    api.fail_often(30);
    println!("{}", api.url());
    let ends = Arc::new(AtomicBool::new(false));
    let forgetting = std::thread::spawn({
        let (api, ends) = (Arc::clone(&api), Arc::clone(&ends));
        move || {
            // Nobody looks at them, and there are many.
            while !ends.load(Ordering::SeqCst) {
                api.state().requests.clear();
                std::thread::park_timeout(Duration::from_secs(1));
            }
        }
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    ends.store(true, Ordering::SeqCst);
    forgetting.thread().unpark();
    forgetting.join().unwrap();
}
