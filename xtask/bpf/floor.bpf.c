// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 OR MIT
/*
 * What the benchmark holds perfprof's program against: the kernel's own walk of frame pointers (`bpf_get_stackid`) with
 * a count per stack, which is what bpftrace and bcc's `profile` do per sample. As perfprof's program, it takes the
 * kernel's stack only of ticks that hit the kernel. Only `xtask` builds this.
 */
#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Set before loading. */
const volatile __u32 target_pid = 0;

struct counters {
	/* Ticks that hit the target, as perfprof's program names them. */
	__u64 ticks;
	/* User stacks that could not be kept; walked all the same. */
	__u64 failed;
	/* Stacks for which the map of counts was full. */
	__u64 uncounted;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 16384);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 127 * sizeof(__u64));
} stacks SEC(".maps");

struct both {
	__s32 user;
	/* Of a tick that hit the kernel; else negative. */
	__s32 kernel;
};

/* Stacks -> ticks. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct both);
	__type(value, __u64);
} stack_ticks SEC(".maps");

SEC("perf_event")
int floor_tick(struct bpf_perf_event_data *ctx)
{
	__u32 zero = 0;
	struct counters *count;
	__u64 *ticks, one = 1;

	if ((bpf_get_current_pid_tgid() >> 32) != target_pid)
		return 0;
	count = bpf_map_lookup_elem(&counts, &zero);
	if (!count)
		return 0;
	count->ticks++;

	struct both key = {
		.user = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK),
		.kernel = (ctx->regs.cs & 3) ? -1 : bpf_get_stackid(ctx, &stacks, 0),
	};

	if (key.user < 0)
		count->failed++;
	ticks = bpf_map_lookup_elem(&stack_ticks, &key);
	if (ticks)
		__sync_fetch_and_add(ticks, 1);
	else if (bpf_map_update_elem(&stack_ticks, &key, &one, BPF_NOEXIST))
		count->uncounted++;
	return 0;
}
