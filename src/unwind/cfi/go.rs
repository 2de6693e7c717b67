//! Functions of Go's runtime that change stacks, from a goroutine's to the thread's, before they call C code.
//!
//! Their unwind information does not say so: it counts from RSP throughout. But the assembler has given them a frame
//! pointer, which stays on the goroutine's stack.

use crate::unwind::row::{CfaKind, RbpKind, Rule};

/// Bytes of `mov %rbp,n(%rsp); lea n(%rsp),%rbp`, which make the frame once there is room for it.
/// Source: Go, `src/cmd/internal/obj/x86/obj6.go`, `preprocess`.
const MAKE_FRAME_BYTES: u64 = 10;

/// In the body the caller's RBP is at RBP, and the return address above it.
pub(super) fn body() -> Rule {
    Rule::from_other(CfaKind::OtherStack, 16, 0).with_rbp(RbpKind::AtCfa, -16)
}

/// From where on the body's rule holds, if `rule` holds from `addr` on by the unwind information.
pub(super) fn body_begins(addr: u64, rule: Rule) -> Option<u64> {
    let has_room = rule.cfa == CfaKind::Rsp && rule.full_cfa_offset() > 8;
    has_room.then_some(addr + MAKE_FRAME_BYTES)
}
