//! Waiting for something, but not for ever.

use std::{
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(10);

/// Sleeps, also through signals.
pub fn sleep_ms(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

/// Waits until something holds, for ten seconds at most, and says whether it came to hold.
pub fn until(mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut rounds = 0;
    while !holds() {
        if start.elapsed() > LIMIT {
            return holds();
        }
        rounds += 1;
        if rounds < 100 { thread::yield_now() } else { sleep_ms(1) }
    }
    true
}

/// Gives others the time to reach the place where they block. No sentence may depend on it: it only makes the case of
/// interest the usual one.
pub fn settle() {
    sleep_ms(15);
}
