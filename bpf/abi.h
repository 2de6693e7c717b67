/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 OR MIT */
/*
 * What crosses between the BPF programs and user space: record layouts, limits, outcome codes. The mirror is
 * src/sys/abi.rs; both sides assert the same sizes and offsets.
 */
#ifndef PERFPROF_ABI_H
#define PERFPROF_ABI_H

/* User frames a stack can hold. 512 is what the deepest service stacks seen by peers' users need (PL interpreters). */
#define MAX_USER_FRAMES 512
/* Kernel frames: the default and usual maximum of kernel.perf_event_max_stack. */
#define MAX_KERNEL_FRAMES 127

/* How a stack ended; the numbers are those of `Why` in src/profile/end.rs. */
enum stack_end {
	END_ROOT = 0,
	END_TOO_DEEP = 1,
	END_NO_UNWIND_INFO = 3,
	END_UNREADABLE_STACK = 4,
	END_UNKNOWN_MAPPING = 5,
	END_JIT = 6,
	END_BAD_FRAME = 7,
	END_NO_REGISTERS = 8,
	END_FRAME_POINTER_LOST = 9,
	END_BINARY_UNREADABLE = 10,
	END_WARMING = 12,
	END_TABLE_EVICTED = 13,
	END_BRIDGED = 14,
	END_UNSUPPORTED_RULE = 15,
};

enum record_kind {
	RECORD_SAMPLE = 1,
	RECORD_EXIT = 2,
	RECORD_FREE = 3,
	RECORD_WAIT_STACK = 4,
	RECORD_WAIT = 5,
	RECORD_WAKER = 6,
	RECORD_THROTTLED = 7,
	RECORD_WAITING = 8,
};

/* Whom a tick must hit to be recorded. */
enum target_mode {
	TARGET_ALL = 0,
	TARGET_PIDS = 1,
	TARGET_NAME = 2,
};

/* Every record begins so. PIDs are those of the profiler's PID namespace; time is CLOCK_MONOTONIC. */
struct record_head {
	__u32 kind;
	__u32 cpu;
	__u64 time_ns;
	__u32 pid;
	__u32 tid;
};

/* What is copied of a stack at most, where it has to be walked in user space; the unit is what is read at once. */
#define COPY_PAGES 8
/* The same while many samples wait to be read. */
#define SMALL_COPY_PAGES 2
#define COPY_PAGE_BYTES 4096
/* Registers before such a copy, by DWARF number (psABI, figure 3.36): rax rdx rcx rbx rsi rdi rbp rsp r8 to r15, rip. */
#define COPY_REGISTERS 17

/*
 * One tick. `kernel_frames` addresses follow, leaf first, then `user_frames` more. The first of each is exact, the
 * others are return addresses; what a signal interrupted is exact, too, and sent as its address plus one, so that
 * "minus one" holds for all but the first. Then, if `copied_words` is not 0, COPY_REGISTERS registers and so many words of
 * the stack from the stack pointer up: the walk could not go on in the kernel for the reason in `end`.
 */
struct sample_record {
	struct record_head head;
	__u64 period;
	__u16 kernel_frames;
	__u16 user_frames;
	__u8 end;
	/* Code without rows was crossed by frame pointers, which may have skipped callers: no root proves completeness. */
	__u8 bridged;
	/* Whole pages mean that the copy was cut. */
	__u16 copied_words;
	/* The id of the address space it was walked by; 0 where there was none. */
	__u32 space;
	/* RECORD_WAIT_STACK: how many waits this one stands for, times SCALE_ONE. */
	__u32 scale;
};

#define SCALE_ONE 256

/*
 * RECORD_WAIT_STACK is a sample_record whose `period` is the number of the wait that begins: the thread has left its CPU
 * with this stack. RECORD_WAKER is another, of the thread that ends the wait of that number. RECORD_WAITING is one of a
 * thread that waited already when its book was opened: after its kernel frames stand COPY_REGISTERS registers, and user
 * space reads the stack as long as it waits. RECORD_THROTTLED is a record_head: the thread was stopped by its cgroup's
 * quota.
 */

/*
 * RECORD_EXIT: a thread of the target is ending, having used at least `cpu_ns` since it began: the scheduler has not
 * yet counted what it used since it last switched. RECORD_FREE: it is gone, and `cpu_ns` is final.
 */
struct exit_record {
	struct record_head head;
	__u64 cpu_ns;
	/* One more than its place among the `books`; 0 where it has none. */
	__u32 book;
	__u32 pad;
};

/*
 * Why a thread that is not runnable waits. The numbers are those of `Cause` in src/profile/waits.rs. CAUSE_BY_FD, in
 * cause_of_syscall only, leaves it to the file that the system call is about.
 */
enum wait_cause {
	CAUSE_OTHER = 0,
	CAUSE_FUTEX = 1,
	CAUSE_DISK = 2,
	CAUSE_NETWORK = 3,
	CAUSE_PIPE = 4,
	CAUSE_POLL = 5,
	CAUSE_SLEEP = 6,
	CAUSE_PAGE_FAULT = 7,
	CAUSE_CHILD = 8,
	CAUSE_STOPPED = 9,
	CAUSES = 10,
	CAUSE_BY_FD = 255,
};

/* System calls with a cause of their own are numbered below this. */
#define SYSCALLS 512

/*
 * RECORD_WAIT: a wait whose stack was sent has ended, and the thread is on a CPU again. What it waited while it was not
 * runnable, for `cause`; then while it was runnable and another had the CPU; then while its cgroup's quota was used up.
 */
struct wait_record {
	struct record_head head;
	__u64 wait;
	__u64 blocked_ns;
	__u64 runnable_ns;
	__u64 throttled_ns;
	__u32 cause;
	__u32 scale;
};

/* What tells whether a runnable thread is stopped by its cgroup's quota. */
enum throttle_source {
	THROTTLE_UNKNOWN = 0,
	THROTTLE_BY_TASK = 1,
	THROTTLE_BY_QUEUE = 2,
};

enum thread_state {
	STATE_UNKNOWN = 0,
	STATE_ON_CPU = 1,
	STATE_RUNNABLE = 2,
	STATE_BLOCKED = 3,
	STATE_ENDED = 4,
};

/* Where a thread waits, as far as can be told without walking its stack; and what to expect of a wait there. */
struct wait_site {
	__u32 tag;
	/* Mean length so far, recent ones count more; nanoseconds. */
	__u32 expected_ns;
	__u8 cause;
	/* Waits until the cause is looked up again. */
	__u8 fresh;
	__u16 pad;
};

/* Sites that a thread remembers. */
#define SITES 8

/*
 * A thread's time, in which state. Written by the CPU that it leaves or comes to, one at a time, and read by user space
 * while that goes on: `version` is odd during a change.
 */
struct thread_book {
	__u32 version;
	__u32 pid;
	__u32 tid;
	__u32 state;
	/* Since when it is in this state; when it was last woken. CLOCK_MONOTONIC. */
	__u64 since_ns;
	__u64 woken_ns;
	/* The cgroup's queue as it left the CPU, and how long that had been throttled by then. */
	__u64 queue;
	__u64 throttle_clock_ns;
	/* And how long it had been runnable without a CPU in its life, by the scheduler. */
	__u64 run_delay_ns;
	/* Number of the wait that it is in or was in last. */
	__u32 waits;
	/* How many waits the stack of this one stands for, times SCALE_ONE; 0: none was taken. */
	__u32 scale;
	__u8 cause;
	__u8 site;
	/* It has not been on a CPU since the book was opened: no stack could be taken of this wait. */
	__u8 from_before;
	__u8 pad;
	__u32 runnable_count;
	__u64 began_ns;
	__u64 on_cpu_ns;
	__u64 runnable_ns;
	__u64 throttled_ns;
	/* Of blocked_ns, what was waited since before the book was opened. */
	__u64 from_before_ns;
	__u64 blocked_ns[CAUSES];
	__u32 blocked_count[CAUSES];
	struct wait_site sites[SITES];
};

/* Threads that can have a book at a time. */
#define MAX_BOOKS 16384

/* What a CPU has counted so far. */
struct counters {
	/* Ticks that hit the target. */
	__u64 ticks;
	/* Of these, not delivered because the ring was full. */
	__u64 lost;
	/* Exit records not delivered. */
	__u64 exits_lost;
	/* Stacks walked by tables, their user frames, reads of user memory, and look-ups answered by the cache or not. */
	__u64 walks;
	__u64 frames;
	__u64 reads;
	__u64 cache_hits;
	__u64 cache_misses;
	/* Stacks copied to be walked in user space. */
	__u64 copies;
	/* Stacks taken of threads that left a CPU, and of those that woke them; records of waits that were lost; threads
	 * that got no book. */
	__u64 wait_stacks;
	__u64 waker_stacks;
	/* Wake-ups of the target's threads, while on_waking is attached. */
	__u64 wakings;
	__u64 waits_lost;
	__u64 without_book;
};

/*
 * Unwind tables. Everything but `tables` stands in a heap of 4-byte words, made of chunks that user space adds as it
 * needs them and writes through mmap. A place in the heap is a word number; nothing crosses a chunk's end.
 */
#define CHUNK_SHIFT 18
#define CHUNK_WORDS (1u << CHUNK_SHIFT)
/* Binaries that can have a table at a time; as many as are kept open. */
#define MAX_TABLES 16384
/* Processes with known mappings at a time. */
#define MAX_ADDRESS_SPACES 32768
/* Executable mappings of one process. */
#define MAX_SPANS 16384

/* Where the CFA is; the numbers are those of `CfaKind` in src/unwind/row.rs, which says what each means. */
enum cfa_kind {
	CFA_NO_RULE = 0,
	CFA_ROOT = 1,
	CFA_RSP = 2,
	CFA_RBP = 3,
	CFA_R10 = 4,
	CFA_DEREF_RBP = 5,
	CFA_DEREF_RSP = 6,
	CFA_PLT = 7,
	CFA_SIGNAL = 8,
	CFA_LEAF_REGISTER = 9,
	CFA_UNSUPPORTED = 10,
	CFA_OTHER_STACK = 11,
	/* In no table. Remembered where an address was laid down as where to return to; `aux` is the stack_end. */
	CFA_LAID_DOWN = 12,
};

/* What the caller's RBP is; `RbpKind` in src/unwind/row.rs. */
enum rbp_kind {
	RBP_SAME = 0,
	RBP_AT_CFA = 1,
	RBP_AT_RBP = 2,
	RBP_UNDEFINED = 3,
};

/*
 * How to get to the caller. What a CPU remembers of a rule has in the upper bits of `rbp` the round of its address space.
 * For RSP, RBP and R10 `aux` is the upper half of the offset. Where there is no rule, what is remembered has the
 * stack_end that says why in `aux`.
 */
struct unwind_rule {
	__u8 cfa;
	__u8 rbp;
	__s16 rbp_offset;
	__s16 cfa_offset;
	__s16 aux;
};

/* The rule that holds from pc_low, the low 16 bits of an ELF address, up to the next row of the page. */
struct unwind_row {
	__u16 pc_low;
	__u16 rule;
};

/*
 * A page of so many rows has an index: before its first row stands for each bucket of 256 addresses, in 16 bits, how many
 * rows lie before it. What costs in a search is each line of memory that is not in a cache.
 */
#define INDEXED_ROWS 17
#define PAGE_BUCKETS 256
#define INDEX_WORDS (PAGE_BUCKETS / 2)

/* 64 KiB of a binary's address space. The first row covers the page's beginning; addresses below it have no rule. */
struct unwind_page {
	__u32 rows_at;
	__u32 rows;
};

/* A binary's table: pages from `first_page` (ELF address >> 16) on, and its dictionary of rules. */
struct unwind_table {
	__u32 first_page;
	__u32 pages;
	__u32 pages_at;
	__u32 rules_at;
	/* A stack_end: why there are no rules where there are none. */
	__u32 without;
};

/* An executable mapping; those of an address space are sorted and do not overlap. bias = address - ELF address. */
struct unwind_span {
	__u64 start;
	__u64 end;
	__u64 bias;
	__u32 table;
	__u32 pad;
};

/* The mappings of a process. Never changed in place: other mappings are another address space with another id. */
struct address_space {
	/*
	 * What was remembered under another id is not meant. The low 17 bits are never 0: they share a word with an address
	 * in the cache's keys. The next 6 are the round, how often those were used up.
	 */
	__u32 id;
	__u32 spans;
	__u32 spans_at;
};

_Static_assert(sizeof(struct record_head) == 24, "abi");
_Static_assert(sizeof(struct sample_record) == 48, "abi");
_Static_assert(__builtin_offsetof(struct sample_record, end) == 36, "abi");
_Static_assert(sizeof(struct exit_record) == 40, "abi");
_Static_assert(sizeof(struct counters) == 112, "abi");
_Static_assert(sizeof(struct wait_record) == 64, "abi");
_Static_assert(sizeof(struct wait_site) == 12, "abi");
_Static_assert(sizeof(struct thread_book) == 328, "abi");
_Static_assert(__builtin_offsetof(struct thread_book, began_ns) == 72, "abi");
_Static_assert(__builtin_offsetof(struct thread_book, blocked_ns) == 112, "abi");
_Static_assert(__builtin_offsetof(struct sample_record, bridged) == 37, "abi");
_Static_assert(__builtin_offsetof(struct sample_record, copied_words) == 38, "abi");
_Static_assert(sizeof(struct unwind_rule) == 8, "abi");
_Static_assert(sizeof(struct unwind_row) == 4, "abi");
_Static_assert(sizeof(struct unwind_page) == 8, "abi");
_Static_assert(sizeof(struct unwind_table) == 20, "abi");
_Static_assert(sizeof(struct unwind_span) == 32, "abi");
_Static_assert(sizeof(struct address_space) == 12, "abi");

#endif
