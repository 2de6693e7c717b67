//! speedscope's own JSON: one sampled profile per thread, frames shared, with file and line.
//!
//! Samples are aggregates (all ticks of one stack in one time slice), in the order of slices and then stacks, so the time
//! axis is right to the length of a slice and not below. Weights are nanoseconds of CPU time; where a file of another
//! tool states none they are ticks, and the unit says so.
//!
//! Source: <https://www.speedscope.app/file-format-schema.json>, kept in `fixtures/schemas`.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::profile::{DisplayFrame, Profile, Sample, StackEnd, StackIx, ThreadIx};

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

#[derive(Serialize)]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: String,
    name: &'a str,
    #[serde(rename = "activeProfileIndex")]
    active: usize,
    shared: Shared<'a>,
    profiles: Vec<SampledProfile>,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Vec<Frame<'a>>,
}

#[derive(Serialize)]
struct Frame<'a> {
    name: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
struct SampledProfile {
    r#type: &'static str,
    name: String,
    unit: &'static str,
    #[serde(rename = "startValue")]
    start: u64,
    #[serde(rename = "endValue")]
    end: u64,
    /// Root first, indices into the shared frames.
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

/// `profile` as a speedscope file.
pub fn render(profile: &Profile) -> String {
    let mut frames = FrameTable::default();
    let by_time = profile.total_cpu_ns() > 0;
    let mut by_thread: BTreeMap<ThreadIx, Vec<&Sample>> = BTreeMap::new();
    for sample in &profile.samples {
        by_thread.entry(sample.thread).or_default().push(sample);
    }
    let threads = by_thread.into_iter();
    let profiles: Vec<SampledProfile> = threads
        .map(|(thread, samples)| thread_profile(profile, thread, &samples, by_time, &mut frames))
        .collect();
    let busiest = profiles.iter().enumerate().rev().max_by_key(|(_, p)| p.end);
    let file = File {
        schema: SCHEMA,
        exporter: format!("perfprof {}", env!("CARGO_PKG_VERSION")),
        name: &profile.recording.service,
        active: busiest.map_or(0, |(i, _)| i),
        shared: Shared {
            frames: frames.frames,
        },
        profiles,
    };
    serde_json::to_string(&file).expect("plain data with text keys")
}

fn thread_profile<'a>(
    profile: &'a Profile,
    ix: ThreadIx,
    samples: &[&Sample],
    by_time: bool,
    frames: &mut FrameTable<'a>,
) -> SampledProfile {
    let thread = profile.thread(ix);
    let stacks = samples.iter().map(|sample| frames.stack(profile, sample));
    let samples_root_first = stacks.collect();
    let weights = samples.iter().map(|sample| match by_time {
        true => sample.cpu_ns,
        false => sample.count,
    });
    let weights: Vec<u64> = weights.collect();
    SampledProfile {
        r#type: "sampled",
        name: match thread.name == thread.process {
            true => format!("{} ({})", thread.process, thread.tid),
            false => format!("{}/{} ({})", thread.process, thread.name, thread.tid),
        },
        unit: match by_time {
            true => "nanoseconds",
            false => "none",
        },
        start: 0,
        end: weights.iter().sum(),
        samples: samples_root_first,
        weights,
    }
}

/// Frames by number, in order of appearance: one for each name and file, so that a function is not torn apart by its
/// lines. Its line is the lowest one seen, which is nearest to where the function begins.
#[derive(Default)]
struct FrameTable<'a> {
    frames: Vec<Frame<'a>>,
    index: HashMap<(String, &'a str), usize>,
    /// Stacks seen before, by what they are shown from.
    stacks: HashMap<(&'a str, StackIx, StackEnd), Vec<usize>>,
}

impl<'a> FrameTable<'a> {
    /// The sample's stack, root first.
    fn stack(&mut self, profile: &'a Profile, sample: &Sample) -> Vec<usize> {
        let process = profile.thread(sample.thread).process.as_str();
        let key = (process, sample.stack, sample.end);
        if let Some(stack) = self.stacks.get(&key) {
            return stack.clone();
        }
        let shown = profile.display_stack(sample, false);
        let stack: Vec<usize> = shown.iter().map(|frame| self.intern(frame)).collect();
        self.stacks.insert(key, stack.clone());
        stack
    }

    fn intern(&mut self, shown: &DisplayFrame<'a>) -> usize {
        // A line without its file would say nothing.
        let line = (shown.line > 0 && !shown.file.is_empty()).then_some(shown.line);
        let key = (shown.to_string(), shown.file);
        if let Some(ix) = self.index.get(&key) {
            let frame = &mut self.frames[*ix];
            frame.line = [frame.line, line].into_iter().flatten().min();
            return *ix;
        }
        self.frames.push(Frame {
            name: key.0.clone(),
            file: shown.file,
            line,
        });
        self.index.insert(key, self.frames.len() - 1);
        self.frames.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::profile::canned;
    use crate::store;

    fn assert_valid(text: &str) -> Value {
        let schema = include_str!("../../fixtures/schemas/speedscope.schema.json");
        let schema: Value = serde_json::from_str(schema).expect("the schema is JSON");
        let file: Value = serde_json::from_str(text).expect("the file is JSON");
        let validator = jsonschema::validator_for(&schema).expect("the schema is one");
        let errors: Vec<String> = validator
            .iter_errors(&file)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        file
    }

    #[test]
    fn the_file_is_valid_and_its_weights_are_the_cpu_time() {
        let profile = canned();
        let file = assert_valid(&render(&profile));
        let profiles = file["profiles"].as_array().expect("an array");
        let total: u64 = profiles.iter().filter_map(|p| p["endValue"].as_u64()).sum();
        assert_eq!(total, profile.total_cpu_ns());
        let names: Vec<&Value> = profiles.iter().map(|p| &p["name"]).collect();
        assert_eq!(names, ["shop (100)", "shop/worker (101)", "cron (200)"]);
        assert_eq!(file["activeProfileIndex"], 1);
        let frames = file["shared"]["frames"].as_array().expect("an array");
        let mix = frames.iter().find(|f| f["name"] == "mix").expect("present");
        assert_eq!(
            (&mix["file"], &mix["line"]),
            (&"src/hash.rs".into(), &21.into())
        );
        let hash: Vec<&Value> = frames.iter().filter(|f| f["name"] == "hash").collect();
        assert_eq!((hash.len(), &hash[0]["line"]), (1, &7.into()));
        for p in profiles {
            for stack in p["samples"].as_array().expect("an array") {
                let stack = stack.as_array().expect("an array");
                assert!(
                    stack
                        .iter()
                        .all(|ix| (ix.as_u64().expect("an index") as usize) < frames.len())
                );
            }
        }
    }

    #[test]
    fn the_schema_check_can_fail() {
        let broken = render(&canned()).replace("\"nanoseconds\"", "\"fortnights\"");
        let result = std::panic::catch_unwind(|| assert_valid(&broken));
        assert!(result.is_err());
    }

    #[test]
    fn counts_stand_in_where_no_time_is_known_and_names_are_escaped() {
        let profile = store::from_bytes(b"p;\"</script>\\ 3\n", "x").expect("readable");
        let file = assert_valid(&render(&profile));
        assert_eq!(file["profiles"][0]["unit"], "none");
        assert_eq!(file["profiles"][0]["endValue"], 3);
        assert_eq!(file["shared"]["frames"][1]["name"], "\"</script>\\");
    }
}
