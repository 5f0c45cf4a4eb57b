//! Each request's validation, and what comes after it: any bytes as the message of any call, to a server that runs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;

use kindred::config::Config;
use kindred::proto::methods;
use kindred_models::artifact::Registry;
use kindred_models::outreach::ChannelParams;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tonic::codegen::http::{HeaderMap, Request};

/// What a call is told that broke off inside the server: what panics while it computes is answered so. (gRPC's code is
/// that of a message that is none, too.)
const BROKEN: &str = "broke%20off";

struct Server {
    runtime: Runtime,
    address: SocketAddr,
    methods: Vec<String>,
    _folder: tempfile::TempDir,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new(folder.path(), "default").unwrap();
    copy(&super::frozen(), registry.folder());
    let mut config = Config::default();
    config.serve.reload_seconds = 0;
    config.outreach.channels.insert("wecom".to_owned(), ChannelParams::default());
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        kindred::server::serve(registry, &config, listener, std::future::pending()).await.unwrap();
    });
    Server { runtime, address, methods: methods().into_iter().collect(), _folder: folder }
});

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The first byte chooses the call, the rest is its message.
pub fn requests(data: &[u8]) {
    let Some((method, message)) = data.split_first() else { return };
    let server = &*SERVER;
    let method = &server.methods[*method as usize % server.methods.len()];
    // What panics elsewhere ends the connection.
    let told = server.runtime.block_on(call(server.address, method, message));
    let told = told.unwrap_or_else(|| panic!("{method} has no answer"));
    assert!(!told.contains(BROKEN), "{method}: {told}");
}

/// The `grpc-status` and `grpc-message` of a call; `None` if the server ended it without one.
async fn call(address: SocketAddr, method: &str, message: &[u8]) -> Option<String> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.ok()?;
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://{address}/kindred.v1.{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "10S")
        .body(())
        .unwrap();
    let (answer, mut body) = client.send_request(request, false).ok()?;
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    let _ = body.send_data(frame.into(), true);
    let answer = answer.await.ok()?;
    let of = |headers: &HeaderMap| {
        let text = |name| headers.get(name).map_or("", |value| value.to_str().unwrap_or("")).to_owned();
        headers.contains_key("grpc-status").then(|| format!("{} {}", text("grpc-status"), text("grpc-message")))
    };
    let mut status = of(answer.headers());
    let mut body = answer.into_body();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
    }
    if let Ok(Some(trailers)) = body.trailers().await {
        status = status.or_else(|| of(&trailers));
    }
    connection.abort();
    status
}
