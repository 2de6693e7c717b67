//! Functions of Go's runtime that change stacks, from a goroutine's to the thread's, before they call C code.
//!
//! Their unwind information does not say so: it counts from RSP throughout. But the assembler has given them a frame
//! pointer, which stays on the goroutine's stack.

use crate::target::binary::StackSwitch;
use crate::unwind::row::{CfaKind, RbpKind, Rule};

/// Bytes of `mov %rbp,n(%rsp); lea n(%rsp),%rbp`, which make the frame once there is room for it.
/// Source: Go, `src/cmd/internal/obj/x86/obj6.go`, `preprocess`.
const MAKE_FRAME_BYTES: u64 = 10;

/// Rows instead of the one that says that `rule` holds from `addr` on.
pub(super) fn rows(switch: StackSwitch, addr: u64, rule: Rule) -> Vec<(u64, Rule)> {
    let has_room = rule.cfa == CfaKind::Rsp && rule.full_cfa_offset() > 8;
    match switch {
        // The goroutine is left behind: what calls from here on is the thread.
        StackSwitch::ForGood => vec![(addr, Rule::ROOT)],
        StackSwitch::ForCall if has_room => {
            // The caller's RBP is at RBP, and the return address above it.
            let body = Rule::from_other(CfaKind::OtherStack, 16, 0).with_rbp(RbpKind::AtCfa, -16);
            vec![(addr, rule), (addr + MAKE_FRAME_BYTES, body)]
        }
        StackSwitch::ForCall => vec![(addr, rule)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_a_call_is_found_by_its_frame_pointer() {
        let above_rsp = |bytes| Rule::from_register(CfaKind::Rsp, bytes);
        let for_call = |rule| rows(StackSwitch::ForCall, 0x1000, rule);
        assert_eq!(for_call(above_rsp(8)), [(0x1000, above_rsp(8))]);
        let made = for_call(above_rsp(32));
        assert_eq!(made[0], (0x1000, above_rsp(32)));
        assert_eq!((made[1].0, made[1].1.cfa), (0x100a, CfaKind::OtherStack));
        let for_good = rows(StackSwitch::ForGood, 0x1000, above_rsp(8));
        assert_eq!(for_good, [(0x1000, Rule::ROOT)]);
    }
}
