//! What names tell about the end of a stack, where its unwind information could not.
//!
//! Frame pointers end in `main`'s caller, because C libraries are built without; hand-written entry points have no unwind
//! information. In both cases nothing of the program is missing, and counting such stacks as broken would cry wolf.

use crate::profile::{FrameIx, FrameKind, ProfileBuilder, StackEnd, Why};

/// Entry points of processes and threads in glibc, musl, the kernel and Go.
const FIRST_FUNCTIONS: [&str; 22] = [
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
    // Of a coroutine.
    "__start_context",
    // Go: of a goroutine, of a thread, of the process, and of the scheduler on a thread's own stack.
    "runtime.goexit",
    "runtime.goexit.abi0",
    "runtime.clone",
    "runtime.clone.abi0",
    "runtime.mstart",
    "runtime.mstart.abi0",
    "runtime.rt0_go",
    "runtime.rt0_go.abi0",
    "runtime.mcall",
];

/// From here on `execve` has given up the old program's memory, and the new one has not begun: there is no user stack.
const REPLACES_PROGRAM: &str = "load_elf_binary";

/// Here a thread gives up its memory and then its registers: without user frames nothing is missing.
const ENDS_THREAD: &str = "do_exit";

/// The last word on a stack, given root first.
pub(super) fn settle(
    builder: &ProfileBuilder,
    end: StackEnd,
    frames: &mut Vec<FrameIx>,
) -> StackEnd {
    if end == StackEnd::Root {
        return end;
    }
    let kernel = |ix: &FrameIx| builder.frame_kind(*ix) == FrameKind::Kernel;
    let runs = |name| {
        frames
            .iter()
            .any(|ix| kernel(ix) && builder.outermost_name(*ix) == name)
    };
    if runs(REPLACES_PROGRAM) || (frames.iter().all(kernel) && runs(ENDS_THREAD)) {
        frames.retain(kernel);
        return StackEnd::Root;
    }
    let name = |depth: usize| frames.get(depth).map(|ix| builder.outermost_name(*ix));
    end_by_name(end, name(0), name(1))
}

/// How a stack ended, given the names of its two outermost functions. Only ends that a missing rule explains are
/// reconsidered: a stack that was cut for its depth stays cut.
fn end_by_name(end: StackEnd, outermost: Option<&str>, second: Option<&str>) -> StackEnd {
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
