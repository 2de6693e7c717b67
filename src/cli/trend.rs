//! `perfprof trend`: whether the newest figures are worse than what was usual, for nightly runs.

use jiff::Timestamp;

use super::args::TrendArgs;
use super::artifact_root;
use super::baseline::{add, figures, history_failed, open_history};
use super::status::Log;
use super::stdout::print;
use super::stop::{Exit, Failure};
use crate::history::trend::{self, Question, Verdict};
use crate::history::{self, History};
use crate::render::trends;

pub(super) fn run(args: &TrendArgs, log: &Log) -> Result<Exit, Failure> {
    let artifacts = &artifact_root::of(args.figures.artifacts.as_deref(), log)?;
    let asked = args.figures.history.as_deref();
    let given = !args.figures.profile.is_empty() || !args.figures.load_test.is_empty();
    if given && !args.add {
        let message = "`--profile` and `--load-test` are for figures that are added";
        return Err(Failure::message(Exit::Usage, message).hint("add `--add`"));
    }
    let history = if args.add {
        let found = figures(&args.figures, artifacts)?;
        let (path, mut history) = open_history(asked, artifacts)?;
        add(&mut history, &path, &found, log)?;
        history
    } else {
        let path = asked.map_or_else(|| artifacts.join(history::FILE), Into::into);
        if !path.exists() {
            let message = format!("there is no history `{}`", path.display());
            return Err(Failure::message(Exit::BadInput, message)
                .hint("make one with `perfprof baseline save`, or `perfprof trend --add`"));
        }
        History::open_existing(&path).map_err(history_failed)?
    };
    let question = Question {
        window: args.window,
        min_points: args.min_points,
    };
    let latest = history.latest().map_err(history_failed)?;
    let latest = latest.unwrap_or_else(Timestamp::now);
    // Every newest figure within a window of the latest has its own window before it.
    let from = [0, 1]
        .iter()
        .try_fold(latest, |at, _| at.checked_sub(args.window));
    let mut found = history
        .since(from.unwrap_or(Timestamp::MIN))
        .map_err(history_failed)?;
    if let Some(service) = &args.figures.service {
        found.retain(|figure| figure.service == *service);
    }
    let trends = trend::of(&found, question);
    let verdict = trend::verdict(&trends);
    match args.json {
        true => print(&format!("{:#}\n", trends::document(&trends, question)))?,
        false => print(&trends::table(&trends))?,
    }
    for trend in trends
        .iter()
        .filter(|trend| trend.verdict != Verdict::Steady)
    {
        log.warning(trends::sentence(trend));
    }
    if trends.is_empty() {
        log.warning(format!(
            "the history has none of the metrics that are watched: {}",
            trends::watched()
        ));
    }
    Ok(match verdict {
        Verdict::Steady => Exit::Success,
        Verdict::Inconclusive => Exit::Inconclusive,
        Verdict::Regressed => Exit::Failed,
    })
}
