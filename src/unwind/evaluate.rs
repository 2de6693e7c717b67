//! One step of a walk: by the row of a frame, from its registers to its caller's.
//!
//! All general registers are carried along, because hand-written assembly keeps the frame address in whichever it likes
//! (OpenSSL in rax or r11, glibc's lazy binding in rbx). A register whose value is not known is `None`, and a rule
//! that needs it ends the walk; nothing is guessed.

use gimli::{
    EndianSlice, Evaluation, EvaluationResult, LittleEndian, Location, Value as GimliValue,
};

use crate::arch::{CALLEE_SAVED, RBP, REGISTER_COUNT, RIP, RSP};

use super::rows::{Cfa, Row, Value};

/// An expression that runs longer than this is malicious; the longest known (the PLT's) has 11 operations.
const MAX_OPERATIONS: u32 = 1000;

/// Registers of one frame, by DWARF number; each may be unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    values: [u64; REGISTER_COUNT],
    /// A bit for each value that is known.
    known: u32,
}

impl Registers {
    pub fn get(&self, number: u16) -> Option<u64> {
        let value = *self.values.get(usize::from(number))?;
        (self.known & (1 << number) != 0).then_some(value)
    }

    pub fn set(&mut self, number: u16, value: Option<u64>) {
        self.values[usize::from(number)] = value.unwrap_or(0);
        self.known = self.known & !(1 << number) | u32::from(value.is_some()) << number;
    }

    pub fn ip(&self) -> Option<u64> {
        self.get(RIP)
    }

    pub fn sp(&self) -> Option<u64> {
        self.get(RSP)
    }

    pub fn bp(&self) -> Option<u64> {
        self.get(RBP)
    }

    /// The caller's registers as far as a frame pointer tells them.
    pub(super) fn of_frame_pointer(bp: u64, saved_bp: u64, return_address: u64) -> Registers {
        let mut caller = Registers::default();
        caller.set(RBP, Some(saved_bp));
        caller.set(RSP, bp.checked_add(16));
        caller.set(RIP, Some(return_address));
        caller
    }
}

/// Why there is no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoCaller {
    /// Stack memory at this address is needed and was not copied.
    Unreadable(u64),
    /// A needed register is not known, or a rule makes no sense.
    Uncomputable,
}

/// The caller's registers.
pub(super) fn caller(
    row: &Row,
    frame: &Registers,
    read: &dyn Fn(u64) -> Option<u64>,
) -> Result<Registers, NoCaller> {
    let cfa = match &row.cfa {
        Cfa::Register { number, offset } => {
            let base = frame.get(*number).ok_or(NoCaller::Uncomputable)?;
            base.checked_add_signed(*offset)
                .ok_or(NoCaller::Uncomputable)?
        }
        Cfa::Expression(code) => evaluate(code, None, row, frame, read)?,
    };
    let mut caller = Registers::default();
    for number in CALLEE_SAVED {
        caller.set(number, frame.get(number));
    }
    caller.set(RSP, Some(cfa));
    for (number, value) in &row.registers {
        let number = *number;
        if usize::from(number) >= REGISTER_COUNT {
            continue;
        }
        let computed = compute(value, number, cfa, row, frame, read);
        match computed {
            // Without these two there is no caller; another register may turn out not to be needed.
            Err(why) if number == RIP || number == RSP => return Err(why),
            other => caller.set(number, other.ok().flatten()),
        }
    }
    Ok(caller)
}

fn compute(
    value: &Value,
    number: u16,
    cfa: u64,
    row: &Row,
    frame: &Registers,
    read: &dyn Fn(u64) -> Option<u64>,
) -> Result<Option<u64>, NoCaller> {
    let at = |addr: u64| read(addr).map(Some).ok_or(NoCaller::Unreadable(addr));
    let plus = |offset: i64| cfa.checked_add_signed(offset).ok_or(NoCaller::Uncomputable);
    match value {
        Value::Unknown => Ok(None),
        Value::Same => Ok(frame.get(number)),
        // Compilers do not always say that an epilogue has popped a register: its place is free, and it holds its value.
        Value::At(offset) if frame.sp() > Some(plus(*offset)?) => Ok(frame.get(number)),
        Value::At(offset) => at(plus(*offset)?),
        Value::Is(offset) => plus(*offset).map(Some),
        Value::Register(other) => Ok(frame.get(*other)),
        Value::AtExpression(code) => at(evaluate(code, Some(cfa), row, frame, read)?),
        Value::IsExpression(code) => evaluate(code, Some(cfa), row, frame, read).map(Some),
    }
}

/// Runs a DWARF expression (DWARF 5 §2.5) over registers and copied memory.
fn evaluate(
    code: &[u8],
    initial: Option<u64>,
    row: &Row,
    frame: &Registers,
    read: &dyn Fn(u64) -> Option<u64>,
) -> Result<u64, NoCaller> {
    let mut evaluation = Evaluation::new(EndianSlice::new(code, LittleEndian), row.encoding);
    evaluation.set_max_iterations(MAX_OPERATIONS);
    if let Some(initial) = initial {
        evaluation.set_initial_value(initial);
    }
    let uncomputable = |_| NoCaller::Uncomputable;
    let mut result = evaluation.evaluate().map_err(uncomputable)?;
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = frame.get(register.0).ok_or(NoCaller::Uncomputable)?;
                evaluation.resume_with_register(GimliValue::Generic(value))
            }
            EvaluationResult::RequiresMemory {
                address, size: 8, ..
            } => {
                let value = read(address).ok_or(NoCaller::Unreadable(address))?;
                evaluation.resume_with_memory(GimliValue::Generic(value))
            }
            _ => return Err(NoCaller::Uncomputable),
        }
        .map_err(uncomputable)?;
    }
    match evaluation.as_result() {
        [piece] => match piece.location {
            Location::Address { address } => Ok(address),
            _ => Err(NoCaller::Uncomputable),
        },
        _ => Err(NoCaller::Uncomputable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gimli::{Encoding, Format};

    const ENCODING: Encoding = Encoding {
        address_size: 8,
        format: Format::Dwarf32,
        version: 1,
    };

    fn row(cfa: Cfa, registers: Vec<(u16, Value)>) -> Row {
        Row {
            cfa,
            registers,
            is_signal: false,
            encoding: ENCODING,
        }
    }

    fn frame(values: &[(u16, u64)]) -> Registers {
        let mut registers = Registers::default();
        for (number, value) in values {
            registers.set(*number, Some(*value));
        }
        registers
    }

    #[test]
    fn an_ordinary_frame_restores_what_it_saved_and_forgets_what_it_may_clobber() {
        let row = row(
            Cfa::Register {
                number: 7,
                offset: 32,
            },
            vec![(6, Value::At(-16)), (16, Value::At(-8))],
        );
        let from = frame(&[(7, 0x1000), (6, 1), (3, 7), (0, 9), (16, 0x40)]);
        let read = |addr| Some(addr + 1);
        let caller = caller(&row, &from, &read).expect("all is readable");
        assert_eq!(
            caller,
            frame(&[(7, 0x1020), (6, 0x1011), (3, 7), (16, 0x1019)])
        );
    }

    #[test]
    fn a_register_that_an_epilogue_has_popped_keeps_its_value() {
        let row = row(
            Cfa::Register {
                number: 7,
                offset: 8,
            },
            vec![(6, Value::At(-16)), (16, Value::At(-8))],
        );
        let read = |addr| (addr >= 0x1000).then_some(addr);
        let caller = caller(&row, &frame(&[(7, 0x1000), (6, 77), (16, 0x40)]), &read);
        assert_eq!(caller.expect("readable").bp(), Some(77));
    }

    #[test]
    fn the_plt_rule_adds_a_word_once_the_index_was_pushed() {
        // DW_OP_breg7 8, breg16 0, lit15, and, lit11, ge, lit3, shl, plus
        let code = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        let row = row(Cfa::Expression(code.into()), vec![(16, Value::At(-8))]);
        for (ip, cfa) in [(0x1020, 0x2008), (0x102b, 0x2010)] {
            let caller = caller(&row, &frame(&[(7, 0x2000), (16, ip)]), &|_| Some(5));
            assert_eq!(caller.expect("readable").sp(), Some(cfa), "at {ip:#x}");
        }
    }

    #[test]
    fn what_is_not_known_is_said_and_an_endless_expression_ends() {
        let by_r11 = row(
            Cfa::Register {
                number: 11,
                offset: 8,
            },
            vec![(16, Value::At(-8))],
        );
        let unknown = caller(&by_r11, &frame(&[(7, 0x1000)]), &|_| Some(1));
        assert_eq!(unknown, Err(NoCaller::Uncomputable));
        let by_rsp = row(
            Cfa::Register {
                number: 7,
                offset: 8,
            },
            vec![(16, Value::At(-8))],
        );
        let missing = caller(&by_rsp, &frame(&[(7, 0x1000)]), &|_| None);
        assert_eq!(missing, Err(NoCaller::Unreadable(0x1000)));
        // DW_OP_skip to itself
        let endless = row(Cfa::Expression([0x2f, 0xfd, 0xff].into()), vec![]);
        let ended = caller(&endless, &frame(&[(7, 0x1000)]), &|_| Some(1));
        assert_eq!(ended, Err(NoCaller::Uncomputable));
    }
}
