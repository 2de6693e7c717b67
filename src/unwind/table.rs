//! The unwind rules of one binary, compact: 4 bytes a row, each distinct rule once.
//!
//! In: rules in ascending order of address. Out: [`UnwindTable`], which the user-side walker searches and which is
//! uploaded to the kernel as it is. A page is 64 KiB of addresses, so that a row needs only the low 16 bits. A page
//! that is entered with a rule in force begins with a row for it: a search never leaves its page. Addresses before the
//! first row of a page have no rule.

use std::collections::HashMap;

use crate::profile::ElfAddr;
use crate::target::binary::Binary;

use super::cfi::{self, Gap, Gaps, RowSink};
use super::row::{Rule, UnwindRow};

/// Addresses a page covers, as a power of two: what `pc_low` can tell apart.
pub const PAGE_BITS: u32 = 16;

/// A table covers at most 4 GiB of addresses; the largest program known to us has 0.5 GiB of code.
const MAX_PAGES: usize = 1 << 16;

/// More rows (64 MiB) are not kept. librustc_driver has 1.6 million, Chromium about 4 million.
const MAX_ROWS: usize = 16 << 20;

/// Distinct rules that 16 bits can number.
const MAX_RULES: usize = 1 << 16;

/// The unwind rules of one binary.
#[derive(Clone, Debug, Default)]
pub struct UnwindTable {
    rows: Vec<UnwindRow>,
    /// The first is [`Rule::NONE`].
    rules: Vec<Rule>,
    /// Index of each page's first row, and the number of rows at the end.
    pages: Vec<u32>,
    /// Number of the first page: its address >> 16.
    first_page: u64,
    /// Functions that have rules.
    functions: usize,
    gaps: Gaps,
}

impl UnwindTable {
    /// Compiles what the file says. A file that says nothing gives an empty table.
    pub fn of(binary: &Binary) -> UnwindTable {
        let mut builder = TableBuilder::new();
        let (functions, gaps) = cfi::compile(binary, &mut builder);
        builder.finish(functions, gaps)
    }

    /// The rule for the instruction at `addr`; [`Rule::NONE`] where there is none.
    pub fn look_up(&self, addr: ElfAddr) -> Rule {
        self.find(addr).unwrap_or(Rule::NONE)
    }

    fn find(&self, addr: ElfAddr) -> Option<Rule> {
        let page = (addr.0 >> PAGE_BITS).checked_sub(self.first_page)?;
        let page = usize::try_from(page).ok()?;
        let (from, to) = (*self.pages.get(page)?, *self.pages.get(page + 1)?);
        let rows = &self.rows[from as usize..to as usize];
        let low = addr.0 as u16;
        let after = rows.partition_point(|row| row.pc_low <= low);
        let row = rows.get(after.checked_sub(1)?)?;
        Some(self.rules[usize::from(row.rule)])
    }

    pub fn rows(&self) -> &[UnwindRow] {
        &self.rows
    }

    /// The dictionary. Number 0 is [`Rule::NONE`].
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Index of the first row of each page, and the number of rows at the end: one more than there are pages.
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Number of the first page: its address >> 16.
    pub fn first_page(&self) -> u64 {
        self.first_page
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Functions that have rules.
    pub fn functions(&self) -> usize {
        self.functions
    }

    /// What the file says and the table cannot.
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// Memory of rows, dictionary and page index.
    pub fn bytes(&self) -> usize {
        size_of_val(self.rows()) + size_of_val(self.rules()) + size_of_val(self.pages())
    }
}

/// Takes rules in ascending order of address.
#[derive(Debug)]
struct TableBuilder {
    table: UnwindTable,
    numbers: HashMap<Rule, u16>,
    /// The address of the last rule, and its number.
    last: Option<(u64, u16)>,
    /// The two rules that came last, and their numbers: most rows repeat one of them.
    recent: [(Rule, u16); 2],
    /// Rows that lost their rule for want of a number.
    refused: u32,
}

impl RowSink for TableBuilder {
    fn set(&mut self, addr: u64, rule: Rule) -> bool {
        let number = self.number_of(rule);
        let in_force = match self.last {
            Some((last, _)) if addr <= last => return true,
            Some((_, in_force)) => in_force,
            None => {
                self.table.first_page = addr >> PAGE_BITS;
                0
            }
        };
        let page = (addr >> PAGE_BITS) - self.table.first_page;
        if page >= MAX_PAGES as u64 || self.table.rows.len() >= MAX_ROWS {
            self.end_within_page(addr);
            return false;
        }
        let begins_page = addr as u16 == 0;
        self.turn_to_page(page as usize, in_force, begins_page);
        let former = if begins_page { 0 } else { in_force };
        if number != former {
            self.push(addr as u16, number);
        }
        self.last = Some((addr, number));
        true
    }
}

impl TableBuilder {
    fn new() -> TableBuilder {
        let table = UnwindTable {
            rules: vec![Rule::NONE],
            ..UnwindTable::default()
        };
        TableBuilder {
            table,
            numbers: HashMap::new(),
            last: None,
            recent: [(Rule::NONE, 0); 2],
            refused: 0,
        }
    }

    /// Begins all pages up to this one with the rule in force, this one only if nothing else stands at its start.
    fn turn_to_page(&mut self, page: usize, in_force: u16, begins_page: bool) {
        while self.table.pages.len() <= page {
            self.table.pages.push(self.table.rows.len() as u32);
            let another_stands_there = begins_page && self.table.pages.len() > page;
            if in_force != 0 && !another_stands_there {
                self.push(0, in_force);
            }
        }
    }

    fn push(&mut self, pc_low: u16, rule: u16) {
        self.table.rows.push(UnwindRow { pc_low, rule });
    }

    /// The table is full: the rule in force must not hold beyond `addr`. Further pages are not begun.
    fn end_within_page(&mut self, addr: u64) {
        if let Some((last, in_force)) = self.last
            && last >> PAGE_BITS == addr >> PAGE_BITS
            && in_force != 0
        {
            self.push(addr as u16, 0);
        }
    }

    fn number_of(&mut self, rule: Rule) -> u16 {
        if let Some((_, number)) = self.recent.iter().find(|(recent, _)| *recent == rule) {
            return *number;
        }
        let rules = &mut self.table.rules;
        let number = match self.numbers.get(&rule) {
            _ if rule == Rule::NONE => 0,
            Some(number) => *number,
            None if rules.len() >= MAX_RULES => {
                self.refused = self.refused.saturating_add(1);
                return 0;
            }
            None => {
                let number = rules.len() as u16;
                rules.push(rule);
                self.numbers.insert(rule, number);
                number
            }
        };
        self.recent = [(rule, number), self.recent[0]];
        number
    }

    fn finish(mut self, functions: usize, mut gaps: Gaps) -> UnwindTable {
        gaps.add(Gap::ManyRules, self.refused);
        let UnwindTable {
            rows, rules, pages, ..
        } = &mut self.table;
        pages.push(rows.len() as u32);
        rows.shrink_to_fit();
        rules.shrink_to_fit();
        UnwindTable {
            functions,
            gaps,
            ..self.table
        }
    }
}
