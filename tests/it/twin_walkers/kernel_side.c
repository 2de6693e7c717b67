/*
 * bpf/unwind.bpf.h as an ordinary program: walks recorded stacks with the very code that runs inside the kernel.
 *
 * In, on standard input: the heap, the tables and stops as image.rs writes them. Out, on standard output: how the
 * walk of each stop ended, and its frames. Each stop is walked twice, the second time with what the first has remembered,
 * and must end the same.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What kernel.h and libbpf's headers bring. */
#define PERFPROF_KERNEL_H
#define SEC(name)
#define __uint(name, value) int(*name)[value]
#define __type(name, type) __typeof__(type) *name
#define __array(name, type) __typeof__(type) *name[]
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))

static void *bpf_map_lookup_elem(void *map, const void *key);
static long bpf_probe_read_user(void *to, __u32 bytes, const void *from);

#include "unwind.bpf.h"

#define MAX_CHUNKS 256
#define MAX_AREAS 16

struct area {
	__u64 base;
	__u64 bytes;
};

struct stop {
	__u64 ip, sp, bp;
	__u64 leaf[LEAF_REGISTERS];
	struct address_space space;
	__u32 areas;
};

static struct walker walker;
static struct chunk *chunks[MAX_CHUNKS];
static struct unwind_table *known_tables;
static __u32 chunk_count, table_count;
/* Memory of the stop that is walked. */
static struct area areas[MAX_AREAS];
static char *contents[MAX_AREAS];
static __u32 area_count;

static void *bpf_map_lookup_elem(void *map, const void *key)
{
	__u32 number = *(const __u32 *)key;

	if (map == &walkers)
		return number == 0 ? &walker : NULL;
	if (map == &heap)
		return number < chunk_count ? chunks[number] : NULL;
	if (map == &tables)
		return number < table_count ? &known_tables[number] : NULL;
	/* A chunk is a map of its own with one value. */
	return number == 0 ? map : NULL;
}

static long bpf_probe_read_user(void *to, __u32 bytes, const void *from)
{
	__u64 addr = (__u64)from;

	for (__u32 i = 0; i < area_count; i++) {
		__u64 offset = addr - areas[i].base;

		if (offset < areas[i].bytes && bytes <= areas[i].bytes - offset) {
			memcpy(to, contents[i] + offset, bytes);
			return 0;
		}
	}
	memset(to, 0, bytes);
	return -14; /* EFAULT */
}

static void take(void *to, size_t bytes)
{
	if (fread(to, 1, bytes, stdin) != bytes) {
		fputs("the recording ends early\n", stderr);
		exit(1);
	}
}

static void *room(size_t bytes)
{
	void *room = malloc(bytes + 1);

	if (!room)
		exit(1);
	return room;
}

static void take_tables(void)
{
	take(&chunk_count, sizeof(chunk_count));
	if (chunk_count > MAX_CHUNKS)
		exit(1);
	for (__u32 i = 0; i < chunk_count; i++) {
		chunks[i] = room(sizeof(struct chunk));
		take(chunks[i], sizeof(struct chunk));
	}
	take(&table_count, sizeof(table_count));
	known_tables = room(table_count * sizeof(*known_tables));
	take(known_tables, table_count * sizeof(*known_tables));
}

static void take_memory(__u32 count)
{
	if (count > MAX_AREAS)
		exit(1);
	for (area_count = 0; area_count < count; area_count++) {
		struct area *area = &areas[area_count];

		take(area, sizeof(*area));
		free(contents[area_count]);
		contents[area_count] = room(area->bytes);
		take(contents[area_count], area->bytes);
	}
}

/* As walk_user in sample.bpf.c. */
static void walk(const struct stop *stop)
{
	struct walker *w = &walker;

	w->ip = stop->ip;
	w->sp = stop->sp;
	w->bp = stop->bp;
	memcpy(w->leaf, stop->leaf, sizeof(w->leaf));
	w->sample.end = END_ROOT;
	w->sample.bridged = 0;
	w->space = stop->space;
	w->first = 0;
	w->frames[0] = w->ip;
	w->filled = 1;
	walk_tables(w, 0);
	w->filled = w->filled < MAX_USER_FRAMES ? w->filled : MAX_USER_FRAMES;
}

int main(void)
{
	static __u64 frames[MAX_USER_FRAMES];
	__u32 stops;

	take_tables();
	take(&stops, sizeof(stops));
	for (__u32 i = 0; i < stops; i++) {
		struct stop stop;

		take(&stop, sizeof(stop));
		take_memory(stop.areas);
		walk(&stop);
		__u32 out[4] = { walker.sample.end, walker.sample.bridged, walker.filled, 0 };

		memcpy(frames, walker.frames, out[2] * sizeof(__u64));
		walk(&stop);
		if (walker.sample.end != out[0] || walker.sample.bridged != out[1] || walker.filled != out[2] ||
		    memcmp(frames, walker.frames, out[2] * sizeof(__u64))) {
			fprintf(stderr, "stop %u: what is remembered leads elsewhere\n", i);
			return 1;
		}
		fwrite(out, sizeof(out), 1, stdout);
		fwrite(frames, sizeof(__u64), out[2], stdout);
	}
	return 0;
}
