//! Which words of the tables' heap are free.
//!
//! In: sizes asked for and places given back. Out: places that do not cross a chunk's end. A place that is given back
//! is handed out again only after [`Heap::settle`], because a program in the kernel may still be reading it.

use std::collections::BTreeMap;

use crate::sys::abi::CHUNK_WORDS;

/// A part of the heap: `words` words from word `at` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub at: u32,
    pub words: u32,
}

#[derive(Debug, Default)]
pub(super) struct Heap {
    /// Length by beginning; neighbours within a chunk are one.
    free: BTreeMap<u32, u32>,
    chunks: u32,
    /// With the time it was given back, nanoseconds.
    given_back: Vec<(u64, Place)>,
    used_words: u64,
}

impl Heap {
    /// The first place with room; `None` when no chunk has it.
    pub fn take(&mut self, words: u32) -> Option<Place> {
        let (&at, &len) = self.free.iter().find(|(_, len)| **len >= words)?;
        self.free.remove(&at);
        if len > words {
            self.free.insert(at + words, len - words);
        }
        self.used_words += u64::from(words);
        Some(Place { at, words })
    }

    /// To be free once no program can be reading it any more.
    pub fn give_back(&mut self, place: Place, now_ns: u64) {
        self.used_words -= u64::from(place.words);
        self.given_back.push((now_ns, place));
    }

    /// What was given back by then is free from now on.
    pub fn settle(&mut self, then_ns: u64) {
        let by_then = |(given_ns, _): &mut (u64, Place)| *given_ns <= then_ns;
        let settled: Vec<_> = self.given_back.extract_if(.., by_then).collect();
        for (_, place) in settled {
            self.set_free(place);
        }
    }

    /// Whether something was given back that is not free yet.
    pub fn is_waiting(&self) -> bool {
        !self.given_back.is_empty()
    }

    /// A chunk more.
    pub fn grow(&mut self) {
        let at = self.chunks * CHUNK_WORDS;
        self.chunks += 1;
        self.free.insert(at, CHUNK_WORDS);
    }

    pub fn used_bytes(&self) -> u64 {
        self.used_words * 4
    }

    fn set_free(&mut self, place: Place) {
        let (mut at, mut words) = (place.at, place.words);
        let same_chunk = |a: u32, b: u32| a / CHUNK_WORDS == b / CHUNK_WORDS;
        if let Some((&before, &len)) = self.free.range(..at).next_back()
            && before + len == at
            && same_chunk(before, at)
        {
            self.free.remove(&before);
            (at, words) = (before, len + words);
        }
        if let Some(&len) = self.free.get(&(at + words))
            && same_chunk(at, at + words)
        {
            self.free.remove(&(at + words));
            words += len;
        }
        self.free.insert(at, words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_do_not_overlap_cross_no_chunk_and_come_back_whole() {
        let mut heap = Heap::default();
        heap.grow();
        heap.grow();
        let sizes = [CHUNK_WORDS / 2, CHUNK_WORDS / 2 + 1, 7, 1, CHUNK_WORDS / 3];
        let places: Vec<Place> = sizes
            .iter()
            .map(|words| heap.take(*words).expect("room"))
            .collect();
        for (i, a) in places.iter().enumerate() {
            assert_eq!(a.at / CHUNK_WORDS, (a.at + a.words - 1) / CHUNK_WORDS);
            for b in &places[..i] {
                assert!(a.at + a.words <= b.at || b.at + b.words <= a.at);
            }
        }
        assert_eq!(heap.take(CHUNK_WORDS), None);
        places.iter().for_each(|place| heap.give_back(*place, 7));
        assert_eq!(heap.used_bytes(), 0);
        assert_eq!(heap.take(CHUNK_WORDS), None, "not before it has settled");
        heap.settle(6);
        assert!(heap.is_waiting() && heap.take(CHUNK_WORDS).is_none());
        heap.settle(7);
        assert!(!heap.is_waiting());
        assert!(heap.take(CHUNK_WORDS).is_some());
        assert!(heap.take(CHUNK_WORDS).is_some());
        assert_eq!(heap.take(1), None);
    }
}
