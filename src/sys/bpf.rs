//! Loading and running the BPF programs.
//!
//! In: load-time constants and the PIDs to follow. Out: records, as the bytes `bpf/abi.h` describes, and counters.
//! Nothing is attached before [`BpfPrograms::follow`] and [`BpfPrograms::attach_tick`], in this order, so that
//! attaching is not profiled.

use std::cell::RefCell;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Mutex;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{
    ErrorKind, Iter, Link, MapCore, MapFlags, OpenObject, PrintLevel, RingBuffer, RingBufferBuilder,
};
use zerocopy::FromBytes;

use super::abi::{Counters, MAX_BOOKS, SYSCALLS, TargetMode};
use super::books::BookMaps;
use super::perf::Event;
use super::skel::{OpenSampleSkel, SampleSkel, SampleSkelBuilder};
use super::unwind_maps::{self, UnwindMaps};

/// Whether a program at a tick in kernel code can get at the user's registers (`bpf_task_pt_regs`, kernel 5.15); `None`
/// when it is not permitted to ask.
pub fn shows_user_registers() -> Option<bool> {
    use libbpf_rs::libbpf_sys::{
        BPF_FUNC_task_pt_regs, BPF_PROG_TYPE_PERF_EVENT, libbpf_probe_bpf_helper,
    };
    // SAFETY: loads a program of two instructions and drops it again; no options are given.
    let answer = unsafe {
        libbpf_probe_bpf_helper(
            BPF_PROG_TYPE_PERF_EVENT,
            BPF_FUNC_task_pt_regs,
            std::ptr::null(),
        )
    };
    (answer >= 0).then_some(answer == 1)
}

/// Load-time constants of `bpf/sample.bpf.c`.
#[derive(Clone, Debug)]
pub struct BpfConfig {
    pub target: TargetMode,
    /// Command name for [`TargetMode::Name`].
    pub target_name: String,
    /// Inode number of our PID namespace; 0 when it is the initial one.
    pub pid_namespace_inum: u32,
    pub kernel_stacks: bool,
    /// A power of two.
    pub ring_bytes: u32,
    /// Walk user stacks by tables, which may take this much memory; 0: by frame pointers.
    pub table_bytes: u64,
    /// Keep books of what threads do off the CPU: the cause that each system call waits for, by its number. `None`: none
    /// are kept.
    pub waits: Option<Box<[u8; SYSCALLS]>>,
}

/// Records received and not yet read: for each its length as four bytes, then its bytes.
type Inbox = Rc<RefCell<Vec<u8>>>;

/// The loaded programs. Detached and unloaded when dropped.
pub struct BpfPrograms {
    ring: RingBuffer<'static>,
    inbox: Inbox,
    links: Vec<Link>,
    /// While it is there, wakers are asked.
    waking: Option<Link>,
    skel: SampleSkel<'static>,
    /// While open, the kernel keeps run-time statistics of BPF programs.
    _statistics: Option<OwnedFd>,
}

impl std::fmt::Debug for BpfPrograms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BpfPrograms")
            .field("links", &self.links.len())
            .finish_non_exhaustive()
    }
}

/// Time spent in the programs and how often they ran.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunStatistics {
    pub run_ns: u64,
    pub runs: u64,
}

impl BpfPrograms {
    /// Opens, configures and loads; the error is libbpf's, with the verifier's words when it refused.
    pub fn load(config: &BpfConfig) -> libbpf_rs::Result<BpfPrograms> {
        libbpf_rs::set_print(Some((PrintLevel::Warn, keep_message)));
        // One small allocation per recording lives as long as the process: the skeleton borrows it.
        let storage: &'static mut MaybeUninit<OpenObject> =
            Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = SampleSkelBuilder::default().open(storage)?;
        let cpus = libbpf_rs::num_possible_cpus()? as u32;
        if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
            rodata.target_mode = config.target as u32;
            rodata.pid_namespace_inum = config.pid_namespace_inum;
            rodata.kernel_stacks = config.kernel_stacks;
            rodata.wakeup_bytes = config.ring_bytes / 8;
            rodata.by_tables = config.table_bytes > 0;
            rodata.keeps_books = config.waits.is_some();
            rodata.cpus = cpus;
            if let Some(causes) = &config.waits {
                rodata.cause_of_syscall = **causes;
            }
            let name = config
                .target_name
                .bytes()
                .take(rodata.target_name.len() - 1);
            rodata
                .target_name
                .iter_mut()
                .zip(name)
                .for_each(|(to, from)| *to = from as i8);
        }
        open.maps.records.set_max_entries(config.ring_bytes)?;
        // Ticks have walkers of their own, because they interrupt what the scheduler does.
        let walkers = cpus * if config.waits.is_some() { 2 } else { 1 };
        open.maps.walkers.set_max_entries(walkers)?;
        match config.waits {
            Some(_) => open.maps.books.set_max_entries(MAX_BOOKS)?,
            None => leave_out_waits(&mut open)?,
        }
        let chunks = unwind_maps::chunks_within(config.table_bytes);
        open.maps.heap.set_max_entries(chunks.max(1))?;
        if config.table_bytes == 0 {
            open.maps.address_spaces.set_max_entries(1)?;
        }
        let skel = open.load()?;
        let inbox = Inbox::default();
        let sink = inbox.clone();
        let mut builder = RingBufferBuilder::new();
        builder.add(&skel.maps.records, move |record: &[u8]| {
            let mut inbox = sink.borrow_mut();
            inbox.extend_from_slice(&(record.len() as u32).to_ne_bytes());
            inbox.extend_from_slice(record);
            0
        })?;
        let ring = builder.build()?;
        Ok(BpfPrograms {
            ring,
            inbox,
            links: Vec::new(),
            waking: None,
            skel,
            // They cost at each run some 50 ns: nothing for ticks, a fifth of what a switch costs.
            _statistics: match config.waits {
                Some(_) => None,
                None => enable_statistics(),
            },
        })
    }

    /// The maps that unwind tables go into.
    pub fn unwind_maps(&self) -> libbpf_rs::Result<UnwindMaps> {
        let maps = &self.skel.maps;
        UnwindMaps::open(&maps.heap, &maps.tables, &maps.address_spaces)
    }

    /// Where the books are kept, if they are.
    pub fn book_maps(&self) -> libbpf_rs::Result<BookMaps> {
        BookMaps::open(&self.skel.maps.books, &self.skel.maps.free_books)
    }

    /// Attaches the programs that keep books, and opens one for every thread that is there.
    pub fn attach_waits(&mut self) -> libbpf_rs::Result<()> {
        let progs = &self.skel.progs;
        self.links.push(progs.on_new_thread.attach()?);
        self.links.push(progs.on_switch.attach()?);
        self.waking = Some(progs.on_waking.attach()?);
        let over_tasks = progs.open_books.attach()?;
        let mut output = Vec::new();
        Iter::new(&over_tasks)?
            .read_to_end(&mut output)
            .map_err(libbpf_rs::Error::from)?;
        Ok(())
    }

    /// Begins or ceases to ask who wakes threads.
    pub fn ask_wakers(&mut self, yes: bool) -> libbpf_rs::Result<()> {
        match (yes, &self.waking) {
            (true, None) => self.waking = Some(self.skel.progs.on_waking.attach()?),
            (false, Some(_)) => self.waking = None,
            _ => {}
        }
        Ok(())
    }

    /// `enum throttle_source`: what tells throttled from runnable on this kernel; known once books are open.
    pub fn throttle_source(&self) -> u32 {
        let bss = self.skel.maps.bss_data.as_deref();
        bss.map_or(0, |bss| bss.throttle_source)
    }

    /// Makes a process part of the target.
    pub fn add_target(&self, pid: u32) -> libbpf_rs::Result<()> {
        self.skel
            .maps
            .targets
            .update(&pid.to_ne_bytes(), &[1], MapFlags::ANY)
    }

    /// Takes a process out of the target; one that is no part of it is no error.
    pub fn remove_target(&self, pid: u32) -> libbpf_rs::Result<()> {
        match self.skel.maps.targets.delete(&pid.to_ne_bytes()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Attaches the programs that follow forks, exits and new programs.
    pub fn follow(&mut self) -> libbpf_rs::Result<()> {
        self.links.push(self.skel.progs.on_exec.attach()?);
        self.links.push(self.skel.progs.on_fork.attach()?);
        self.links.push(self.skel.progs.on_free.attach()?);
        self.links.push(self.skel.progs.on_exit.attach()?);
        Ok(())
    }

    /// Runs the sampling program at each overflow of `event`.
    pub fn attach_tick(&mut self, event: &Event) -> libbpf_rs::Result<()> {
        self.attach_to(event, |skel, fd| skel.progs.on_tick.attach_perf_event(fd))
    }

    /// Drops overflows of `event` that do not hit the target; the others go on to its ring.
    pub fn attach_filter(&mut self, event: &Event) -> libbpf_rs::Result<()> {
        self.attach_to(event, |skel, fd| {
            skel.progs.filter_tick.attach_perf_event(fd)
        })
    }

    fn attach_to(
        &mut self,
        event: &Event,
        attach: impl FnOnce(&SampleSkel, i32) -> libbpf_rs::Result<Link>,
    ) -> libbpf_rs::Result<()> {
        // libbpf closes the descriptor together with the link, so it gets one of its own.
        let own = event
            .as_fd()
            .try_clone_to_owned()
            .map_err(libbpf_rs::Error::from)?;
        let link = attach(&self.skel, own.as_raw_fd())?;
        let _closed_by_libbpf = own.into_raw_fd();
        self.links.push(link);
        Ok(())
    }

    /// Becomes readable when the ring asks to be read.
    pub fn wakeup_fd(&self) -> BorrowedFd<'_> {
        let raw = self.ring.epoll_fd();
        // SAFETY: the ring buffer owns its epoll descriptor and lives as long as the borrow of `self`.
        unsafe { BorrowedFd::borrow_raw(raw) }
    }

    /// Hands every waiting record to `sink`.
    pub fn drain(&self, mut sink: impl FnMut(&[u8])) -> libbpf_rs::Result<()> {
        self.ring.consume()?;
        let mut inbox = self.inbox.borrow_mut();
        let mut rest: &[u8] = &inbox;
        while let Some((len, tail)) = rest.split_first_chunk::<4>() {
            let (record, after) = tail.split_at(u32::from_ne_bytes(*len) as usize);
            sink(record);
            rest = after;
        }
        inbox.clear();
        Ok(())
    }

    /// Counters of all CPUs, added up.
    pub fn counters(&self) -> libbpf_rs::Result<Counters> {
        let per_cpu = self
            .skel
            .maps
            .counts
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)?
            .ok_or_else(|| libbpf_rs::Error::from_raw_os_error(nix::libc::ENOENT))?;
        Ok(per_cpu
            .iter()
            .filter_map(|bytes| Counters::read_from_prefix(bytes).ok())
            .fold(Counters::default(), |sum, (one, _)| Counters {
                ticks: sum.ticks + one.ticks,
                lost: sum.lost + one.lost,
                exits_lost: sum.exits_lost + one.exits_lost,
                walks: sum.walks + one.walks,
                frames: sum.frames + one.frames,
                reads: sum.reads + one.reads,
                cache_hits: sum.cache_hits + one.cache_hits,
                cache_misses: sum.cache_misses + one.cache_misses,
                copies: sum.copies + one.copies,
                wait_stacks: sum.wait_stacks + one.wait_stacks,
                waker_stacks: sum.waker_stacks + one.waker_stacks,
                wakings: sum.wakings + one.wakings,
                waits_lost: sum.waits_lost + one.waits_lost,
                without_book: sum.without_book + one.without_book,
            }))
    }

    /// What the kernel measured of our programs; `None` when it keeps no statistics.
    pub fn run_statistics(&self) -> Option<RunStatistics> {
        self._statistics.as_ref()?;
        let progs = &self.skel.progs;
        let own: Vec<u32> = [
            progs.on_tick.as_fd(),
            progs.filter_tick.as_fd(),
            progs.on_fork.as_fd(),
            progs.on_exec.as_fd(),
            progs.on_exit.as_fd(),
            progs.on_free.as_fd(),
            progs.on_new_thread.as_fd(),
            progs.on_switch.as_fd(),
            progs.on_waking.as_fd(),
        ]
        .into_iter()
        .filter_map(|fd| libbpf_rs::Program::id_from_fd(fd).ok())
        .collect();
        let sum = libbpf_rs::query::ProgInfoIter::default()
            .filter(|info| own.contains(&info.id))
            .fold(RunStatistics::default(), |sum, info| RunStatistics {
                run_ns: sum.run_ns + info.run_time_ns,
                runs: sum.runs + info.run_cnt,
            });
        Some(sum)
    }
}

/// Kernels before 5.11 have no storage that goes with a thread, and where no books are kept they cost nothing.
pub(super) fn leave_out_waits(open: &mut OpenSampleSkel<'_>) -> libbpf_rs::Result<()> {
    open.maps.book_of.set_autocreate(false)?;
    open.maps.free_books.set_autocreate(false)?;
    open.progs.on_switch.set_autoload(false);
    open.progs.on_waking.set_autoload(false);
    open.progs.on_new_thread.set_autoload(false);
    open.progs.open_books.set_autoload(false);
    Ok(())
}

/// What libbpf and the verifier have said since the last call: the detail behind a failed load.
pub fn take_messages() -> String {
    MESSAGES
        .lock()
        .map(|mut kept| std::mem::take(&mut *kept))
        .unwrap_or_default()
}

static MESSAGES: Mutex<String> = Mutex::new(String::new());

/// The verifier's log of a refused program can be megabytes; its end tells.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

pub(super) fn keep_message(_level: PrintLevel, message: String) {
    if let Ok(mut kept) = MESSAGES.lock()
        && kept.len() + message.len() <= MAX_MESSAGE_BYTES
    {
        kept.push_str(&message);
    }
}

/// Asks the kernel (5.8) to measure BPF programs while the descriptor is open.
fn enable_statistics() -> Option<OwnedFd> {
    // SAFETY: the call takes a plain number and returns a new descriptor or a negative error.
    let raw = unsafe {
        libbpf_rs::libbpf_sys::bpf_enable_stats(libbpf_rs::libbpf_sys::BPF_STATS_RUN_TIME)
    };
    // SAFETY: the kernel has just given us this descriptor and nobody else owns it.
    (raw >= 0).then(|| unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Whether a failure to load is a matter of permission.
pub fn is_permission(error: &libbpf_rs::Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied
}
