//! ModelService.

use std::collections::BTreeMap;

use kindred_models::artifact::VersionId;
use kindred_models::index::IndexReport;
use kindred_models::model::ModelInfo;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Timestamp, Value};
use tonic::{Request, Response, Status};

use super::Shared;
use super::audience::index;
use super::status::Problem;
use super::validate::{Check, MAX_ID_BYTES};
use crate::access::Caller;
use crate::proto::v1;
use crate::proto::v1::model_service_server::{ModelService, ModelServiceServer};

/// The service.
pub(super) fn service(shared: Shared) -> ModelServiceServer<Models> {
    ModelServiceServer::new(Models { shared }).max_decoding_message_size(super::MAX_MESSAGE_BYTES)
}

/// The handlers.
#[derive(Debug)]
pub(super) struct Models {
    shared: Shared,
}

#[tonic::async_trait]
impl ModelService for Models {
    async fn get_model(&self, request: Request<v1::GetModelRequest>) -> Result<Response<v1::GetModelResponse>, Status> {
        let version = request.into_inner().version;
        let mut check = Check::default();
        check.text("version", &version, MAX_ID_BYTES);
        check.finish()?;
        let serving = self.shared.live.snapshot();
        if version.is_empty() || version == serving.info.version {
            let mut model = describe(&serving.info);
            model.product_index = Some(report(&serving.product_index.report));
            model.member_index = Some(report(&serving.member_index.report));
            return Ok(Response::new(v1::GetModelResponse { model: Some(model) }));
        }
        let registry = self.shared.live.registry().clone();
        let info = self.shared.compute.run(move |_| {
            let id = VersionId::parse(&version)?;
            let (manifest, checksum) = registry.manifest(&id)?;
            Ok(ModelInfo::of(&id, &manifest, &checksum))
        });
        Ok(Response::new(v1::GetModelResponse { model: Some(describe(&info.await?)) }))
    }

    async fn list_models(&self, _: Request<v1::ListModelsRequest>) -> Result<Response<v1::ListModelsResponse>, Status> {
        let registry = self.shared.live.registry().clone();
        let serving = self.shared.live.snapshot();
        let models = self.shared.compute.run(move |_| {
            let active = registry.current().ok();
            let summary = |id: VersionId| v1::ModelSummary {
                train_time: id.trained_at().map(timestamp),
                active: active.as_ref() == Some(&id),
                serving: serving.info.version == id.as_str(),
                version: id.to_string(),
            };
            Ok::<_, Problem>(registry.versions()?.into_iter().map(summary).collect())
        });
        Ok(Response::new(v1::ListModelsResponse { models: models.await? }))
    }

    async fn activate_model(
        &self,
        request: Request<v1::ActivateModelRequest>,
    ) -> Result<Response<v1::ActivateModelResponse>, Status> {
        let by = Caller::of(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        check.id("version", &request.version);
        check.finish()?;
        let id = VersionId::parse(&request.version).map_err(Problem::from)?;
        // Nothing is accounted for that is not there to be done.
        let (registry, asked) = (self.shared.live.registry().clone(), id.clone());
        self.shared.compute.run(move |_| Ok::<_, Problem>(registry.manifest(&asked).map(drop)?)).await?;
        self.shared.account(&by, "ActivateModel", format!("to {id}, if it loads")).await?;
        self.shared.live.activate(&id).await.map_err(Problem::from)?;
        Ok(Response::new(v1::ActivateModelResponse {}))
    }

    async fn roll_back_model(
        &self,
        request: Request<v1::RollBackModelRequest>,
    ) -> Result<Response<v1::RollBackModelResponse>, Status> {
        let version = self.shared.live.older().await.map_err(Problem::from)?;
        self.shared.account(&Caller::of(&request), "RollBackModel", format!("to {version}, if it loads")).await?;
        self.shared.live.activate(&version).await.map_err(Problem::from)?;
        Ok(Response::new(v1::RollBackModelResponse { version: version.to_string() }))
    }
}

fn describe(info: &ModelInfo) -> v1::Model {
    v1::Model {
        version: info.version.clone(),
        train_time: info.trained_at.map(timestamp),
        as_of_time: (info.as_of_time > 0).then(|| timestamp(info.as_of_time)),
        counts: info.counts.clone().into_iter().collect(),
        parameters: Some(structure(&info.parameters)),
        metrics: info.metrics.clone().into_iter().collect(),
        checksum: info.checksum.clone(),
        product_index: None,
        member_index: None,
    }
}

fn report(report: &IndexReport) -> v1::IndexReport {
    v1::IndexReport {
        index: index(report.kind).into(),
        reason: report.why.clone(),
        recall_at_10: report.recall_at_10,
        recall_at_100: report.recall_at_100,
        reachable_share: report.reachable_share,
    }
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

fn structure(json: &serde_json::Value) -> Struct {
    let fields: BTreeMap<String, Value> = match json {
        serde_json::Value::Object(object) => object.iter().map(|(k, v)| (k.clone(), value(v))).collect(),
        _ => BTreeMap::new(),
    };
    Struct { fields }
}

fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(x) => Kind::BoolValue(*x),
        Json::Number(x) => Kind::NumberValue(x.as_f64().unwrap_or_default()),
        Json::String(x) => Kind::StringValue(x.clone()),
        Json::Array(list) => Kind::ListValue(ListValue { values: list.iter().map(value).collect() }),
        Json::Object(_) => Kind::StructValue(structure(json)),
    };
    Value { kind: Some(kind) }
}
