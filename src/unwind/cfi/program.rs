//! Runs the small programs of call frame information (DWARF 5 §6.4.2) as far as a walk needs them.
//!
//! In: instructions. Out: what they say of the CFA, RBP, RSP and the return address, from address to address. Rules for
//! other registers are passed over, which is why this is not gimli's own interpreter: it keeps 192 registers, and runs
//! the common part again for each function.

use gimli::{CallFrameInstruction, Register, UnwindExpression, X86_64};

/// `DW_CFA_remember_state` nests no deeper than this; compilers use one level, gimli allows four.
const MAX_REMEMBERED: usize = 16;

/// Where the CFA is said to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Cfa {
    #[default]
    Unset,
    Register {
        register: u16,
        offset: i64,
    },
    Expression(UnwindExpression<usize>),
}

/// Where the caller's value of a register is said to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Saved {
    #[default]
    Unset,
    Same,
    Undefined,
    AtCfa(i64),
    /// The value is CFA + offset.
    IsCfa(i64),
    /// At the address the expression computes.
    At(UnwindExpression<usize>),
    /// In another register, or by an expression for the value.
    Other,
}

/// One row of the table that the instructions describe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Columns {
    pub cfa: Cfa,
    pub rbp: Saved,
    pub rsp: Saved,
    pub return_address: Saved,
}

/// What all instructions of a common information entry share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factors {
    pub code: u64,
    pub data: i64,
    pub return_address: Register,
}

impl Default for Factors {
    fn default() -> Factors {
        Factors {
            code: 1,
            data: -8,
            return_address: X86_64::RA,
        }
    }
}

/// The instruction makes no sense where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Malformed;

/// The state of a program.
#[derive(Clone, Debug)]
pub(super) struct Program {
    factors: Factors,
    initial: Columns,
    pub(super) columns: Columns,
    remembered: Vec<Columns>,
}

impl Program {
    /// Begins the instructions of a common information entry (`initial` is the default then) or of a function.
    pub(super) fn new(factors: Factors, initial: Columns) -> Program {
        Program {
            factors,
            initial,
            columns: initial,
            remembered: Vec::new(),
        }
    }

    /// Takes the next function with the same or another common part, and keeps the memory.
    pub(super) fn restart(&mut self, factors: Factors, initial: Columns) {
        self.factors = factors;
        self.initial = initial;
        self.columns = initial;
        self.remembered.clear();
    }

    /// Applies an instruction. `Some` is the address, following `at`, that the next row begins at.
    pub(super) fn apply(
        &mut self,
        instruction: CallFrameInstruction<usize>,
        at: u64,
    ) -> Result<Option<u64>, Malformed> {
        use CallFrameInstruction as I;
        let factored = |offset: i64| offset.wrapping_mul(self.factors.data);
        match instruction {
            I::SetLoc { address } if address < at => return Err(Malformed),
            I::SetLoc { address } => return Ok(Some(address)),
            I::AdvanceLoc { delta } => {
                let bytes = u64::from(delta).wrapping_mul(self.factors.code);
                return at.checked_add(bytes).map(Some).ok_or(Malformed);
            }
            I::DefCfa { register, offset } => self.set_cfa(register, offset as i64),
            I::DefCfaSf {
                register,
                factored_offset,
            } => self.set_cfa(register, factored(factored_offset)),
            I::DefCfaRegister { register } => match self.columns.cfa {
                Cfa::Register { offset, .. } => self.set_cfa(register, offset),
                _ => return Err(Malformed),
            },
            I::DefCfaOffset { offset } => self.set_cfa_offset(offset as i64)?,
            I::DefCfaOffsetSf { factored_offset } => {
                self.set_cfa_offset(factored(factored_offset))?;
            }
            I::DefCfaExpression { expression } => self.columns.cfa = Cfa::Expression(expression),
            I::Undefined { register } => self.save(register, Saved::Undefined),
            I::SameValue { register } => self.save(register, Saved::Same),
            I::Offset {
                register,
                factored_offset,
            } => self.save(register, Saved::AtCfa(factored(factored_offset as i64))),
            I::OffsetExtendedSf {
                register,
                factored_offset,
            } => self.save(register, Saved::AtCfa(factored(factored_offset))),
            I::ValOffset {
                register,
                factored_offset,
            } => self.save(register, Saved::IsCfa(factored(factored_offset as i64))),
            I::ValOffsetSf {
                register,
                factored_offset,
            } => self.save(register, Saved::IsCfa(factored(factored_offset))),
            I::Expression {
                register,
                expression,
            } => self.save(register, Saved::At(expression)),
            I::Register { dest_register, .. } => self.save(dest_register, Saved::Other),
            I::ValExpression { register, .. } => self.save(register, Saved::Other),
            I::Restore { register } => {
                let mut initial = self.initial;
                if let Some(saved) = initial.column(register, self.factors) {
                    let saved = *saved;
                    self.save(register, saved);
                }
            }
            I::RememberState if self.remembered.len() >= MAX_REMEMBERED => return Err(Malformed),
            I::RememberState => self.remembered.push(self.columns),
            I::RestoreState => self.columns = self.remembered.pop().ok_or(Malformed)?,
            I::ArgsSize { .. } | I::NegateRaState | I::Nop => {}
        }
        Ok(None)
    }

    fn set_cfa(&mut self, register: Register, offset: i64) {
        let register = register.0;
        self.columns.cfa = Cfa::Register { register, offset };
    }

    fn set_cfa_offset(&mut self, to: i64) -> Result<(), Malformed> {
        match &mut self.columns.cfa {
            Cfa::Register { offset, .. } => *offset = to,
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn save(&mut self, register: Register, saved: Saved) {
        if let Some(column) = self.columns.column(register, self.factors) {
            *column = saved;
        }
    }
}

impl Columns {
    fn column(&mut self, register: Register, factors: Factors) -> Option<&mut Saved> {
        match register {
            X86_64::RBP => Some(&mut self.rbp),
            X86_64::RSP => Some(&mut self.rsp),
            other if other == factors.return_address => Some(&mut self.return_address),
            _ => None,
        }
    }
}
