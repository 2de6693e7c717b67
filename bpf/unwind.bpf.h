/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 OR MIT */
/*
 * Walks user frames by the rules that tables.bpf.h finds.
 *
 * In: a walker with the registers of the leaf frame, and the address space of the process. Out: frames in its record,
 * and the reason the walk ended. A frame is pushed before it is unwound, so that no failure loses what is known.
 *
 * What costs is reading user memory and searching cold tables. The stack is therefore read through a window, many frames
 * at a time, and the rule of an address is remembered, per CPU, under (address space, address).
 *
 * Each step is a global function: the verifier looks at it once, not once per frame, so 512 frames need no bpf_loop
 * (5.17) and no tail calls. Its arguments are plain numbers, which every kernel since 5.6 accepts.
 */
#ifndef PERFPROF_UNWIND_BPF_H
#define PERFPROF_UNWIND_BPF_H

#include "kernel.h"
#include "abi.h"
#include "tables.bpf.h"
#include "x86_64.h"

/* Room for MAX_KERNEL_FRAMES + MAX_USER_FRAMES, rounded up to a power of two so that a masked count always fits. */
#define RECORD_FRAMES 1024
#define COPY_PAGE_WORDS (COPY_PAGE_BYTES / 8)
/* Verifier: a bound for the length of a record; what lies behind the frames is the walker's, too. */
#define RECORD_WORDS_MASK 8191
/* Bytes of stack read at once: some forty frames of ordinary code. */
#define WINDOW_BYTES 2048
#define WINDOW_WORDS (WINDOW_BYTES / 8)
/* The first window: many stacks are shallow. */
#define FIRST_WINDOW_BYTES 512
/* Where frames are larger than this, a window serves few of them, and only what stands at their ends is read. */
#define LARGE_FRAME_BYTES 768
#define SMALL_WINDOW_BYTES 64
/* Remembered rules per CPU: 64 KiB, most of a second-level cache is left to the target. */
#define CACHE_BITS 12
#define CACHE_SLOTS (1u << CACHE_BITS)
/* The lowest page is never mapped (vm.mmap_min_addr). */
#define LOWEST_ADDRESS 4096

struct remembered {
	__u64 key;
	__u64 rule;
};

/* What a CPU needs for a tick: the record it is putting together, and the state of the walk. */
struct walker {
	struct sample_record sample;
	__u64 frames[RECORD_FRAMES + COPY_REGISTERS + COPY_PAGES * COPY_PAGE_WORDS];
	/* The frame to be unwound: the address to look up (exact, or return address minus one), and its registers. */
	__u64 ip;
	__u64 sp;
	__u64 bp;
	/* Frames in the record so far, the kernel's included; and where the user's begin. */
	__u32 filled;
	__u32 first;
	struct address_space space;
	__u32 reads;
	__u32 hits;
	__u32 misses;
	__u64 leaf[LEAF_REGISTERS];
	__u64 leaf_ip;
	/* The window holds window_bytes of user memory from window_base. */
	__u64 window_base;
	__u64 window_bytes;
	/* Frames in the record when it was read. */
	__u32 window_filled;
	__u64 window[WINDOW_WORDS];
	struct remembered cache[CACHE_SLOTS];
};

/* Per CPU, but not a per-CPU map: those hold at most 32 KiB a value. Written by the CPU whose number is the key. Entries
 * set at load to the number of possible CPUs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct walker);
} walkers SEC(".maps");

/* Bits of a rule that say how to find RBP; the rest of its byte holds the round of what is remembered. */
#define RBP_KIND_BITS 2
#define ROUND_MASK 0xfc00ull
#define ADDRESS_SPACE_BITS (64 - USER_BITS)

static __always_inline __u64 round_bits(const struct walker *w)
{
	return (__u64)(w->space.id >> ADDRESS_SPACE_BITS) << (8 + RBP_KIND_BITS) & ROUND_MASK;
}

/*
 * Where code without rules ends and code with rules begins, nobody calls: the beginning of a function was laid down as
 * where to return to (makecontext). It has no caller.
 */
static __always_inline __u64 laid_down(struct walker *w, __u64 without)
{
	__u8 next = find_rule(w->space.spans_at, w->space.spans, w->ip + 1);

	if (next == CFA_NO_RULE)
		return without;
	return CFA_LAID_DOWN | (__u64)(next == CFA_ROOT ? END_ROOT : END_NO_UNWIND_INFO) << 48;
}

static __always_inline __u64 rule_of(struct walker *w)
{
	__u64 key = w->ip | (__u64)w->space.id << USER_BITS;
	/* Fibonacci hashing: the upper bits of the product depend on all bits of the key. */
	struct remembered *slot = &w->cache[(key * 0x9E3779B97F4A7C15ull) >> (64 - CACHE_BITS)];

	if (slot->key == key && (slot->rule & ROUND_MASK) == round_bits(w)) {
		w->hits++;
		return slot->rule & ~ROUND_MASK;
	}
	__u64 rule = find_rule(w->space.spans_at, w->space.spans, w->ip);

	w->misses++;
	if (rule == no_rule(END_NO_UNWIND_INFO))
		rule = laid_down(w, rule);
	if ((__u8)rule == CFA_NO_RULE && is_passing(rule >> 48))
		return rule;
	slot->key = key;
	slot->rule = rule | round_bits(w);
	return rule;
}

/* Moves the window to begin at `addr`. A read over the end of the mapping fails as a whole: it is cut at the page. */
static __always_inline void move_window(struct walker *w, __u64 addr)
{
	__u64 to_page_end = USER_PAGE_BYTES - (addr & (USER_PAGE_BYTES - 1));
	__u64 moved = addr - w->window_base, frames = w->filled - w->window_filled;
	__u32 bytes = moved > frames * LARGE_FRAME_BYTES ? SMALL_WINDOW_BYTES : WINDOW_BYTES;

	if (w->reads == 0)
		bytes = FIRST_WINDOW_BYTES;
	addr &= ~7ull;
	w->window_filled = w->filled;
	w->window_base = addr;
	w->window_bytes = bytes;
	w->reads++;
	if (!bpf_probe_read_user(w->window, bytes, (void *)addr))
		return;
	to_page_end = (to_page_end + 7) & ~7ull;
	w->window_bytes = 0;
	if (to_page_end < 8 || to_page_end >= bytes)
		return;
	w->reads++;
	if (!bpf_probe_read_user(w->window, to_page_end, (void *)addr))
		w->window_bytes = to_page_end;
}

static __always_inline bool in_window(const struct walker *w, __u64 addr)
{
	__u64 offset = addr - w->window_base;

	return offset + 8 <= w->window_bytes && offset < WINDOW_BYTES && !(offset & 7);
}

/* Reads a word of the stack: from the window, or by itself when it is elsewhere. */
static __always_inline bool read_stack(struct walker *w, __u64 addr, __u64 *value)
{
	if (in_window(w, addr)) {
		__u64 index = (addr - w->window_base) >> 3;

		/* Verifier: loses the bound once clang proves the mask redundant; the barrier keeps it. Seen: 6.18,
		 * clang 14. */
		asm volatile("" : "+r"(index));
		*value = w->window[index & (WINDOW_WORDS - 1)];
		return true;
	}
	w->reads++;
	return !bpf_probe_read_user(value, sizeof(*value), (void *)addr);
}

/* The same, moving the window there when it is not there yet: more will be read above. */
static __always_inline bool read_ahead(struct walker *w, __u64 addr, __u64 *value)
{
	if (!in_window(w, addr))
		move_window(w, addr);
	return read_stack(w, addr, value);
}

#define CONTINUE 0
#define ENDED 1

static __always_inline int end_walk(struct walker *w, __u8 why)
{
	w->sample.end = why;
	return ENDED;
}

/* The caller's frame is known: push it. `ra` is what is sent, `ip` what is looked up. */
static __always_inline int push(struct walker *w, __u64 ra, __u64 ip, __u64 sp, __u64 bp)
{
	if (ip < LOWEST_ADDRESS || ip >> USER_BITS)
		return end_walk(w, END_BAD_FRAME);
	w->frames[w->filled & (RECORD_FRAMES - 1)] = ra;
	w->filled++;
	w->ip = ip;
	w->sp = sp;
	w->bp = bp;
	return CONTINUE;
}

/* The last frame was not called: its address is meant itself, not the one before. */
static __always_inline void was_not_called(struct walker *w)
{
	if (w->filled != w->first + 1)
		w->frames[(w->filled - 1) & (RECORD_FRAMES - 1)] = w->ip + 2;
}

/*
 * The leaf stands before its frame was made or after it was given up, by the instruction it stands at: the return address
 * is on top of the stack, or just below the caller's RBP. Then `sp` is the caller's, and w->bp, too.
 */
static __always_inline bool around_frame(struct walker *w, __u64 *ra, __u64 *sp)
{
	__u32 code = 0, saved_bytes = 0, dropped = 0;

	if (bpf_probe_read_user(&code, sizeof(code), (void *)w->ip))
		return false;
	if ((__u8)code == CODE_RET_N)
		dropped = code >> 8 & 0xffff;
	else if ((code & 0xffffff) == CODE_MOV_RBP || (code & 0xffffff) == CODE_MOV_RBP_TOO)
		saved_bytes = 8;
	else if ((__u8)code != CODE_RET && (__u8)code != CODE_PUSH_RBP && code != CODE_ENDBR64)
		return false;
	if (!read_ahead(w, w->sp + saved_bytes, ra) || *ra == 0)
		return false;
	if (saved_bytes && !read_stack(w, w->sp, &w->bp))
		return false;
	*sp = w->sp + saved_bytes + 8 + dropped;
	return true;
}

/*
 * Code without rows. Its frame pointer leads on if it has one: generated code by convention has. Where other code is
 * crossed, callers may be skipped, and the stack counts as incomplete whatever it reaches.
 */
static __always_inline int bridge(struct walker *w, __u8 why)
{
	__u64 bp = w->bp, saved = 0, ra = 0, sp = 0;

	/* An address outside all code is no caller: the last rule was wrong, or the mapping is not known yet. And where a
	 * table is missing there are rules. */
	if (why == END_UNKNOWN_MAPPING || is_passing(why))
		return end_walk(w, why);
	if (why != END_JIT)
		w->sample.bridged = why;
	if (w->filled == w->first + 1 && around_frame(w, &ra, &sp))
		return push(w, ra, ra - 1, sp, w->bp);
	if (bp == 0 || bp < w->sp || (bp & 7))
		return end_walk(w, why);
	if (!read_ahead(w, bp, &saved) || !read_stack(w, bp + 8, &ra))
		return end_walk(w, why);
	if (ra == 0)
		return end_walk(w, why);
	return push(w, ra, ra - 1, bp + 16, saved);
}

/* A signal handler's caller: all registers stand in the context the kernel saved. */
static __always_inline int leave_signal(struct walker *w, __s64 offset)
{
	__u64 context = w->sp + offset, bp = 0, sp = 0, ip = 0;

	was_not_called(w);
	if (!read_ahead(w, context + UCONTEXT_RBP, &bp) || !read_stack(w, context + UCONTEXT_RSP, &sp) ||
	    !read_stack(w, context + UCONTEXT_RIP, &ip))
		return end_walk(w, END_UNREADABLE_STACK);
	return push(w, ip + 1, ip, sp, bp);
}

/* Frames per step that take the short way: it saves the call and the look-up of the walker. */
#define SHORT_STEPS 4

/*
 * The short way for what nearly all frames are: a rule that is remembered, CFA = RSP + offset, the caller's RBP as it is
 * or beside the return address, both in the window. False: nothing is changed, take the long way.
 */
static __always_inline bool unwind_short(struct walker *w)
{
	__u64 key = w->ip | (__u64)w->space.id << USER_BITS;
	struct remembered *slot = &w->cache[(key * 0x9E3779B97F4A7C15ull) >> (64 - CACHE_BITS)];
	__u64 rule = slot->rule;

	/* One comparison for three: CFA_RSP, RBP_SAME or RBP_AT_CFA, and of this round. */
	if (slot->key != key || (rule & 0xfeff) != (CFA_RSP | round_bits(w)))
		return false;
	/* Offsets above 32 KiB are outside the window anyway. */
	__u64 cfa = w->sp + (__s16)(rule >> 32), offset = cfa - 8 - w->window_base, index = offset >> 3;

	if ((offset & 7) || offset >= WINDOW_BYTES || offset + 8 > w->window_bytes || (rule >> 48))
		return false;
	asm volatile("" : "+r"(index));
	__u64 ra = w->window[index & (WINDOW_WORDS - 1)];

	if (ra <= LOWEST_ADDRESS || ra >> USER_BITS)
		return false;
	if (rule & RBP_AT_CFA << 8) {
		offset = cfa + (__s16)(rule >> 16) - w->window_base;
		index = offset >> 3;
		if ((offset & 7) || offset >= WINDOW_BYTES || offset + 8 > w->window_bytes)
			return false;
		asm volatile("" : "+r"(index));
		w->bp = w->window[index & (WINDOW_WORDS - 1)];
	}
	w->frames[w->filled & (RECORD_FRAMES - 1)] = ra;
	w->filled++;
	w->hits++;
	w->ip = ra - 1;
	w->sp = cfa;
	return true;
}

/* Unwinds a frame: finds its rule and pushes its caller. Then some more, as far as the short way goes. */
__noinline int unwind_step(__u32 cpu)
{
	struct walker *w = bpf_map_lookup_elem(&walkers, &cpu);

	if (!w)
		return ENDED;
	if (w->filled - w->first < MAX_USER_FRAMES - SHORT_STEPS) {
		for (int i = 0; i < SHORT_STEPS; i++) {
			if (!unwind_short(w))
				break;
			if (i == SHORT_STEPS - 1)
				return CONTINUE;
		}
	}
	__u64 rule = rule_of(w), bp = w->bp, sp = w->sp, cfa = 0, ra = 0;
	__u8 kind = rule, rbp_kind = rule >> 8;
	__s64 rbp_offset = (__s16)(rule >> 16), cfa_offset = (__s16)(rule >> 32), aux = (__s16)(rule >> 48);
	__s64 wide_offset = (__s32)(aux << 16 | (__u16)cfa_offset);
	bool is_leaf = w->filled == w->first + 1;

	if (kind == CFA_RSP) {
		cfa = sp + wide_offset;
	} else if (kind == CFA_RBP) {
		cfa = bp + wide_offset;
	} else if (kind == CFA_NO_RULE) {
		return bridge(w, aux);
	} else if (kind == CFA_LAID_DOWN) {
		was_not_called(w);
		return end_walk(w, aux);
	} else if (kind == CFA_ROOT) {
		return end_walk(w, END_ROOT);
	} else if (kind == CFA_PLT) {
		cfa = sp + 8 + ((w->ip & 15) >= (__u64)cfa_offset ? 8 : 0);
	} else if (kind == CFA_SIGNAL) {
		return leave_signal(w, cfa_offset);
	} else if (kind == CFA_OTHER_STACK) {
		cfa = bp + cfa_offset;
	} else if (kind == CFA_DEREF_RBP) {
		if (!read_ahead(w, bp + cfa_offset, &cfa))
			return end_walk(w, END_UNREADABLE_STACK);
	} else if (kind == CFA_DEREF_RSP) {
		if (!read_ahead(w, sp + cfa_offset, &cfa))
			return end_walk(w, END_UNREADABLE_STACK);
		cfa += aux * 8;
	} else if (is_leaf && kind == CFA_R10) {
		cfa = w->leaf[DWARF_R10] + wide_offset;
	} else if (is_leaf && kind == CFA_LEAF_REGISTER) {
		cfa = w->leaf[aux & (LEAF_REGISTERS - 1)] + cfa_offset;
	} else {
		return end_walk(w, END_UNSUPPORTED_RULE);
	}
	/* A caller's frame lies above, unless code switches stacks by hand. */
	if ((cfa & 7) || (cfa < sp + 8 && kind != CFA_DEREF_RSP && kind != CFA_OTHER_STACK))
		return end_walk(w, END_BAD_FRAME);

	if (rbp_kind == RBP_SAME) {
		if (!read_ahead(w, cfa - 8, &ra))
			return end_walk(w, END_UNREADABLE_STACK);
	} else {
		__u64 at = rbp_kind == RBP_AT_CFA ? cfa + rbp_offset : bp + rbp_offset;

		/* Usually both stand side by side, the lower one is where the window should begin. */
		if (rbp_kind == RBP_UNDEFINED)
			bp = 0;
		else if (!read_ahead(w, at, &bp))
			return end_walk(w, END_UNREADABLE_STACK);
		if (!read_ahead(w, cfa - 8, &ra))
			return end_walk(w, END_UNREADABLE_STACK);
	}
	return push(w, ra, ra - 1, cfa, bp);
}

/* Walks from the registers in `w`, whose leaf frame has been pushed already. */
static __always_inline void walk_tables(struct walker *w, __u32 cpu)
{
	w->window_bytes = 0;
	w->window_filled = w->filled;
	w->window_base = w->sp;
	w->reads = w->hits = w->misses = 0;
	w->sample.end = END_TOO_DEEP;
	for (int i = 0; i < MAX_USER_FRAMES; i++) {
		/* The last frame is unwound, too: it may be the root. */
		if (w->filled - w->first > MAX_USER_FRAMES || unwind_step(cpu))
			break;
	}
}

#endif
