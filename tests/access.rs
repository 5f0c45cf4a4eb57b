//! Who may ask what: every call without a key, with a wrong one, with each role; TLS; and what is accounted for.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::process::{Command, Output};

use kindred::access::{JwtConfig, NewKey, Role, SigningAlgorithm, needed};
use kindred::config::{Config, ServeConfig, StateConfig, TlsConfig};
use kindred::proto::v1::batch_service_client::BatchServiceClient;
use kindred::proto::v1::event_service_client::EventServiceClient;
use kindred::proto::v1::member_service_client::MemberServiceClient;
use kindred::proto::v1::model_service_client::ModelServiceClient;
use kindred::proto::{DESCRIPTORS, v1};
use kindred::server;
use kindred::store::{Entry, Store};
use prost::Message as _;
use support::{Running, Trained, find, serve, serve_as, trained, two_tastes};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

const ROLES: [Role; 4] = [Role::Mall, Role::Campaign, Role::Batch, Role::Admin];

/// The paths of all calls.
fn calls() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let services = set.file.iter().filter(|file| file.package() == "kindred.v1").flat_map(|file| &file.service);
    let path = |service: &prost_types::ServiceDescriptorProto, method: &prost_types::MethodDescriptorProto| {
        format!("/kindred.v1.{}/{}", service.name(), method.name())
    };
    services.flat_map(|service| service.method.iter().map(move |method| path(service, method))).collect()
}

/// The `grpc-status` of an empty call.
async fn status(address: SocketAddr, path: &str, authorization: Option<&str>) -> u32 {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut request = tonic::codegen::http::Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    // One empty message. Whoever is turned away at once takes none.
    let _ = body.send_data(vec![0; 5].into(), true);
    let mut answer = answer.await.unwrap();
    let of = |headers: &tonic::codegen::http::HeaderMap| {
        headers.get("grpc-status").map(|value| value.to_str().unwrap().parse().unwrap())
    };
    if let Some(status) = of(answer.headers()) {
        assert!(answer.body_mut().is_end_stream(), "clients that wait for trailers would take it for broken");
        return status;
    }
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    of(&body.trailers().await.unwrap().unwrap()).unwrap()
}

fn by_test() -> Entry {
    Entry { time: 1, actor: "test".to_owned(), action: "keys create".to_owned(), detail: String::new() }
}

async fn store(trained: &Trained) -> Store {
    Store::open(&StateConfig::default().url(&trained.registry).unwrap()).await.unwrap()
}

/// Makes a key with a role; gives what its holder sends.
async fn key(store: &Store, role: Role) -> (String, String) {
    let new = NewKey { name: role.name().to_owned(), roles: vec![role], per_second: None, concurrent: None };
    let (key, token) = new.make(1);
    store.create_key(&key, by_test()).await.unwrap();
    (key.id, format!("Bearer {}", token.reveal()))
}

#[tokio::test]
async fn every_call_is_for_those_who_have_its_role() {
    const UNAUTHENTICATED: u32 = 16;
    const DENIED: u32 = 7;
    let trained = trained(&two_tastes());
    let store = store(&trained).await;
    let mut keys = Vec::new();
    for role in ROLES {
        keys.push((role, key(&store, role).await.1));
    }
    let running = serve(&trained).await;
    let calls = calls();
    assert!(calls.len() > 20, "{calls:?}");
    for path in &calls {
        let roles = needed(path).unwrap_or_else(|| panic!("{path} names no role"));
        assert_eq!(status(running.address, path, None).await, UNAUTHENTICATED, "{path} without a key");
        for wrong in ["Bearer kindred_0_0", "Bearer ", "Basic abc", &keys[0].1.replace("Bearer kindred_", "Bearer x_")]
        {
            assert_eq!(status(running.address, path, Some(wrong)).await, UNAUTHENTICATED, "{path} with '{wrong}'");
        }
        for (role, key) in &keys {
            let answer = status(running.address, path, Some(key)).await;
            if *role == Role::Admin || roles.contains(role) {
                assert!(![UNAUTHENTICATED, DENIED].contains(&answer), "{path} as {}: {answer}", role.name());
            } else {
                assert_eq!(answer, DENIED, "{path} as {}", role.name());
            }
        }
    }
    assert_eq!(status(running.address, "/grpc.health.v1.Health/Check", None).await, 0, "whoever looks after it asks");
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_revoked_key_opens_nothing_any_more() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let path = "/kindred.v1.ModelService/ListModels";
    assert_eq!(status(running.address, path, None).await, 0, "no key was ever made");
    let store = store(&trained).await;
    let (id, token) = key(&store, Role::Mall).await;
    let (_, admin) = key(&store, Role::Admin).await;
    let becomes = async |wanted: u32, key: &str| {
        let wait = async {
            while status(running.address, path, Some(key)).await != wanted
                || status(running.address, path, None).await != 16
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(90), wait).await.expect("the server follows");
    };
    becomes(0, &token).await;
    becomes(0, &admin).await;
    let event = support::live::event("e1", "t0", "tea9", v1::EventKind::Purchase);
    let mut request = tonic::Request::new(v1::RecordEventsRequest { events: vec![event] });
    request.metadata_mut().insert("authorization", admin.parse().unwrap());
    assert!(store.revoke_key(&id, by_test()).await.unwrap() && !store.revoke_key("none", by_test()).await.unwrap());
    // What is written right then takes over all changes before it, and looks at no keys.
    EventServiceClient::new(running.channel.clone()).record_events(request).await.unwrap();
    becomes(16, &token).await;
    running.end().await.unwrap();
}

#[tokio::test]
async fn what_was_opened_is_closed_when_what_let_it_in_is_not_enough_any_more() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let store = store(&trained).await;
    let mut without = Scores::open(&running, None).await;
    let (id, token) = key(&store, Role::Batch).await;
    assert!(without.refused().await.contains("a key is needed"), "what was opened before the first key");
    let mut with = Scores::open(&running, Some(&token)).await;
    let (tell, told) = tokio::sync::mpsc::channel(1);
    let mut call = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(told));
    call.metadata_mut().insert("authorization", token.parse().unwrap());
    let mut events = EventServiceClient::new(running.channel.clone());
    let events = tokio::spawn(async move { events.stream_events(call).await });
    let event = || support::live::event("e1", "t0", "tea9", v1::EventKind::Purchase);
    let message = || v1::StreamEventsRequest { events: vec![event()] };
    let before = store.last().await.unwrap();
    tell.send(message()).await.unwrap();
    let kept = async {
        while store.last().await.unwrap() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(90), kept).await.expect("it is open");
    assert!(store.revoke_key(&id, by_test()).await.unwrap());
    assert!(with.refused().await.contains("revoked"));
    let go_on = async {
        while !events.is_finished() && tell.send(message()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(90), go_on).await.expect("it ends");
    assert_eq!(events.await.unwrap().unwrap_err().code(), Code::Unauthenticated, "though it has not answered yet");
    running.end().await.unwrap();
}

/// A stream of scores that is asked for one member at a time.
struct Scores {
    ask: tokio::sync::mpsc::Sender<v1::ScoreMembersRequest>,
    answers: tonic::Streaming<v1::ScoreMembersResponse>,
}

impl Scores {
    /// Opens one, and has an answer by it.
    async fn open(running: &Running, token: Option<&str>) -> Self {
        let (ask, asked) = tokio::sync::mpsc::channel(1);
        let mut call = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(asked));
        if let Some(token) = token {
            call.metadata_mut().insert("authorization", token.parse().unwrap());
        }
        ask.send(Self::one()).await.unwrap();
        let mut answers =
            BatchServiceClient::new(running.channel.clone()).score_members(call).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().members.len(), 1);
        Self { ask, answers }
    }

    /// Asks on until it is closed to who does not show what is needed; gives the words.
    async fn refused(&mut self) -> String {
        let wait = async {
            loop {
                let _ = self.ask.send(Self::one()).await;
                match self.answers.message().await {
                    Ok(answer) => assert!(answer.is_some(), "it is not told that it was closed"),
                    Err(refused) => return refused,
                }
            }
        };
        let refused = tokio::time::timeout(std::time::Duration::from_secs(90), wait).await.expect("the server follows");
        assert_eq!(refused.code(), Code::Unauthenticated);
        refused.message().to_owned()
    }

    fn one() -> v1::ScoreMembersRequest {
        v1::ScoreMembersRequest { member_ids: vec!["t1".to_owned()], top: 1, ..Default::default() }
    }
}

#[tokio::test]
async fn other_machines_are_served_with_tls_and_keys_alone() {
    let trained = trained(&two_tastes());
    let everywhere = async |serve: ServeConfig| {
        let config = Config { serve, ..Config::default() };
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        let ended = async {};
        server::serve(trained.registry.clone(), &config, listener, ended).await
    };
    let refused = everywhere(ServeConfig::default()).await.unwrap_err();
    assert!(refused.to_string().contains("TLS") && refused.to_string().contains("--insecure"), "{refused}");
    assert_eq!(refused.exit_code(), 64);
    everywhere(ServeConfig { insecure: true, ..ServeConfig::default() }).await.unwrap();
    key(&store(&trained).await, Role::Mall).await;
    let refused = everywhere(ServeConfig::default()).await.unwrap_err();
    assert!(refused.to_string().contains("there is no TLS"), "{refused}");
    let half = TlsConfig { certificate: Some("cert.pem".into()), ..TlsConfig::default() };
    let refused = everywhere(ServeConfig { tls: half, ..ServeConfig::default() }).await.unwrap_err();
    assert!(refused.to_string().contains("both certificate and key"), "{refused}");
}

#[tokio::test]
async fn whom_an_issuer_vouches_for_is_let_in_with_their_roles() {
    let trained = trained(&two_tastes());
    let secret = "a secret that nobody will guess, ever";
    let file = trained.folder.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    let jwt = JwtConfig {
        key: Some(file),
        algorithm: SigningAlgorithm::HS256,
        issuer: "id".to_owned(),
        audience: "kindred".to_owned(),
        ..JwtConfig::default()
    };
    let running = serve_as(&trained, ServeConfig { jwt, ..ServeConfig::default() }, StateConfig::default()).await;
    let bearer = |roles: &[&str]| {
        let exp = support::live::now() + 600;
        let claims = serde_json::json!({"sub": "s", "iss": "id", "aud": "kindred", "exp": exp, "roles": roles});
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        format!("Bearer {}", jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap())
    };
    let path = "/kindred.v1.ModelService/ListModels";
    assert_eq!(status(running.address, path, None).await, 16, "from the first start on");
    assert_eq!(status(running.address, path, Some(&bearer(&["mall"]))).await, 0);
    assert_eq!(status(running.address, "/kindred.v1.ModelService/RollBackModel", Some(&bearer(&["mall"]))).await, 7);
    assert_eq!(status(running.address, path, Some(&bearer(&["mall"])[..40])).await, 16);
    let id = key(&store(&trained).await, Role::Mall).await.1;
    let wait = async {
        while status(running.address, path, Some(&id)).await != 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(90), wait).await.expect("keys go beside tokens");
    running.end().await.unwrap();
}

/// A certificate authority, and what it signs for a name.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    root: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(params, key), root }
    }

    /// Certificate and key.
    fn sign(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn tls_is_spoken_and_clients_show_certificates_where_asked() {
    let trained = trained(&two_tastes());
    let authority = Authority::new();
    let (certificate, key) = authority.sign("localhost");
    let file = |name: &str, text: &str| {
        let path = trained.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let mut tls =
        TlsConfig { certificate: file("cert.pem", &certificate), key: file("key.pem", &key), client_root: None };
    let config = |tls: &TlsConfig| ServeConfig { tls: tls.clone(), ..ServeConfig::default() };
    let asks = async |address: SocketAddr, tls: ClientTlsConfig| {
        let endpoint = Channel::from_shared(format!("https://localhost:{}", address.port())).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect().await.map_err(|e| e.to_string())?;
        let asked = ModelServiceClient::new(channel).list_models(v1::ListModelsRequest {}).await;
        asked.map(drop).map_err(|e| e.to_string())
    };
    let trusting = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&authority.root));
    let running = serve_as(&trained, config(&tls), StateConfig::default()).await;
    asks(running.address, trusting()).await.unwrap();
    assert!(
        asks(running.address, ClientTlsConfig::new().ca_certificate(Certificate::from_pem(Authority::new().root)))
            .await
            .is_err()
    );
    running.end().await.unwrap();

    tls.client_root = file("root.pem", &authority.root);
    let running = serve_as(&trained, config(&tls), StateConfig::default()).await;
    let (certificate, key) = authority.sign("till");
    asks(running.address, trusting().identity(Identity::from_pem(certificate, key))).await.unwrap();
    assert!(asks(running.address, trusting()).await.is_err(), "no certificate");
    let (certificate, key) = Authority::new().sign("till");
    assert!(asks(running.address, trusting().identity(Identity::from_pem(certificate, key))).await.is_err());
    running.end().await.unwrap();
}

fn kindred(trained: &Trained, arguments: &[&str]) -> Output {
    let root = trained.registry.folder().parent().unwrap().to_owned();
    Command::new(env!("CARGO_BIN_EXE_kindred")).args(arguments).arg("--registry").arg(root).output().unwrap()
}

#[tokio::test]
async fn what_is_done_is_accounted_for_and_the_account_can_be_checked() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let attributes = v1::ProductAttributes { category: "drinks/tea".to_owned(), ..v1::ProductAttributes::default() };
    let size = Some(v1::find_audience_request::Size::MemberCount(5));
    find(
        &running,
        v1::FindAudienceRequest { attributes: Some(attributes), size, ..v1::FindAudienceRequest::default() },
    )
    .await;
    let mut members = MemberServiceClient::new(running.channel.clone());
    members.erase_member(v1::EraseMemberRequest { member_id: "t1".to_owned() }).await.unwrap();
    let made = kindred(&trained, &["keys", "create", "--key-name", "till", "--role", "mall", "--per-second", "5"]);
    let token = String::from_utf8(made.stdout).unwrap();
    assert!(made.status.success() && token.starts_with("kindred_"), "{token}");
    let listed = String::from_utf8(kindred(&trained, &["keys", "list", "--json"]).stdout).unwrap();
    assert!(listed.contains("\"till\"") && !listed.contains(token.trim()), "{listed}");
    let id = token.split('_').nth(1).unwrap();
    assert!(kindred(&trained, &["keys", "revoke", id]).status.success());
    assert_eq!(kindred(&trained, &["keys", "revoke", "nobody"]).status.code(), Some(66));
    running.end().await.unwrap();

    let shown = String::from_utf8(kindred(&trained, &["audit", "show", "--json"]).stdout).unwrap();
    let entries: Vec<Entry> = serde_json::from_str(&shown).unwrap();
    let actions: Vec<&str> = entries.iter().rev().map(|e| e.action.as_str()).collect();
    assert_eq!(actions, ["FindAudience", "EraseMember", "keys create", "keys revoke"]);
    assert!(entries[3].detail.starts_with("5 members for a new product") && !shown.contains("t1"), "{shown}");
    let verified = kindred(&trained, &["audit", "verify"]);
    assert!(String::from_utf8(verified.stdout).unwrap().starts_with("4 entries, whole"));

    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&StateConfig::default().url(&trained.registry).unwrap()).await.unwrap();
    for change in [
        "UPDATE audit SET detail = 'nothing' WHERE number = 2",
        "DELETE FROM audit WHERE number = 4",
        "UPDATE audit SET time = time + 1 WHERE number = 1",
    ] {
        let mut tx = pool.begin().await.unwrap();
        sqlx::query(change).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let verified = kindred(&trained, &["audit", "verify"]);
        assert_eq!(verified.status.code(), Some(65), "{change}");
    }
}
