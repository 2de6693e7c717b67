//! The address under which the agent answers: taken once, kept over reloads, and told to whoever looks for it.
//!
//! In: the address that was asked for; port 0 lets the kernel choose. Out: a socket that listens, and while the agent runs the
//! file `DATA/http-address` with the address it has.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::agent::windows::if_abandoned;
use crate::artifacts::{ArtifactError, write_atomic};

const FILE: &str = "http-address";

/// A listening socket. Whoever connects while nobody serves waits for the next who does.
#[derive(Debug)]
pub struct Door {
    asked: SocketAddr,
    addr: SocketAddr,
    listener: TcpListener,
    /// The file with the address.
    announced: Option<PathBuf>,
}

impl Door {
    /// Takes the address; an address that is in use is found before anything is recorded.
    pub fn open(asked: SocketAddr) -> io::Result<Door> {
        let listener = TcpListener::bind(asked)?;
        listener.set_nonblocking(true)?;
        Ok(Door {
            asked,
            addr: listener.local_addr()?,
            listener,
            announced: None,
        })
    }

    /// Keeps `former` where it is still the right one: its port stays, also one that the kernel chose.
    pub fn keep_or_open(former: &mut Option<Door>, asked: SocketAddr) -> io::Result<&mut Door> {
        let door = match former.take() {
            Some(door) if door.asked == asked => door,
            other => {
                // The other stays until there is a new one.
                *former = other;
                Door::open(asked)?
            }
        };
        Ok(former.insert(door))
    }

    /// An agent that was killed has left its address; nobody answers there.
    pub fn forget_killed(data: &Path) {
        // Mostly there is none.
        if_abandoned(data, || drop(std::fs::remove_file(data.join(FILE))));
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn listener(&self) -> io::Result<TcpListener> {
        self.listener.try_clone()
    }

    /// Writes the address down, for as long as this is open.
    pub fn announce(&mut self, data: &Path) -> Result<(), ArtifactError> {
        let path = data.join(FILE);
        if self.announced.as_ref() != Some(&path) {
            self.withdraw();
        }
        write_atomic(&path, format!("{}\n", self.addr).as_bytes())?;
        self.announced = Some(path);
        Ok(())
    }

    fn withdraw(&mut self) {
        if let Some(path) = self.announced.take() {
            // Whoever removed it before had the same in mind.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.withdraw();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_port_is_told_and_kept_for_the_same_wish() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let data = tempfile::tempdir().expect("a directory");
        let mut door = Door::open(any).expect("some port is free");
        let addr = door.addr();
        assert_ne!(addr.port(), 0);
        let told = || std::fs::read_to_string(data.path().join(FILE));
        for _ in 0..2 {
            door.announce(data.path()).expect("written");
            assert_eq!(told().expect("there"), format!("{addr}\n"));
        }
        let elsewhere = tempfile::tempdir().expect("a directory");
        door.announce(elsewhere.path()).expect("written");
        assert!(told().is_err());
        let mut door = Some(door);
        let kept = Door::keep_or_open(&mut door, any).expect("kept");
        assert_eq!(kept.addr(), addr);
        Door::keep_or_open(&mut door, addr).expect_err("it is in use");
        let other: SocketAddr = "127.0.0.2:0".parse().expect("an address");
        let changed = Door::keep_or_open(&mut door, other).expect("some port is free");
        assert_eq!(changed.addr().ip(), other.ip());
        assert!(
            !elsewhere.path().join(FILE).exists(),
            "nobody answers there any more"
        );
    }
}
