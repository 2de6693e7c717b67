//! How far the flame graph differs from the baseline's: a load that exercised other code is not the load that was
//! meant, and neither is a profile of it.
//!
//! In: two profiles. Out: the total variation distance between their distributions of stacks: half the sum of the
//! differences of all stacks' shares, 0 for equal and 1 for disjoint ones. Two recordings of the same thing differ, too;
//! what chance alone would give is estimated from the numbers of samples and said beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::check::{Check, Status, percent};
use super::command;
use super::config::OnVariance;
use super::documents::{BadInput, unreadable};
use super::profiling::Profiles;
use super::{Setting, documents};
use crate::artifacts::{InsideError, read_named};
use crate::profile::Profile;
use crate::store::{self, folded};

/// A check for every service with a baseline profile.
pub(super) fn checks(
    setting: &Setting,
    profiles: &Profiles,
    services: &[String],
) -> Result<Vec<Check>, BadInput> {
    let mut checks = Vec::new();
    if setting.config.own.diagnostics.on_variance == OnVariance::Ignore {
        return Ok(checks);
    }
    for (service, baseline) in baselines(setting, services)? {
        checks.push(check(setting, profiles, &service, &baseline)?);
    }
    Ok(checks)
}

/// Which profile each service is held against; the command line goes before the config.
fn baselines(setting: &Setting, services: &[String]) -> Result<Vec<(String, PathBuf)>, BadInput> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for service in &setting.config.own.services {
        if let Some(path) = &service.baseline_profile {
            found.insert(service.name.value.0.clone(), path.clone());
        }
    }
    for (service, path) in &setting.given.baselines {
        let service = match (service, services) {
            (Some(service), _) => service.clone(),
            (None, [only]) => only.clone(),
            (None, _) => {
                let of_profile = profile_at(path)?.recording.service;
                if !services.contains(&of_profile) {
                    let message = format!(
                        "is of `{of_profile}`, which is none of the services; say `--baseline SERVICE=FILE`"
                    );
                    return Err(BadInput::of(path, message));
                }
                of_profile
            }
        };
        found.insert(service, path.clone());
    }
    Ok(found.into_iter().collect())
}

fn check(
    setting: &Setting,
    profiles: &Profiles,
    service: &str,
    baseline: &Path,
) -> Result<Check, BadInput> {
    let plan = &setting.config.own.diagnostics;
    let limit = plan.max_flame_graph_variance.0;
    let check = Check::new(
        format!("variance:{service}"),
        format!("flame graph of `{service}` against the baseline's"),
    )
    .expected(format!(
        "total variation distance at most {}",
        percent(limit)
    ));
    let Some(linked) = profiles.linked(service, "pb.gz") else {
        let actual = format!("`{service}` has no profile to compare");
        return Ok(check.found(Status::NotApplicable, actual));
    };
    let path = setting.documents.path(&linked);
    let bytes = setting.documents.bytes(&linked);
    let Some(bytes) = bytes.map_err(|error| unreadable(&path, &error))? else {
        let check = check.evidence(setting.documents.shown(&linked));
        return Ok(check
            .found(Status::Inconclusive, "the profile is missing")
            .remedy(command::record(service, setting.documents.root())));
    };
    let now = profile_of(&path, &bytes)?;
    let distance = Distance::between(&profile_at(baseline)?, &now);
    let check = check.evidence(format!("{} and {}", baseline.display(), path.display()));
    let actual = format!(
        "{} (chance alone gives about {} with {} and {} samples)",
        percent(distance.total_variation),
        percent(distance.by_chance),
        distance.samples.0,
        distance.samples.1,
    );
    if distance.total_variation <= limit {
        return Ok(check.pass(actual));
    }
    let status = match plan.on_variance {
        OnVariance::Fail => Status::Fail,
        _ => Status::Warn,
    };
    let compare = format!(
        "perfprof compare --before {} --after {}",
        command::path(baseline),
        command::path(&path)
    );
    let remedy = match distance.by_chance > limit {
        true => format!(
            "record longer, so that chance gives less than {}",
            percent(limit)
        ),
        false => format!(
            "see what changed: {compare}; run the baseline's load, or record a new baseline"
        ),
    };
    Ok(check.found(status, actual).remedy(remedy))
}

fn profile_at(path: &Path) -> Result<Profile, BadInput> {
    let bytes = read_named(path, documents::MAX_BYTES);
    let bytes: Result<_, InsideError> = bytes;
    match bytes.map_err(|error| unreadable(path, &error))? {
        Some(bytes) => profile_of(path, &bytes),
        None => Err(BadInput::of(path, "is not there")),
    }
}

fn profile_of(path: &Path, bytes: &[u8]) -> Result<Profile, BadInput> {
    let name = path.display().to_string();
    store::from_bytes(bytes, &name).map_err(|error| {
        let causes = anyhow::Error::from(error);
        BadInput::of(path, format!("is no profile: {causes:#}"))
    })
}

/// Between two samples of stacks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Distance {
    total_variation: f64,
    /// The expected distance of two samples of these sizes from their common distribution.
    by_chance: f64,
    samples: (u64, u64),
}

impl Distance {
    fn between(before: &Profile, after: &Profile) -> Distance {
        Distance::of(&counts(before), &counts(after))
    }

    fn of(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Distance {
        let n: u64 = before.values().sum();
        let m: u64 = after.values().sum();
        if n == 0 || m == 0 {
            let total_variation = if n == m { 0.0 } else { 1.0 };
            return Distance {
                total_variation,
                by_chance: 1.0,
                samples: (n, m),
            };
        }
        let (n_f, m_f) = (n as f64, m as f64);
        let (mut distance, mut chance) = (0.0, 0.0);
        let new = after
            .iter()
            .filter(|(stack, _)| !before.contains_key(*stack));
        let all = before
            .iter()
            .map(|(stack, a)| (*a, after.get(stack).copied().unwrap_or(0)))
            .chain(new.map(|(_, b)| (0, *b)));
        for (a, b) in all {
            distance += (a as f64 / n_f - b as f64 / m_f).abs();
            // Of two binomial shares with a common p the difference is about normal, and its mean size √(2/π)·σ.
            let p = (a + b) as f64 / (n_f + m_f);
            let deviation = (p * (1.0 - p) * (1.0 / n_f + 1.0 / m_f)).sqrt();
            chance += deviation * std::f64::consts::FRAC_2_PI.sqrt();
        }
        Distance {
            total_variation: distance / 2.0,
            by_chance: (chance / 2.0).min(1.0),
            samples: (n, m),
        }
    }
}

/// Samples of every stack, by the names of its functions.
fn counts(profile: &Profile) -> BTreeMap<String, u64> {
    let lines = folded::encode(profile, false);
    let counted = lines.lines().filter_map(|line| {
        let (stack, count) = line.rsplit_once(' ')?;
        Some((stack.to_owned(), count.parse().ok()?))
    });
    counted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::canned;

    fn of(before: &[(&str, u64)], after: &[(&str, u64)]) -> Distance {
        let map =
            |pairs: &[(&str, u64)]| pairs.iter().map(|(s, n)| ((*s).to_owned(), *n)).collect();
        Distance::of(&map(before), &map(after))
    }

    #[test]
    fn the_distance_is_that_of_the_shares() {
        assert_eq!(
            of(&[("a", 5), ("b", 5)], &[("a", 50), ("b", 50)]).total_variation,
            0.0
        );
        assert_eq!(of(&[("a", 1)], &[("b", 7)]).total_variation, 1.0);
        let moved = of(&[("a", 70), ("b", 30)], &[("a", 50), ("b", 30), ("c", 20)]);
        assert!((moved.total_variation - 0.2).abs() < 1e-12);
        assert_eq!(of(&[], &[("a", 1)]).total_variation, 1.0);
    }

    #[test]
    fn chance_shrinks_with_the_samples_and_grows_with_the_stacks() {
        let even = |stacks: usize, each: u64| {
            let names: Vec<String> = (0..stacks).map(|i| i.to_string()).collect();
            let pairs: Vec<(&str, u64)> = names.iter().map(|n| (n.as_str(), each)).collect();
            of(&pairs, &pairs).by_chance
        };
        assert!((even(2, 50) / even(2, 5000) - 10.0).abs() < 1e-6);
        assert!(even(200, 1) > even(2, 100));
    }

    #[test]
    fn a_profile_does_not_differ_from_itself() {
        let profile = canned::server();
        let distance = Distance::between(&profile, &profile);
        assert_eq!(distance.total_variation, 0.0);
        assert_eq!(distance.samples.0, profile.total_count());
        assert!(distance.by_chance > 0.0);
    }
}
