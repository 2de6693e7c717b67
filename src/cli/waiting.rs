//! What is shown while names are looked up and that takes long.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::status::Log;
use crate::symbolize::Progress;

/// Nobody wonders before.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the line changes.
const REFRESH: Duration = Duration::from_millis(200);

/// Characters of the bar.
const BAR_WIDTH: u64 = 24;

/// Does `work`, and shows how far naming is once that takes more than a second.
pub(super) fn with_progress<T>(log: &Log, progress: &Progress, work: impl FnOnce() -> T) -> T {
    let (done, waits) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut patience = PATIENCE;
            while let Err(RecvTimeoutError::Timeout) = waits.recv_timeout(patience) {
                show(log, progress, patience == PATIENCE);
                patience = REFRESH;
            }
        });
        let result = work();
        drop(done);
        result
    })
}

fn show(log: &Log, progress: &Progress, is_first: bool) {
    let (named, wanted, binary) = progress.now();
    if log.has_progress_line() {
        log.progress(&line(named, wanted, &binary));
    } else if is_first {
        log.info(format!(
            "naming frames: {named} of {wanted} addresses so far"
        ));
    }
}

fn line(named: u64, wanted: u64, binary: &str) -> String {
    let filled = (named * BAR_WIDTH).checked_div(wanted).unwrap_or(0);
    let bar: String = (0..BAR_WIDTH)
        .map(|ix| if ix < filled { '█' } else { '░' })
        .collect();
    let name = binary.rsplit('/').next().unwrap_or(binary);
    format!("naming frames {bar} {named} of {wanted} addresses · {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_as_addresses_get_names() {
        let full = |named, wanted| line(named, wanted, "/a/b").matches('█').count() as u64;
        assert_eq!(full(0, 0), 0);
        assert_eq!(full(1, 2), BAR_WIDTH / 2);
        assert_eq!(full(2, 2), BAR_WIDTH);
        assert!(line(1, 2, "/a/b").ends_with("1 of 2 addresses · b"));
    }
}
