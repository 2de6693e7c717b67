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
	__u32 pad;
};

/*
 * RECORD_EXIT: a thread of the target is ending, having used at least `cpu_ns` since it began: the scheduler has not
 * yet counted what it used since it last switched. RECORD_FREE: it is gone, and `cpu_ns` is final.
 */
struct exit_record {
	struct record_head head;
	__u64 cpu_ns;
};

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
_Static_assert(sizeof(struct exit_record) == 32, "abi");
_Static_assert(sizeof(struct counters) == 72, "abi");
_Static_assert(__builtin_offsetof(struct sample_record, bridged) == 37, "abi");
_Static_assert(__builtin_offsetof(struct sample_record, copied_words) == 38, "abi");
_Static_assert(sizeof(struct unwind_rule) == 8, "abi");
_Static_assert(sizeof(struct unwind_row) == 4, "abi");
_Static_assert(sizeof(struct unwind_page) == 8, "abi");
_Static_assert(sizeof(struct unwind_table) == 20, "abi");
_Static_assert(sizeof(struct unwind_span) == 32, "abi");
_Static_assert(sizeof(struct address_space) == 12, "abi");

#endif
