/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 OR MIT */
/*
 * The few kernel fields we read. Layouts are relocated when the program is loaded (CO-RE), so a struct here names only
 * the members in use.
 */
#ifndef PERFPROF_KERNEL_H
#define PERFPROF_KERNEL_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define PF_KTHREAD 0x00200000
#define PIDTYPE_TGID 1
/* MAX_PID_NS_LEVEL in include/linux/pid_namespace.h is 32; containers nest a few levels deep. */
#define MAX_PID_LEVELS 8

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct ns_common {
	unsigned int inum;
};

struct pid_namespace {
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[];
};

struct signal_struct {
	atomic_t live;
	struct pid *pids[4];
};

/* The run queue of a CPU. */
struct rq {
	__u64 clock;
	__u64 clock_task;
	__u64 clock_pelt;
};

/* A cgroup's run queue on a CPU. How long it was throttled: throttled_clock_self_time since 6.6, which counts in
 * rq->clock; before, throttled_clock_pelt_time (5.19) and throttled_clock_task_time, in the clocks they are named after. */
struct cfs_rq {
	struct rq *rq;
	int throttle_count;
	__u64 throttled_clock_self;
	__u64 throttled_clock_self_time;
	__u64 throttled_clock_pelt;
	__u64 throttled_clock_pelt_time;
	__u64 throttled_clock_task;
	__u64 throttled_clock_task_time;
};

struct sched_entity {
	__u64 sum_exec_runtime;
	struct cfs_rq *cfs_rq;
};

/* Kept with CONFIG_SCHED_INFO, which /proc/PID/schedstat needs, too. */
struct sched_info {
	/* Time in which it was runnable and not on a CPU, up to when it was last put into a queue. */
	unsigned long long run_delay;
	/* When that was, by the queue's clock; 0 while it is in none. */
	unsigned long long last_queued;
};

struct inode {
	unsigned short i_mode;
};

struct file {
	struct inode *f_inode;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct mm_struct;
struct linux_binprm;

struct task_struct {
	/* Since 5.14. */
	unsigned int __state;
	unsigned int flags;
	int on_cpu;
	/* Since 6.18: it is stopped by its cgroup's quota. */
	bool throttled;
	unsigned in_iowait : 1;
	struct files_struct *files;
	int pid;
	int tgid;
	struct mm_struct *mm;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct signal_struct *signal;
	struct sched_entity se;
	struct sched_info sched_info;
	char comm[16];
};

/* x86-64: the kernel's names for what ptrace(2) calls rip, rsp, orig_rax, rdi and cs. */
struct pt_regs___kernel {
	unsigned long ip;
	unsigned long sp;
	unsigned long orig_ax;
	unsigned long di;
	unsigned long cs;
};

/* Before 5.14. */
struct task_struct___5_13 {
	long state;
};

struct bpf_iter__task {
	struct task_struct *task;
};

#pragma clang attribute pop

/* Bits of a task's state; include/linux/sched.h. */
#define TASK_STOPPED_OR_TRACED 0x000c
#define TASK_DEAD 0x0080
#define TASK_WAKING 0x0200

static __always_inline __u32 state_of(struct task_struct *task)
{
	struct task_struct___5_13 *older = (void *)task;

	if (bpf_core_field_exists(task->__state))
		return task->__state;
	return older->state;
}

/* How long a queue has been throttled so far, in nanoseconds; 0 where the kernel does not say. */
static __always_inline __u64 throttle_clock(struct cfs_rq *queue)
{
	__u64 total = 0, since = 0;

	if (bpf_core_field_exists(queue->throttled_clock_self_time)) {
		total = queue->throttled_clock_self_time;
		since = queue->throttled_clock_self;
		return since ? total + queue->rq->clock - since : total;
	}
	if (bpf_core_field_exists(queue->throttled_clock_pelt_time)) {
		total = queue->throttled_clock_pelt_time;
		since = queue->throttled_clock_pelt;
		return queue->throttle_count ? total + queue->rq->clock_pelt - since : total;
	}
	if (bpf_core_field_exists(queue->throttled_clock_task_time)) {
		total = queue->throttled_clock_task_time;
		since = queue->throttled_clock_task;
		return queue->throttle_count ? total + queue->rq->clock_task - since : total;
	}
	return 0;
}

/* Time so far in which a task that comes to a CPU was runnable without one, nanoseconds. The scheduler itself enters the
 * last part of it after its tracepoint. */
static __always_inline __u64 run_delay(struct task_struct *task)
{
	__u64 queued = task->sched_info.last_queued, now = task->se.cfs_rq->rq->clock;

	return task->sched_info.run_delay + (queued && now > queued ? now - queued : 0);
}

/* Whether a runnable task that leaves its CPU is stopped by a quota. */
static __always_inline bool is_throttled(struct task_struct *task)
{
	if (bpf_core_field_exists(task->throttled))
		return task->throttled;
	if (bpf_core_field_exists(task->se.cfs_rq->throttle_count))
		return task->se.cfs_rq->throttle_count > 0;
	return false;
}

/* A process as the profiler's PID namespace numbers it; 0 where it is not visible there. */
static __always_inline __u32 pid_in_namespace(struct pid *pid, __u32 inum)
{
	__u32 level = BPF_CORE_READ(pid, level);

	for (__u32 i = 0; i < MAX_PID_LEVELS; i++) {
		struct upid upid;

		if (i > level)
			break;
		if (bpf_core_read(&upid, sizeof(upid), &pid->numbers[i]))
			break;
		if (BPF_CORE_READ(upid.ns, ns.inum) == inum)
			return upid.nr;
	}
	return 0;
}

#endif
