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

struct sched_entity {
	__u64 sum_exec_runtime;
};

struct mm_struct;
struct linux_binprm;

struct task_struct {
	unsigned int flags;
	int pid;
	int tgid;
	struct mm_struct *mm;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct signal_struct *signal;
	struct sched_entity se;
	char comm[16];
};

#pragma clang attribute pop

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
