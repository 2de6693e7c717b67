//! A copied stack as memory to walk.

use super::walk::{Registers, StackMemory, Unread};

/// A stack as a tick found it.
#[derive(Clone, Copy, Debug)]
pub struct StackCopy<'a> {
    pub registers: Registers,
    /// Memory from the stack pointer upwards.
    pub bytes: &'a [u8],
    /// The copy was cut at its limit, so the stack may go on.
    pub full: bool,
}

impl StackMemory for StackCopy<'_> {
    fn read(&self, addr: u64) -> Result<u64, Unread> {
        let from_sp = addr
            .checked_sub(self.registers.sp)
            .ok_or(Unread::NotStack)?;
        let word = usize::try_from(from_sp)
            .ok()
            .and_then(|offset| self.bytes.get(offset..)?.first_chunk());
        match word {
            Some(bytes) => Ok(u64::from_ne_bytes(*bytes)),
            None if self.full => Err(Unread::BeyondCopy),
            None => Err(Unread::NotStack),
        }
    }
}
