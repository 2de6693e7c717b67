//! The tables that all profiles of one request share, each entry once, each only when something refers to it.
//!
//! In: texts, attributes, stacks. Out: their indices, and in the end a `ProfilesDictionary`. Entry 0 of each table is
//! empty and means *not set* (profiles.proto, "ProfilesDictionary").

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::quality::RandomState;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::profiles::v1development::{
    Function, KeyValueAndUnit, Line, Link, Location, Mapping, ProfilesDictionary, Stack,
};

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scalar {
    Text(String),
    Number(i64),
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Scalar {
        Scalar::Text(text.to_owned())
    }
}

impl From<u32> for Scalar {
    fn from(number: u32) -> Scalar {
        Scalar::Number(number.into())
    }
}

impl Scalar {
    pub(super) fn into_value(self) -> AnyValue {
        let value = match self {
            Scalar::Text(text) => any_value::Value::StringValue(text),
            Scalar::Number(number) => any_value::Value::IntValue(number),
        };
        AnyValue { value: Some(value) }
    }
}

/// Entries by number, from 1 on.
#[derive(Debug)]
struct Table<T> {
    index: HashMap<T, i32, RandomState>,
    entries: Vec<T>,
}

impl<T: Clone + Eq + Hash> Table<T> {
    fn new(zero: T) -> Table<T> {
        Table {
            index: HashMap::from_iter([(zero.clone(), 0)]),
            entries: vec![zero],
        }
    }

    fn add(&mut self, entry: T) -> i32 {
        let next = number(self.entries.len());
        let index = *self.index.entry(entry.clone()).or_insert(next);
        if index == next {
            self.entries.push(entry);
        }
        index
    }
}

/// A batch of at most 64 MiB has far fewer entries than that.
fn number(len: usize) -> i32 {
    i32::try_from(len).expect("fewer entries than bytes")
}

#[derive(Debug)]
pub(super) struct Dictionary {
    strings: Table<String>,
    attributes: Table<(i32, Option<Scalar>)>,
    stacks: Table<Vec<i32>>,
    mappings: Table<Mapping>,
    functions: Table<Function>,
    locations: Vec<Location>,
}

impl Dictionary {
    pub(super) fn new() -> Dictionary {
        Dictionary {
            strings: Table::new(String::new()),
            attributes: Table::new((0, None)),
            stacks: Table::new(Vec::new()),
            mappings: Table::new(Mapping::default()),
            functions: Table::new(Function::default()),
            locations: vec![Location::default()],
        }
    }

    pub(super) fn string(&mut self, text: &str) -> i32 {
        match self.strings.index.get(text) {
            Some(index) => *index,
            None => self.strings.add(text.to_owned()),
        }
    }

    pub(super) fn attribute(&mut self, key: &str, value: impl Into<Scalar>) -> i32 {
        let key = self.string(key);
        self.attributes.add((key, Some(value.into())))
    }

    /// Leaf first.
    pub(super) fn stack(&mut self, locations: Vec<i32>) -> i32 {
        self.stacks.add(locations)
    }

    pub(super) fn mapping(&mut self, mapping: Mapping) -> i32 {
        self.mappings.add(mapping)
    }

    pub(super) fn function(&mut self, name: &str, system_name: &str, file: &str) -> i32 {
        let function = Function {
            name_strindex: self.string(name),
            system_name_strindex: self.string(system_name),
            filename_strindex: self.string(file),
            start_line: 0,
        };
        self.functions.add(function)
    }

    /// The caller adds each once.
    pub(super) fn location(&mut self, location: Location) -> i32 {
        self.locations.push(location);
        number(self.locations.len() - 1)
    }

    /// A location that is no code but a name.
    pub(super) fn named_location(&mut self, name: &str) -> i32 {
        let line = Line {
            function_index: self.function(name, "", ""),
            ..Line::default()
        };
        self.location(Location {
            lines: vec![line],
            ..Location::default()
        })
    }

    pub(super) fn finish(self) -> ProfilesDictionary {
        let attributes = self.attributes.entries.into_iter();
        let attributes = attributes.map(|(key_strindex, value)| KeyValueAndUnit {
            key_strindex,
            value: value.map(Scalar::into_value),
            unit_strindex: 0,
        });
        let stacks = self.stacks.entries.into_iter();
        ProfilesDictionary {
            mapping_table: self.mappings.entries,
            location_table: self.locations,
            function_table: self.functions.entries,
            link_table: vec![Link::default()],
            string_table: self.strings.entries,
            attribute_table: attributes.collect(),
            stack_table: stacks
                .map(|location_indices| Stack { location_indices })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_numbered_once_and_zero_is_nothing() {
        let mut dictionary = Dictionary::new();
        assert_eq!(dictionary.string(""), 0);
        let attribute = dictionary.attribute("thread.id", 7);
        assert_eq!(dictionary.attribute("thread.id", 7), attribute);
        assert_ne!(dictionary.attribute("thread.id", 8), attribute);
        assert_ne!(dictionary.attribute("thread.id", "7"), attribute);
        let function = dictionary.function("f", "", "a.c");
        assert_eq!(dictionary.function("f", "", "a.c"), function);
        assert_eq!(dictionary.stack(Vec::new()), 0);
        assert_eq!((attribute, function, dictionary.stack(vec![1])), (1, 1, 1));
        let tables = dictionary.finish();
        assert_eq!(tables.string_table, ["", "thread.id", "f", "a.c"]);
        assert_eq!(tables.attribute_table[0], KeyValueAndUnit::default());
        assert_eq!(tables.attribute_table.len(), 4);
    }
}
