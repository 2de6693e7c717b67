//! JTL as XML: `<testResults>` with `<httpSample>` and `<sample>` elements. Those inside another are its parts (a
//! redirect, an embedded image, the requests of a transaction) and not counted, as in CSV.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::super::samples::Sample;
use super::super::{ContentError, LoadTest, Split};
use super::Collected;

const ROOT: &[u8] = b"testResults";

pub(in super::super) fn read(text: &str, split: Split) -> Result<Vec<LoadTest>, ContentError> {
    let mut reader = Reader::from_str(text);
    let mut collected = Collected::new(split);
    let mut depth = 0_u64;
    loop {
        let at = reader.buffer_position();
        let event = reader.read_event();
        let line = || line_of(text, at);
        match event {
            Ok(Event::Start(element)) => {
                if depth == 0 && element.name().as_ref() != ROOT {
                    return Err(ContentError::line(
                        line(),
                        "the root is not `<testResults>`",
                    ));
                }
                if depth == 1 {
                    add(&mut collected, &element, &line)?;
                }
                depth += 1;
            }
            Ok(Event::Empty(element)) if depth == 1 => add(&mut collected, &element, &line)?,
            Ok(Event::End(_)) => depth = depth.saturating_sub(1),
            Ok(Event::Eof) if depth == 0 => return collected.tests(),
            Ok(Event::Eof) => {
                let message =
                    "the file ends before `</testResults>`; the test is running, or was cut off";
                return Err(ContentError::line(line(), message));
            }
            Ok(_) => {}
            Err(error) => {
                let place = line_of(text, reader.error_position());
                return Err(ContentError::line(place, format!("is no XML: {error}")));
            }
        }
    }
}

/// `t` elapsed and `ts` begin in milliseconds, `s` success, `lb` label, `rm` message, `na` users.
fn add(
    collected: &mut Collected,
    element: &BytesStart<'_>,
    line: &impl Fn() -> usize,
) -> Result<(), ContentError> {
    if !matches!(element.name().as_ref(), b"httpSample" | b"sample") {
        return Ok(());
    }
    let text = |name: &str| -> Result<Option<String>, ContentError> {
        let fault = || ContentError::line(line(), format!("attribute `{name}` cannot be read"));
        // Without looking for doubles, which takes the square of their number.
        for attribute in element.attributes().with_checks(false) {
            let attribute = attribute.map_err(|_| fault())?;
            if attribute.key.as_ref() == name.as_bytes() {
                let value = attribute.normalized_value(XmlVersion::Implicit1_0);
                return value.map(|value| Some(value.into())).map_err(|_| fault());
            }
        }
        Ok(None)
    };
    let count = |name: &str| -> Result<Option<u64>, ContentError> {
        let fault = || ContentError::line(line(), format!("attribute `{name}` is no number"));
        let value = text(name)?;
        value.map(|v| v.parse().map_err(|_| fault())).transpose()
    };
    let needed = |name: &str| {
        let missing = || ContentError::line(line(), format!("attribute `{name}` is missing"));
        count(name)?.ok_or_else(missing)
    };
    let failed = match text("s")?.as_deref() {
        Some("true") => false,
        Some("false") => true,
        _ => {
            let message = "attribute `s` is neither `true` nor `false`";
            return Err(ContentError::line(line(), message));
        }
    };
    let sample = Sample {
        begin_ms: needed("ts")? as f64,
        took_ms: needed("t")? as f64,
        failed,
        users: count("na")?,
    };
    let label = text("lb")?.unwrap_or_default();
    let message = text("rm")?.unwrap_or_default();
    match collected.add(&label, &message, sample) {
        true => Ok(()),
        false => Err(ContentError::line(line(), "there are too many labels")),
    }
}

/// Worked out when something is wrong only.
fn line_of(text: &str, position: u64) -> usize {
    let end = (position as usize).min(text.len());
    1 + text.as_bytes()[..end]
        .iter()
        .filter(|b| **b == b'\n')
        .count()
}
