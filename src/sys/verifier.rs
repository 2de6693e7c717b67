//! What the kernel's verifier had to do to accept each BPF program.
//!
//! In: nothing; the programs are loaded as for `--unwind dwarf --mode all`, the most there is to verify, and unloaded again. Out: a
//! program's figures, from the statistics that the verifier writes into its log (`BPF_LOG_STATS`, kernel 5.2). They
//! depend on the kernel and on the compiler, not on the machine.

use std::mem::MaybeUninit;
use std::sync::Mutex;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{OpenObject, PrintLevel};

use super::bpf::leave_out_waits;
use super::skel::SampleSkelBuilder;

/// Only the figures, no instructions. Source: `BPF_LOG_STATS` in `include/linux/bpf_verifier.h`.
const LOG_STATS: u32 = 4;

/// The clang that made the programs, by its own words.
pub const COMPILER: &str = env!("PERFPROF_CLANG");

/// What it took to verify a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedProgram {
    pub name: String,
    /// Instructions looked at, each as often as it was; the kernel allows a million.
    pub instructions: u64,
    /// Stack of the program and of the functions it calls, each on its own; the kernel allows 512 on any path.
    pub stack_bytes: Vec<u32>,
}

/// Loads the programs and says what the verifier said, in the order of loading; without those that keep books where the
/// kernel cannot have them. libbpf's error when one is refused, with the detail in [`super::bpf::take_messages`].
pub fn verify() -> libbpf_rs::Result<Vec<VerifiedProgram>> {
    load(true).or_else(|_| {
        super::bpf::take_messages();
        load(false)
    })
}

fn load(with_waits: bool) -> libbpf_rs::Result<Vec<VerifiedProgram>> {
    libbpf_rs::set_print(Some((PrintLevel::Debug, keep_log)));
    LOG.lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .clear();
    let mut storage: MaybeUninit<OpenObject> = MaybeUninit::uninit();
    let mut open = SampleSkelBuilder::default().open(&mut storage)?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.by_tables = true;
        rodata.keeps_books = with_waits;
    }
    if !with_waits {
        leave_out_waits(&mut open)?;
    }
    for mut program in open.open_object_mut().progs_mut() {
        program.set_log_level(LOG_STATS);
    }
    open.load()?;
    let mut log = LOG.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    Ok(std::mem::take(&mut *log)
        .iter()
        .filter_map(|message| verified_program(message))
        .collect())
}

/// Messages with a verifier's log.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn keep_log(level: PrintLevel, message: String) {
    if level == PrintLevel::Warn {
        super::bpf::keep_message(level, message);
    } else if message.contains("BEGIN PROG LOAD LOG")
        && let Ok(mut log) = LOG.lock()
    {
        log.push(message);
    }
}

/// Reads libbpf's message about a loaded program; `None` when it is about something else.
///
/// Source: `bpf_object_load_prog` in libbpf, `print_verification_stats` in `kernel/bpf/verifier.c`.
fn verified_program(message: &str) -> Option<VerifiedProgram> {
    let (_, rest) = message.split_once("prog '")?;
    let (name, log) = rest.split_once("': -- BEGIN PROG LOAD LOG --")?;
    let processed = log.lines().find_map(|line| line.strip_prefix("processed "));
    Some(VerifiedProgram {
        name: name.to_string(),
        instructions: processed?.split(' ').next()?.parse().ok()?,
        stack_bytes: log.lines().flat_map(stack_bytes).collect(),
    })
}

/// Reads `stack depth 224+88` or, in 7.x, the end of `subprog 1 (unwind_step) global … stack 88`.
fn stack_bytes(line: &str) -> Vec<u32> {
    let depths = match line.strip_prefix("stack depth ") {
        Some(depths) => depths,
        None if line.starts_with("subprog ") => line.rsplit(' ').next().unwrap_or_default(),
        None => return Vec::new(),
    };
    let depths = depths.split('+').map(str::parse);
    depths.collect::<Result<_, _>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_verifiers_log() {
        let message = "libbpf: prog 'on_tick': -- BEGIN PROG LOAD LOG --\nverification time 90 usec\nstack depth \
                       152+0+64\nprocessed 56017 insns (limit 1000000) max_states_per_insn 5 total_states 9 \
                       peak_states 9 mark_read 2\n-- END PROG LOAD LOG --\n";
        let program = verified_program(message).expect("a program's log");
        assert_eq!(program.name, "on_tick");
        assert_eq!(program.instructions, 56_017);
        assert_eq!(program.stack_bytes, [152, 0, 64]);
        let message = "libbpf: prog 'on_exit': -- BEGIN PROG LOAD LOG --\nstack depth max 112\nsubprog 0 (on_exit) main \
                       insns_self 29 insns_total 30 stack 32\nsubprog 1 (f) global insns_self 1 insns_total 1 stack 80\n\
                       processed 31 insns (limit 1000000) max_states_per_insn 0\n";
        let program = verified_program(message).expect("a program's log, as 7.3 writes it");
        assert_eq!(
            (program.instructions, program.stack_bytes),
            (31, vec![32, 80])
        );
        assert_eq!(verified_program("libbpf: map 'heap': created"), None);
    }
}
