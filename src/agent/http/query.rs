//! What a request for a recording asks for.
//!
//! In: the query of a URL. Out: an [`Asked`] within bounds, or what is wrong with it.

use std::time::Duration;

use crate::agent::deep::{Asked, Mode};

/// As Go's `net/http/pprof` has it.
const SECONDS: f64 = 30.0;
/// Go's profiler takes a hundred a second; one less keeps out of step with what happens every ten milliseconds.
const FREQUENCY_HZ: u32 = 99;
const MOST_HZ: u32 = 10_000;

/// `seconds` only, and unknown words are ignored, as Go does.
pub(super) fn profile(query: Option<&str>, longest: Duration) -> Result<Asked, String> {
    let mut asked = Asked {
        seconds: SECONDS,
        frequency_hz: FREQUENCY_HZ,
        mode: Mode::OnCpu,
    };
    for (name, value) in words(query) {
        match name {
            "seconds" => asked.seconds = seconds(value, longest)?,
            "frequency" | "hz" => asked.frequency_hz = frequency(value)?,
            _ => {}
        }
    }
    asked.seconds = asked.seconds.min(longest.as_secs_f64());
    Ok(asked)
}

/// All that can be chosen; unknown words are refused.
pub(super) fn recording(query: Option<&str>, longest: Duration) -> Result<Asked, String> {
    let mut asked = Asked {
        mode: Mode::All,
        ..profile(None, longest)?
    };
    for (name, value) in words(query) {
        match name {
            "seconds" => asked.seconds = seconds(value, longest)?,
            "frequency" => asked.frequency_hz = frequency(value)?,
            "mode" => {
                asked.mode = match value {
                    "on-cpu" => Mode::OnCpu,
                    "all" => Mode::All,
                    _ => return Err("`mode` is `all` or `on-cpu`".into()),
                }
            }
            _ => return Err("known are `seconds`, `frequency` and `mode`".into()),
        }
    }
    Ok(asked)
}

fn words(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    let words = query
        .unwrap_or("")
        .split('&')
        .filter(|word| !word.is_empty());
    words.map(|word| word.split_once('=').unwrap_or((word, "")))
}

fn seconds(text: &str, longest: Duration) -> Result<f64, String> {
    let most = longest.as_secs_f64();
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= most => Ok(seconds),
        _ => Err(format!("`seconds` is a number above 0 and at most {most}")),
    }
}

fn frequency(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(hz) if (1..=MOST_HZ).contains(&hz) => Ok(hz),
        _ => Err(format!("`frequency` is a whole number from 1 to {MOST_HZ}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_within_bounds_or_refused() {
        let longest = Duration::from_secs(60);
        let plain = profile(None, longest).expect("defaults");
        assert_eq!(
            (plain.seconds, plain.frequency_hz, plain.mode),
            (30.0, 99, Mode::OnCpu)
        );
        let asked = profile(Some("seconds=5&debug=1"), longest).expect("as Go's scrapers ask");
        assert_eq!(asked.seconds, 5.0);
        for bad in [
            "seconds=0",
            "seconds=61",
            "seconds=NaN",
            "seconds=x",
            "seconds=-1",
            "seconds=inf",
            "hz=0",
        ] {
            assert!(profile(Some(bad), longest).is_err(), "{bad}");
        }
        let deep =
            recording(Some("seconds=1.5&frequency=499&mode=all"), longest).expect("all of it");
        assert_eq!(
            (deep.seconds, deep.frequency_hz, deep.mode),
            (1.5, 499, Mode::All)
        );
        assert!(recording(Some("second=1"), longest).is_err());
        let short = profile(None, Duration::from_secs(2)).expect("cut");
        assert_eq!(short.seconds, 2.0);
    }
}
