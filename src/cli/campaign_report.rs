//! `kindred campaign-report`.

use kindred_models::events::DAY_SECONDS;
use std::path::PathBuf;

use chrono::{DateTime, NaiveDate};
use clap::Args;
use kindred_training::campaign::{Difference, Group, Outcome, report};

use super::print;
use crate::clock::unix_now;
use crate::config::Config;
use crate::error::Error;
use crate::progress::Terminal;

/// Tells what a campaign did, by the members who were held out.
///
/// Compares the share of buyers among the members of an audience who were contacted, with
/// that among those who were held out, with 95% intervals.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred campaign-report --audience audience.parquet --events later.parquet\n  \
    kindred campaign-report --audience audience.parquet --config kindred.toml --since 2026-11-01 --days 28 --json\n\n\
    The audience is a table that `kindred audience --holdout` wrote, or any with the columns product_id, member_id\n  \
    and held_out. The events are read as training reads them; a purchase that was brought back is none.")]
pub(super) struct CampaignReport {
    /// Config file (TOML), for how the events table is read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Table of the audience.
    #[arg(long, value_name = "PATH")]
    audience: PathBuf,
    /// Table of what happened since: a file, a folder of files, or a glob [default: that of the config]
    #[arg(long, value_name = "PATH")]
    events: Option<PathBuf>,
    /// First day (2026-11-01, UTC) or moment (RFC 3339) that counts [default: all of the table]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<i64>,
    /// Days from then on that count [default: all]
    #[arg(long, value_name = "DAYS", requires = "since", value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: Option<u32>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Unix seconds of a day or a moment.
fn moment(text: &str) -> Result<i64, String> {
    let day = || Some(text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0)?.and_utc().timestamp());
    let exact = DateTime::parse_from_rfc3339(text).ok().map(|moment| moment.timestamp());
    exact.or_else(day).ok_or_else(|| format!("'{text}' is no time: give 2026-11-01 or 2026-11-01T08:00:00+08:00"))
}

impl CampaignReport {
    pub(super) fn run(self) -> Result<(), Error> {
        let Config { mut data, popularity, .. } = Config::load(self.config.as_deref())?;
        let offset = popularity.utc_offset_minutes;
        if let Some(events) = &self.events {
            data.events.path = Some(std::path::absolute(events)?);
        }
        let start = self.since.unwrap_or(i64::MIN);
        let end = self.days.map_or(i64::MAX, |days| start + i64::from(days) * DAY_SECONDS - 1);
        let outcomes = report(&self.audience, &data, offset, &(start..=end), unix_now(), &Terminal::new())?;
        if self.json {
            return print::json(&serde_json::to_value(&outcomes).unwrap_or_default());
        }
        print_outcomes(&outcomes)
    }
}

fn print_outcomes(outcomes: &[Outcome]) -> Result<(), Error> {
    let group = |g: Group| format!("{} of {}", print::count(g.buyers as u64), print::count(g.members as u64));
    let difference = |d: Option<Difference>, scale: f64, unit: &str| {
        d.map_or_else(
            || "?".to_owned(),
            |d| format!("{:+.2}{unit} ({:+.2} to {:+.2})", scale * d.value, scale * d.low, scale * d.high),
        )
    };
    // One product is all there is.
    let shown = if outcomes.len() == 2 { &outcomes[..1] } else { outcomes };
    let has_others = outcomes.iter().any(|o| o.uplift.is_some()) && outcomes.iter().any(|o| o.uplift.is_none());
    let all = if has_others { "all with a holdout" } else { "all" };
    let rows = shown.iter().map(|o| {
        vec![
            if o.product_id.is_empty() { all.to_owned() } else { o.product_id.clone() },
            group(o.contacted),
            group(o.held_out),
            difference(o.uplift, 100.0, "%"),
            difference(o.extra_buyers, 1.0, ""),
            o.expected_buyers.map_or_else(|| "?".to_owned(), |buyers| format!("{buyers:.1}")),
        ]
    });
    let columns =
        ["product", "contacted: bought", "held out: bought", "uplift (95%)", "extra buyers (95%)", "expected"];
    print::table(&columns, rows)?;
    if outcomes.iter().any(|o| o.uplift.is_none()) {
        print::line("? where no member was held out: what would have been bought anyway is not known")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_or_moments() {
        assert_eq!(moment("1970-01-02"), Ok(DAY_SECONDS));
        assert_eq!(moment("1970-01-01T08:00:01+08:00"), Ok(1));
        for wrong in ["", "yesterday", "2026-13-01", "2026-02-30"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
