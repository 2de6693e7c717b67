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
	END_UNREADABLE_STACK = 4,
	END_BAD_FRAME = 7,
	END_NO_REGISTERS = 8,
	END_FRAME_POINTER_LOST = 9,
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

/* One tick. `kernel_frames` addresses follow, leaf first, then `user_frames` more. */
struct sample_record {
	struct record_head head;
	__u64 period;
	__u16 kernel_frames;
	__u16 user_frames;
	__u8 end;
	__u8 pad[3];
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
};

_Static_assert(sizeof(struct record_head) == 24, "abi");
_Static_assert(sizeof(struct sample_record) == 40, "abi");
_Static_assert(__builtin_offsetof(struct sample_record, end) == 36, "abi");
_Static_assert(sizeof(struct exit_record) == 32, "abi");
_Static_assert(sizeof(struct counters) == 24, "abi");

#endif
