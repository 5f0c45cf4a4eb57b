//! A shop whose members are known by heart.
#![allow(dead_code, unreachable_pub, missing_docs)]

use super::Tables;

pub const MEMBERS: u32 = 60;
pub const WEEKS: u32 = 30;

/// As many drink tea as coffee, something old every week. Every week something new is launched, tea and coffee in
/// turn; every third member of that taste buys it within a week, and nobody else ever.
pub fn launches() -> Tables {
    let mut tables = Tables::new();
    for (kind, offset) in [("tea", 0), ("coffee", 1)] {
        (0..10).for_each(|p| tables.product(&format!("{kind}{p},,drinks/{kind},{kind} house,30,,true")));
        for m in 0..MEMBERS {
            let id = format!("{kind}-{m:02}");
            for week in 0..WEEKS {
                tables.buy(&id, &format!("{kind}{}", (m + week) % 10), 7 * week + m % 7);
                if week % 2 == offset && m % 3 == 0 {
                    tables.buy(&id, &format!("new-{kind}-{week:02}"), 7 * week + 1 + m % 5);
                }
            }
        }
        for week in (0..WEEKS).filter(|week| week % 2 == offset) {
            tables.product(&format!("new-{kind}-{week:02},,drinks/{kind},{kind} house,30,,true"));
        }
    }
    tables
}
