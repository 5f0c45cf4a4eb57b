//! Connections that are let go once nothing was said for long.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};

/// How long a connection may say nothing: monitors ask more often.
const SILENCE: Duration = Duration::from_secs(90);

/// Takes in connections that are let go once they are silent: each would keep a file open for nothing.
pub(super) struct Impatient(pub(super) TcpListener);

impl Listener for Impatient {
    type Io = Spoken;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Spoken, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        (Spoken { stream, patience: Box::pin(sleep(SILENCE)) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection, and how long it may still be silent.
pub(super) struct Spoken {
    stream: TcpStream,
    patience: Pin<Box<Sleep>>,
}

impl AsyncRead for Spoken {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, into) {
            Poll::Ready(outcome) => {
                self.patience.as_mut().reset(Instant::now() + SILENCE);
                Poll::Ready(outcome)
            }
            Poll::Pending => self.patience.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl AsyncWrite for Spoken {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Time goes by while nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "ok"));
        let server = tokio::spawn(async move { axum::serve(Impatient(listener), router).await });
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut asked = TcpStream::connect(address).await.unwrap();
        asked.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        asked.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        for connection in [&mut silent, &mut asked] {
            let mut rest = Vec::new();
            let gone = tokio::time::timeout(3 * SILENCE, connection.read_to_end(&mut rest)).await;
            assert!(gone.is_ok(), "let go");
        }
        server.abort();
    }
}
