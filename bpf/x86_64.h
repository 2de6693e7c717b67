/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 OR MIT */
/*
 * What the walker must know of x86-64: registers, saved contexts, instructions that tell a frame. Its mirror for user
 * space is src/arch/x86_64.rs.
 */
#ifndef PERFPROF_X86_64_H
#define PERFPROF_X86_64_H

/* User addresses end here unless a process asks for more (5-level page tables, by hint only). */
#define USER_BITS 47
#define USER_PAGE_BYTES 4096

/* Registers of the leaf frame by DWARF number (psABI, figure 3.36): rax rdx rcx rbx rsi rdi rbp rsp r8 to r15. */
#define LEAF_REGISTERS 16
#define DWARF_RSP 7
#define DWARF_R10 10

/* Selector of 64-bit user code: __USER_CS in arch/x86/include/asm/segment.h. 32-bit code has another. */
#define USER_CS 0x33

/* Takes the registers by which the leaf frame is unwound; those of `regs` can be any struct of uapi names. */
#define TAKE_REGISTERS(w, regs)                  \
	do {                                     \
		(w)->ip = (regs)->rip;           \
		(w)->sp = (regs)->rsp;           \
		(w)->bp = (regs)->rbp;           \
		(w)->leaf_ip = (regs)->rip;      \
		(w)->leaf[0] = (regs)->rax;      \
		(w)->leaf[1] = (regs)->rdx;      \
		(w)->leaf[2] = (regs)->rcx;      \
		(w)->leaf[3] = (regs)->rbx;      \
		(w)->leaf[4] = (regs)->rsi;      \
		(w)->leaf[5] = (regs)->rdi;      \
		(w)->leaf[6] = (regs)->rbp;      \
		(w)->leaf[7] = (regs)->rsp;      \
		(w)->leaf[8] = (regs)->r8;       \
		(w)->leaf[9] = (regs)->r9;       \
		(w)->leaf[10] = (regs)->r10;     \
		(w)->leaf[11] = (regs)->r11;     \
		(w)->leaf[12] = (regs)->r12;     \
		(w)->leaf[13] = (regs)->r13;     \
		(w)->leaf[14] = (regs)->r14;     \
		(w)->leaf[15] = (regs)->r15;     \
	} while (0)

/* The same as COPY_REGISTERS words, by DWARF number. */
#define LIST_REGISTERS(to, regs)          \
	do {                              \
		(to)[0] = (regs)->rax;    \
		(to)[1] = (regs)->rdx;    \
		(to)[2] = (regs)->rcx;    \
		(to)[3] = (regs)->rbx;    \
		(to)[4] = (regs)->rsi;    \
		(to)[5] = (regs)->rdi;    \
		(to)[6] = (regs)->rbp;    \
		(to)[7] = (regs)->rsp;    \
		(to)[8] = (regs)->r8;     \
		(to)[9] = (regs)->r9;     \
		(to)[10] = (regs)->r10;   \
		(to)[11] = (regs)->r11;   \
		(to)[12] = (regs)->r12;   \
		(to)[13] = (regs)->r13;   \
		(to)[14] = (regs)->r14;   \
		(to)[15] = (regs)->r15;   \
		(to)[16] = (regs)->rip;   \
	} while (0)

/* What a thread had in its registers as it entered the kernel. */
struct entry_registers {
	__u64 ip;
	__u64 sp;
	/* Of the system call; below 0 where something else brought it there. */
	__s64 syscall;
	/* Its first argument. */
	__u64 first;
	bool is_64_bit;
};

/* From the registers that the kernel has saved, see struct pt_regs___kernel in kernel.h. */
#define FILL_ENTRY(entry, regs)                                          \
	do {                                                             \
		const struct pt_regs___kernel *from = (const void *)(regs); \
		(entry)->ip = from->ip;                                  \
		(entry)->sp = from->sp;                                  \
		(entry)->syscall = from->orig_ax;                        \
		(entry)->first = from->di;                               \
		(entry)->is_64_bit = (__u16)from->cs == USER_CS;         \
	} while (0)

/* Offsets in struct ucontext of the kernel (arch/x86/include/uapi/asm/ucontext.h, struct sigcontext_64). */
#define UCONTEXT_RBP 120
#define UCONTEXT_RSP 160
#define UCONTEXT_RIP 168

/* Instructions around the life of a frame: push %rbp; mov %rsp,%rbp (both encodings); ret; ret n; endbr64. */
#define CODE_PUSH_RBP 0x55
#define CODE_MOV_RBP 0xe58948
#define CODE_MOV_RBP_TOO 0xec8b48
#define CODE_RET 0xc3
#define CODE_RET_N 0xc2
#define CODE_ENDBR64 0xfa1e0ff3

#endif
