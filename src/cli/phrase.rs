//! Reasons in words.

use clap::ValueEnum;
use kindred_models::Model;
use kindred_models::feed::Reason;

/// Languages that the command line speaks to shoppers in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// English.
    #[default]
    En,
    /// Chinese.
    Zh,
}

/// A reason in words.
pub(super) fn phrase(model: &Model, reason: Reason, language: Language) -> String {
    let name = |product: u32| match model.products.titles.get(product) {
        "" => model.products.ids.get(product).to_owned(),
        title => title.to_owned(),
    };
    let category = |node: u32| {
        let path = model.tree.path(node);
        path.rsplit_once('/').map_or(path, |(_, last)| last).to_owned()
    };
    match language {
        Language::En => english(reason, name, category),
        Language::Zh => chinese(reason, name, category),
    }
}

fn english(reason: Reason, name: impl Fn(u32) -> String, category: impl Fn(u32) -> String) -> String {
    let span = |days: u16| match days {
        0..14 => (days, "day"),
        14..60 => (days.saturating_add(3) / 7, "week"),
        _ => (days.saturating_add(15) / 30, "month"),
    };
    let plural = |(n, unit): (u16, &str)| if n == 1 { format!("1 {unit}") } else { format!("{n} {unit}s") };
    let ago = |days: u16| if days == 0 { "today".to_owned() } else { format!("{} ago", plural(span(days))) };
    let every = |days: u16| match span(days) {
        (1, unit) => unit.to_owned(),
        several => plural(several),
    };
    match reason {
        Reason::BoughtRegularly { every_days, days_since } => {
            format!("bought every {}, last {}", every(every_days), ago(days_since))
        }
        Reason::BoughtBefore { count: 1, days_since: Some(days) } => format!("bought {}", ago(days)),
        Reason::BoughtBefore { count, days_since: Some(days) } => format!("bought {count} times, last {}", ago(days)),
        Reason::BoughtBefore { count: 1, days_since: None } => "bought before".to_owned(),
        Reason::BoughtBefore { count, days_since: None } => format!("bought {count} times"),
        Reason::GoesWith(product) => format!("goes with {}", name(product)),
        Reason::GoesWithVisit(product) => format!("goes with {}, chosen just now", name(product)),
        Reason::LikedByBuyersOf(product) => format!("liked by people who buy {}", name(product)),
        Reason::NewInCategory(node) => format!("new in {}, which you buy often", category(node)),
        Reason::PopularHere => "popular in your store".to_owned(),
        Reason::Popular => "popular".to_owned(),
        Reason::New => "new".to_owned(),
    }
}

fn chinese(reason: Reason, name: impl Fn(u32) -> String, category: impl Fn(u32) -> String) -> String {
    let span = |days: u16| match days {
        0..14 => format!("{days}天"),
        14..60 => format!("{}周", days.saturating_add(3) / 7),
        _ => format!("{}个月", days.saturating_add(15) / 30),
    };
    let ago = |days: u16| if days == 0 { "今天刚买过".to_owned() } else { format!("上次在{}前", span(days)) };
    match reason {
        Reason::BoughtRegularly { every_days, days_since } => {
            format!("大约每{}买一次，{}", span(every_days), ago(days_since))
        }
        Reason::BoughtBefore { count, days_since: Some(days) } => format!("买过{count}次，{}", ago(days)),
        Reason::BoughtBefore { count, days_since: None } => format!("买过{count}次"),
        Reason::GoesWith(product) => format!("适合搭配{}", name(product)),
        Reason::GoesWithVisit(product) => format!("适合搭配刚选的{}", name(product)),
        Reason::LikedByBuyersOf(product) => format!("买{}的人也喜欢", name(product)),
        Reason::NewInCategory(node) => format!("您常买的{}上新", category(node)),
        Reason::PopularHere => "您的门店热卖".to_owned(),
        Reason::Popular => "热卖".to_owned(),
        Reason::New => "新品".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(reason: Reason) -> (String, String) {
        let (name, category) = (|_: u32| "tea".to_owned(), |_: u32| "nuts".to_owned());
        (english(reason, name, category), chinese(reason, name, category))
    }

    #[test]
    fn reasons_read_as_a_person_would_say_them() {
        let both = |en: &str, zh: &str| (en.to_owned(), zh.to_owned());
        assert_eq!(
            say(Reason::BoughtRegularly { every_days: 21, days_since: 28 }),
            both("bought every 3 weeks, last 4 weeks ago", "大约每3周买一次，上次在4周前")
        );
        assert_eq!(
            say(Reason::BoughtRegularly { every_days: 1, days_since: 0 }),
            both("bought every day, last today", "大约每1天买一次，今天刚买过")
        );
        assert_eq!(
            say(Reason::BoughtBefore { count: 1, days_since: Some(1) }),
            both("bought 1 day ago", "买过1次，上次在1天前")
        );
        assert_eq!(say(Reason::NewInCategory(0)), both("new in nuts, which you buy often", "您常买的nuts上新"));
        assert_eq!(say(Reason::LikedByBuyersOf(0)), both("liked by people who buy tea", "买tea的人也喜欢"));
    }
}
