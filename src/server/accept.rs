//! Takes connections in.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long a new connection may say nothing.
const SILENCE: Duration = Duration::from_secs(20);
/// How long to wait where none can be taken in.
const PAUSE: Duration = Duration::from_millis(100);
/// Time between two lines of the log that say so.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Bytes that a client of HTTP/2 begins with, as does every one of TLS with more.
const PREFACE: usize = 24;
/// Connections that have spoken and wait to be served.
const WAITING: usize = 64;

/// Connections that have begun to speak.
#[derive(Debug)]
pub(super) struct Spoken {
    connections: mpsc::Receiver<Connection>,
    /// It ends with this.
    _accepting: JoinSet<()>,
}

impl Spoken {
    /// Those that a listener takes in, so many at a time: each is an open file, and the store and the registry need some, too.
    /// One that says nothing for long is let go, as it would keep a place for nothing.
    pub(super) fn of(listener: TcpListener, places: usize) -> Self {
        let (to, connections) = mpsc::channel(WAITING);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS))), to));
        Self { connections, _accepting: accepting }
    }
}

impl Stream for Spoken {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.connections.poll_recv(context)).map(Ok))
    }
}

/// A connection with its place.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

async fn accept(listener: TcpListener, places: Arc<Semaphore>, to: mpsc::Sender<Connection>) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    let mut silent = JoinSet::new();
    let mut told: Option<Instant> = None;
    loop {
        if places.available_permits() == 0 && told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            tracing::warn!("as many connections are open as may be (serve.connections): a further one waits");
            told = Some(Instant::now());
        }
        // The places are never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                // A small answer must not wait for the acknowledgement of the one before it.
                let _ = stream.set_nodelay(true);
                let to = to.clone();
                silent.spawn(async move {
                    if let Ok(true) = tokio::time::timeout(SILENCE, speaks(&stream)).await {
                        // Nobody takes it once the server ends.
                        let _ = to.send(Connection { stream, _place: place }).await;
                    }
                });
                while silent.try_join_next().is_some() {}
            }
            // Of one connection alone.
            Err(error) if [ConnectionAborted, ConnectionReset, Interrupted].contains(&error.kind()) => {}
            Err(error) => {
                // Such as where there are too many open files: the next try would fail as well.
                if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    tracing::error!(%error, "connections can't be taken in");
                    told = Some(Instant::now());
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Waits until a client has said as much as every one does before it is answered; false if it is gone.
async fn speaks(connection: &TcpStream) -> bool {
    let mut said = [0; PREFACE];
    loop {
        match connection.peek(&mut said).await {
            Ok(0) | Err(_) => return false,
            Ok(PREFACE..) => return true,
            Ok(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_stream::StreamExt;

    use super::*;

    /// Time goes by while nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_let_go_and_holds_up_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut speaking = TcpStream::connect(address).await.unwrap();
        speaking.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        silent.write_all(b"PRI").await.unwrap();
        let mut spoken = Spoken::of(listener, 2);
        let connection = spoken.next().await.unwrap().unwrap();
        assert_eq!(connection.stream.peer_addr().unwrap(), speaking.local_addr().unwrap());
        let gone = tokio::time::timeout(2 * SILENCE, silent.read(&mut [0])).await.expect("let go");
        // What it had said was never read.
        assert!(matches!(gone, Ok(0) | Err(_)), "{gone:?}");
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_for_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut spoken = Spoken::of(listener, 1);
        let speak = async || {
            let mut speaking = TcpStream::connect(address).await.unwrap();
            speaking.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
            speaking
        };
        let first = speak().await;
        let place = spoken.next().await.unwrap().unwrap();
        let second = speak().await;
        // Whatever is ready is done by now.
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        assert!(spoken.connections.try_recv().is_err(), "one at a time");
        drop((first, place));
        let next = spoken.next().await.unwrap().unwrap();
        assert_eq!(next.stream.peer_addr().unwrap(), second.local_addr().unwrap());
    }
}
