//! From lines to a profile: once over the text for what must be known of all of it, then once more for the samples.

use std::collections::{BTreeMap, HashMap};

use foldhash::quality::RandomState;

use super::frames::{self, Group};
use super::lines::{self, Block, Blocks, Header};
use super::{DecodeError, MAX_DEPTH, MAX_SECONDS, MAX_STACK_NODES};
use crate::profile::{
    Accounting, ElfAddr, FileOffset, Frame, FrameIx, FrameKind, Function, Line, Mapping, MappingIx,
    Origin, Profile, ProfileBuilder, Recording, Sample, StackEnd, StackIx, Thread, ThreadIx, Why,
};
use crate::store::folded::excerpt;

/// Length of a time slice, as perfprof's own recordings have it.
const SLICE_NS: u64 = 100_000_000;
/// Of the task that runs where none wants to.
const IDLE: &str = "swapper";

/// What is known only after all lines were seen.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Samples by event; the empty name where none was printed.
    events: BTreeMap<String, u64>,
    first_ns: Option<u128>,
    /// Names of processes: those of the threads whose ID is the process's.
    processes: HashMap<u32, String>,
    /// From the comments of `perf script --header`.
    facts: BTreeMap<String, String>,
}

impl Survey {
    pub(super) fn of(content: &[u8]) -> Survey {
        let mut survey = Survey::default();
        for (_, line) in lines::numbered(content).take_while(|(_, line)| line.starts_with(b"#")) {
            survey.fact(&String::from_utf8_lossy(line));
        }
        for block in Blocks::of(content) {
            let line = String::from_utf8_lossy(block.header);
            let Some(header) = header(&line).filter(is_sample) else {
                continue;
            };
            let event = plain_event(header.event.unwrap_or_default());
            match survey.events.get_mut(&event) {
                Some(count) => *count += 1,
                None => _ = survey.events.insert(event, 1),
            }
            let ns = header.seconds.map(ns);
            survey.first_ns = match (survey.first_ns, ns) {
                (Some(first), Some(ns)) => Some(first.min(ns)),
                (first, ns) => first.or(ns),
            };
            if let Some(pid) = header.pid.filter(|pid| header.tid == Some(*pid)) {
                let name = survey.processes.entry(pid);
                name.or_insert_with(|| header.comm.to_owned());
            }
        }
        survey
    }

    /// `# hostname : vm`
    fn fact(&mut self, line: &str) {
        if let Some((key, value)) = line.trim_start_matches('#').split_once(" : ") {
            let key = key.trim().to_owned();
            self.facts.entry(key).or_insert(value.trim().to_owned());
        }
    }

    /// The event whose samples are read: nearest to CPU time, then most frequent.
    fn event(&self) -> &str {
        let rank = |name: &str| match name.split(':').next() {
            Some("cpu-clock" | "task-clock") => 0,
            Some("cycles" | "cpu-cycles") => 1,
            _ => 2,
        };
        let events = self.events.iter();
        let best = events.min_by_key(|(name, count)| (rank(name), u64::MAX - **count));
        best.map_or("", |(name, _)| name)
    }
}

/// perf's event without what does not change its meaning: the PMU's name, and how precise it was to be.
fn plain_event(event: &str) -> String {
    let is_modifiers = |text: &str| text.bytes().all(|b| b"ukhGHIpPSDWeb".contains(&b));
    let (name, modifiers) = match event.rsplit_once([':', '/']) {
        Some((name, modifiers)) if is_modifiers(modifiers) => (name, modifiers),
        _ => (event, ""),
    };
    let name = name.split('/').nth(1).unwrap_or(name);
    let kept: String = modifiers.chars().filter(|c| "ukh".contains(*c)).collect();
    match kept.as_str() {
        "" => name.to_owned(),
        kept => format!("{name}:{kept}"),
    }
}

/// `sched:sched_switch`; `cycles:u` is none.
fn is_tracepoint(event: &str) -> bool {
    let event = plain_event(event);
    let name = event.split_once(':').map(|(_, name)| name);
    name.is_some_and(|name| name.bytes().any(|b| !b"ukh".contains(&b)))
}

/// Of the first line of a block; without one, a sample of which nothing is known.
fn header(line: &str) -> Option<Header<'_>> {
    match line.is_empty() {
        true => Some(Header::default()),
        false => lines::header(line),
    }
}

/// perf prints other records too, if asked to.
fn is_sample(header: &Header<'_>) -> bool {
    let what = header.event.unwrap_or(header.rest);
    !what.starts_with("PERF_RECORD_")
}

fn ns((seconds, ns): (u64, u32)) -> u128 {
    u128::from(seconds) * 1_000_000_000 + u128::from(ns)
}

pub(super) fn read(content: &[u8], file: &str, survey: &Survey) -> Result<Profile, DecodeError> {
    let mut reader = Reader {
        survey,
        is_clock: matches!(
            survey.event(),
            "cpu-clock" | "task-clock" | "cpu-clock:u" | "task-clock:u"
        ),
        builder: ProfileBuilder::default(),
        stacks: HashMap::default(),
        frames: HashMap::default(),
        count: 0,
        cpu_ns: 0,
        idle: 0,
        last_ns: 0,
    };
    for block in Blocks::of(content) {
        reader.block(&block)?;
    }
    reader.finish(file)
}

/// What perf prints as addresses: those of the file in call chains, those of the process elsewhere.
#[derive(Clone, Copy)]
enum Addresses {
    OfFile,
    OfProcess,
}

struct Reader<'a> {
    survey: &'a Survey,
    /// Whether periods are nanoseconds of CPU time.
    is_clock: bool,
    builder: ProfileBuilder,
    /// By their text, so that what comes again is not read again.
    stacks: HashMap<&'a [u8], StackIx, RandomState>,
    frames: HashMap<&'a [u8], FrameIx, RandomState>,
    count: u64,
    cpu_ns: u64,
    /// Samples of CPUs that had nothing to do.
    idle: u64,
    /// Since the first sample.
    last_ns: u64,
}

impl<'a> Reader<'a> {
    fn block(&mut self, block: &Block<'a>) -> Result<(), DecodeError> {
        let line = String::from_utf8_lossy(block.header);
        let Some(header) = header(&line) else {
            return Err(DecodeError::NoSample {
                line: block.line,
                text: excerpt(line.trim()),
            });
        };
        let event = plain_event(header.event.unwrap_or_default());
        if !is_sample(&header) || event != self.survey.event() {
            return Ok(());
        }
        let stack = match block.stack.is_empty() {
            true => self.lone_frame(&header),
            false => self.stack(block)?,
        };
        let slice = self.slice(&header, block.line)?;
        let cpu_ns = header.period.filter(|_| self.is_clock).unwrap_or(0);
        let total = self.cpu_ns.checked_add(cpu_ns);
        self.cpu_ns = total
            .filter(|ns| i64::try_from(*ns).is_ok())
            .ok_or(DecodeError::Overflow { line: block.line })?;
        self.count += 1;
        self.idle += u64::from(header.comm == IDLE);
        let thread = self.thread(&header);
        self.builder.sample(Sample {
            slice,
            thread,
            stack,
            end: StackEnd::Truncated(Why::NotStated),
            count: 1,
            cpu_ns,
        });
        Ok(())
    }

    fn slice(&mut self, header: &Header<'_>, line: usize) -> Result<u32, DecodeError> {
        let Some((now, first)) = header.seconds.map(ns).zip(self.survey.first_ns) else {
            return Ok(0);
        };
        let since = now.saturating_sub(first);
        if since > u128::from(MAX_SECONDS) * 1_000_000_000 {
            return Err(DecodeError::FarAway {
                line,
                seconds: header.seconds.map_or(0, |(seconds, _)| seconds),
                limit: MAX_SECONDS,
            });
        }
        self.last_ns = self.last_ns.max(since as u64);
        Ok((since as u64 / SLICE_NS) as u32)
    }

    fn thread(&mut self, header: &Header<'_>) -> ThreadIx {
        let process = header.pid.and_then(|pid| self.survey.processes.get(&pid));
        self.builder.thread(Thread {
            pid: header.pid.unwrap_or(0),
            tid: header.tid.unwrap_or(0),
            name: header.comm.to_owned(),
            process: process.map_or(header.comm, String::as_str).to_owned(),
        })
    }

    /// Without a call chain, the one frame stands in the first line.
    fn lone_frame(&mut self, header: &Header<'_>) -> StackIx {
        let is_tracepoint = header.event.is_some_and(is_tracepoint);
        let frame = lines::frame(header.rest).filter(|_| !is_tracepoint);
        let frame = frame.map(|frame| self.new_frame(&[(frame, None)], Addresses::OfProcess));
        self.builder.stack(frame)
    }

    fn stack(&mut self, block: &Block<'a>) -> Result<StackIx, DecodeError> {
        if let Some(stack) = self.stacks.get(block.stack) {
            return Ok(*stack);
        }
        let mut leaf_to_root = Vec::new();
        for group in Group::all(block) {
            leaf_to_root.push(match self.frames.get(group.text) {
                Some(frame) => *frame,
                None => {
                    let frame = self.group(&group)?;
                    self.frames.insert(group.text, frame);
                    frame
                }
            });
            if leaf_to_root.len() > MAX_DEPTH {
                let limit = MAX_DEPTH;
                return Err(DecodeError::TooDeep {
                    line: block.stack_line,
                    limit,
                });
            }
        }
        let stack = self.builder.stack(leaf_to_root.into_iter().rev());
        if self.builder.stack_nodes() > MAX_STACK_NODES {
            let limit = MAX_STACK_NODES;
            return Err(DecodeError::TooMany {
                line: block.stack_line,
                limit,
            });
        }
        self.stacks.insert(block.stack, stack);
        Ok(stack)
    }

    fn group(&mut self, group: &Group<'_>) -> Result<FrameIx, DecodeError> {
        let text = String::from_utf8_lossy(group.text);
        let mut found: Vec<(lines::Frame<'_>, Option<(&str, u32)>)> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            match found.last_mut() {
                _ if line.starts_with('|') => {}
                Some(last) if !frames::is_frame(line.as_bytes()) => last.1 = lines::place(line),
                _ => match lines::frame(line) {
                    Some(frame) => found.push((frame, None)),
                    None => {
                        return Err(DecodeError::NoFrame {
                            line: group.line + i,
                            text: excerpt(line.trim()),
                        });
                    }
                },
            }
        }
        Ok(self.new_frame(&found, Addresses::OfFile))
    }

    /// The frame of functions inlined into each other, innermost first.
    fn new_frame(
        &mut self,
        functions: &[(lines::Frame<'_>, Option<(&str, u32)>)],
        addresses: Addresses,
    ) -> FrameIx {
        let outermost = functions.last().map(|(frame, _)| *frame).unwrap_or(NOTHING);
        let (address, unnamed) = frames::unnamed(&outermost);
        let lines = functions.iter().map(|(frame, place)| {
            let (file, line) = place.unwrap_or_default();
            let name = match frame.name {
                "" => &address,
                name => name,
            };
            let function = self.builder.function(Function {
                name: name.to_owned(),
                linkage_name: String::new(),
                file: file.to_owned(),
            });
            Line { function, line }
        });
        let lines: Vec<Line> = lines.collect();
        let kind = frames::kind(&outermost);
        let mapping = match addresses {
            Addresses::OfProcess if kind == FrameKind::User => None,
            _ => self.mapping(outermost.dso),
        };
        self.builder.frame(Frame {
            kind,
            mapping,
            addr: ElfAddr(outermost.address.unwrap_or(0)),
            unresolved: (outermost.name.is_empty() && lines.len() == 1).then_some(unnamed),
            lines,
        })
    }

    fn mapping(&mut self, dso: &str) -> Option<MappingIx> {
        (!dso.is_empty()).then(|| {
            self.builder.mapping(Mapping {
                kind: frames::mapping_kind(dso),
                path: dso.to_owned(),
                build_id: None,
                start: ElfAddr(0),
                end: ElfAddr(u64::MAX), // perf does not print where it ends
                file_offset: FileOffset(0),
            })
        })
    }

    fn finish(self, file: &str) -> Result<Profile, DecodeError> {
        if self.count == 0 {
            return Err(DecodeError::Empty);
        }
        let recording = self.recording(file);
        let mut profile = self.builder.build(recording, Accounting::default());
        crate::store::count_contents(&mut profile);
        Ok(profile)
    }

    fn recording(&self, file: &str) -> Recording {
        let fact = |key| self.survey.facts.get(key).cloned().unwrap_or_default();
        let service = file.strip_suffix(".gz").unwrap_or(file);
        let service = service.rsplit_once('.').map_or(service, |(stem, _)| stem);
        let period_ns = self.cpu_ns / self.count;
        let timed = self.survey.first_ns.is_some();
        Recording {
            origin: Origin::Foreign {
                format: "perf script".into(),
                file: file.into(),
            },
            service: service.into(),
            command: fact("cmdline"),
            hostname: fact("hostname"),
            kernel: fact("os release"),
            arch: fact("arch"),
            cpus: fact("nrcpus online").parse().unwrap_or(0),
            event: match self.survey.event() {
                "" => "samples".into(),
                event => event.into(),
            },
            frequency_hz: match period_ns {
                0 => 0.0,
                ns => 1e9 / ns as f64,
            },
            // The last sample stands for the time behind it.
            duration_ns: if timed { self.last_ns + period_ns } else { 0 },
            slice_ns: if timed { SLICE_NS } else { 0 },
            warnings: self.warnings(),
            ..Recording::default()
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = vec![WARNING.to_owned()];
        let event = excerpt(self.survey.event());
        if self.cpu_ns == 0 {
            warnings.push(match self.is_clock {
                true => {
                    "CPU time is not known: the periods of samples were not printed (`-F +period`)."
                        .into()
                }
                false => {
                    format!("CPU time is not known: samples of the event `{event}` do not say it.")
                }
            });
        }
        let all: u64 = self.survey.events.values().sum();
        if all > self.count {
            let others = all - self.count;
            warnings.push(format!(
                "{others} samples of other events were left out; those of `{event}` were read."
            ));
        }
        if self.idle > 0 {
            let share = 100.0 * self.idle as f64 / self.count as f64;
            warnings.push(format!(
                "{share:.1} % of the samples are of CPUs with nothing to do (`{IDLE}`), which perf counts like others."
            ));
        }
        warnings
    }
}

const WARNING: &str = "The profile was read from the output of `perf script`, which does not say which stacks are \
                       complete or what was lost.";

const NOTHING: lines::Frame<'static> = lines::Frame {
    address: None,
    name: "",
    dso: "",
    inlined: false,
};
