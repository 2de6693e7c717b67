//! A pprof file as the tests see it, decoded here anew: the product's own reader must not vouch for its own writer.
//!
//! Only the fields that tests ask for are declared. Source: `profile.proto` of github.com/google/pprof.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use prost::Message;

#[derive(Message)]
struct Profile {
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
}

#[derive(Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "3")]
    num: i64,
}

#[derive(Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
}

#[derive(Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// A stack with its number of samples.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) pid: u32,
    pub(crate) samples: u64,
    /// Leaf first.
    pub(crate) frames: Vec<SeenFrame>,
}

/// One address of a stack.
#[derive(Clone, Debug)]
pub(crate) struct SeenFrame {
    /// Path of the mapped file.
    pub(crate) module: String,
    /// The function, and before it what is inlined there, innermost first.
    pub(crate) functions: Vec<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: String,
    /// `no-symbol` and the like, for a name that is only an address.
    pub(crate) unresolved: Option<String>,
    /// Empty where unknown.
    pub(crate) file: String,
    /// 0 where unknown.
    pub(crate) line: i64,
}

/// All stacks of a gzipped profile.
pub(crate) fn stacks(path: &Path) -> Vec<Stack> {
    let file = File::open(path).unwrap_or_else(|e| panic!("`{}`: {e}", path.display()));
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file)
        .read_to_end(&mut bytes)
        .expect("the profile is gzipped");
    let profile = Profile::decode(&*bytes).expect("the profile is pprof");
    let frames = frames(&profile);
    let samples = profile.sample.iter();
    let stack = |sample: &Sample| Stack {
        pid: pid(&profile, sample),
        samples: sample.value[0] as u64,
        frames: sample
            .location_id
            .iter()
            .map(|id| frames[id].clone())
            .collect(),
    };
    samples.map(stack).collect()
}

fn text(profile: &Profile, index: i64) -> &str {
    &profile.string_table[index as usize]
}

fn pid(profile: &Profile, sample: &Sample) -> u32 {
    let labels = &mut sample.label.iter();
    let label = labels.find(|label| text(profile, label.key) == "pid");
    label.expect("a sample says its process").num as u32
}

/// The frame of each location, by its ID.
fn frames(profile: &Profile) -> HashMap<u64, SeenFrame> {
    let functions: HashMap<u64, &Function> = profile.function.iter().map(|f| (f.id, f)).collect();
    let mappings = profile.mapping.iter();
    let modules: HashMap<u64, i64> = mappings.map(|m| (m.id, m.filename)).collect();
    let frame = |location: &Location| SeenFrame {
        module: (modules.get(&location.mapping_id))
            .map_or("", |name| text(profile, *name))
            .to_string(),
        functions: (location.line.iter())
            .map(|line| place(profile, functions[&line.function_id], line.line))
            .collect(),
    };
    let locations = profile.location.iter();
    locations
        .map(|location| (location.id, frame(location)))
        .collect()
}

fn place(profile: &Profile, function: &Function, line: i64) -> Place {
    let reason = text(profile, function.system_name).strip_prefix("[unresolved: ");
    Place {
        name: text(profile, function.name).to_string(),
        unresolved: reason.map(|reason| reason.trim_end_matches(']').to_string()),
        file: text(profile, function.filename).to_string(),
        line,
    }
}
