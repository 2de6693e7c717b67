//! A profile as OTLP has it.
//!
//! In: a [`Profile`] and the batch it came in. Out: one `ExportProfilesServiceRequest` with one resource and one scope, in
//! it a profile of CPU time, one of ticks, and, where waits were recorded, one of time off the CPU. All share a dictionary.
//! The sums of values are those of the profile.
//!
//! Samples have no times: slices are added up, so that a sample is a thread with a stack. An incomplete stack ends in a
//! location that only has a name, `[truncated: …]`, as in our other formats. A frame without a symbol has its address as
//! name and the reason in `perfprof.unresolved`. Addresses are those of the files, as `memory_start` is. Who woke a stack
//! and which code used a quota up have no place here.

use std::collections::{BTreeMap, HashMap};

use foldhash::quality::RandomState;
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::profiles::v1development as proto;

use super::dictionary::Dictionary;
use super::resource;
use crate::profile::{
    Cause, FrameIx, FrameKind, MappingIx, MappingKind, Profile, StackEnd, StackIx, ThreadIx,
};
use crate::push::Batch;

/// Samples of one profile, and locations of all stacks: far above any window, and what a request may cost.
const MAX_SAMPLES: usize = 1 << 20;
const MAX_STACK_ENTRIES: usize = 16 << 20;

/// Why a profile cannot be sent as OTLP.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConvertError {
    #[error("a profile of {found} {what}; {limit} are the most that is sent")]
    TooLarge {
        what: &'static str,
        found: usize,
        limit: usize,
    },
}

/// The request for one batch. `profile` is what [`Batch::pprof_gz`] holds.
pub fn export_request(
    batch: &Batch,
    profile: &Profile,
) -> Result<ExportProfilesServiceRequest, ConvertError> {
    let resource = resource::of(batch, profile);
    let (profiles, dictionary) = Converter::new(batch, profile).profiles()?;
    let scope = InstrumentationScope {
        name: "perfprof".to_owned(),
        version: profile.recording.version.clone(),
        ..InstrumentationScope::default()
    };
    let scope_profiles = proto::ScopeProfiles {
        scope: Some(scope),
        profiles,
        schema_url: String::new(),
    };
    Ok(ExportProfilesServiceRequest {
        resource_profiles: vec![proto::ResourceProfiles {
            resource: Some(resource),
            scope_profiles: vec![scope_profiles],
            schema_url: String::new(),
        }],
        dictionary: Some(dictionary),
    })
}

/// What makes two samples the same one.
type Key = (StackIx, StackEnd, ThreadIx, Option<Cause>);

struct Converter<'a> {
    batch: &'a Batch,
    profile: &'a Profile,
    dictionary: Dictionary,
    /// Indices of what was used so far; `None`: not yet.
    locations: Vec<Option<i32>>,
    mappings: Vec<Option<i32>>,
    ends: BTreeMap<StackEnd, i32>,
    stacks: HashMap<(StackIx, StackEnd), i32, RandomState>,
    stack_entries: usize,
    threads: HashMap<ThreadIx, Vec<i32>, RandomState>,
}

impl<'a> Converter<'a> {
    fn new(batch: &'a Batch, profile: &'a Profile) -> Converter<'a> {
        Converter {
            batch,
            profile,
            dictionary: Dictionary::new(),
            locations: vec![None; profile.frames.len()],
            mappings: vec![None; profile.mappings.len()],
            ends: BTreeMap::new(),
            stacks: HashMap::default(),
            stack_entries: 0,
            threads: HashMap::default(),
        }
    }

    fn profiles(
        mut self,
    ) -> Result<(Vec<proto::Profile>, proto::ProfilesDictionary), ConvertError> {
        let (mut cpu, mut ticks) = (BTreeMap::new(), BTreeMap::new());
        for sample in &self.profile.samples {
            let key = (sample.stack, sample.end, sample.thread, None);
            *cpu.entry(key).or_insert(0u64) += sample.cpu_ns;
            *ticks.entry(key).or_insert(0u64) += sample.count;
        }
        // Tools show the first by default.
        let mut profiles = vec![
            self.one("cpu", "nanoseconds", &cpu, true)?,
            self.one("samples", "count", &ticks, true)?,
        ];
        if let Some(waits) = &self.profile.waits {
            let mut off_cpu = BTreeMap::new();
            for wait in &waits.samples {
                let key = (wait.stack, wait.end, wait.thread, Some(wait.cause));
                *off_cpu.entry(key).or_insert(0u64) += wait.wait_ns;
            }
            profiles.push(self.one("off_cpu", "nanoseconds", &off_cpu, false)?);
        }
        Ok((profiles, self.dictionary.finish()))
    }

    fn one(
        &mut self,
        kind: &str,
        unit: &str,
        sums: &BTreeMap<Key, u64>,
        periodic: bool,
    ) -> Result<proto::Profile, ConvertError> {
        if sums.len() > MAX_SAMPLES {
            return Err(ConvertError::TooLarge {
                what: "samples",
                found: sums.len(),
                limit: MAX_SAMPLES,
            });
        }
        let mut samples = Vec::with_capacity(sums.len());
        for (key, value) in sums.iter().filter(|(_, value)| **value > 0) {
            let (stack, end, thread, cause) = *key;
            let mut attribute_indices = self.thread(thread);
            if let Some(cause) = cause {
                let cause = self.dictionary.attribute("perfprof.wait.cause", cause.id());
                attribute_indices.push(cause);
            }
            samples.push(proto::Sample {
                stack_index: self.stack(stack, end)?,
                attribute_indices,
                values: vec![i64::try_from(*value).unwrap_or(i64::MAX)],
                ..proto::Sample::default()
            });
        }
        let recording = &self.profile.recording;
        let frequency_hz = recording.frequency_hz;
        let period = match periodic && frequency_hz > 0.0 {
            true => (1e9 / frequency_hz).round() as i64,
            false => 0,
        };
        let started = match recording.started_unix_ns {
            0 => self.batch.started_unix_ns,
            known => known,
        };
        let duration = match recording.duration_ns {
            0 => self.batch.duration_ns,
            known => known,
        };
        let period_type = (period > 0).then(|| self.value_type("cpu", "nanoseconds"));
        Ok(proto::Profile {
            sample_type: Some(self.value_type(kind, unit)),
            samples,
            time_unix_nano: started,
            duration_nano: duration,
            period_type,
            period,
            profile_id: self.batch.id(kind).to_vec(),
            ..proto::Profile::default()
        })
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> proto::ValueType {
        proto::ValueType {
            type_strindex: self.dictionary.string(kind),
            unit_strindex: self.dictionary.string(unit),
        }
    }

    fn thread(&mut self, ix: ThreadIx) -> Vec<i32> {
        if let Some(known) = self.threads.get(&ix) {
            return known.clone();
        }
        let thread = self.profile.thread(ix);
        let dictionary = &mut self.dictionary;
        let attributes = vec![
            dictionary.attribute("thread.id", thread.tid),
            dictionary.attribute("thread.name", &*thread.name),
            dictionary.attribute("process.pid", thread.pid),
            // What `ps` shows; the executable may be called otherwise.
            dictionary.attribute("process.title", &*thread.process),
        ];
        self.threads.insert(ix, attributes.clone());
        attributes
    }

    fn stack(&mut self, stack: StackIx, end: StackEnd) -> Result<i32, ConvertError> {
        if let Some(known) = self.stacks.get(&(stack, end)) {
            return Ok(*known);
        }
        let profile = self.profile;
        let frames = profile.stacks.leaf_to_root(stack);
        let mut locations: Vec<i32> = frames.map(|ix| self.location(ix)).collect();
        locations.extend(self.end(end));
        self.stack_entries += locations.len();
        if self.stack_entries > MAX_STACK_ENTRIES {
            return Err(ConvertError::TooLarge {
                what: "frames in all stacks",
                found: self.stack_entries,
                limit: MAX_STACK_ENTRIES,
            });
        }
        let index = self.dictionary.stack(locations);
        self.stacks.insert((stack, end), index);
        Ok(index)
    }

    fn end(&mut self, end: StackEnd) -> Option<i32> {
        let name = end.shown_reason_frame()?;
        let dictionary = &mut self.dictionary;
        let known = self.ends.entry(end);
        Some(*known.or_insert_with(|| dictionary.named_location(&name)))
    }

    fn location(&mut self, ix: FrameIx) -> i32 {
        let at = ix.0 as usize;
        if let Some(known) = self.locations[at] {
            return known;
        }
        let profile = self.profile;
        let frame = profile.frame(ix);
        let lines = frame.lines.iter().map(|line| {
            let function = profile.function(line.function);
            let index =
                self.dictionary
                    .function(&function.name, &function.linkage_name, &function.file);
            proto::Line {
                function_index: index,
                line: line.line.into(),
                column: 0,
            }
        });
        let lines = lines.collect();
        let kind = match frame.kind {
            FrameKind::User => "native",
            FrameKind::Kernel => "kernel",
            FrameKind::Wait => "wait",
        };
        let mut attribute_indices = vec![self.dictionary.attribute("profile.frame.type", kind)];
        if let Some(reason) = frame.unresolved {
            let attribute = self
                .dictionary
                .attribute("perfprof.unresolved", reason.id());
            attribute_indices.push(attribute);
        }
        let location = proto::Location {
            mapping_index: frame.mapping.map_or(0, |ix| self.mapping(ix)),
            address: frame.addr.0,
            lines,
            attribute_indices,
        };
        let index = self.dictionary.location(location);
        self.locations[at] = Some(index);
        index
    }

    fn mapping(&mut self, ix: MappingIx) -> i32 {
        let at = ix.0 as usize;
        if let Some(known) = self.mappings[at] {
            return known;
        }
        let mapping = self.profile.mapping(ix);
        let build_id = mapping.build_id.map(|id| {
            let id = id.to_string();
            self.dictionary
                .attribute("process.executable.build_id.gnu", &*id)
        });
        let path = match mapping.kind {
            MappingKind::Anonymous if mapping.path.is_empty() => "[anon]",
            _ => &mapping.path,
        };
        let message = proto::Mapping {
            memory_start: mapping.start.0,
            memory_limit: mapping.end.0,
            file_offset: mapping.file_offset.0,
            filename_strindex: self.dictionary.string(path),
            attribute_indices: build_id.into_iter().collect(),
        };
        let index = self.dictionary.mapping(message);
        self.mappings[at] = Some(index);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{canned, canned_with_waits};

    fn converted(profile: &Profile) -> ExportProfilesServiceRequest {
        let batch = Batch {
            service: "shop".into(),
            ..Batch::default()
        };
        export_request(&batch, profile).expect("small")
    }

    fn sums(request: &ExportProfilesServiceRequest) -> Vec<(String, i64)> {
        let texts = &request.dictionary.as_ref().expect("one").string_table;
        let profiles = &request.resource_profiles[0].scope_profiles[0].profiles;
        let sum = |profile: &proto::Profile| {
            let kind = profile.sample_type.as_ref().expect("one").type_strindex;
            let values = profile.samples.iter().flat_map(|sample| &sample.values);
            (texts[kind as usize].clone(), values.sum())
        };
        profiles.iter().map(sum).collect()
    }

    #[test]
    fn sums_are_those_of_the_profile() {
        let expected = [
            ("cpu".to_owned(), 1_000_000_000),
            ("samples".to_owned(), 100),
        ];
        assert_eq!(sums(&converted(&canned())), expected);
        let with_waits = sums(&converted(&canned_with_waits()));
        assert_eq!(with_waits[2], ("off_cpu".to_owned(), 200_000_001));
    }

    #[test]
    fn slices_are_added_up_and_tables_have_each_entry_once() {
        let request = converted(&canned());
        let profiles = &request.resource_profiles[0].scope_profiles[0].profiles;
        let mut values: Vec<i64> = profiles[1].samples.iter().map(|s| s.values[0]).collect();
        values.sort_unstable();
        assert_eq!(values, [5, 15, 20, 20, 40]);
        assert_eq!(
            (profiles[0].period, profiles[0].duration_nano),
            (10_000_000, 1_000_000_000)
        );
        assert_eq!(profiles[0].profile_id.len(), 16);
        assert_ne!(profiles[0].profile_id, profiles[1].profile_id);
        let tables = request.dictionary.expect("one");
        let mut texts = tables.string_table.clone();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), tables.string_table.len());
        // Nine frames, and the place where stacks were cut.
        assert_eq!(tables.location_table.len(), 1 + 10);
        assert_eq!(
            (tables.mapping_table.len(), tables.stack_table.len()),
            (5, 6)
        );
        let inlined = &tables.location_table.iter().filter(|l| l.lines.len() == 2);
        assert_eq!(inlined.clone().count(), 1);
    }

    #[test]
    fn the_same_batch_is_the_same_request() {
        assert_eq!(
            converted(&canned_with_waits()),
            converted(&canned_with_waits())
        );
    }
}
