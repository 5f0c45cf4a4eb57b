//! Takes connections in.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::Stream;

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
    connections: mpsc::Receiver<TcpStream>,
    /// It ends with this.
    _accepting: JoinSet<()>,
}

impl Spoken {
    /// Those that a listener takes in. One that says nothing for long is let go, as it would keep a place for nothing.
    pub(super) fn of(listener: TcpListener) -> Self {
        let (to, connections) = mpsc::channel(WAITING);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, to));
        Self { connections, _accepting: accepting }
    }
}

impl Stream for Spoken {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.connections.poll_recv(context)).map(Ok))
    }
}

async fn accept(listener: TcpListener, to: mpsc::Sender<TcpStream>) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    let mut silent = JoinSet::new();
    let mut told: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                // A small answer must not wait for the acknowledgement of the one before it.
                let _ = connection.set_nodelay(true);
                let to = to.clone();
                silent.spawn(async move {
                    if let Ok(true) = tokio::time::timeout(SILENCE, speaks(&connection)).await {
                        // Nobody takes it once the server ends.
                        let _ = to.send(connection).await;
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
        let mut spoken = Spoken::of(listener);
        let connection = spoken.next().await.unwrap().unwrap();
        assert_eq!(connection.peer_addr().unwrap(), speaking.local_addr().unwrap());
        let gone = tokio::time::timeout(2 * SILENCE, silent.read(&mut [0])).await.expect("let go");
        // What it had said was never read.
        assert!(matches!(gone, Ok(0) | Err(_)), "{gone:?}");
    }
}
