//! Does what may hang, and does not wait for it longer than it is worth. A thread that is not done in time is left behind: nothing can end
//! one that waits in the kernel. Whoever asks often should therefore not ask a driver that has hung before.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Runs `work` on a thread of its own. What it sends arrives through the receiver, which closes at its end.
pub(crate) fn beside<T: Send + 'static>(
    work: impl FnOnce(&mpsc::Sender<T>) + Send + 'static,
) -> Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    // No thread, no answer: the receiver is closed at once.
    let _ = thread::Builder::new().name("machine".into()).spawn(move || work(&sender));
    receiver
}

/// The result of `work`, if it comes within `limit`.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let receiver = beside(move |sender| {
        let _ = sender.send(work());
    });
    receiver.recv_timeout(limit).ok()
}

/// Everything that arrives until the deadline, and whether the sender came to its end.
#[cfg_attr(target_os = "macos", allow(dead_code))]
pub(crate) fn until<T>(receiver: &Receiver<T>, deadline: Instant) -> (Vec<T>, bool) {
    let mut arrived = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(item) => arrived.push(item),
            Err(end) => return (arrived, end == RecvTimeoutError::Disconnected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn what_comes_in_time_arrives() {
        assert_eq!(within(LONG, || 7), Some(7));
        let receiver = beside(|sender| (0..3).for_each(|n| sender.send(n).unwrap()));
        assert_eq!(until(&receiver, Instant::now() + LONG), (vec![0, 1, 2], true));
    }

    #[test]
    fn what_hangs_is_left_behind_with_what_it_sent() {
        assert_eq!(within(Duration::from_millis(20), || thread::sleep(LONG)), None);
        let receiver = beside(|sender| {
            sender.send(1).unwrap();
            thread::sleep(LONG);
        });
        let (arrived, done) = until(&receiver, Instant::now() + Duration::from_secs(1));
        assert_eq!((arrived, done), (vec![1], false));
    }

    #[test]
    fn a_panic_is_an_end() {
        let receiver = beside::<u8>(|_| panic!("expected by this test"));
        assert_eq!(until(&receiver, Instant::now() + LONG), (vec![], true));
    }
}
