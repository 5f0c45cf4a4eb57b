//! Calls over bare HTTP/2, with messages encoded beforehand: whatever the generator computes, the server beside it
//! can't.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use h2::client::SendRequest;
use hdrhistogram::Histogram;
use prost::bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::codegen::http::{HeaderMap, Request};

const CONNECTIONS: usize = 8;
const RESOURCE_EXHAUSTED: u32 = 8;

/// A server, and what it is asked.
pub(crate) struct Target {
    clients: Vec<SendRequest<Bytes>>,
    url: String,
    messages: Arc<Vec<Bytes>>,
}

/// What came back.
pub(crate) struct Outcome {
    /// Microseconds of accepted calls, from the moment they were due.
    pub(crate) accepted: Histogram<u64>,
    pub(crate) shed: u64,
    pub(crate) failed: u64,
    /// From the first call to the last answer.
    pub(crate) took: Duration,
}

impl Outcome {
    fn new() -> Self {
        // Three digits, to a minute.
        let accepted = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        Self { accepted, shed: 0, failed: 0, took: Duration::ZERO }
    }

    fn note(&mut self, (code, took): (Option<u32>, Duration)) {
        match code {
            Some(0) => self.accepted.saturating_record(took.as_micros() as u64),
            Some(RESOURCE_EXHAUSTED) => self.shed += 1,
            _ => self.failed += 1,
        }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.accepted.len() as f64 / self.took.as_secs_f64()
    }

    /// Milliseconds that so large a share of the accepted calls do not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        self.accepted.value_at_quantile(share) as f64 / 1e3
    }
}

impl Target {
    /// Connects. `messages` are asked in turn.
    pub(crate) async fn connect(address: SocketAddr, method: &str, messages: Arc<Vec<Bytes>>) -> Self {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 24);
            let (client, connection) = builder.handshake(stream).await.unwrap();
            tokio::spawn(connection);
            clients.push(client);
        }
        Self { clients, url: format!("http://{address}/kindred.v1.{method}"), messages }
    }

    /// One call: its gRPC code, and the messages of its answer. `None` if the connection breaks.
    fn call(&self, number: usize) -> impl Future<Output = Option<(u32, Vec<u8>)>> + use<> {
        let client = self.clients[number % self.clients.len()].clone();
        let message = self.messages[number % self.messages.len()].clone();
        let request = Request::post(&self.url).header("content-type", "application/grpc").header("te", "trailers");
        let request = request.body(()).unwrap();
        async move {
            let (answer, mut body) = client.ready().await.ok()?.send_request(request, false).ok()?;
            body.send_data(message, true).ok()?;
            let answer = answer.await.ok()?;
            let refused = code(answer.headers());
            let (mut body, mut content) = (answer.into_body(), Vec::new());
            while let Some(data) = body.data().await {
                let data = data.ok()?;
                body.flow_control().release_capacity(data.len()).ok()?;
                content.extend_from_slice(&data);
            }
            let trailers = body.trailers().await.ok()?;
            Some((trailers.as_ref().and_then(code).or(refused)?, content))
        }
    }

    /// One answer, as it came over the wire.
    pub(crate) async fn answer(&self) -> Vec<u8> {
        let (code, content) = self.call(0).await.unwrap();
        assert_eq!(code, 0);
        content
    }

    /// Asks again as soon as it is answered, so many times at once: what the server can do.
    pub(crate) async fn saturate(&self, at_once: usize, time: Duration) -> Outcome {
        let (mut outcome, mut calls, mut number, began) = (Outcome::new(), JoinSet::new(), 0, Instant::now());
        while began.elapsed() < time || !calls.is_empty() {
            while calls.len() < at_once && began.elapsed() < time {
                calls.spawn(timed(Instant::now(), self.call(number)));
                number += 1;
            }
            if let Some(call) = calls.join_next().await {
                outcome.note(call.unwrap());
            }
        }
        outcome.took = began.elapsed();
        outcome
    }

    /// Asks at so many calls a second at random moments (a Poisson process), whether or not answers come.
    pub(crate) async fn offer(&self, rate: f64, time: Duration) -> Outcome {
        let (due, mut is_due) = mpsc::unbounded_channel();
        // A thread of its own sleeps to a twentieth of a millisecond; tokio's timers, to one.
        std::thread::spawn(move || pace(rate, time, &due));
        let (mut outcome, mut calls, mut number, began) = (Outcome::new(), JoinSet::new(), 0, Instant::now());
        loop {
            tokio::select! {
                Some(due) = is_due.recv() => {
                    calls.spawn(timed(due, self.call(number)));
                    number += 1;
                }
                Some(call) = calls.join_next() => {
                    outcome.note(call.unwrap());
                }
                else => break,
            }
        }
        outcome.took = began.elapsed();
        outcome
    }
}

fn pace(rate: f64, time: Duration, due: &mpsc::UnboundedSender<Instant>) {
    let (mut rng, began) = (Xoshiro256PlusPlus::seed_from_u64(1), Instant::now());
    let mut next = began;
    while next < began + time {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        due.send(next).unwrap();
        next += Duration::from_secs_f64(-(1.0 - rng.random::<f64>()).ln() / rate);
    }
}

async fn timed(due: Instant, call: impl Future<Output = Option<(u32, Vec<u8>)>>) -> (Option<u32>, Duration) {
    let code = call.await.map(|(code, _)| code);
    (code, due.elapsed())
}

fn code(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
