//! The port and its connections: how many there may be, how long a head or a silent reader may take, and how they end when the server goes
//! down. hyper speaks the protocol.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep};
use tower::Service;

use crate::guard::Ends;
use crate::shutdown::Shutdown;

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 4096;
/// How long the head of a request may take, from the connection or the answer before.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Bytes of a head, and of what hyper reads at once.
const MAX_HEAD: usize = 64 << 10;
/// How long a client may take nothing while there is something for it.
const WRITE_TIME: Duration = Duration::from_secs(120);
/// How long what a client still sends is read after the last response, so that it reads why it was refused before it hears that nobody
/// listens.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Serves until the end: while the server goes down it still accepts, so that those who ask whether it is ready hear that it is not.
pub async fn serve(listener: TcpListener, app: Router, shutdown: Arc<Shutdown>) {
    let mut connections = JoinSet::new();
    let mut closing = false;
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, app.clone(), shutdown.clone()));
                }
                Err(error) => {
                    // Out of files, most likely: others will close theirs.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = shutdown.closing(), if !closing => closing = true,
            () = shutdown.over() => return,
        }
        if closing && connections.is_empty() {
            return;
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, app: Router, shutdown: Arc<Shutdown>) {
    let _ = stream.set_nodelay(true);
    let ends = Ends { peer, own: stream.local_addr().unwrap_or(peer) };
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ends);
        app.clone().call(request)
    });
    let mut closing = shutdown.is_closing();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .keep_alive(!closing);
    let io = TokioIo::new(Patient { stream, stalled: None, lingers: None });
    let mut serving = std::pin::pin!(http.serve_connection(io, service));
    loop {
        tokio::select! {
            // How it ended is the client's affair.
            _ = serving.as_mut() => return,
            () = shutdown.closing(), if !closing => {
                closing = true;
                serving.as_mut().graceful_shutdown();
            }
            () = shutdown.over() => return,
        }
    }
}

/// A connection that gives up when nothing of what is written is taken for [`WRITE_TIME`].
struct Patient {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Set once there was something unread at the end.
    lingers: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn watched<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_TIME)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watched(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingers.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        let mut scratch = [0; 8 << 10];
        loop {
            let mut unread = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut unread) {
                Poll::Ready(Ok(())) if !unread.filled().is_empty() => {
                    self.lingers.get_or_insert_with(|| Box::pin(sleep(LINGER_TIME)));
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        match &mut self.lingers {
            None => Poll::Ready(Ok(())),
            Some(lingers) => lingers.as_mut().poll(cx).map(Ok),
        }
    }
}
