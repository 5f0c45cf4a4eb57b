//! Reasons in words.

use clap::ValueEnum;
use kindred_models::Model;

use crate::proto::v1::{Reason, ReasonCode};

/// Languages that the command line speaks to shoppers in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// English.
    #[default]
    En,
    /// Chinese.
    Zh,
}

/// A reason in words, as any caller could phrase it.
pub(super) fn phrase(model: &Model, reason: &Reason, language: Language) -> String {
    let title = model.products.find(&reason.product_id).map_or("", |row| model.products.titles.get(row));
    let name = if title.is_empty() { &reason.product_id } else { title };
    match language {
        Language::En => english(reason, name),
        Language::Zh => chinese(reason, name),
    }
}

/// The finest level of a reason's category.
fn category(reason: &Reason) -> &str {
    reason.category.rsplit_once('/').map_or(&reason.category, |(_, last)| last)
}

fn english(reason: &Reason, name: &str) -> String {
    let span = |days: u32| match days {
        0..14 => (days, "day"),
        14..60 => (days.saturating_add(3) / 7, "week"),
        _ => (days.saturating_add(15) / 30, "month"),
    };
    let plural = |(n, unit): (u32, &str)| if n == 1 { format!("1 {unit}") } else { format!("{n} {unit}s") };
    let ago = |days: u32| if days == 0 { "today".to_owned() } else { format!("{} ago", plural(span(days))) };
    let every = |days: u32| match span(days) {
        (1, unit) => unit.to_owned(),
        several => plural(several),
    };
    match (reason.code(), reason.purchase_count, reason.days_since) {
        (ReasonCode::BoughtRegularly, _, days) => {
            format!("bought every {}, last {}", every(reason.every_days), ago(days.unwrap_or(0)))
        }
        (ReasonCode::BoughtBefore, 1, Some(days)) => format!("bought {}", ago(days)),
        (ReasonCode::BoughtBefore, count, Some(days)) => format!("bought {count} times, last {}", ago(days)),
        (ReasonCode::BoughtBefore, 1, None) => "bought before".to_owned(),
        (ReasonCode::BoughtBefore, count, None) => format!("bought {count} times"),
        (ReasonCode::GoesWith, ..) => format!("goes with {name}"),
        (ReasonCode::GoesWithVisit, ..) => format!("goes with {name}, chosen just now"),
        (ReasonCode::LikedByBuyersOf, ..) => format!("liked by people who buy {name}"),
        (ReasonCode::NewInCategory, ..) => format!("new in {}, which you buy often", category(reason)),
        (ReasonCode::PopularHere, ..) => "popular in your store".to_owned(),
        (ReasonCode::Popular, ..) => "popular".to_owned(),
        (ReasonCode::New, ..) => "new".to_owned(),
        (ReasonCode::Unspecified, ..) => String::new(),
    }
}

fn chinese(reason: &Reason, name: &str) -> String {
    let span = |days: u32| match days {
        0..14 => format!("{days}天"),
        14..60 => format!("{}周", days.saturating_add(3) / 7),
        _ => format!("{}个月", days.saturating_add(15) / 30),
    };
    let ago = |days: u32| if days == 0 { "今天刚买过".to_owned() } else { format!("上次在{}前", span(days)) };
    let count = reason.purchase_count;
    match (reason.code(), reason.days_since) {
        (ReasonCode::BoughtRegularly, days) => {
            format!("大约每{}买一次，{}", span(reason.every_days), ago(days.unwrap_or(0)))
        }
        (ReasonCode::BoughtBefore, Some(days)) => format!("买过{count}次，{}", ago(days)),
        (ReasonCode::BoughtBefore, None) => format!("买过{count}次"),
        (ReasonCode::GoesWith, _) => format!("适合搭配{name}"),
        (ReasonCode::GoesWithVisit, _) => format!("适合搭配刚选的{name}"),
        (ReasonCode::LikedByBuyersOf, _) => format!("买{name}的人也喜欢"),
        (ReasonCode::NewInCategory, _) => format!("您常买的{}上新", category(reason)),
        (ReasonCode::PopularHere, _) => "您的门店热卖".to_owned(),
        (ReasonCode::Popular, _) => "热卖".to_owned(),
        (ReasonCode::New, _) => "新品".to_owned(),
        (ReasonCode::Unspecified, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(code: ReasonCode, every_days: u32, purchase_count: u32, days_since: Option<u32>) -> [String; 2] {
        let category = "snacks/nuts".to_owned();
        let reason =
            Reason { code: code.into(), every_days, purchase_count, days_since, category, ..Reason::default() };
        [english(&reason, "tea"), chinese(&reason, "tea")]
    }

    #[test]
    fn reasons_read_as_a_person_would_say_them() {
        assert_eq!(
            say(ReasonCode::BoughtRegularly, 21, 0, Some(28)),
            ["bought every 3 weeks, last 4 weeks ago", "大约每3周买一次，上次在4周前"]
        );
        assert_eq!(
            say(ReasonCode::BoughtRegularly, 1, 0, Some(0)),
            ["bought every day, last today", "大约每1天买一次，今天刚买过"]
        );
        assert_eq!(say(ReasonCode::BoughtBefore, 0, 1, Some(1)), ["bought 1 day ago", "买过1次，上次在1天前"]);
        assert_eq!(
            say(ReasonCode::NewInCategory, 0, 0, None),
            ["new in nuts, which you buy often", "您常买的nuts上新"]
        );
        assert_eq!(say(ReasonCode::LikedByBuyersOf, 0, 0, None), ["liked by people who buy tea", "买tea的人也喜欢"]);
    }
}
