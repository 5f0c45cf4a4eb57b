//! Which call needs which role.

use serde::{Deserialize, Serialize};

/// What a caller is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The mall and the tills: feeds, events, and what members say of themselves.
    Mall,
    /// Campaign tools: audiences, allocations, outreach.
    Campaign,
    /// Nightly jobs: batch scores, and the tables of products and members.
    Batch,
    /// Operators: everything.
    Admin,
}

impl Role {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mall => "mall",
            Self::Campaign => "campaign",
            Self::Batch => "batch",
            Self::Admin => "admin",
        }
    }
}

/// The roles of which a call needs one, besides [`Role::Admin`], by its path (`/kindred.v1.Service/Method`). `None` for
/// what anybody may call: health, and calls that there are not.
pub fn needed(path: &str) -> Option<&'static [Role]> {
    use Role::{Admin, Batch, Campaign, Mall};
    let (service, method) = path.trim_start_matches('/').split_once('/')?;
    Some(match service {
        "kindred.v1.RecommendationService" => &[Mall],
        "kindred.v1.AudienceService" | "kindred.v1.OutreachService" => &[Campaign],
        "kindred.v1.BatchService" => &[Batch],
        "kindred.v1.EventService" => &[Mall, Batch],
        "kindred.v1.CatalogService" => &[Batch],
        "kindred.v1.MemberService" if method == "UpsertMembers" => &[Mall, Batch],
        "kindred.v1.MemberService" => &[Mall],
        "kindred.v1.ModelService" if matches!(method, "GetModel" | "ListModels") => &[Mall, Campaign, Batch],
        "kindred.v1.ModelService" => &[Admin],
        _ if service.starts_with("kindred.") => &[Admin],
        _ if service.starts_with("grpc.reflection.") => &[Mall, Campaign, Batch],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written down once more, so that a slip there opens nothing.
    #[test]
    fn who_may_call_what() {
        const CALLS: [(&str, &[&str]); 8] = [
            ("", &["ModelService/ActivateModel", "ModelService/RollBackModel"]),
            ("mall campaign batch", &["ModelService/GetModel", "ModelService/ListModels"]),
            (
                "mall",
                &[
                    "RecommendationService/FindSimilarProducts",
                    "RecommendationService/RankProducts",
                    "RecommendationService/RecommendFeed",
                    "RecommendationService/RecommendGroupFeed",
                ],
            ),
            (
                "mall",
                &[
                    "MemberService/DeleteMemberTag",
                    "MemberService/EraseMember",
                    "MemberService/GetMember",
                    "MemberService/SetConsent",
                ],
            ),
            ("mall batch", &["MemberService/UpsertMembers", "EventService/RecordEvents", "EventService/StreamEvents"]),
            ("batch", &["BatchService/ScoreMembers", "CatalogService/RetireProducts", "CatalogService/UpsertProducts"]),
            (
                "campaign",
                &[
                    "AudienceService/AllocateLaunches",
                    "AudienceService/EstimateAudience",
                    "AudienceService/FindAudience",
                ],
            ),
            (
                "campaign",
                &[
                    "OutreachService/CancelPlan",
                    "OutreachService/ClaimContacts",
                    "OutreachService/ConfirmContacts",
                    "OutreachService/PlanPushes",
                ],
            ),
        ];
        let mut calls = crate::proto::methods();
        for (roles, of) in CALLS {
            for call in of {
                let needed =
                    needed(&format!("/kindred.v1.{call}")).unwrap().iter().filter(|role| **role != Role::Admin);
                let names: Vec<&str> = needed.map(|role| role.name()).collect();
                assert_eq!(names.join(" "), roles, "{call}");
                assert!(calls.remove(*call), "{call}");
            }
        }
        assert!(calls.is_empty(), "{calls:?}");
    }
}
