//! What a recording's coverage lacks, by its own thresholds or the config's.
//!
//! In: an entry of `coverage.json`. Out: the metrics that are not as good as they have to be, with what was reached of
//! the threshold.

use serde_json::Value;

use super::check::percent;
use super::config;

/// A coverage metric that is not as good as it has to be.
pub(super) struct Fault {
    pub sentence: String,
    /// What was reached of the threshold.
    pub part: f64,
    pub remedy: Option<String>,
}

pub(super) fn faults(entry: &Value, plan: &config::Diagnostics) -> Vec<Fault> {
    let metrics = entry["metrics"].as_object();
    let mut faults: Vec<Fault> = metrics
        .into_iter()
        .flatten()
        .filter_map(|(id, metric)| fault(id, metric, plan.coverage_thresholds.get(id).map(|t| t.0)))
        .collect();
    for id in plan.coverage_thresholds.keys() {
        if metrics.is_none_or(|metrics| !metrics.contains_key(id)) {
            faults.push(unmeasured(id, "it is no metric of `coverage.json`"));
        }
    }
    let overridden = !plan.coverage_thresholds.is_empty();
    if faults.is_empty() && !overridden && entry["verdict"] != "trusted" {
        faults.push(unmeasured(
            "verdict",
            "the recording does not say that it can be trusted",
        ));
    }
    faults
}

fn unmeasured(id: &str, why: &str) -> Fault {
    Fault {
        sentence: format!("`{id}`: {why}"),
        part: 0.0,
        remedy: None,
    }
}

fn fault(id: &str, metric: &Value, own_threshold: Option<f64>) -> Option<Fault> {
    let value = metric["value"].as_f64();
    let threshold = own_threshold.or(metric["threshold"].as_f64());
    let less_is_better = id == "confidence";
    let ok = match (own_threshold, value) {
        (Some(bound), Some(value)) if less_is_better => value <= bound,
        (Some(bound), Some(value)) => value >= bound - metric["tolerance"].as_f64().unwrap_or(0.0),
        (Some(_), None) => false,
        (None, _) => metric["gating"] != true || metric["ok"] == true,
    };
    if ok {
        return None;
    }
    let (Some(value), Some(threshold)) = (value, threshold) else {
        let why = metric["not_measured"]
            .as_str()
            .unwrap_or("it was not measured");
        return Some(unmeasured(id, why));
    };
    let ratio = match (less_is_better, value > threshold) {
        (true, _) => threshold / value,
        (false, false) => value / threshold,
        // Samples that stand for more time than there was are as wrong as too few.
        (false, true) => 1.0 / value,
    };
    Some(Fault {
        sentence: format!(
            "`{id}` is {} of at least {}",
            percent(value),
            percent(threshold)
        )
        .replace(
            "at least",
            if less_is_better {
                "at most"
            } else {
                "at least"
            },
        ),
        part: if ratio.is_finite() {
            ratio.clamp(0.0, 1.0)
        } else {
            0.0
        },
        remedy: metric["remedy"].as_str().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry() -> Value {
        json!({"service": "a", "verdict": "trusted", "metrics": {
            "cpu_time": {"value": 0.98, "threshold": 0.95, "tolerance": 0.0, "gating": true, "ok": true},
            "stacks": {"value": 0.9, "threshold": 0.95, "tolerance": 0.06, "gating": true, "ok": true},
            "source_lines": {"value": 0.1, "threshold": null, "tolerance": 0.0, "gating": false, "ok": null},
            "confidence": {"value": 0.02, "threshold": 0.01, "tolerance": 0.0, "gating": false, "ok": false},
        }})
    }

    #[test]
    fn a_service_counts_for_what_its_weakest_metric_reached() {
        let plan = config::Diagnostics::default();
        assert!(faults(&entry(), &plan).is_empty());
        let mut bad = entry();
        bad["metrics"]["cpu_time"]["value"] = json!(0.475);
        bad["metrics"]["cpu_time"]["ok"] = json!(false);
        let found = faults(&bad, &plan);
        assert!(found.len() == 1 && (found[0].part - 0.5).abs() < 1e-9);
        assert_eq!(found[0].sentence, "`cpu_time` is 47.5 % of at least 95 %");
        bad["metrics"]["cpu_time"]["value"] = Value::Null;
        assert_eq!(faults(&bad, &plan)[0].part, 0.0);
        let mut unsaid = entry();
        unsaid["verdict"] = json!("inconclusive");
        assert_eq!(faults(&unsaid, &plan)[0].part, 0.0);
        assert_eq!(faults(&json!({}), &plan).len(), 1);
    }

    #[test]
    fn thresholds_of_the_config_take_the_place_of_the_recordings() {
        let mut plan = config::Diagnostics::default();
        let thresholds = &mut plan.coverage_thresholds;
        thresholds.insert("source_lines".into(), config::Share(0.5));
        thresholds.insert("confidence".into(), config::Share(0.03));
        let found = faults(&entry(), &plan);
        assert!(found.len() == 1 && found[0].sentence.contains("source_lines"));
        assert!((found[0].part - 0.2).abs() < 1e-9);
        plan.coverage_thresholds
            .insert("no-such".into(), config::Share(0.5));
        assert_eq!(faults(&entry(), &plan).len(), 2);
    }
}
