//! BatchService.

use std::pin::Pin;

use kindred_models::feed::{FeedItem, Visitor};
use kindred_models::stop::Stop;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use super::Shared;
use super::deadline::{Deadline, exceeded};
use super::validate::Check;
use crate::batch::{BatchRequest, By, is_erased, score, visitor};
use crate::proto::v1;
use crate::proto::v1::batch_service_server::{BatchService, BatchServiceServer};

/// Members a message at most.
const MAX_MEMBERS: usize = 10_000;
/// Members per answer at most.
const CHUNK: usize = 256;
/// Products per answer, so that it stays well below the 4 MiB that clients take by default.
const CHUNK_PRODUCTS: usize = 20_000;
/// Answers that may wait for the client to read them; while they do, no more members are taken in.
const WAITING: usize = 2;

/// The service.
pub(super) fn service(shared: Shared) -> BatchServiceServer<Batch> {
    BatchServiceServer::new(Batch { shared }).max_decoding_message_size(super::MAX_MESSAGE_BYTES)
}

/// The handlers.
#[derive(Debug)]
pub(super) struct Batch {
    shared: Shared,
}

type Answer = Result<v1::ScoreMembersResponse, Status>;

#[tonic::async_trait]
impl BatchService for Batch {
    type ScoreMembersStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn score_members(
        &self,
        request: Request<Streaming<v1::ScoreMembersRequest>>,
    ) -> Result<Response<Self::ScoreMembersStream>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        let (answers, stream) = mpsc::channel(WAITING);
        let task = Task { shared: self.shared.clone(), answers, deadline };
        tokio::spawn(task.run(request.into_inner()).in_current_span());
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// One stream's work.
struct Task {
    shared: Shared,
    answers: mpsc::Sender<Answer>,
    deadline: Option<Deadline>,
}

impl Task {
    async fn run(self, members: Streaming<v1::ScoreMembersRequest>) {
        let outcome = tokio::select! {
            outcome = self.answer_all(members) => outcome,
            // The client went away: whatever is being computed stops with the future above.
            () = self.answers.closed() => return,
            () = Self::past(self.deadline) => Err(exceeded()),
        };
        if let Err(status) = outcome {
            // The client may have gone.
            let _ = self.answers.send(Err(status)).await;
        }
    }

    async fn past(deadline: Option<Deadline>) {
        match deadline {
            Some(Deadline(end)) => tokio::time::sleep_until(end.into()).await,
            None => std::future::pending().await,
        }
    }

    async fn answer_all(&self, mut members: Streaming<v1::ScoreMembersRequest>) -> Result<(), Status> {
        let (mut settled, mut is_taken_in) = (None, false);
        while let Some(message) = members.message().await? {
            let mut check = Check::default();
            check.that(!message.member_ids.is_empty(), "member_ids", "is required");
            check.ids("member_ids", &message.member_ids, MAX_MEMBERS);
            let top = check.page_size("top", message.top);
            check.finish()?;
            let exclude_purchased = message.exclude_purchased;
            let request = *settled.get_or_insert(BatchRequest { top, exclude_purchased, by: By::Ranker });
            for ids in message.member_ids.chunks((CHUNK_PRODUCTS / request.top).clamp(1, CHUNK)) {
                let answer = self.answer(ids.to_vec(), request, is_taken_in).await?;
                is_taken_in = true;
                if self.answers.send(Ok(answer)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn answer(&self, ids: Vec<String>, request: BatchRequest, is_taken_in: bool) -> Answer {
        // Taken anew: a stream may go on for hours, and members opt out meanwhile.
        let model = self.shared.live.snapshot();
        let job = move |stop: &Stop| {
            let ids: Vec<String> = ids.into_iter().filter(|id| !is_erased(&model, id)).collect();
            let visitors: Vec<Visitor> = ids.iter().map(|id| visitor(&model, id)).collect();
            let scored = score(&model, &visitors, request, stop)?;
            let product = |item: &FeedItem| v1::ScoredProduct {
                product_id: model.products.ids.get(item.product).to_owned(),
                score: item.score,
            };
            let members = ids.into_iter().zip(scored).map(|(member_id, items)| v1::MemberScores {
                member_id,
                products: items.iter().map(product).collect(),
            });
            Ok(v1::ScoreMembersResponse { members: members.collect(), model_version: model.info.version.clone() })
        };
        let compute = &self.shared.compute;
        Ok(if is_taken_in { compute.go_on(job).await? } else { compute.run(job).await? })
    }
}
