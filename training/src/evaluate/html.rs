//! The report as one page that needs nothing else: no script, no network.

use std::fmt::Write;

use super::{Evaluation, Part, RankerCalibration, TaskReport};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;\
color:#1b1f24;background:#fff}h1{font-size:1.5rem}h2{margin-top:2.2rem;font-size:1.2rem}h3{font-size:1rem}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.2rem .8rem;text-align:right;\
border-bottom:1px solid #d8dee4}td:first-child,th:first-child{text-align:left}small{color:#57606a}\
figure{display:inline-block;margin:0 2rem 1.5rem 0;vertical-align:top}figcaption{font-weight:600}\
text{font:11px system-ui,sans-serif;fill:#1b1f24}";

/// Metrics of the table, in its order.
const COLUMNS: [&str; 9] =
    ["ndcg@10", "ndcg@20", "recall@10", "recall@20", "hit@10", "hit@20", "repeats@20", "coverage@20", "gini@20"];

/// The page.
pub fn html(evaluation: &Evaluation) -> String {
    let mut page = String::new();
    // Writing into a string does not fail.
    let _ = write_page(&mut page, evaluation);
    page
}

fn write_page(page: &mut String, evaluation: &Evaluation) -> std::fmt::Result {
    write!(page, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Kindred: evaluation</title>")?;
    write!(page, "<style>{STYLE}</style><h1>Evaluation</h1><p>{}</p>", escaped(&evaluation.protocol()))?;
    for task in &evaluation.tasks {
        write_task(page, task)?;
    }
    if let Some(reason) = &evaluation.served_left_out {
        write!(page, "<p>The served model is not compared: {}.</p>", escaped(reason))?;
    }
    if let Some(calibration) = &evaluation.calibration {
        write_calibration(page, calibration)?;
    }
    write_scorers(page, evaluation)?;
    write_launches(page, evaluation)?;
    writeln!(page, "</html>")
}

fn write_launches(page: &mut String, evaluation: &Evaluation) -> std::fmt::Result {
    let replayed = evaluation.launch_replays.metrics();
    write!(page, "<h2>Launches</h2><table>")?;
    for (name, value) in evaluation.launches.iter().chain(&replayed) {
        write!(page, "<tr><td>{}</td><td>{value:.4}</td></tr>", escaped(name))?;
    }
    write!(page, "</table><p></p>")?;
    if !evaluation.expected.is_empty() {
        write!(
            page,
            "<table><tr><th>best tenth for</th><th>audiences</th><th>recall@10%</th><th>of its own buyers first</th>"
        )?;
        write!(page, "<th>expected over actual buyers (the middle one)</th><th>within 10–90%</th></tr>")?;
        for e in &evaluation.expected {
            write!(page, "<tr><td>{}</td><td>{}</td><td>{:.4}</td>", escaped(&e.subject), e.audiences, e.recall)?;
            let own = e.recall_of_own_buyers.map_or_else(String::new, |recall| format!("{recall:.4}"));
            write!(page, "<td>{own}</td>")?;
            write!(page, "<td>{:.2}</td><td>{:.0}%</td></tr>", e.median_ratio, 100.0 * e.coverage)?;
        }
        write!(page, "</table><p></p>")?;
    }
    if evaluation.launch_seeds.is_empty() {
        return Ok(());
    }
    write!(page, "<table><tr><th>seeds</th><th>launches</th><th>recall@10% without</th><th>gain</th>")?;
    write!(page, "<th>AUC without</th><th>gain</th></tr>")?;
    for s in &evaluation.launch_seeds {
        write!(page, "<tr><td>{}</td><td>{}</td>", s.seeds, s.launches)?;
        for (without, gain) in [(s.recall_without, s.recall_gain), (s.auc_without, s.auc_gain)] {
            write!(page, "<td>{without:.4}</td>")?;
            write!(page, "<td>{:+.4}<br><small>{:+.4} to {:+.4}</small></td>", gain.value, gain.low, gain.high)?;
        }
        write!(page, "</tr>")?;
    }
    write!(page, "</table>")
}

fn write_task(page: &mut String, task: &TaskReport) -> std::fmt::Result {
    let what = if task.task == "all" { "anything bought" } else { "what the member had never bought" };
    write!(page, "<h2>Feeds: {} <small>({what}; {} members)</small></h2>", escaped(&task.task), task.members)?;
    write!(page, "<table><tr><th></th>")?;
    for name in COLUMNS {
        write!(page, "<th>{name}</th>")?;
    }
    write!(page, "</tr>")?;
    for (ranking, values) in &task.rankings {
        write!(page, "<tr><td>{}</td>", escaped(ranking))?;
        for name in COLUMNS {
            let e = values.get(name).copied().unwrap_or_default();
            write!(page, "<td>{:.4}<br><small>{:.4}–{:.4}</small></td>", e.value, e.low, e.high)?;
        }
        write!(page, "</tr>")?;
    }
    write!(page, "</table><p></p>")?;
    write_bars(page, "Recall@20 by products in the history", &task.by_history)?;
    write_bars(page, "Recall@20 by category", &task.by_category)?;
    write_lorenz(page, &task.exposure)
}

/// Bars, each with its number and how many it stands for.
fn write_bars(page: &mut String, title: &str, parts: &[Part]) -> std::fmt::Result {
    let largest = parts.iter().map(|p| p.recall_at_20).fold(f64::MIN_POSITIVE, f64::max);
    let height = 20 * parts.len();
    write!(page, "<figure><figcaption>{}</figcaption><svg width=\"440\" height=\"{height}\">", escaped(title))?;
    for (row, part) in parts.iter().enumerate() {
        let (y, width) = (20 * row, part.recall_at_20 / largest * 180.0);
        write!(page, "<text x=\"130\" y=\"{}\" text-anchor=\"end\">{}</text>", y + 14, escaped(&part.name))?;
        write!(page, "<rect x=\"136\" y=\"{}\" width=\"{width:.1}\" height=\"14\" fill=\"#4a7ebb\"/>", y + 3)?;
        let number = format!("{:.3} of {}", part.recall_at_20, part.count);
        write!(page, "<text x=\"{:.1}\" y=\"{}\">{number}</text>", 142.0 + width, y + 14)?;
    }
    write!(page, "</svg></figure>")
}

fn write_lorenz(page: &mut String, points: &[(f64, f64)]) -> std::fmt::Result {
    let line: String =
        points.iter().map(|(x, y)| format!("{:.1},{:.1} ", 10.0 + 200.0 * x, 210.0 - 200.0 * y)).collect();
    write!(page, "<figure><figcaption>Exposure: share of places by share of products</figcaption>")?;
    write!(
        page,
        "<svg width=\"220\" height=\"220\"><path d=\"M10 210H210V10L10 210\" fill=\"none\" stroke=\"#d8dee4\"/>"
    )?;
    write!(page, "<polyline points=\"{line}\" fill=\"none\" stroke=\"#4a7ebb\" stroke-width=\"2\"/></svg></figure>")
}

fn write_calibration(page: &mut String, calibration: &RankerCalibration) -> std::fmt::Result {
    write!(page, "<h2>Calibration of the ranker</h2><p>Log-loss {:.5}; ", calibration.log_loss)?;
    write!(page, "of the base rate alone {:.5}.</p><table>", calibration.base_log_loss)?;
    write!(page, "<tr><th>tenth</th><th>items</th><th>expected</th><th>observed</th><th>ratio</th></tr>")?;
    for (number, class) in calibration.classes.iter().enumerate() {
        let ratio = class.expected / class.observed.max(f64::MIN_POSITIVE);
        let ratio = if class.observed > 0.0 { format!("{ratio:.2}") } else { "–".to_owned() };
        write!(page, "<tr><td>{}</td><td>{}</td>", number + 1, class.items)?;
        write!(page, "<td>{:.0}</td><td>{:.0}</td><td>{ratio}</td></tr>", class.expected, class.observed)?;
    }
    write!(page, "</table>")?;
    let rate = |value: f64, items: usize| value / items.max(1) as f64;
    let largest = calibration.classes.iter().map(|c| rate(c.expected.max(c.observed), c.items)).fold(1e-9, f64::max);
    let place = |value: f64| 200.0 * (value / largest).sqrt();
    write!(
        page,
        "<figure><figcaption>Observed over expected rate, root scale</figcaption><svg width=\"220\" height=\"220\">"
    )?;
    write!(page, "<path d=\"M10 210L210 10\" stroke=\"#d8dee4\"/>")?;
    for class in &calibration.classes {
        let (x, y) = (place(rate(class.expected, class.items)), place(rate(class.observed, class.items)));
        write!(page, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"#4a7ebb\"/>", 10.0 + x, 210.0 - y)?;
    }
    write!(page, "</svg></figure>")
}

fn write_scorers(page: &mut String, evaluation: &Evaluation) -> std::fmt::Result {
    if evaluation.scorers.is_empty() {
        return Ok(());
    }
    write!(page, "<h2>Scorers compared</h2><p>nDCG@10 over the candidates of each task, before the cut.</p><table>")?;
    write!(page, "<tr><th>task</th><th>scorer</th><th>nDCG@10</th><th></th></tr>")?;
    for comparison in &evaluation.scorers {
        for (kind, value) in &comparison.ndcg_at_10 {
            let chosen = if *kind == comparison.chosen { "chosen" } else { "" };
            write!(page, "<tr><td>{}</td><td>{kind}</td><td>{value:.4}</td><td>{chosen}</td></tr>", comparison.task)?;
        }
    }
    write!(page, "</table>")
}

impl Evaluation {
    /// What was held out, in a sentence.
    pub fn protocol(&self) -> String {
        let rest = "All products are ranked, for members with purchases on both sides; intervals are 95% over members.";
        if self.cut_time == 0 {
            format!("Events have no time: a random 20% of every member's products were held out. {rest}")
        } else {
            let days = self.test_days;
            let cut = chrono::DateTime::from_timestamp(self.cut_time, 0).map(|cut| cut.format("%Y-%m-%d %H:%M UTC"));
            let cut = cut.map_or_else(|| self.cut_time.to_string(), |cut| cut.to_string());
            format!("Learned from what happened up to {cut}, judged by the {days} days after. {rest}")
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
