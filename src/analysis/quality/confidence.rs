//! Coverage metric 7: how sure the hottest path's share is, and how long a recording would make it as sure as asked.

use super::Hottest;
use super::metric::Metric;
use crate::analysis::self_total::HotPath;
use crate::profile::Recording;

const ID: &str = "confidence";
const UNIT: &str = "share, half-width of the 95 % interval";

/// The metric's value is the half-width itself, so less is better. It counts for the verdict only with a `limit`;
/// without one it is held against the precision the recording was asked for.
pub(super) fn measure(
    recording: &Recording,
    hottest: Option<&HotPath>,
    limit: Option<f64>,
) -> (Metric, Option<Hottest>) {
    let precision = limit.unwrap_or(recording.precision);
    let threshold = (precision > 0.0).then_some(precision);
    let hottest = hottest.map(|path| Hottest {
        needed_s: threshold
            .and_then(|precision| path.share.scale_for(precision))
            .map(|scale| scale * recording.duration_ns as f64 / 1e9),
        name: path.name.clone(),
        share: path.share,
        precision,
    });
    let mut metric = match hottest.as_ref().map(|h| h.share.half_width()) {
        None => Metric::missing(ID, UNIT, threshold, "there are no samples"),
        Some(None) => {
            let why = "the recording has too few time slices with samples for an interval";
            Metric::missing(ID, UNIT, threshold, why)
        }
        Some(Some(half_width)) => {
            let mut metric = Metric::ratio(ID, UNIT, (half_width, 1.0), threshold);
            metric.ok = threshold.map(|precision| half_width <= precision);
            metric
        }
    };
    metric.gating = limit.is_some();
    let needed_s = hottest.as_ref().and_then(|h| h.needed_s);
    let metric = metric.or_remedy(|_| {
        Some(match needed_s {
            Some(needed_s) => format!("record for at least {:.0} s", needed_s.ceil()),
            None => "record longer, under steady load".to_owned(),
        })
    });
    (metric, hottest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{HotPaths, canned};

    #[test]
    fn a_precision_that_was_missed_names_the_length_that_reaches_it() {
        let profile = canned::server();
        let hot = HotPaths::of(&profile, 1);
        let of = |limit| measure(&profile.recording, hot.by_self.first(), limit);
        let (metric, hottest) = of(None);
        let hottest = hottest.expect("samples");
        let half_width = metric.value.expect("100 slices");
        assert!(
            half_width > 0.01,
            "the runs of half a second make it unsure: {half_width}"
        );
        assert_eq!((metric.ok, metric.gating), (Some(false), false));
        let needed_s = hottest.needed_s.expect("interval");
        let by_root_n = 10.0 * (half_width / 0.01).powi(2);
        assert!(
            (0.8..1.25).contains(&(needed_s / by_root_n)),
            "{needed_s} vs {by_root_n}"
        );
        assert!(metric.remedy.expect("missed").contains(" s"));
        assert!(of(Some(0.001)).0.gating);
    }
}
