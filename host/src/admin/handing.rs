//! The listeners for another process: the running side of a take-over.

use std::io;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::server::Event;
use crate::server::takeover::{self, Luggage};

use super::accepting::is_allowed;
use super::{ANSWER, AdminServer, Ask, no_answer, not_allowed, text};

impl AdminServer {
    /// Hands the listeners to another process, if it is the same user's or
    /// root's, and drains once that serves.
    pub(super) async fn hand_over(
        &self,
        request: &mut Request<Incoming>,
        user: Option<u32>,
    ) -> Response<Full<Bytes>> {
        if !self.is_unix {
            return text(
                StatusCode::FORBIDDEN,
                "only over a Unix socket: --admin unix:PATH\n",
            );
        }
        if !user.is_some_and(is_allowed) {
            let own = rustix::process::geteuid().as_raw();
            let asks = user.map_or_else(String::new, |user| format!(" (this is user {user})"));
            return text(
                StatusCode::FORBIDDEN,
                format!("the run is user {own}'s, and only that user may take over{asks}\n"),
            );
        }
        let asked = request.headers().get(header::UPGRADE);
        if request.method() != Method::POST || asked.is_none_or(|it| it != takeover::PROTOCOL) {
            return not_allowed("POST");
        }
        let (reply, answer) = oneshot::channel();
        if self
            .events
            .send(Event::Asked(Ask::HandOver(reply)))
            .is_err()
        {
            return no_answer();
        }
        let luggage = match timeout(ANSWER, answer).await {
            Ok(Ok(Ok(luggage))) => luggage,
            Ok(Ok(Err(reason))) => return text(StatusCode::CONFLICT, format!("{reason}\n")),
            _ => return no_answer(),
        };
        let (coming, events) = (hyper::upgrade::on(request), self.events.clone());
        let working = self.working.clone();
        tokio::spawn(async move {
            let _working = working;
            let Ok(upgraded) = coming.await else { return };
            let Ok(parts) = upgraded.downcast::<TokioIo<UnixStream>>() else {
                return;
            };
            let stream = parts.io.into_inner();
            if let Err(error) = pass_on(&stream, luggage, &events).await {
                tracing::warn!(%error, "another process wanted to take over, and has not");
            }
        });
        let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        let upgrade = header::HeaderValue::from_static("Upgrade");
        headers.insert(header::CONNECTION, upgrade);
        let protocol = header::HeaderValue::from_static(takeover::PROTOCOL);
        headers.insert(header::UPGRADE, protocol);
        response
    }
}

/// Passes the listeners on to the process at the other end, and tells the run
/// once that process serves.
async fn pass_on(
    stream: &UnixStream,
    luggage: Luggage,
    events: &mpsc::UnboundedSender<Event>,
) -> io::Result<()> {
    let process = stream.peer_cred()?.pid();
    let (unused, handing) = luggage.send(stream).await?;
    let (reply, done) = oneshot::channel();
    let taken_over = Event::Asked(Ask::TakenOver {
        process,
        unused,
        handing,
        reply,
    });
    if events.send(taken_over).is_ok() && done.await.is_ok() {
        takeover::say_ok(stream).await;
    }
    Ok(())
}
