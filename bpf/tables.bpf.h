/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 OR MIT */
/*
 * Looks rules up in the tables that src/unwind/upload has put into the heap.
 *
 * In: an address of a process, or of a binary. Out: struct unwind_rule as 8 bytes, or why there is none. What costs is
 * each line of memory that is in no cache.
 */
#ifndef PERFPROF_TABLES_BPF_H
#define PERFPROF_TABLES_BPF_H

#include "kernel.h"
#include "abi.h"

/* Steps of a search: among the rows of a bucket and the one before them; among MAX_SPANS. */
#define ROW_STEPS 9
#define SPAN_STEPS 15

struct chunk {
	__u32 words[CHUNK_WORDS];
};

struct chunk_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	/* Not by type: clang leaves only a forward declaration of it, in a map within a map. Seen: clang 14. */
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct chunk));
};

/* The heap: chunk number -> chunk, 1 MiB each. User space adds and writes, we read. Entries set at load by the memory
 * budget; when all are in use, user space evicts. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct chunk_map);
} heap SEC(".maps");

/* Number of a binary -> its table. Written by user space through mmap. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_TABLES);
	__type(key, __u32);
	__type(value, struct unwind_table);
} tables SEC(".maps");

/* PID -> its mappings. User space writes; on_fork copies, on_exec and on_exit remove. A process that is not here, or
 * found no room, is `warming`: frame pointers are followed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ADDRESS_SPACES);
	__type(key, __u32);
	__type(value, struct address_space);
} address_spaces SEC(".maps");

static __always_inline __u32 *chunk_of(__u32 at)
{
	__u32 number = at >> CHUNK_SHIFT, zero = 0;
	void *map = bpf_map_lookup_elem(&heap, &number);

	if (!map)
		return NULL;
	struct chunk *chunk = bpf_map_lookup_elem(map, &zero);

	return chunk ? chunk->words : NULL;
}

#define WORD(at) ((at) & (CHUNK_WORDS - 1))

static __always_inline __u64 word_pair(const __u32 *words, __u32 at)
{
	return words[WORD(at)] | (__u64)words[WORD(at + 1)] << 32;
}

static __always_inline __u64 no_rule(__u32 why)
{
	return CFA_NO_RULE | (__u64)why << 48;
}

/* 1 when a < b, for values below 2^63; without a branch, see lower_row. */
static __always_inline __u64 is_below(__u64 a, __u64 b)
{
	__u64 below = a - b;

	/* Verifier: a branch on each comparison doubles its states at each step of a search; the barrier keeps clang
	 * from bringing the branch back. Seen: 6.18, clang 14. */
	asm volatile("" : "+r"(below));
	below >>= 63;
	asm volatile("" : "+r"(below));
	return below;
}

/* How many rows of a page lie before a bucket. */
static __always_inline __u32 rows_before(const __u32 *words, __u32 rows_at, __u32 bucket)
{
	return words[WORD(rows_at - INDEX_WORDS + (bucket >> 1))] >> 16 * (bucket & 1) & 0xffff;
}

/* The last of a page's rows that begins at or below pc_low; the first when all are above. */
static __always_inline __u32 lower_row(const __u32 *words, __u32 at, __u32 rows, __u32 pc_low)
{
	__u64 base = 0, left = rows;

	if (rows >= INDEXED_ROWS) {
		__u32 bucket = pc_low >> 8, end = rows;

		base = rows_before(words, at, bucket);
		if (bucket < PAGE_BUCKETS - 1)
			end = rows_before(words, at, bucket + 1);
		base -= base != 0;
		left = end - base;
	}
	for (int i = 0; i < ROW_STEPS; i++) {
		__u64 half = left >> 1;

		if (half == 0)
			break;
		base += half * (is_below(pc_low, words[WORD(at + base + half)] & 0xffff) ^ 1);
		left -= half;
	}
	return base;
}

#define SPAN_WORDS (sizeof(struct unwind_span) / sizeof(__u32))

/* The last of `spans` spans at `at` that starts at or below `pc`; the first when all start above. */
static __always_inline __u32 lower_span(const __u32 *words, __u32 at, __u32 spans, __u64 pc)
{
	__u64 base = 0, left = spans;

	for (int i = 0; i < SPAN_STEPS; i++) {
		__u64 half = left >> 1;

		if (half == 0)
			break;
		base += half * (is_below(pc, word_pair(words, at + (base + half) * SPAN_WORDS)) ^ 1);
		left -= half;
	}
	return base;
}

/* The rule of an address of a binary, as the 8 bytes of struct unwind_rule. */
__noinline __u64 rule_in_table(__u32 number, __u64 elf_addr)
{
	struct unwind_table *table = bpf_map_lookup_elem(&tables, &number);

	if (!table)
		return no_rule(END_TABLE_EVICTED);
	__u64 page = (elf_addr >> 16) - table->first_page;
	__u32 rules_at = *(volatile __u32 *)&table->rules_at;

	if (page >= table->pages)
		return no_rule(table->without);
	__u32 *words = chunk_of(table->pages_at);

	if (!words)
		return no_rule(END_TABLE_EVICTED);
	__u64 entry = word_pair(words, table->pages_at + 2 * page);
	__u32 rows_at = entry, rows = entry >> 32, pc_low = elf_addr & 0xffff;

	if (rows == 0)
		return no_rule(END_NO_UNWIND_INFO);
	words = chunk_of(rows_at);
	if (!words)
		return no_rule(END_TABLE_EVICTED);
	__u32 row = words[WORD(rows_at + lower_row(words, rows_at, rows, pc_low))];

	if (pc_low < (row & 0xffff))
		return no_rule(END_NO_UNWIND_INFO);
	__u32 rule_at = rules_at + 2 * (row >> 16);

	words = chunk_of(rule_at);
	if (!words)
		return no_rule(END_TABLE_EVICTED);
	__u64 rule = word_pair(words, rule_at);

	/* User space takes back a table's entry before its memory: what was read is only good if it is still there. */
	if (*(volatile __u32 *)&table->rules_at != rules_at)
		return no_rule(END_TABLE_EVICTED);
	return (rule & 0xff) == CFA_NO_RULE ? no_rule(END_NO_UNWIND_INFO) : rule;
}

/* The rule of an address of a process. */
__noinline __u64 find_rule(__u32 spans_at, __u32 spans, __u64 pc)
{
	__u32 *words = chunk_of(spans_at);

	if (!words || spans == 0)
		return no_rule(END_UNKNOWN_MAPPING);
	__u32 at = spans_at + lower_span(words, spans_at, spans, pc) * SPAN_WORDS;

	if (pc < word_pair(words, at) || pc >= word_pair(words, at + 2))
		return no_rule(END_UNKNOWN_MAPPING);
	return rule_in_table(words[WORD(at + 6)], pc - word_pair(words, at + 4));
}

/* Whether a table is missing for now: it may come (back). */
static __always_inline bool is_passing(__u8 why)
{
	return why == END_TABLE_EVICTED || why == END_WARMING;
}

#endif
