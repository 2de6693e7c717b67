//! Builds tables of large binaries aside, so that samples are read meanwhile: a program of 150 MB takes a quarter second.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use crate::sys::usage::monotonic_ns;
use crate::target::binary::Binary;
use crate::unwind::UnwindTable;

/// A table that has been built.
#[derive(Debug)]
pub(super) struct Built {
    pub binary: Arc<Binary>,
    pub table: UnwindTable,
    pub took_ns: u64,
}

impl Built {
    pub fn of(binary: &Arc<Binary>) -> Built {
        let begun_ns = monotonic_ns();
        Built {
            table: UnwindTable::of(binary),
            binary: binary.clone(),
            took_ns: monotonic_ns() - begun_ns,
        }
    }
}

/// A thread that builds one table after the other. It ends when this is dropped, after the table it is at.
#[derive(Debug)]
pub(super) struct Builder {
    orders: Sender<Arc<Binary>>,
    built: Receiver<Built>,
    /// Ordered and not yet taken.
    waiting: usize,
}

impl Builder {
    pub fn start() -> Builder {
        let (orders, to_build) = channel::<Arc<Binary>>();
        let (done, built) = channel();
        thread::spawn(move || {
            for binary in to_build {
                if done.send(Built::of(&binary)).is_err() {
                    break;
                }
            }
        });
        Builder {
            orders,
            built,
            waiting: 0,
        }
    }

    /// `false` when the thread is gone.
    pub fn order(&mut self, binary: &Arc<Binary>) -> bool {
        let ordered = self.orders.send(binary.clone()).is_ok();
        self.waiting += usize::from(ordered);
        ordered
    }

    /// One that is ready. When the thread is gone, what it had not built is waited for no longer, and stays `warming`.
    pub fn take(&mut self) -> Option<Built> {
        match self.built.try_recv() {
            Ok(built) => {
                self.waiting -= 1;
                Some(built)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.waiting = 0;
                None
            }
        }
    }

    pub fn is_busy(&self) -> bool {
        self.waiting > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::MappingKind;
    use std::fs::File;

    #[test]
    fn what_is_ordered_comes_back_built() {
        let file = File::open("/proc/self/exe").expect("own binary");
        let own = Binary::read(3, MappingKind::File, "/exe".into(), file, None);
        let mut builder = Builder::start();
        assert!(!builder.is_busy() && builder.order(&Arc::new(own)));
        let built = loop {
            if let Some(built) = builder.take() {
                break built;
            }
            assert!(builder.is_busy());
            thread::yield_now();
        };
        assert_eq!(built.binary.ix, 3);
        assert!(!built.table.is_empty() && !builder.is_busy());
    }
}
