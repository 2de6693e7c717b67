//! A pair of sockets between perfprof and a process of its own, over which messages and open files go (`unix(7)`,
//! `SCM_RIGHTS`).
//!
//! In and out: messages of bytes, each with the files that belong to it. A message is a head (its length and the number
//! of its files) that carries the files, and the bytes behind it.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Most files with one message; the kernel allows 253.
pub const MAX_FILES: usize = 32;

/// A longer message is refused.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

const HEAD_BYTES: usize = 8;

/// One end of the pair.
#[derive(Debug)]
pub struct Channel(UnixStream);

/// What came.
#[derive(Debug)]
pub struct Message {
    pub bytes: Vec<u8>,
    pub files: Vec<File>,
}

impl Channel {
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (own, other) = UnixStream::pair()?;
        Ok((Channel(own), other.into()))
    }

    /// The end that this process was started with as its standard input.
    pub fn of_standard_input() -> io::Result<Channel> {
        let own = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Channel(UnixStream::from(own)))
    }

    /// Longest wait for each part of a message; `None` waits for ever.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(timeout)?;
        self.0.set_write_timeout(timeout)
    }

    /// Waits until something can be received, or the other end is gone; `false` when neither has happened in time.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => Ok(false),
            ready => Ok(ready? > 0),
        }
    }

    pub fn send(&mut self, bytes: &[u8], files: &[&File]) -> io::Result<()> {
        if bytes.len() > MAX_MESSAGE_BYTES || files.len() > MAX_FILES {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(&(files.len() as u32).to_le_bytes());
        let fds: Vec<RawFd> = files.iter().map(|file| file.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights };
        let sent = sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(&head)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        // Eight bytes fit into any socket's buffer whole, or not at all.
        if sent != HEAD_BYTES {
            return Err(io::Error::from(io::ErrorKind::WriteZero));
        }
        self.0.write_all(bytes)
    }

    /// The next message; `UnexpectedEof` when the other end is gone.
    pub fn receive(&mut self) -> io::Result<Message> {
        let mut head = [0; HEAD_BYTES];
        let files = self.receive_head(&mut head)?;
        let number = |at: usize| {
            let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
            u32::from_le_bytes(bytes) as usize
        };
        let (len, count) = (number(0), number(4));
        if len > MAX_MESSAGE_BYTES || count != files.len() {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        let mut bytes = Vec::new();
        let read = (&mut self.0).take(len as u64).read_to_end(&mut bytes)?;
        if read < len {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        Ok(Message { bytes, files })
    }

    fn receive_head(&mut self, head: &mut [u8; HEAD_BYTES]) -> io::Result<Vec<File>> {
        let mut files = Vec::new();
        let mut filled = 0;
        while filled < HEAD_BYTES {
            let mut space = cmsg_space!([RawFd; MAX_FILES]);
            let mut parts = [IoSliceMut::new(&mut head[filled..])];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let got = recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut space), flags);
            let got = match got {
                Err(nix::errno::Errno::EINTR) => continue,
                got => got?,
            };
            for message in got.cmsgs()? {
                if let ControlMessageOwned::ScmRights(fds) = message {
                    // SAFETY: the kernel has just made these descriptors for this process, and nobody else knows them.
                    files.extend(fds.into_iter().map(|fd| unsafe { File::from_raw_fd(fd) }));
                }
            }
            if got.bytes == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            filled += got.bytes;
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_with_their_files_and_the_end_is_told() {
        let (mut here, there) = Channel::pair().expect("sockets");
        let mut there = Channel(UnixStream::from(there));
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(b"content").expect("written");
        let long = vec![7; 1 << 20];
        let sender = std::thread::spawn(move || {
            here.send(&long, &[&file]).expect("sent");
            here.send(b"", &[]).expect("sent");
        });
        let first = there.receive().expect("received");
        assert_eq!((first.bytes.len(), first.files.len()), (1 << 20, 1));
        assert_eq!(first.files[0].metadata().expect("metadata").len(), 7);
        let second = there.receive().expect("received");
        assert_eq!((second.bytes.len(), second.files.len()), (0, 0));
        sender.join().expect("sent both");
        let end = there.receive().expect_err("the other end is gone");
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        let (mut here, _there) = Channel::pair().expect("sockets");
        assert!(!here.wait(Duration::from_millis(1)).expect("waited"));
        here.set_timeout(Some(Duration::from_millis(10)))
            .expect("set");
        let error = here.receive().expect_err("nothing came");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
