/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 OR MIT */
/*
 * What the target's threads do with the time that they are not on a CPU.
 *
 * In: the scheduler's switches and wake-ups. Out: a book for each thread, in which all of its time is added up by state
 * and cause, read by user space through mmap; and for some waits a record with the stack that waits.
 *
 * Time stamps cost some 0.3 µs a switch, a stack ten times as much, so not every wait gets one. How long a wait will be is
 * not known when it begins, and when it ends its stack can no longer be read. So it is chosen by how long a wait at that
 * place is expected to be: with probability 1/scale, which is sent along, so that what is seen stands for what is not,
 * whatever the wait turns out to be (Horvitz and Thompson, 1952). Long waits are chosen always, short ones in proportion to
 * their length; how short is decided per CPU by the number of stacks it may take.
 *
 * A book is written by the CPU that its thread leaves or comes to, interrupts off; only the time of a wake-up by others.
 */
#ifndef PERFPROF_SCHED_BPF_H
#define PERFPROF_SCHED_BPF_H

#include "kernel.h"
#include "abi.h"
#include "unwind.bpf.h"

/* Set by user space before loading. */
const volatile __u8 cause_of_syscall[SYSCALLS] = {};
/* Walkers beyond those of ticks, which can interrupt us: the CPU's number plus this. */
const volatile __u32 cpus = 1;

/* Threads -> one more than the place of their book. Entries go with their threads. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} book_of SEC(".maps");

/* Books by place. We write, user space reads through mmap. Entries set at load. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct thread_book);
} books SEC(".maps");

/* Places of books that were closed and read, put here by user space. When empty, new places are used: the lower half for
 * new threads, CPU by CPU, the upper for those that were there. When these are used up, too, threads have no book and are
 * counted. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, MAX_BOOKS);
	__uint(value_size, sizeof(__u32));
} free_books SEC(".maps");

/* Books opened for threads that were there. */
__u32 books_from_before = 0;
/* What tells throttled from runnable on this kernel: enum throttle_source. */
__u32 throttle_source = THROTTLE_UNKNOWN;

/* Stacks that a CPU may take: in a window of time, about five hundred a second. */
#define WINDOW_NS (32 * 1000 * 1000)
#define STACKS_PER_WINDOW 16
/* Waits expected to be as long as this are chosen always; adapted within these bounds. */
#define SHORTEST_SURE_NS 1000
#define LONGEST_SURE_NS (4u * 1000 * 1000 * 1000)
/* What is expected where nothing is known. */
#define UNKNOWN_WAIT_NS (10 * 1000 * 1000)
/* A stack stands for at most so many waits: one that turns out long must not weigh too much. */
#define MAX_SCALE 4096
/* How often a cause that depends on an open file is believed before it is looked up again. */
#define FRESH_WAITS 255

struct sched_cpu {
	__u64 window_since_ns;
	__u32 stacks;
	/* Waits expected to be as long as this are chosen always; and 2^40 by it, since a division at each switch would cost. */
	__u32 sure_ns;
	__u64 by_sure;
	__u64 random;
	/* Books opened for new threads. */
	__u32 books;
	/* Place of the running thread's book; 0 where it may have one all the same. */
	__u32 running;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sched_cpu);
} sched_cpus SEC(".maps");

static __always_inline struct thread_book *book_at(__u32 place)
{
	__u32 index = place - 1;

	return bpf_map_lookup_elem(&books, &index);
}

/* One more than the place of a thread's book; 0 where it has none. */
static __always_inline __u32 place_of(struct task_struct *task)
{
	__u32 *place = bpf_task_storage_get(&book_of, task, 0, 0);

	return place ? *place : 0;
}

static __always_inline void begin_change(struct thread_book *book)
{
	book->version++;
	barrier();
}

static __always_inline void end_change(struct thread_book *book)
{
	barrier();
	book->version++;
}

static __always_inline struct counters *cpu_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counts, &zero);
}

/* By what the file behind a descriptor is. */
static __always_inline __u8 cause_of_fd(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file = NULL;
	unsigned short mode;

	if (!table || fd >= BPF_CORE_READ(table, max_fds))
		return CAUSE_OTHER;
	if (bpf_core_read(&file, sizeof(file), &files[fd]) || !file)
		return CAUSE_OTHER;
	mode = BPF_CORE_READ(file, f_inode, i_mode);
	switch (mode & 0170000 /* S_IFMT */) {
	case 0010000: /* S_IFIFO */
		return CAUSE_PIPE;
	case 0140000: /* S_IFSOCK */
		return CAUSE_NETWORK;
	case 0100000: /* S_IFREG */
	case 0060000: /* S_IFBLK */
		return CAUSE_DISK;
	default:
		return CAUSE_OTHER;
	}
}

/* Why a thread that is not runnable waits, by its state, what it asked the kernel for, and of which file. */
static __always_inline __u8 cause_of(struct task_struct *task, __u32 state, const struct entry_registers *entry)
{
	__u64 number;
	__u8 cause;

	if (state & TASK_STOPPED_OR_TRACED)
		return CAUSE_STOPPED;
	if (!entry->is_64_bit)
		return CAUSE_OTHER;
	if (entry->syscall < 0)
		return CAUSE_PAGE_FAULT;
	if (BPF_CORE_READ_BITFIELD_PROBED(task, in_iowait))
		return CAUSE_DISK;
	number = entry->syscall;
	if (number >= SYSCALLS)
		return CAUSE_OTHER;
	/* Verifier: loses the bound once clang proves the mask redundant; the barrier keeps it. Seen: 6.1, clang 14. */
	asm volatile("" : "+r"(number));
	cause = cause_of_syscall[number & (SYSCALLS - 1)];
	return cause == CAUSE_BY_FD ? cause_of_fd(task, entry->first) : cause;
}

/*
 * The site of a wait among those the thread remembers. Where it waits is told by instruction, stack pointer and first
 * argument; being preempted is a site of its own, wherever it happens.
 */
static __always_inline struct wait_site *site_of(struct thread_book *book, const struct entry_registers *entry,
						 bool runnable)
{
	__u64 hash = runnable ? 1 : (entry->ip ^ entry->sp << 17 ^ (__u64)(__u32)entry->first << 40);
	__u32 tag, place;

	hash *= 0x9E3779B97F4A7C15ull;
	tag = (__u32)(hash >> 32) | 1;
	place = (hash >> 20) & (SITES - 1);
	struct wait_site *site = &book->sites[place];

	book->site = place;
	if (site->tag != tag) {
		site->tag = tag;
		site->expected_ns = UNKNOWN_WAIT_NS;
		site->fresh = 0;
	}
	return site;
}

static __always_inline void set_sure(struct sched_cpu *cpu, __u32 ns)
{
	cpu->sure_ns = ns;
	cpu->by_sure = (1ull << 40) / (ns | 1);
}

/* Adapts what is long to how many stacks are taken. */
static __always_inline void new_window(struct sched_cpu *cpu, __u64 now)
{
	if (cpu->sure_ns < SHORTEST_SURE_NS) {
		set_sure(cpu, SHORTEST_SURE_NS);
		cpu->random = now | 1;
	} else if (cpu->stacks < STACKS_PER_WINDOW / 2 && cpu->sure_ns > SHORTEST_SURE_NS) {
		set_sure(cpu, cpu->sure_ns / 2);
	}
	cpu->window_since_ns = now;
	cpu->stacks = 0;
}

/* How many waits a stack of this one stands for, times SCALE_ONE, if it is chosen; else 0. */
static __always_inline __u32 choose(struct sched_cpu *cpu, __u32 expected_ns, __u64 now)
{
	__u32 scale = SCALE_ONE;

	if (now - cpu->window_since_ns >= WINDOW_NS)
		new_window(cpu, now);
	if (expected_ns < cpu->sure_ns) {
		/* The probability, times 2^32. */
		__u64 chance = (expected_ns | 1) * cpu->by_sure >> 8;

		if (chance < (1ull << 32) / MAX_SCALE)
			chance = (1ull << 32) / MAX_SCALE;
		/* Marsaglia, Xorshift RNGs, 2003. */
		cpu->random ^= cpu->random << 13;
		cpu->random ^= cpu->random >> 7;
		cpu->random ^= cpu->random << 17;
		if ((__u32)cpu->random >= chance)
			return 0;
		scale = ((__u64)SCALE_ONE << 32) / (chance | 1);
		if (scale < SCALE_ONE)
			scale = SCALE_ONE;
	}
	if (++cpu->stacks > STACKS_PER_WINDOW) {
		if (cpu->sure_ns < LONGEST_SURE_NS / 2)
			set_sure(cpu, cpu->sure_ns * 2);
		cpu->stacks = STACKS_PER_WINDOW / 2;
	}
	return scale;
}

/* Walks the running thread's stack into a walker that has its kernel frames; a function of its own, see unwind.bpf.h. */
__noinline int walk_running(__u32 key, __u32 pid)
{
	struct walker *w = bpf_map_lookup_elem(&walkers, &key);
	struct counters *count = cpu_counters();

	if (!w || !count)
		return 0;
	if (take_saved_registers(w))
		walk_user(w, key, pid, w->sample.kernel_frames & MAX_KERNEL_FRAMES, count);
	else
		w->sample.end = END_NO_REGISTERS;
	return 0;
}

static __always_inline void lost_a_record(void)
{
	struct counters *count = cpu_counters();

	if (count)
		count->waits_lost++;
}

/* Sends the running thread's stack; false: it could not be. */
static __always_inline bool send_stack(void *ctx, struct ids ids, __u32 kind, __u64 wait, __u32 scale, __u64 now)
{
	__u32 cpu = bpf_get_smp_processor_id(), key = cpu + cpus, n = 0;
	struct walker *w = bpf_map_lookup_elem(&walkers, &key);

	/* Where user space cannot keep up, waits give way to ticks. */
	if (!w || bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA) > bpf_ringbuf_query(&records, BPF_RB_RING_SIZE) / 4)
		return false;
	clear_sample(w, kind, ids, cpu, now);
	w->sample.period = wait;
	w->sample.scale = scale;
	if (kernel_stacks) {
		long bytes = bpf_get_stack(ctx, w->frames, MAX_KERNEL_FRAMES * sizeof(__u64), 0);

		n = bytes > 0 ? bytes / sizeof(__u64) : 0;
	}
	w->sample.kernel_frames = n & MAX_KERNEL_FRAMES;
	walk_running(key, ids.pid);
	if (!send_sample(w)) {
		lost_a_record();
		return false;
	}
	struct counters *count = cpu_counters();

	if (count && kind == RECORD_WAIT_STACK)
		count->wait_stacks++;
	else if (count)
		count->waker_stacks++;
	return true;
}

static __always_inline __u64 wait_number(__u32 place, const struct thread_book *book)
{
	return (__u64)place << 32 | book->waits;
}

/* A thread leaves its CPU. */
static __always_inline void leave_cpu(void *ctx, struct sched_cpu *cpu, __u32 place, struct thread_book *book,
				      struct task_struct *task, bool preempted, __u64 now)
{
	__u32 state = state_of(task);
	/* A wake-up that has come in between makes it runnable. */
	bool runnable = preempted || state == 0 || state == TASK_WAKING;
	struct ids ids = { .pid = book->pid, .tid = book->tid };
	struct entry_registers entry;

	read_entry(task, &entry);
	struct wait_site *site = site_of(book, &entry, runnable);

	if (!runnable) {
		if (site->fresh == 0 || (state & TASK_STOPPED_OR_TRACED)) {
			site->cause = cause_of(task, state, &entry);
			site->fresh = FRESH_WAITS;
		}
		site->fresh--;
	}
	begin_change(book);
	if (book->state == STATE_ON_CPU || book->state == STATE_UNKNOWN)
		book->on_cpu_ns += now - book->since_ns;
	book->state = state & TASK_DEAD ? STATE_ENDED : runnable ? STATE_RUNNABLE : STATE_BLOCKED;
	book->since_ns = now;
	book->cause = site->cause;
	book->from_before = 0;
	book->waits++;
	if (bpf_core_field_exists(task->se.cfs_rq)) {
		book->queue = (__u64)task->se.cfs_rq;
		book->throttle_clock_ns = throttle_clock(task->se.cfs_rq);
	}
	if (bpf_core_field_exists(task->sched_info))
		book->run_delay_ns = task->sched_info.run_delay;
	book->scale = state & TASK_DEAD ? 0 : choose(cpu, site->expected_ns, now);
	end_change(book);

	if (runnable && is_throttled(task)) {
		struct record_head head = {
			.kind = RECORD_THROTTLED,
			.cpu = bpf_get_smp_processor_id(),
			.time_ns = now,
			.pid = ids.pid,
			.tid = ids.tid,
		};

		if (bpf_ringbuf_output(&records, &head, sizeof(head), wakeup_flag()))
			lost_a_record();
	}
	if (book->scale && !send_stack(ctx, ids, RECORD_WAIT_STACK, wait_number(place, book), book->scale, now))
		book->scale = 0;
}

/* How long a thread that comes to a CPU, and had left one to be blocked, was runnable: by the scheduler's own figure, which
 * goes on where another CPU takes it; else by when it was woken. */
static __always_inline __u64 runnable_since_woken(struct thread_book *book, struct task_struct *task, __u64 now)
{
	if (bpf_core_field_exists(task->sched_info) && bpf_core_field_exists(task->se.cfs_rq))
		return run_delay(task) - book->run_delay_ns;
	return book->woken_ns >= book->since_ns ? now - book->woken_ns : 0;
}

/* A thread comes to a CPU: what it did since it left another is known. */
static __always_inline void take_cpu(__u32 place, struct thread_book *book, struct task_struct *task, __u64 now)
{
	__u64 off_ns = now - book->since_ns, blocked_ns = 0, runnable_ns, throttled_ns = 0;
	struct wait_site *site = &book->sites[book->site & (SITES - 1)];
	__u32 cause = book->cause < CAUSES ? book->cause : CAUSE_OTHER;

	runnable_ns = off_ns;
	if (book->state == STATE_BLOCKED) {
		runnable_ns = runnable_since_woken(book, task, now);
		if (runnable_ns > off_ns)
			runnable_ns = off_ns;
		blocked_ns = off_ns - runnable_ns;
	}
	if (bpf_core_field_exists(task->se.cfs_rq) && book->queue == (__u64)task->se.cfs_rq) {
		throttled_ns = throttle_clock(task->se.cfs_rq) - book->throttle_clock_ns;
		if (throttled_ns > runnable_ns)
			throttled_ns = runnable_ns;
		runnable_ns -= throttled_ns;
	}
	site->expected_ns += (__s64)((off_ns < LONGEST_SURE_NS ? off_ns : LONGEST_SURE_NS) - site->expected_ns) >> 2;

	begin_change(book);
	if (book->state != STATE_ON_CPU) {
		book->runnable_ns += runnable_ns;
		book->throttled_ns += throttled_ns;
		book->runnable_count++;
		if (book->state == STATE_BLOCKED) {
			/* Verifier: loses the bound of a sum of two offsets; the barrier keeps the first. */
			asm volatile("" : "+r"(cause));
			if (cause < CAUSES) {
				book->blocked_ns[cause] += blocked_ns;
				book->blocked_count[cause]++;
			}
			if (book->from_before)
				book->from_before_ns += blocked_ns;
		}
	}
	book->state = STATE_ON_CPU;
	book->since_ns = now;
	end_change(book);

	if (!book->scale)
		return;
	struct wait_record record = {
		.head = {
			.kind = RECORD_WAIT,
			.cpu = bpf_get_smp_processor_id(),
			.time_ns = now,
			.pid = book->pid,
			.tid = book->tid,
		},
		.wait = wait_number(place, book),
		.blocked_ns = blocked_ns,
		.runnable_ns = runnable_ns,
		.throttled_ns = throttled_ns,
		.cause = cause,
		.scale = book->scale,
	};

	book->scale = 0;
	if (bpf_ringbuf_output(&records, &record, sizeof(record), wakeup_flag()))
		lost_a_record();
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u32 zero = 0, out, in;
	struct sched_cpu *cpu = bpf_map_lookup_elem(&sched_cpus, &zero);
	struct thread_book *book;
	__u64 now;

	if (!cpu)
		return 0;
	/* The thread that leaves is the one that came last: it need not be looked up again. */
	out = cpu->running ? cpu->running : place_of(prev);
	in = place_of(next);
	cpu->running = in;
	if (out + in == 0)
		return 0;
	now = bpf_ktime_get_ns();
	book = out ? book_at(out) : NULL;
	if (book)
		leave_cpu(ctx, cpu, out, book, prev, preempt, now);
	book = in ? book_at(in) : NULL;
	if (book)
		take_cpu(in, book, next, now);
	return 0;
}

/* Whether a thread in this system call can end a wait for that. */
static __always_inline bool can_end(struct task_struct *waker, const struct entry_registers *entry, __u8 cause)
{
	__u64 number = entry->syscall;

	if (!entry->is_64_bit || number >= SYSCALLS)
		return false;
	if (cause != CAUSE_POLL)
		return cause_of(waker, 0, entry) == cause;
	/* Whichever file it is that becomes ready, somebody writes to it. */
	asm volatile("" : "+r"(number));
	__u8 its = cause_of_syscall[number & (SYSCALLS - 1)];

	return its == CAUSE_BY_FD || its == CAUSE_NETWORK;
}

/*
 * A thread is woken by the running one, or by an interrupt on its CPU. Who ends the wait is asked where the wait's own
 * stack was taken, and counts where the running thread is of the target and in a system call of the same kind: an
 * interrupt hits any thread.
 */
SEC("tp_btf/sched_waking")
int BPF_PROG(on_waking, struct task_struct *task)
{
	__u32 place = place_of(task);
	struct thread_book *book = place ? book_at(place) : NULL;
	struct counters *count = cpu_counters();

	if (!book || !count)
		return 0;
	count->wakings++;
	__u64 now = bpf_ktime_get_ns();

	book->woken_ns = now;
	if (!book->scale || book->state != STATE_BLOCKED)
		return 0;
	if (book->cause != CAUSE_FUTEX && book->cause != CAUSE_PIPE && book->cause != CAUSE_NETWORK &&
	    book->cause != CAUSE_POLL)
		return 0;
	struct task_struct *waker = bpf_get_current_task_btf();
	__u32 waker_place = place_of(waker);
	struct thread_book *its = waker_place ? book_at(waker_place) : NULL;
	struct entry_registers entry;

	if (!its || its == book)
		return 0;
	read_entry(waker, &entry);
	if (!can_end(waker, &entry, book->cause))
		return 0;
	struct ids ids = { .pid = its->pid, .tid = its->tid };

	send_stack(ctx, ids, RECORD_WAKER, wait_number(place, book), book->scale, now);
	return 0;
}

/* A place for the book of a new thread; one that cannot be when there is none. */
static __always_inline __u32 new_place(void)
{
	__u32 zero = 0, place;
	struct sched_cpu *cpu = bpf_map_lookup_elem(&sched_cpus, &zero);

	if (!cpu)
		return MAX_BOOKS + 1;
	if (!bpf_map_pop_elem(&free_books, &place))
		return place;
	place = cpu->books * cpus + bpf_get_smp_processor_id() + 1;
	if (place > MAX_BOOKS / 2)
		return MAX_BOOKS + 1;
	cpu->books++;
	return place;
}

/* Opens the book of a thread of the target at a place. Not under a run queue's lock: memory is allocated. */
static __always_inline struct thread_book *open_book(struct task_struct *task, __u32 place, __u32 state)
{
	struct counters *count = cpu_counters();
	struct thread_book *book = book_at(place);
	struct ids ids = ids_of(task);
	__u32 *to;

	to = book ? bpf_task_storage_get(&book_of, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE) : NULL;
	if (!to) {
		if (count)
			count->without_book++;
		return NULL;
	}
	book->pid = ids.pid;
	book->tid = ids.tid;
	book->began_ns = bpf_ktime_get_ns();
	book->since_ns = book->began_ns;
	book->state = state;
	*to = place;
	return book;
}

/* What is put together of a thread that waits already; by user space's one pass over all threads only. */
struct waiting_record {
	struct sample_record sample;
	__u64 words[MAX_KERNEL_FRAMES + 1 + COPY_REGISTERS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct waiting_record);
} waiting SEC(".maps");

/* Sends where a thread waits; only its registers, for its memory cannot be read from here. */
static __always_inline void send_waiting(struct task_struct *task, __u32 place, struct thread_book *book)
{
	__u32 zero = 0, n = 0;
	struct waiting_record *record = bpf_map_lookup_elem(&waiting, &zero);
	struct pt_regs saved = {};

	if (!record)
		return;
	if (bpf_probe_read_kernel(&saved, sizeof(saved), (void *)bpf_task_pt_regs(task)) || saved.cs != USER_CS)
		return;
	record->sample = (struct sample_record){
		.head = {
			.kind = RECORD_WAITING,
			.cpu = bpf_get_smp_processor_id(),
			.time_ns = book->since_ns,
			.pid = book->pid,
			.tid = book->tid,
		},
		.period = wait_number(place, book),
		.scale = SCALE_ONE,
	};
	if (kernel_stacks) {
		long bytes = bpf_get_task_stack(task, record->words, MAX_KERNEL_FRAMES * sizeof(__u64), 0);

		n = bytes > 0 ? bytes / sizeof(__u64) : 0;
	}
	n &= MAX_KERNEL_FRAMES;
	record->sample.kernel_frames = n;
	LIST_REGISTERS(&record->words[n], &saved);
	n += COPY_REGISTERS;
	if (!bpf_ringbuf_output(&records, record, sizeof(record->sample) + n * sizeof(__u64), wakeup_flag()))
		book->scale = SCALE_ONE;
}

/* Threads that are there already. User space runs it once all else is attached. */
SEC("iter/task")
int open_books(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct entry_registers entry;
	struct thread_book *book;
	__u32 state, place;

	if (bpf_core_field_exists(((struct task_struct *)0)->throttled))
		throttle_source = THROTTLE_BY_TASK;
	else if (bpf_core_field_exists(((struct cfs_rq *)0)->throttle_count))
		throttle_source = THROTTLE_BY_QUEUE;
	if (!task || (task->flags & PF_KTHREAD) || !task->mm || !is_target(task, ids_of(task).pid) || place_of(task))
		return 0;
	if (books_from_before >= MAX_BOOKS / 2) {
		struct counters *count = cpu_counters();

		if (count)
			count->without_book++;
		return 0;
	}
	place = MAX_BOOKS - books_from_before++;
	book = open_book(task, place, STATE_UNKNOWN);
	if (!book)
		return 0;
	book->from_before = 1;
	state = STATE_BLOCKED;
	if (state_of(task) == 0) {
		/* Where the kernel does not say (7.3), its next switch tells. */
		state = STATE_UNKNOWN;
		if (bpf_core_field_exists(task->on_cpu))
			state = BPF_CORE_READ(task, on_cpu) ? STATE_ON_CPU : STATE_RUNNABLE;
	}
	if (state == STATE_BLOCKED) {
		read_entry(task, &entry);
		book->cause = cause_of(task, state_of(task), &entry);
	}
	/* What the scheduler has entered meanwhile stands. */
	if (book->state != STATE_UNKNOWN)
		return 0;
	book->state = state;
	if (state == STATE_BLOCKED)
		send_waiting(task, place, book);
	return 0;
}

/* A thread of the target begins another, or a process. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_new_thread, struct task_struct *parent, struct task_struct *child)
{
	__u32 from = ids_of(parent).pid;

	if (is_target(child, ids_of(child).pid) || (target_mode == TARGET_PIDS && bpf_map_lookup_elem(&targets, &from)))
		open_book(child, new_place(), STATE_RUNNABLE);
	return 0;
}

#endif
