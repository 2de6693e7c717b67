//! `perfprof show`: what perfprof knows of a program, or of itself, to look at.
//!
//! `rows` prints how an unwind table came out: its size, what of the file it cannot say, and the rule at an address.
//! `programs` loads the BPF programs and prints what that took.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Instant;

use super::args::{RowsArgs, ShowArgs};
use super::stop::{Exit, Failure};
use crate::profile::{ElfAddr, MappingKind};
use crate::sys::bpf::{is_permission, take_messages};
use crate::sys::verifier::{self, VerifiedProgram};
use crate::target::binary::{Binary, Problem};
use crate::target::host::Host;
use crate::unwind::UnwindTable;

pub(super) fn run(args: &ShowArgs) -> Result<Exit, Failure> {
    let text = match args {
        ShowArgs::Rows(args) => rows(args)?,
        ShowArgs::Programs => programs()?,
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever closed the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::NotWritten, error))
        }
        _ => Ok(Exit::Success),
    }
}

fn rows(args: &RowsArgs) -> Result<String, Failure> {
    let path = args.binary.display().to_string();
    let file =
        std::fs::File::open(&args.binary).map_err(|error| Failure::new(Exit::BadInput, error))?;
    let begun = Instant::now();
    let binary = Binary::read(0, MappingKind::File, path, file, None);
    let read_ms = begun.elapsed().as_secs_f64() * 1e3;
    if let Some(Problem::Malformed(why)) = &binary.problem {
        let message = format!("`{}` is no ELF file: {why}", binary.path);
        return Err(Failure::message(Exit::BadInput, message));
    }
    let begun = Instant::now();
    let table = UnwindTable::of(&binary);
    let build_ms = begun.elapsed().as_secs_f64() * 1e3;
    let mut text = String::new();
    if let Some(addr) = args.addr {
        let _ = writeln!(text, "{addr:#x}  {:?}", table.look_up(ElfAddr(addr)));
        return Ok(text);
    }
    let rows = table.rows().len();
    let pages = table.pages().len().saturating_sub(1);
    let _ = writeln!(text, "functions  {}", table.functions());
    let _ = writeln!(text, "rows       {rows}");
    let _ = writeln!(text, "rules      {}", table.rules().len());
    let _ = writeln!(text, "pages      {pages} of 64 KiB");
    let _ = writeln!(
        text,
        "memory     {} bytes, {:.2} per row",
        table.bytes(),
        table.bytes() as f64 / rows.max(1) as f64
    );
    let _ = writeln!(
        text,
        "time       {read_ms:.1} ms to read, {build_ms:.1} ms to compile"
    );
    for (gap, count) in table.gaps().iter() {
        let _ = writeln!(text, "not said   {count} x {}", gap.explain());
    }
    Ok(text)
}

fn programs() -> Result<String, Failure> {
    let verified = verifier::verify().map_err(|error| {
        let exit = if is_permission(&error) {
            Exit::NotPermitted
        } else {
            Exit::Failed
        };
        let messages = take_messages();
        let error = anyhow::Error::new(error).context("failed to load the BPF programs");
        let failure = Failure::new(exit, error);
        match messages.trim_end() {
            "" => failure.hint("run `perfprof doctor`"),
            words => failure.hint(format!("the kernel said:\n{words}")),
        }
    })?;
    Ok(programs_text(&verified))
}

fn programs_text(verified: &[VerifiedProgram]) -> String {
    let mut text = format!("kernel    {}\n", Host::inspect().kernel_release);
    let _ = writeln!(text, "compiler  {}\n", verifier::COMPILER);
    let _ = writeln!(text, "program      instructions verified  stack bytes");
    for program in verified {
        let depths: Vec<String> = program.stack_bytes.iter().map(u32::to_string).collect();
        let _ = writeln!(
            text,
            "{:<12} {:>21}  {}",
            program.name,
            program.instructions,
            depths.join("+")
        );
    }
    text
}
