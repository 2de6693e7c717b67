//! x86-64 Linux. Its mirror for BPF programs is `bpf/x86_64.h`.

/// DWARF register numbers. Source: System V x86-64 psABI, figure 3.36.
pub const RBX: u16 = 3;
pub const RBP: u16 = 6;
pub const RSP: u16 = 7;
pub const R10: u16 = 10;
pub const R15: u16 = 15;
pub const RIP: u16 = 16;

/// rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15, rip, by DWARF number.
pub const REGISTER_COUNT: usize = 17;

/// What a function must leave as it found it. Source: System V x86-64 psABI §3.2.1.
pub const CALLEE_SAVED: [u16; 6] = [RBX, RBP, 12, 13, 14, R15];

/// Memory below the stack pointer that signal handlers leave alone. Source: System V x86-64 psABI §3.2.2.
pub const RED_ZONE_BYTES: u64 = 128;

/// Offsets in `struct ucontext`: 40 bytes stand before the registers of `struct sigcontext_64`.
/// Source: `arch/x86/include/uapi/asm/{ucontext,sigcontext}.h`.
pub const UCONTEXT_RBP: i64 = 120;
pub const UCONTEXT_RSP: i64 = 160;
pub const UCONTEXT_RIP: i64 = 168;

/// Registers copied with a user stack, as a mask of `PERF_REG_X86_*` bits: AX, BX, CX, DX, SI, DI, BP, SP, IP, and R8
/// to R15. The values arrive in order of bit number.
/// Source: `arch/x86/include/uapi/asm/perf_regs.h`.
pub const PERF_REGISTERS: u64 = 0x1ff | 0xff << 16;

/// DWARF numbers of these registers, in that order.
pub const PERF_REGISTER_ORDER: [u16; REGISTER_COUNT] =
    [0, 3, 2, 1, 4, 5, 6, 7, 16, 8, 9, 10, 11, 12, 13, 14, 15];

/// User addresses end here unless a process asks for more (5-level page tables, by hint only).
pub const USER_BITS: u32 = 47;

/// `endbr64`, which may begin a function or an entry of a linkage table.
pub const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];

/// First bytes of `push %rbp`, `ret` and `ret n`.
pub const PUSH_RBP: u8 = 0x55;
pub const RET: u8 = 0xc3;
pub const RET_N: u8 = 0xc2;

/// How a function makes its frame: `push %rbp; mov %rsp,%rbp`, in the two encodings of the second.
pub const PROLOGUES: [&[u8]; 2] = [&[0x55, 0x48, 0x89, 0xe5], &[0x55, 0x48, 0x8b, 0xec]];
