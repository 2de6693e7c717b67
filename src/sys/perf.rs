//! `perf_event_open(2)`: opening, enabling and reading events.
//!
//! In: an [`EventSpec`] in the field's own words. Out: an [`Event`] that is closed when dropped. Which CPUs and threads
//! to open events for is decided in `sampling`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use perf_event_open_sys as pe;
use perf_event_open_sys::bindings as b;

use crate::arch;

/// What makes the event tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// CPU cycles counted by the hardware; the kernel adjusts the period to reach the rate.
    HardwareCycles,
    /// The kernel's high-resolution timer, running while the task (or the CPU) runs.
    CpuClock,
    /// Never ticks: carries side-band records (mmap, comm, fork, exit) only.
    Dummy,
}

/// What each tick records about the user stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackSource {
    /// Nothing: somebody else (a BPF program) takes the stack.
    None,
    /// The kernel follows frame pointers.
    CallChain,
    /// A BPF program walks by unwind tables, which may take this much memory.
    Tables { budget_bytes: u64 },
    /// Registers and this many bytes from the stack pointer up; a multiple of 8.
    Copy { bytes: u32 },
}

/// One event, before it is opened.
#[derive(Clone, Copy, Debug)]
pub struct EventSpec {
    pub trigger: Trigger,
    /// Ticks per second; ignored by [`Trigger::Dummy`].
    pub frequency_hz: u32,
    pub stack: StackSource,
    /// Record kernel frames, and ticks that hit kernel code.
    pub kernel: bool,
    /// Report mappings, command names, forks and exits of the same tasks.
    pub side_band: bool,
    /// Ask for build IDs in mmap records (kernel 5.12).
    pub build_ids: bool,
    /// New threads and children of the task get the event, too.
    pub inherit: bool,
    /// Wake the reader when this many bytes are waiting; 0 leaves it to the kernel.
    pub wakeup_bytes: u32,
}

impl EventSpec {
    /// Nanoseconds between two ticks of the timer.
    pub fn period_ns(&self) -> u64 {
        1_000_000_000 / u64::from(self.frequency_hz.max(1))
    }

    fn attr(&self) -> b::perf_event_attr {
        let mut attr = b::perf_event_attr {
            size: size_of::<b::perf_event_attr>() as u32,
            ..Default::default()
        };
        self.set_trigger(&mut attr);
        self.set_sample_content(&mut attr);
        attr.set_disabled(1);
        attr.set_inherit(self.inherit.into());
        attr.set_sample_id_all(1);
        // The idle task uses no CPU time. Only the timer can tell it apart everywhere.
        attr.set_exclude_idle((self.trigger == Trigger::CpuClock && !self.inherit).into());
        attr.set_use_clockid(1);
        attr.clockid = nix::libc::CLOCK_MONOTONIC;
        if self.side_band {
            attr.set_mmap(1);
            attr.set_mmap2(1);
            attr.set_comm(1);
            attr.set_comm_exec(1);
            attr.set_task(1);
            attr.set_build_id(self.build_ids.into());
        }
        if !self.kernel {
            attr.set_exclude_kernel(1);
            attr.set_exclude_hv(1);
        }
        if self.wakeup_bytes > 0 {
            attr.set_watermark(1);
            attr.__bindgen_anon_2.wakeup_watermark = self.wakeup_bytes;
        }
        attr
    }

    fn set_trigger(&self, attr: &mut b::perf_event_attr) {
        match self.trigger {
            Trigger::HardwareCycles => {
                attr.type_ = b::PERF_TYPE_HARDWARE;
                attr.config = u64::from(b::PERF_COUNT_HW_CPU_CYCLES);
                attr.set_freq(1);
                attr.__bindgen_anon_1.sample_freq = self.frequency_hz.into();
            }
            Trigger::CpuClock => {
                attr.type_ = b::PERF_TYPE_SOFTWARE;
                attr.config = u64::from(b::PERF_COUNT_SW_CPU_CLOCK);
                attr.__bindgen_anon_1.sample_period = self.period_ns();
            }
            Trigger::Dummy => {
                attr.type_ = b::PERF_TYPE_SOFTWARE;
                attr.config = u64::from(b::PERF_COUNT_SW_DUMMY);
            }
        }
    }

    /// The parts of a sample stand in this order; `sampling::decode` reads them so.
    fn set_sample_content(&self, attr: &mut b::perf_event_attr) {
        let mut content = b::PERF_SAMPLE_IDENTIFIER
            | b::PERF_SAMPLE_TID
            | b::PERF_SAMPLE_TIME
            | b::PERF_SAMPLE_CPU;
        if self.trigger != Trigger::Dummy {
            content |= b::PERF_SAMPLE_IP | b::PERF_SAMPLE_PERIOD;
        }
        match self.stack {
            StackSource::None | StackSource::Tables { .. } => {}
            StackSource::CallChain => content |= b::PERF_SAMPLE_CALLCHAIN,
            StackSource::Copy { bytes } => {
                content |=
                    b::PERF_SAMPLE_CALLCHAIN | b::PERF_SAMPLE_REGS_USER | b::PERF_SAMPLE_STACK_USER;
                attr.set_exclude_callchain_user(1);
                attr.sample_regs_user = arch::PERF_REGISTERS;
                attr.sample_stack_user = bytes;
            }
        }
        if !self.kernel {
            attr.set_exclude_callchain_kernel(1);
        }
        attr.sample_type = u64::from(content);
    }
}

/// Whose activity an event observes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// One thread (and what it starts, if inherited) while it runs on one CPU.
    ThreadOnCpu { tid: u32, cpu: u32 },
    /// Everything on one CPU.
    Cpu(u32),
}

/// An open event.
#[derive(Debug)]
pub struct Event {
    fd: OwnedFd,
    id: u64,
}

impl Event {
    /// Opens the event, disabled.
    pub fn open(spec: &EventSpec, observed: Observed) -> io::Result<Event> {
        let (pid, cpu) = match observed {
            Observed::ThreadOnCpu { tid, cpu } => (tid as i32, cpu as i32),
            Observed::Cpu(cpu) => (-1, cpu as i32),
        };
        let mut attr = spec.attr();
        let flags = u64::from(b::PERF_FLAG_FD_CLOEXEC);
        // SAFETY: `attr` is an initialized `perf_event_attr` that states its own size; the call reads it and, on a size
        // mismatch, writes its `size` field.
        let raw = unsafe { pe::perf_event_open(&mut attr, pid, cpu, -1, flags as _) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let mut id = 0u64;
        // SAFETY: `fd` is a perf event; `PERF_EVENT_IOC_ID` writes one u64 through the pointer.
        check(unsafe { pe::ioctls::ID(fd.as_raw_fd(), &mut id) })?;
        Ok(Event { fd, id })
    }

    /// The kernel's number of the event, as `PERF_SAMPLE_IDENTIFIER` reports it.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn enable(&self) -> io::Result<()> {
        // SAFETY: `fd` is a perf event; the argument 0 means this event alone.
        check(unsafe { pe::ioctls::ENABLE(self.fd.as_raw_fd(), 0) })
    }

    pub fn disable(&self) -> io::Result<()> {
        // SAFETY: `fd` is a perf event; the argument 0 means this event alone.
        check(unsafe { pe::ioctls::DISABLE(self.fd.as_raw_fd(), 0) })
    }

    /// Sends this event's records to the ring of `other`, which must observe the same CPU.
    pub fn redirect_to(&self, other: &Event) -> io::Result<()> {
        let target = other.fd.as_raw_fd();
        // SAFETY: both descriptors are perf events and stay open during the call.
        check(unsafe { pe::ioctls::SET_OUTPUT(self.fd.as_raw_fd(), target as _) })
    }

    /// The event's count: nanoseconds on the CPU for [`Trigger::CpuClock`], children included when inherited.
    pub fn count(&self) -> io::Result<u64> {
        let mut value = [0u8; 8];
        let read = nix::unistd::read(&self.fd, &mut value)?;
        if read != value.len() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        Ok(u64::from_ne_bytes(value))
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn check(result: std::ffi::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
