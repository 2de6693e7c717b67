//! Functions known by name to be a thread's first, for stacks whose unwind information cannot say so.
//!
//! Frame pointers end in `main`'s caller, because C libraries are built without; hand-written entry points have no unwind
//! information. In both cases nothing of the program is missing, and counting such stacks as broken would cry wolf.

use crate::profile::{StackEnd, Why};

/// Entry points of processes and threads in glibc, musl, the kernel and Go.
const FIRST_FUNCTIONS: [&str; 19] = [
    "_start",
    "__clone",
    "clone",
    "__clone3",
    "clone3",
    "start_thread",
    "__libc_start_main",
    "__libc_start_main_impl",
    "__libc_start_call_main",
    "libc_start_main_stage2",
    "_start_c",
    "_dl_start_user",
    // Go: of a goroutine, of a thread, of the process, and of the scheduler on a thread's own stack.
    "runtime.goexit",
    "runtime.goexit.abi0",
    "runtime.mstart",
    "runtime.mstart.abi0",
    "runtime.rt0_go",
    "runtime.rt0_go.abi0",
    "runtime.mcall",
];

/// How a stack ended, given the names of its two outermost functions. Only ends that a missing rule explains are
/// reconsidered: a stack that was cut for its depth stays cut.
pub(super) fn end_by_name(
    end: StackEnd,
    outermost: Option<&str>,
    second: Option<&str>,
) -> StackEnd {
    let rule_missing = matches!(
        end,
        StackEnd::Truncated(
            Why::FramePointerLost | Why::NoUnwindInfo | Why::BadFrame | Why::UnreadableStack
        )
    );
    let is_first = outermost.is_some_and(|name| FIRST_FUNCTIONS.contains(&name));
    // Whatever called `main` is the C library's start-up code, named or not.
    let called_main = [outermost, second].contains(&Some("main"));
    if rule_missing && (is_first || called_main) {
        StackEnd::Root
    } else {
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ends_that_a_missing_rule_explains_become_complete() {
        let lost = StackEnd::Truncated(Why::FramePointerLost);
        let deep = StackEnd::Truncated(Why::TooDeep);
        assert_eq!(
            end_by_name(lost, Some("libc.so.6+0x2724a"), Some("main")),
            StackEnd::Root
        );
        assert_eq!(end_by_name(lost, Some("_start"), None), StackEnd::Root);
        assert_eq!(end_by_name(lost, Some("worker"), Some("work")), lost);
        assert_eq!(end_by_name(deep, Some("_start"), None), deep);
    }
}
