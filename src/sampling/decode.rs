//! Bytes from the rings to events.
//!
//! In: the records of `perf_event_open(2)` in the layout that `sys::perf` asks for, and those of `bpf/abi.h`.
//! Out: [`Timed`] events. A record that is too short or of an unknown kind yields `None` and is counted by the caller.

use perf_event_open_sys::bindings as b;
use zerocopy::FromBytes;

use crate::arch;
use crate::profile::{BuildId, Cause, FileOffset, RuntimeAddr, StackEnd, Why};
use crate::sys::abi::{self, ExitRecord, RecordHead, SampleRecord, WaitRecord};
use crate::sys::ring::RecordHeader;
use crate::target::mappings::{Region, device_number};

use crate::unwind::Registers;

use super::event::{CopiedStack, Event, RawSample, Timed, UserStack, Waited, WalkedStack};

/// Bytes of the trailer `sample_id_all` appends: pid, tid, time, cpu, reserved, identifier.
const TRAILER_BYTES: usize = 32;

/// Call chains hold markers between the parts of different contexts; all are above this.
///
/// Source: `enum perf_callchain_context` in `include/uapi/linux/perf_event.h`.
const CONTEXT_MARKERS: u64 = -4095i64 as u64;
const CONTEXT_KERNEL: u64 = -128i64 as u64;
const CONTEXT_USER: u64 = -512i64 as u64;

/// The kernel's limit on frames in a call chain unless the administrator changed it
/// (`kernel.perf_event_max_stack`).
const MAX_CHAIN_FRAMES: usize = 127;

/// A record of a perf ring.
#[derive(Debug)]
pub(super) enum Record {
    /// An event of the target; samples carry the number of the perf event that made them.
    Event {
        timed: Timed,
        event_id: u64,
    },
    Lost(u64),
    Throttle {
        time_ns: u64,
        stream_id: u64,
        on: bool,
    },
    /// Of a kind that does not matter here.
    Other,
}

/// Reads fields one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn u64(&mut self) -> Option<u64> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_ne_bytes(*value))
    }

    fn u32(&mut self) -> Option<u32> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_ne_bytes(*value))
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (value, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(value)
    }

    /// Text up to the first zero byte, or all that is left.
    fn text(self) -> String {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(self.0.len());
        String::from_utf8_lossy(&self.0[..end]).into_owned()
    }
}

/// Decodes a record of a perf ring; `copied` says that samples carry registers and a stack copy.
pub(super) fn perf_record(header: RecordHeader, body: &[u8], copied: bool) -> Option<Record> {
    if header.kind == b::PERF_RECORD_SAMPLE {
        return sample(body, copied);
    }
    let (fields, trailer) = body.split_at_checked(body.len().checked_sub(TRAILER_BYTES)?)?;
    let time_ns = u64::from_ne_bytes(*trailer[8..].first_chunk()?);
    let fields = Fields(fields);
    let event = match header.kind {
        b::PERF_RECORD_MMAP2 => match mapped(fields, header.misc)? {
            Some(event) => event,
            None => return Some(Record::Other),
        },
        b::PERF_RECORD_COMM => named(fields, header.misc)?,
        b::PERF_RECORD_FORK => forked(fields)?,
        b::PERF_RECORD_EXIT => exited(fields)?,
        b::PERF_RECORD_LOST => return lost(fields, true),
        b::PERF_RECORD_LOST_SAMPLES => return lost(fields, false),
        b::PERF_RECORD_THROTTLE => return throttle(fields, true),
        b::PERF_RECORD_UNTHROTTLE => return throttle(fields, false),
        _ => return Some(Record::Other),
    };
    Some(Record::Event {
        timed: Timed { time_ns, event },
        event_id: 0,
    })
}

fn sample(body: &[u8], copied: bool) -> Option<Record> {
    let mut fields = Fields(body);
    let event_id = fields.u64()?;
    let _ip = fields.u64()?;
    let (pid, tid) = (fields.u32()?, fields.u32()?);
    let time_ns = fields.u64()?;
    let _cpu_and_reserved = fields.u64()?;
    let period = fields.u64()?;
    let (kernel, mut user) = call_chain(&mut fields)?;
    if copied {
        user = stack_copy(&mut fields)?;
    }
    let sample = RawSample {
        pid,
        tid,
        period,
        kernel,
        user,
    };
    Some(Record::Event {
        timed: Timed {
            time_ns,
            event: Event::Sample(sample),
        },
        event_id,
    })
}

/// Splits a call chain into its kernel and its user part. The kernel follows frame pointers and does not say why it
/// stopped.
fn call_chain(fields: &mut Fields) -> Option<(Vec<RuntimeAddr>, UserStack)> {
    let count = fields.u64()? as usize;
    let mut chain = Fields(fields.bytes(count.checked_mul(8)?)?);
    let (mut kernel, mut user, mut in_user, mut saw_user) = (Vec::new(), Vec::new(), false, false);
    while let Some(entry) = chain.u64() {
        if entry >= CONTEXT_MARKERS {
            in_user = entry != CONTEXT_KERNEL && (in_user || entry == CONTEXT_USER);
            saw_user |= in_user;
        } else if in_user {
            user.push(RuntimeAddr(entry));
        } else {
            kernel.push(RuntimeAddr(entry));
        }
    }
    if !saw_user {
        return Some((kernel, UserStack::Absent));
    }
    let why = if kernel.len() + user.len() >= MAX_CHAIN_FRAMES {
        Why::TooDeep
    } else {
        Why::FramePointerLost
    };
    Some((
        kernel,
        UserStack::Walked(WalkedStack::by_frame_pointers(
            user,
            StackEnd::Truncated(why),
        )),
    ))
}

/// The kernel writes this for registers that a system call did not save.
const NOT_SAVED: u64 = u64::MAX;

/// Registers, then the copied bytes and how many of them the kernel filled.
fn stack_copy(fields: &mut Fields) -> Option<UserStack> {
    let registers_abi = u32::try_from(fields.u64()?).ok()?;
    let mut registers = Registers::default();
    if registers_abi != b::PERF_SAMPLE_REGS_ABI_NONE {
        for number in arch::PERF_REGISTER_ORDER {
            registers.set(
                number,
                Some(fields.u64()?).filter(|value| *value != NOT_SAVED),
            );
        }
    }
    let room = fields.u64()? as usize;
    let bytes = fields.bytes(room)?;
    let filled = if room == 0 { 0 } else { fields.u64()? as usize };
    let end = StackEnd::Truncated(Why::NoRegisters);
    Some(match registers_abi {
        b::PERF_SAMPLE_REGS_ABI_NONE => UserStack::Absent,
        b::PERF_SAMPLE_REGS_ABI_64 => UserStack::Copied(CopiedStack {
            registers: Box::new(registers),
            bytes: bytes.get(..filled)?.to_vec(),
            full: filled >= room,
        }),
        // 32-bit code: another set of registers, and other rules.
        _ => UserStack::Walked(WalkedStack::by_frame_pointers(Vec::new(), end)),
    })
}

/// `None` inside when the mapping is not executable.
fn mapped(mut fields: Fields, misc: u16) -> Option<Option<Event>> {
    let (pid, _tid) = (fields.u32()?, fields.u32()?);
    let (start, len, file_offset) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let mut identity = Fields(fields.bytes(24)?);
    let (mut inode, mut build_id) = (None, None);
    if u32::from(misc) & b::PERF_RECORD_MISC_MMAP_BUILD_ID != 0 {
        let size = usize::from(identity.bytes(4)?[0]);
        build_id = BuildId::from_bytes(identity.bytes(20)?.get(..size)?);
    } else {
        let (major, minor) = (identity.u32()?, identity.u32()?);
        let number = identity.u64()?;
        inode = (number != 0).then(|| (device_number(major.into(), minor.into()), number));
    }
    let protection = fields.u32()?;
    let _flags = fields.u32()?;
    if protection & nix::libc::PROT_EXEC as u32 == 0 {
        return Some(None);
    }
    let region = Region {
        start: RuntimeAddr(start),
        end: RuntimeAddr(start.checked_add(len)?),
        file_offset: FileOffset(file_offset),
        inode,
        path: fields.text(),
        build_id,
    };
    Some(Some(Event::Mapped { pid, region }))
}

fn named(mut fields: Fields, misc: u16) -> Option<Event> {
    let (pid, tid) = (fields.u32()?, fields.u32()?);
    let exec = u32::from(misc) & b::PERF_RECORD_MISC_COMM_EXEC != 0;
    Some(Event::Named {
        pid,
        tid,
        name: fields.text(),
        exec,
    })
}

fn forked(mut fields: Fields) -> Option<Event> {
    let (pid, parent_pid) = (fields.u32()?, fields.u32()?);
    let (tid, parent_tid) = (fields.u32()?, fields.u32()?);
    Some(Event::Forked {
        pid,
        tid,
        parent_pid,
        parent_tid,
    })
}

fn exited(mut fields: Fields) -> Option<Event> {
    let (pid, _parent) = (fields.u32()?, fields.u32()?);
    let tid = fields.u32()?;
    Some(Event::Exited { pid, tid })
}

/// `PERF_RECORD_LOST` begins with the event's number, `PERF_RECORD_LOST_SAMPLES` does not.
fn lost(mut fields: Fields, has_id: bool) -> Option<Record> {
    if has_id {
        fields.u64()?;
    }
    Some(Record::Lost(fields.u64()?))
}

fn throttle(mut fields: Fields, on: bool) -> Option<Record> {
    let (time_ns, _id, stream_id) = (fields.u64()?, fields.u64()?, fields.u64()?);
    Some(Record::Throttle {
        time_ns,
        stream_id,
        on,
    })
}

/// Decodes a record of the BPF ring.
pub(super) fn bpf_record(bytes: &[u8]) -> Option<Timed> {
    let (head, _) = RecordHead::read_from_prefix(bytes).ok()?;
    let event = match head.kind {
        abi::RECORD_SAMPLE => Event::Sample(bpf_sample(bytes)?.1),
        abi::RECORD_WAIT_STACK => {
            let (record, stack) = bpf_sample(bytes)?;
            Event::WaitBegan {
                wait: record.period,
                scale: f64::from(record.scale) / f64::from(abi::SCALE_ONE),
                stack,
            }
        }
        abi::RECORD_WAKER => {
            let (record, waker) = bpf_sample(bytes)?;
            Event::Woken {
                wait: record.period,
                waker,
            }
        }
        abi::RECORD_WAITING => waiting(bytes)?,
        abi::RECORD_WAIT => wait_ended(bytes)?,
        abi::RECORD_THROTTLED => Event::Throttled,
        abi::RECORD_EXIT | abi::RECORD_FREE => {
            let (exit, _) = ExitRecord::read_from_prefix(bytes).ok()?;
            Event::ThreadCpu {
                pid: head.pid,
                tid: head.tid,
                cpu_ns: exit.cpu_ns,
                gone: head.kind == abi::RECORD_FREE,
                book: exit.book,
            }
        }
        _ => return None,
    };
    Some(Timed {
        time_ns: head.time_ns,
        event,
    })
}

fn waiting(bytes: &[u8]) -> Option<Event> {
    let (record, words) = SampleRecord::read_from_prefix(bytes).ok()?;
    let mut fields = Fields(words);
    let mut kernel = Fields(fields.bytes(usize::from(record.kernel_frames) * 8)?);
    let kernel = std::iter::from_fn(|| kernel.u64().map(RuntimeAddr)).collect();
    let stack = RawSample {
        pid: record.head.pid,
        tid: record.head.tid,
        period: 0,
        kernel,
        user: UserStack::Copied(copied_stack(&mut fields, 0)?),
    };
    Some(Event::Waiting {
        wait: record.period,
        stack,
    })
}

fn wait_ended(bytes: &[u8]) -> Option<Event> {
    let (record, _) = WaitRecord::read_from_prefix(bytes).ok()?;
    let waited = Waited {
        cause: Cause::from_code(record.cause)?,
        blocked_ns: record.blocked_ns,
        runnable_ns: record.runnable_ns,
        throttled_ns: record.throttled_ns,
    };
    Some(Event::WaitEnded {
        wait: record.wait,
        waited,
    })
}

fn bpf_sample(bytes: &[u8]) -> Option<(SampleRecord, RawSample)> {
    let (sample, frames) = SampleRecord::read_from_prefix(bytes).ok()?;
    let mut fields = Fields(frames);
    let mut take = |count: u16| -> Option<Vec<RuntimeAddr>> {
        let mut part = Fields(fields.bytes(usize::from(count) * 8)?);
        Some(std::iter::from_fn(|| part.u64().map(RuntimeAddr)).collect())
    };
    let kernel = take(sample.kernel_frames)?;
    let frames = take(sample.user_frames)?;
    let end = StackEnd::from_code(sample.end)?;
    let copy = match sample.copied_words {
        0 => None,
        words => Some(copied_stack(&mut fields, words)?),
    };
    let user = if frames.is_empty() && end == StackEnd::Root {
        UserStack::Absent
    } else {
        UserStack::Walked(WalkedStack {
            frames,
            end,
            bridged: sample.bridged != 0,
            space: sample.space,
            copy,
        })
    };
    let SampleRecord { head, period, .. } = sample;
    let raw = RawSample {
        pid: head.pid,
        tid: head.tid,
        period: match head.kind {
            abi::RECORD_SAMPLE => period,
            _ => 0,
        },
        kernel,
        user,
    };
    Some((sample, raw))
}

fn copied_stack(fields: &mut Fields, words: u16) -> Option<CopiedStack> {
    let mut registers = Registers::default();
    for number in 0..abi::COPY_REGISTERS {
        registers.set(number, Some(fields.u64()?));
    }
    Some(CopiedStack {
        registers: Box::new(registers),
        bytes: fields.bytes(usize::from(words) * 8)?.to_vec(),
        full: words.is_multiple_of(abi::COPY_PAGE_WORDS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(values: &[u64]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_ne_bytes()).collect()
    }

    fn header(kind: u32, misc: u32) -> RecordHeader {
        RecordHeader {
            kind,
            misc: misc as u16,
        }
    }

    #[test]
    fn a_call_chain_is_split_at_its_context_markers() {
        let chain = [
            CONTEXT_KERNEL,
            0xffff_ffff_8100_0000,
            CONTEXT_USER,
            0x1000,
            0x2000,
        ];
        let mut body = vec![7, 0, 1, 2, 3, 1_000_000, chain.len() as u64];
        body.extend(chain);
        let record = perf_record(header(b::PERF_RECORD_SAMPLE, 0), &words(&body), false);
        let Some(Record::Event { timed, event_id: 7 }) = record else {
            panic!("{record:?}")
        };
        let Event::Sample(sample) = timed.event else {
            panic!("a sample")
        };
        assert_eq!(sample.kernel, [RuntimeAddr(0xffff_ffff_8100_0000)]);
        let UserStack::Walked(walked) = sample.user else {
            panic!("walked")
        };
        assert_eq!(walked.frames, [RuntimeAddr(0x1000), RuntimeAddr(0x2000)]);
    }

    #[test]
    fn a_stack_copy_keeps_only_what_the_kernel_filled() {
        let mut body = vec![7, 0, 1, 2, 3, 1, 0, 2];
        body.extend((0..arch::REGISTER_COUNT as u64).map(|ix| 0x100 + ix));
        body.extend([16, 111, 222, 8]);
        let record = perf_record(header(b::PERF_RECORD_SAMPLE, 0), &words(&body), true);
        let Some(Record::Event { timed, .. }) = record else {
            panic!("{record:?}")
        };
        let Event::Sample(sample) = timed.event else {
            panic!("a sample")
        };
        let UserStack::Copied(CopiedStack {
            registers,
            bytes,
            full,
        }) = sample.user
        else {
            panic!("copied")
        };
        // In the kernel's order BP is the seventh, SP the eighth, IP the ninth.
        let pointers = (registers.bp(), registers.sp(), registers.ip());
        assert_eq!(pointers, (Some(0x106), Some(0x107), Some(0x108)));
        assert_eq!((bytes.len(), full), (8, false));
    }

    #[test]
    fn no_prefix_and_no_flipped_byte_of_any_record_panics() {
        let body = words(&[
            7,
            0,
            1,
            2,
            3,
            1,
            2,
            CONTEXT_USER,
            5,
            2,
            1,
            2,
            3,
            16,
            1,
            2,
            16,
            9,
            9,
        ]);
        for kind in 0..25 {
            for copied in [false, true] {
                for cut in 0..body.len() {
                    let _ = perf_record(header(kind, 0xffff), &body[..cut], copied);
                    let mut flipped = body.clone();
                    flipped[cut] ^= 0xff;
                    let _ = perf_record(header(kind, 0), &flipped, copied);
                    let _ = bpf_record(&flipped[cut..]);
                }
            }
        }
    }
}
