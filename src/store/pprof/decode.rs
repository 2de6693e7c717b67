//! Reading, step three: samples, with the tables of `tables.rs` behind them.

use std::collections::HashMap;

use super::foreign::{self, Columns, LabelKey};
use super::tables::{MAX_ROWS, Parts, Place, Row, Tables, limit};
use super::wait_rows::{RowKind, split, value_in, waited};
use super::{DecodeError, column, comment, proto};
use crate::profile::{
    Accounting, Cause, Profile, QuotaTicks, Recording, Sample, StackEnd, StackIx, Thread, ThreadIx,
    WaitFacts, WaitSample, Waits, Waker, Why,
};

/// The profile in `bytes`, an unpacked pprof message of perfprof or of another tool; `file` names it in the profile.
pub fn decode(bytes: &[u8], file: &str) -> Result<Profile, DecodeError> {
    let parts = Parts::split(bytes)?;
    let recording: Option<Recording> = parts.json(comment::RECORDING)?;
    let columns = Columns::choose(&parts)?;
    let tables = Tables::read(&parts, recording.is_some())?;
    let reader = SampleReader::new(&parts, tables, &columns, recording.is_some(), file)?;
    match recording {
        Some(recording) => {
            let accounting = read_accounting(&parts)?;
            let facts: Option<WaitFacts> = parts.json(comment::WAITS)?;
            let (mut tables, waits) = reader.read()?;
            if let Some(facts) = facts {
                tables.builder.waits(Waits { facts, ..waits });
            }
            Ok(tables.builder.build(recording, accounting))
        }
        None => {
            let service = reader.default_process.clone();
            let builder = reader.read()?.0.builder;
            let recording = foreign::recording(&parts, &columns, service, file);
            let mut profile = builder.build(recording, Accounting::default());
            crate::store::count_contents(&mut profile);
            Ok(profile)
        }
    }
}

/// Sums that overflow would only be noticed by those who add them up later.
fn read_accounting(parts: &Parts<'_>) -> Result<Accounting, DecodeError> {
    let accounting: Accounting = parts.json(comment::ACCOUNTING)?.unwrap_or_default();
    let figures = accounting.threads.iter().map(|thread| thread.cpu_ns);
    let mut figures = figures.chain([accounting.unattributed_cpu_ns]);
    match figures.try_fold(0u64, u64::checked_add) {
        Some(_) => Ok(accounting),
        None => Err(DecodeError::Comment {
            key: comment::ACCOUNTING,
            source: <serde_json::Error as serde::de::Error>::custom(
                "the CPU times add up to more than 2⁶⁴ ns",
            ),
        }),
    }
}

/// What a sample's labels say; numbers of texts, resolved only when a thread is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct ThreadLabels {
    pid: u32,
    tid: u32,
    name: i64,
    process: i64,
}

struct SampleReader<'p, 'a> {
    parts: &'p Parts<'a>,
    tables: Tables<'p, 'a>,
    columns: &'p Columns,
    own: bool,
    /// Name of the process where the file does not say.
    default_process: String,
    keys: HashMap<i64, LabelKey>,
    threads: HashMap<ThreadLabels, ThreadIx>,
    /// The sample before: files that are in the order of stacks, as ours, repeat them often.
    last_stack: Option<(Vec<u64>, StackIx, Option<StackEnd>)>,
    count: u64,
    cpu_ns: u64,
    waits: Waits,
    wait_ns: u64,
}

impl<'p, 'a> SampleReader<'p, 'a> {
    fn new(
        parts: &'p Parts<'a>,
        tables: Tables<'p, 'a>,
        columns: &'p Columns,
        own: bool,
        file: &str,
    ) -> Result<Self, DecodeError> {
        let keys = parts.strings.iter().enumerate();
        let keys = keys.filter_map(|(i, text)| Some((i as i64, LabelKey::from_name(text)?)));
        let default_process = match own {
            true => String::new(),
            false => tables.main_program().unwrap_or(file).to_owned(),
        };
        let mut reader = SampleReader {
            parts,
            tables,
            columns,
            own,
            default_process,
            keys: keys.collect(),
            threads: HashMap::new(),
            last_stack: None,
            count: 0,
            cpu_ns: 0,
            waits: Waits::default(),
            wait_ns: 0,
        };
        reader.preset_threads()?;
        Ok(reader)
    }

    /// Our own files give the threads' order; samples only refer to them.
    fn preset_threads(&mut self) -> Result<(), DecodeError> {
        let threads: Option<Vec<(u32, u32, String, String)>> = self.parts.json(comment::THREADS)?;
        for (pid, tid, name, process) in threads.unwrap_or_default() {
            self.tables.builder.thread(Thread {
                pid,
                tid,
                name,
                process,
            });
        }
        Ok(())
    }

    fn read(mut self) -> Result<(Tables<'p, 'a>, Waits), DecodeError> {
        let parts = self.parts;
        for (i, bytes) in parts.samples.iter().enumerate() {
            let row = parts.row("sample", i, bytes);
            let message: proto::Sample = row.decode(bytes)?;
            self.sample(row, &message)?;
        }
        Ok((self.tables, self.waits))
    }

    fn sample(&mut self, row: Row, message: &proto::Sample) -> Result<(), DecodeError> {
        let kind = match self.own && message.value.len() >= column::ALL {
            true => RowKind::of(self.parts, row, message)?,
            false => RowKind::Ticks,
        };
        match kind {
            RowKind::Ticks => self.ticks(row, message),
            RowKind::Waker { cause, waits } => self.waker(row, message, cause, waits),
            RowKind::Waits { cause, stacks } => {
                let (count, wait_ns) = waited(row, message)?;
                self.add_up_waits(row, wait_ns)?;
                let (slice, thread, stack, end) = self.place(row, message)?;
                self.waits.samples.push(WaitSample {
                    slice,
                    thread,
                    stack,
                    end,
                    cause,
                    stacks,
                    count,
                    wait_ns,
                });
                Ok(())
            }
            RowKind::Quota { ticks } => {
                let cpu_ns = value_in(row, message, column::QUOTA)?;
                self.add_up_waits(row, cpu_ns)?;
                let (_, thread, stack, end) = self.place(row, message)?;
                self.waits.quota.push(QuotaTicks {
                    thread,
                    stack,
                    end,
                    count: ticks,
                    cpu_ns,
                });
                Ok(())
            }
        }
    }

    fn waker(
        &mut self,
        row: Row,
        message: &proto::Sample,
        cause: Cause,
        count: u64,
    ) -> Result<(), DecodeError> {
        let wait_ns = value_in(row, message, column::WOKEN)?;
        self.add_up_waits(row, wait_ns)?;
        let (labels, _, end) = self.labels(row, message)?;
        let thread = self.thread(row, labels)?;
        let places = &self.tables.places;
        let (waker, woken) = split(row, &message.location_id, |id| places.get(&id).copied())?;
        let stack = self.tables.builder.stack(waker);
        let waiter = self.tables.builder.stack(woken);
        limit("stacks", self.tables.builder.stack_nodes(), MAX_ROWS)?;
        self.waits.wakers.push(Waker {
            waiter,
            cause,
            thread,
            stack,
            end: end.unwrap_or(StackEnd::Truncated(Why::NotStated)),
            count,
            wait_ns,
        });
        Ok(())
    }

    /// Slice, thread, stack and its end.
    fn place(
        &mut self,
        row: Row,
        message: &proto::Sample,
    ) -> Result<(u32, ThreadIx, StackIx, StackEnd), DecodeError> {
        let (labels, slice, stated_end) = self.labels(row, message)?;
        let thread = self.thread(row, labels)?;
        let (stack, shown_end) = self.stack(row, &message.location_id)?;
        let end = match (stated_end, shown_end) {
            (Some(stated), Some(shown)) if stated != shown => {
                return Err(row.value("its label and its root frame give two ends of the stack"));
            }
            (stated, shown) => stated.or(shown),
        };
        let end = end.unwrap_or(StackEnd::Truncated(Why::NotStated));
        Ok((slice, thread, stack, end))
    }

    fn ticks(&mut self, row: Row, message: &proto::Sample) -> Result<(), DecodeError> {
        let (count, cpu_ns) = self.columns.weight(row, &message.value)?;
        if !self.own && count == 0 && cpu_ns == 0 {
            return Ok(());
        }
        self.add_up(row, count, cpu_ns)?;
        let (slice, thread, stack, end) = self.place(row, message)?;
        self.tables.builder.sample(Sample {
            slice,
            thread,
            stack,
            end,
            count,
            cpu_ns,
        });
        Ok(())
    }

    fn add_up_waits(&mut self, row: Row, ns: u64) -> Result<(), DecodeError> {
        self.wait_ns = self.wait_ns.saturating_add(ns);
        match self.wait_ns > i64::MAX as u64 {
            true => Err(row.value("all waits together exceed 2⁶³ ns")),
            false => Ok(()),
        }
    }

    /// Keeps the totals within what pprof can hold, so that no later sum overflows.
    fn add_up(&mut self, row: Row, count: u64, cpu_ns: u64) -> Result<(), DecodeError> {
        self.count = self.count.saturating_add(count);
        self.cpu_ns = self.cpu_ns.saturating_add(cpu_ns);
        match self.count.max(self.cpu_ns) > i64::MAX as u64 {
            true => Err(row.value("all values together exceed 2⁶³")),
            false => Ok(()),
        }
    }

    fn labels(
        &self,
        row: Row,
        message: &proto::Sample,
    ) -> Result<(ThreadLabels, u32, Option<StackEnd>), DecodeError> {
        let (mut labels, mut slice, mut end) = (ThreadLabels::default(), 0, None);
        for label in &message.label {
            match self.keys.get(&label.key) {
                Some(LabelKey::Pid) => labels.pid = u32::try_from(label.num).unwrap_or(0),
                Some(LabelKey::Tid) => labels.tid = u32::try_from(label.num).unwrap_or(0),
                Some(LabelKey::Thread) => labels.name = label.str,
                Some(LabelKey::Process) => labels.process = label.str,
                Some(LabelKey::Slice) if self.own => {
                    let number = u32::try_from(label.num);
                    slice = number.map_err(|_| row.value("its slice is not a number below 2³²"))?;
                }
                Some(LabelKey::StackEnd) => {
                    end = StackEnd::from_id(&row.text(self.parts, label.str)?)
                }
                Some(LabelKey::Slice) | None => {}
            }
        }
        Ok((labels, slice, end))
    }

    fn thread(&mut self, row: Row, labels: ThreadLabels) -> Result<ThreadIx, DecodeError> {
        if let Some(ix) = self.threads.get(&labels) {
            return Ok(*ix);
        }
        let mut process = self.tables.own_text(row, labels.process)?;
        let mut name = self.tables.own_text(row, labels.name)?;
        if !self.own && process.is_empty() {
            process.clone_from(&self.default_process);
        }
        if !self.own && name.is_empty() {
            name.clone_from(&process);
        }
        let ix = self.tables.builder.thread(Thread {
            pid: labels.pid,
            tid: labels.tid,
            name,
            process,
        });
        self.threads.insert(labels, ix);
        Ok(ix)
    }

    /// The stack, and the end its root-side reason frame tells.
    fn stack(
        &mut self,
        row: Row,
        leaf_to_root: &[u64],
    ) -> Result<(StackIx, Option<StackEnd>), DecodeError> {
        if let Some((ids, stack, end)) = &self.last_stack
            && ids == leaf_to_root
        {
            return Ok((*stack, *end));
        }
        let mut frames = Vec::with_capacity(leaf_to_root.len());
        let mut end = None;
        for (i, id) in leaf_to_root.iter().rev().enumerate() {
            match self.tables.places.get(id) {
                None => return Err(row.reference("location", *id)),
                Some(Place::Frame(ix)) => frames.push(*ix),
                Some(Place::Reason(reason)) if i == 0 => end = Some(*reason),
                Some(Place::Reason(_)) => return Err(row.value("a reason frame below the root")),
                Some(Place::WokenBy) => return Err(row.value("a waker's mark among other frames")),
            }
        }
        let stack = self.tables.builder.stack(frames);
        limit("stacks", self.tables.builder.stack_nodes(), MAX_ROWS)?;
        self.last_stack = Some((leaf_to_root.to_vec(), stack, end));
        Ok((stack, end))
    }
}
