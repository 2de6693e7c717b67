// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 OR MIT
/*
 * Ticks of the sampling event, and following the target through fork, exec and exit.
 *
 * on_tick runs in the interrupted context (perf_event). It decides whether the tick hit the target, takes the kernel
 * stack, walks the user stack by tables or by frame pointers, and emits one record: a tick of the target always yields a
 * record or a count.
 */
#include "kernel.h"
#include "abi.h"
#include "unwind.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Set by user space before loading. */
const volatile __u32 target_mode = TARGET_PIDS;
/* Inode number of the profiler's PID namespace; 0 when it is the initial one, where no translation is needed. */
const volatile __u32 pid_namespace_inum = 0;
const volatile char target_name[16] = {};
/* Wake the reader when this much is waiting; it also looks by itself several times a second. */
const volatile __u32 wakeup_bytes = 256 * 1024;
const volatile bool kernel_stacks = true;
/* Walk user stacks by tables (unwind.bpf.h), not by frame pointers alone. */
const volatile bool by_tables = false;
/* Threads have books (sched.bpf.h). */
const volatile bool keeps_books = false;

/* PIDs of the target -> 1. User space adds those alive at attach, on_fork their children; on_free removes. When full,
 * a child is not followed and its ticks are missing from the samples, though not from the kernel's accounting. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u8);
} targets SEC(".maps");

/* Records to user space, in order. When full, records are counted as lost. Size set at load. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 * 1024 * 1024);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counts SEC(".maps");

struct ids {
	__u32 pid;
	__u32 tid;
};

struct ending_thread {
	struct ids ids;
	/* The last one of its process. */
	bool last;
};

/* Threads of the target between their exit and their end: address of the task -> who it was. on_exit writes, on_free
 * reads and removes; a zombie stays as long as its parent lets it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct ending_thread);
} ending SEC(".maps");

static __always_inline struct ids ids_of(struct task_struct *task)
{
	struct ids ids;

	if (pid_namespace_inum == 0) {
		ids.pid = BPF_CORE_READ(task, tgid);
		ids.tid = BPF_CORE_READ(task, pid);
		return ids;
	}
	ids.pid = pid_in_namespace(BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]), pid_namespace_inum);
	ids.tid = pid_in_namespace(BPF_CORE_READ(task, thread_pid), pid_namespace_inum);
	return ids;
}

/* The same of the running task, which the kernel tells without reading the task where no translation is needed. */
static __always_inline struct ids current_ids(struct task_struct *task)
{
	__u64 both = bpf_get_current_pid_tgid();

	if (pid_namespace_inum != 0)
		return ids_of(task);
	return (struct ids){ .pid = both >> 32, .tid = (__u32)both };
}

static __always_inline bool has_target_name(struct task_struct *task)
{
	char comm[16];
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	if (bpf_core_read(&comm, sizeof(comm), &leader->comm))
		return false;
	for (int i = 0; i < 16; i++) {
		if (comm[i] != target_name[i])
			return false;
		if (comm[i] == 0)
			break;
	}
	return true;
}

static __always_inline bool is_target(struct task_struct *task, __u32 pid)
{
	switch (target_mode) {
	case TARGET_ALL:
		/* 0 is what the profiler's PID namespace does not show. */
		return pid != 0;
	case TARGET_NAME:
		return has_target_name(task);
	default:
		return pid && bpf_map_lookup_elem(&targets, &pid);
	}
}

static __always_inline __u64 wakeup_flag(void)
{
	__u64 waiting = bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA);

	return waiting >= wakeup_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* The registers the running thread's user code had as it entered the kernel. */
static __always_inline bool take_saved_registers(struct walker *w)
{
	/* The layout is the one ptrace(2) shows and cannot change; the kernel's names for the members are others. They would
	 * take a third of a program's stack; the window is free until the walk begins. */
	struct pt_regs *saved = (struct pt_regs *)w->window;

	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return false;
	if (bpf_probe_read_kernel(saved, sizeof(*saved), (void *)bpf_task_pt_regs(bpf_get_current_task_btf())))
		return false;
	TAKE_REGISTERS(w, saved);
	return saved->rip != 0 && saved->cs == USER_CS;
}

/* Of these, of any thread, what tells what it asked the kernel for. */
static __always_inline void read_entry(struct task_struct *task, struct entry_registers *entry)
{
	FILL_ENTRY(entry, bpf_task_pt_regs(task));
}

/* The registers user code had, also when the tick hit the kernel on its behalf. */
static __always_inline bool take_user_registers(struct bpf_perf_event_data *ctx, struct walker *w)
{
	if (!(ctx->regs.cs & 3))
		return take_saved_registers(w);
	TAKE_REGISTERS(w, &ctx->regs);
	return ctx->regs.cs == USER_CS;
}

/*
 * Follows saved frame pointers; `frames` has room for MAX_USER_FRAMES. A zero frame pointer ends the chain
 * but proves nothing: code that uses rbp for other things may hold a zero. User space decides, by the function the
 * chain ended in, whether it was a thread's first.
 */
static __always_inline __u32 walk_frame_pointers(struct walker *w, __u64 *frames, __u8 *end)
{
	__u64 bp = w->bp, sp = w->sp;
	__u32 n = 1;

	frames[0] = w->ip;
	for (__u32 i = 1; i < MAX_USER_FRAMES; i++) {
		__u64 saved[2]; /* caller's frame pointer, return address */

		if (bp == 0) {
			*end = END_FRAME_POINTER_LOST;
			return n;
		}
		if (bp < sp || (bp & 7)) {
			*end = END_BAD_FRAME;
			return n;
		}
		if (bpf_probe_read_user(saved, sizeof(saved), (void *)bp)) {
			*end = END_UNREADABLE_STACK;
			return n;
		}
		if (saved[1] == 0) {
			*end = END_FRAME_POINTER_LOST;
			return n;
		}
		frames[i] = saved[1];
		n = i + 1;
		sp = bp + 16;
		bp = saved[0];
	}
	*end = END_TOO_DEEP;
	return n;
}

static __always_inline __u32 kernel_stack(struct bpf_perf_event_data *ctx, __u64 *frames)
{
	/* A tick in user code has no kernel frames; asking for them costs 0.1 µs all the same. */
	if (!kernel_stacks || (ctx->regs.cs & 3))
		return 0;
	long bytes = bpf_get_stack(ctx, frames, MAX_KERNEL_FRAMES * sizeof(__u64), 0);

	return bytes > 0 ? bytes / sizeof(__u64) : 0;
}

/* Pages that a copy may have: many samples in a row may need one, and none must be lost because the ring is full. Stacks of
 * waits give way to ticks early. */
static __always_inline __u32 pages_to_copy(__u32 kind)
{
	__u64 used = bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA), ring = bpf_ringbuf_query(&records, BPF_RB_RING_SIZE);

	if (kind != RECORD_SAMPLE)
		return used < ring / 64 ? SMALL_COPY_PAGES : 0;
	if (used < ring / 2)
		return COPY_PAGES;
	return used < ring / 8 * 7 ? SMALL_COPY_PAGES : 0;
}

/* Copies registers and stack behind `at` frames, page by page until memory ends; answers how many words of stack. */
static __always_inline __u32 copy_stack(struct walker *w, __u32 at)
{
	__u64 *to = &w->frames[at & (RECORD_FRAMES - 1)], from = w->leaf[DWARF_RSP];
	__u32 words = 0, pages = pages_to_copy(w->sample.head.kind);

	if (pages == 0)
		return 0;
	for (int i = 0; i < LEAF_REGISTERS; i++)
		to[i] = w->leaf[i];
	to[LEAF_REGISTERS] = w->leaf_ip;
	to += COPY_REGISTERS;
	for (int i = 0; i < COPY_PAGES; i++, words += COPY_PAGE_WORDS, from += COPY_PAGE_BYTES) {
		if (i >= pages)
			break;
		if (!bpf_probe_read_user(&to[i * COPY_PAGE_WORDS], COPY_PAGE_BYTES, (void *)from))
			continue;
		/* A read over the end of the mapping fails as a whole. */
		__u64 rest = (COPY_PAGE_BYTES - (from & (COPY_PAGE_BYTES - 1))) & (COPY_PAGE_BYTES - 8);

		if (!bpf_probe_read_user(&to[i * COPY_PAGE_WORDS], rest, (void *)from))
			words += rest / 8;
		break;
	}
	return words;
}

/* Whether user space can do better: it knows by now what was new, and every rule. For stacks of waits a table that had to
 * give way is not worth it. */
static __always_inline bool needs_copy(__u32 kind, __u8 end)
{
	if (kind != RECORD_SAMPLE && end == END_TABLE_EVICTED)
		return false;
	return end == END_UNKNOWN_MAPPING || end == END_UNSUPPORTED_RULE || is_passing(end);
}

/* Walks the user's part of the stack behind `n` kernel frames, by the best means there are for the process. */
static __always_inline void walk_user(struct walker *w, __u32 key, __u32 pid, __u32 n, struct counters *count)
{
	struct sample_record *sample = &w->sample;
	struct address_space *space = by_tables ? bpf_map_lookup_elem(&address_spaces, &pid) : NULL;

	if (!space && by_tables)
		sample->copied_words = copy_stack(w, n);
	if (!space) {
		if (!sample->copied_words)
			sample->user_frames = walk_frame_pointers(w, &w->frames[n], &sample->end);
		if (by_tables)
			sample->end = END_WARMING;
		count->copies += sample->copied_words != 0;
		return;
	}
	w->space = *space;
	sample->space = space->id;
	w->first = n;
	w->frames[n] = w->ip;
	w->filled = n + 1;
	walk_tables(w, key);
	n = w->filled - n;
	sample->user_frames = n < MAX_USER_FRAMES ? n : MAX_USER_FRAMES;
	if (needs_copy(sample->head.kind, sample->end)) {
		sample->copied_words = copy_stack(w, w->first + sample->user_frames);
		count->copies += sample->copied_words != 0;
	}
	count->walks++;
	count->frames += n;
	count->reads += w->reads;
	count->cache_hits += w->hits;
	count->cache_misses += w->misses;
}

/* Makes a record ready to be filled. */
static __always_inline void clear_sample(struct walker *w, __u32 kind, struct ids ids, __u32 cpu, __u64 now)
{
	struct sample_record *sample = &w->sample;

	sample->head.kind = kind;
	sample->head.cpu = cpu;
	sample->head.time_ns = now;
	sample->head.pid = ids.pid;
	sample->head.tid = ids.tid;
	sample->end = END_ROOT;
	sample->bridged = 0;
	sample->copied_words = 0;
	sample->space = 0;
	sample->scale = 0;
	sample->user_frames = 0;
}

/* Sends the record with its frames and what was copied; false: there was no room. */
static __always_inline bool send_sample(struct walker *w)
{
	struct sample_record *sample = &w->sample;
	__u32 n = sample->kernel_frames + sample->user_frames;

	if (sample->copied_words)
		n += COPY_REGISTERS + sample->copied_words;
	n &= RECORD_WORDS_MASK;
	return !bpf_ringbuf_output(&records, w, sizeof(*sample) + n * sizeof(__u64), wakeup_flag());
}

SEC("perf_event")
int on_tick(struct bpf_perf_event_data *ctx)
{
	/* What is not the target is sent away first: nearly all ticks are of others. */
	if ((__u32)bpf_get_current_pid_tgid() == 0 /* idle */)
		return 0;
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct ids ids = current_ids(task);

	if (!is_target(task, ids.pid))
		return 0;
	__u32 zero = 0, cpu = bpf_get_smp_processor_id(), n;
	struct counters *count = bpf_map_lookup_elem(&counts, &zero);
	struct walker *w = bpf_map_lookup_elem(&walkers, &cpu);

	if (!count || !w)
		return 0;
	count->ticks++;

	struct sample_record *sample = &w->sample;

	clear_sample(w, RECORD_SAMPLE, ids, cpu, bpf_ktime_get_ns());
	sample->period = ctx->sample_period;
	/* Verifier: the mask keeps the bound of an index it has lost sight of. */
	n = kernel_stack(ctx, w->frames) & MAX_KERNEL_FRAMES;
	sample->kernel_frames = n;

	/* A tick in user code needs no proof that there is some. */
	if ((ctx->regs.cs & 3) || (!(BPF_CORE_READ(task, flags) & PF_KTHREAD) && BPF_CORE_READ(task, mm))) {
		if (take_user_registers(ctx, w))
			walk_user(w, cpu, ids.pid, n, count);
		else
			sample->end = END_NO_REGISTERS;
	}

	if (!send_sample(w))
		count->lost++;
	return 0;
}

/*
 * Lets perf write its own record (with a stack copy) for ticks of the target only: a program that returns 0 drops the
 * sample.
 */
SEC("perf_event")
int filter_tick(struct bpf_perf_event_data *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u32 zero = 0;
	struct counters *count = bpf_map_lookup_elem(&counts, &zero);

	if ((__u32)bpf_get_current_pid_tgid() == 0 /* idle */ || !is_target(task, ids_of(task).pid))
		return 0;
	if (count)
		count->ticks++;
	return 1;
}

#include "sched.bpf.h"

/* Children of a target are targets, and begin with their parent's mappings. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct ids from = ids_of(parent), to = ids_of(child);
	__u8 one = 1;

	if (!to.pid || to.pid == from.pid)
		return 0;
	if (target_mode == TARGET_PIDS && bpf_map_lookup_elem(&targets, &from.pid))
		bpf_map_update_elem(&targets, &to.pid, &one, BPF_ANY);
	struct address_space *space = bpf_map_lookup_elem(&address_spaces, &from.pid);

	if (space)
		bpf_map_update_elem(&address_spaces, &to.pid, space, BPF_ANY);
	return 0;
}

/* A new program has other mappings; they are sent once user space has seen them. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
	__u32 pid = ids_of(task).pid;

	bpf_map_delete_elem(&address_spaces, &pid);
	return 0;
}

/* Says how much CPU time a thread of the target used, which nobody can ask once it is gone. */
static __always_inline void emit_cpu_time(struct task_struct *task, struct ids ids, __u32 kind)
{
	__u32 zero = 0;
	struct exit_record record = {
		.head = {
			.kind = kind,
			.cpu = bpf_get_smp_processor_id(),
			.time_ns = bpf_ktime_get_ns(),
			.pid = ids.pid,
			.tid = ids.tid,
		},
		.cpu_ns = BPF_CORE_READ(task, se.sum_exec_runtime),
		.book = keeps_books ? place_of(task) : 0,
	};
	struct counters *count = bpf_map_lookup_elem(&counts, &zero);

	if (bpf_ringbuf_output(&records, &record, sizeof(record), wakeup_flag()) && count)
		count->exits_lost++;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct ending_thread thread = { .ids = ids_of(task) };
	__u64 key = (__u64)task;

	if (!is_target(task, thread.ids.pid))
		return 0;
	/* The count of living threads has been lowered already: the last one sees zero. */
	thread.last = BPF_CORE_READ(task, signal, live.counter) == 0;
	/* When the map is full the count at the exit stays the last word. */
	bpf_map_update_elem(&ending, &key, &thread, BPF_ANY);
	emit_cpu_time(task, thread.ids, RECORD_EXIT);
	return 0;
}

/*
 * A grace period after a thread was reaped: all it used has been counted. Its process stays a target up to here, because
 * tearing down its memory, after on_exit, takes CPU time, too.
 */
SEC("tp_btf/sched_process_free")
int BPF_PROG(on_free, struct task_struct *task)
{
	__u64 key = (__u64)task;
	struct ending_thread *thread = bpf_map_lookup_elem(&ending, &key);

	if (!thread)
		return 0;
	emit_cpu_time(task, thread->ids, RECORD_FREE);
	if (thread->last) {
		bpf_map_delete_elem(&targets, &thread->ids.pid);
		bpf_map_delete_elem(&address_spaces, &thread->ids.pid);
	}
	bpf_map_delete_elem(&ending, &key);
	return 0;
}
