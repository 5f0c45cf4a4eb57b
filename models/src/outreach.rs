//! Outreach: which one product, if any, is each member told of, where and when?
//!
//! A message disturbs, and every one that was not wanted costs the next ones: a push is planned only where what is
//! expected of it is worth more than that, and never beyond the budget of contacts that the [`Policy`] sets. Who may be
//! contacted at all is decided where it is for audiences.

mod calendar;
mod caps;
mod contact;
mod opening;
mod plan;
mod policy;
mod room;

pub use calendar::Calendar;
pub use caps::{Caps, DaysOfMonth, MonthCap};
pub use contact::{ContactStatus, Held, Place, Times, told_more};
pub use opening::{Opening, learned};
pub use plan::{Left, MAX_OFFERS, Offer, Planner, Push, PushRequest};
pub use policy::{ChannelParams, FatigueParams, InvalidOutreach, OutreachParams, Policy, REMEMBERED_DAYS};
