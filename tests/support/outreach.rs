//! What the tests of outreach share.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use kindred::config::{Config, StateConfig};
use kindred::proto::v1;
use kindred::proto::v1::outreach_service_client::OutreachServiceClient;
use kindred::proto::v1::plan_pushes_response::Payload;
use kindred_models::outreach::{Caps, ChannelParams, OutreachParams};
use kindred_training::config::LaunchParams;
use tonic::Status;

use super::live::now;
use super::shop::launches;
use super::{Running, Trained, serve_configured, trained_with};

/// The shop of the launches, with a ranker, and one member who is in nobody's audience.
pub fn shop() -> Trained {
    let folder = tempfile::tempdir().unwrap();
    let mut config = launches().write(folder.path());
    config.launch = LaunchParams { horizon_days: 14, step_days: 14, min_launches: 8, ..config.launch };
    config.ranker.slices = 1;
    trained_with(folder, config)
}

/// One message in seven days, by either of two channels, at any hour; to tell somebody of what they will hardly buy costs more
/// than it brings.
pub fn config(state: StateConfig) -> Config {
    let caps = Caps { per_7_days: Some(1), ..Caps::default() };
    let mut outreach = OutreachParams { quiet_from: 0, quiet_until: 0, caps, ..OutreachParams::default() };
    for name in ["service_account", "wecom"] {
        outreach.channels.insert(name.to_owned(), ChannelParams { cost: 0.5, ..ChannelParams::default() });
    }
    Config { state, outreach, ..Config::default() }
}

/// By the shops' clocks it is about noon, so that no plan ends while it is looked at.
pub async fn serve(trained: &Trained, state: StateConfig) -> Running {
    let mut config = config(state);
    let minutes = now().rem_euclid(86_400) / 60;
    config.popularity.utc_offset_minutes = 12 * 60 - minutes as i32;
    serve_configured(trained, config).await
}

pub fn client(running: &Running) -> OutreachServiceClient<tonic::transport::Channel> {
    OutreachServiceClient::new(running.channel.clone())
}

/// A plan for a tea that was sold before.
pub fn tea(plan_id: &str) -> v1::PlanPushesRequest {
    let product = v1::ProductToPush { product_id: "tea3".to_owned(), ..v1::ProductToPush::default() };
    v1::PlanPushesRequest {
        plan_id: plan_id.to_owned(),
        campaign_id: "spring".to_owned(),
        products: vec![product],
        max_contacts: 1000,
        ..v1::PlanPushesRequest::default()
    }
}

pub async fn try_plan(
    mut client: OutreachServiceClient<tonic::transport::Channel>,
    request: v1::PlanPushesRequest,
) -> Result<(v1::PlanSummary, Vec<v1::Push>), Status> {
    let mut stream = client.plan_pushes(request).await?.into_inner();
    let Some(Payload::Summary(summary)) = stream.message().await?.unwrap().payload else {
        panic!("the summary comes first")
    };
    let mut pushes = Vec::new();
    while let Some(message) = stream.message().await? {
        let Some(Payload::Chunk(chunk)) = message.payload else { panic!("one summary") };
        pushes.extend(chunk.pushes);
    }
    Ok((summary, pushes))
}

pub async fn plan(running: &Running, request: v1::PlanPushesRequest) -> (v1::PlanSummary, Vec<v1::Push>) {
    try_plan(client(running), request).await.unwrap()
}

pub async fn claim(running: &Running, pushes: &[&v1::Push]) -> v1::ClaimContactsResponse {
    let contact_ids = pushes.iter().map(|push| push.contact_id.clone()).collect();
    client(running).claim_contacts(v1::ClaimContactsRequest { contact_ids }).await.unwrap().into_inner()
}

pub async fn confirm(running: &Running, push: &v1::Push, status: v1::ContactStatus) -> v1::ConfirmContactsResponse {
    let outcome = v1::ContactOutcome { contact_id: push.contact_id.clone(), status: status.into(), time: None };
    let request = v1::ConfirmContactsRequest { outcomes: vec![outcome] };
    client(running).confirm_contacts(request).await.unwrap().into_inner()
}

pub fn reasons(answer: &v1::ClaimContactsResponse) -> Vec<v1::RefusalReason> {
    answer.refused.iter().map(v1::RefusedContact::reason).collect()
}
