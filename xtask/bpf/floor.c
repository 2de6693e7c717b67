// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 OR MIT
/*
 * floor OBJECT PID HZ: runs the program of floor.bpf.c at the same timer as perfprof's, a cpu-clock event per CPU.
 * Prints `ready` when it is attached; at SIGTERM or SIGINT one line of JSON: the mean number of frames of the user stacks
 * it counted. The kernel's statistics of the program are read from outside, as those of any recorder.
 *
 * floor: only asks the kernel to keep statistics of BPF programs, until it is ended; prints `ready`.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_FRAMES 127

static int fail(const char *doing)
{
	perror(doing);
	return 1;
}

static int attach(struct bpf_program *program, int cpu, unsigned hz)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof attr,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = 1000000000u / hz,
		.exclude_idle = 1,
	};
	int fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		return -1;
	return bpf_program__attach_perf_event(program, fd) ? 0 : -1;
}

/* The key of the map of counts; `struct both` in floor.bpf.c. */
struct both {
	__s32 user;
	__s32 kernel;
};

/* Mean frames of the user stacks counted, weighted by their ticks. */
static double mean_frames(struct bpf_object *object)
{
	int stacks = bpf_object__find_map_fd_by_name(object, "stacks");
	int ticks = bpf_object__find_map_fd_by_name(object, "stack_ticks");
	unsigned long frames = 0, all = 0;
	struct both key, *previous = NULL;

	while (bpf_map_get_next_key(ticks, previous, &key) == 0) {
		__u64 stack[MOST_FRAMES] = { 0 }, count = 0, n = 0;

		previous = &key;
		if (key.user < 0 || bpf_map_lookup_elem(ticks, &key, &count) ||
		    bpf_map_lookup_elem(stacks, &key.user, stack))
			continue;
		while (n < MOST_FRAMES && stack[n])
			n++;
		frames += n * count;
		all += count;
	}
	return all ? (double)frames / (double)all : 0;
}

static int wait_for_the_end(void)
{
	sigset_t set;
	int signal;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	puts("ready");
	fflush(stdout);
	return sigwait(&set, &signal);
}

int main(int argc, char **argv)
{
	if (bpf_enable_stats(BPF_STATS_RUN_TIME) < 0)
		return fail("bpf_enable_stats");
	if (argc < 4)
		return wait_for_the_end();
	struct bpf_object *object = bpf_object__open_file(argv[1], NULL);

	if (!object)
		return fail("open");
	struct bpf_map *map, *rodata = NULL;

	bpf_object__for_each_map(map, object)
		if (strstr(bpf_map__name(map), ".rodata"))
			rodata = map;
	__u32 pid = (__u32)atoi(argv[2]);

	if (!rodata || bpf_map__set_initial_value(rodata, &pid, sizeof pid) || bpf_object__load(object))
		return fail("load");
	struct bpf_program *program = bpf_object__find_program_by_name(object, "floor_tick");

	for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
		if (attach(program, cpu, (unsigned)atoi(argv[3])))
			return fail("attach");
	wait_for_the_end();
	printf("{\"frames\":%.2f}\n", mean_frames(object));
	return 0;
}
