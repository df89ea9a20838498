//! Requests on connections that others share: the wait for one, and for room
//! there.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use netwasm_base::config::HttpVersion;
use netwasm_base::error::ConnectionError;
use netwasm_exchange::request::Request;
use netwasm_net::upstream::{NoPlace, Place};

use super::{AttemptStage, Forwarding};
use crate::forward::compose::SentFraming;
use crate::forward::http2::{Joined, MultiplexedPool, SpokenToServer, UpstreamStream};
use crate::forward::line::Line;
use crate::forward::outcome::{NoResponse, Passed};

/// Maximum of further connections that a request tries at a server that ends each
/// before a stream can begin.
const MOST_ENDED: u32 = 1;

impl Forwarding {
    fn pool(&self) -> Rc<MultiplexedPool> {
        self.forward.worker.kept.shared::<MultiplexedPool>()
    }

    /// Looks for a connection that others share, or for a place in the queue: at its
    /// turn, if the request had one.
    pub(super) fn join(&mut self, place: Place, turn: Option<u64>) -> Result<(), NoResponse> {
        let (pool, limit) = (self.pool(), self.connect_timeout());
        let joined = pool.join(&self.forward.worker, place.server(), limit);
        self.stage = match joined {
            Some(joined) => AttemptStage::Joining(Some(place), joined.with_turn(turn)),
            None => {
                let queued = pool.queue(place.server(), turn);
                let queued = queued.map_err(|reason| self.refused(&place, reason))?;
                AttemptStage::Queueing(Some(place), queued)
            }
        };
        Ok(())
    }

    /// Notes that there is no room at a server.
    fn refused(&mut self, place: &Place, reason: NoPlace) -> NoResponse {
        place.server().has_refused(reason);
        self.tried.push(place.server().number());
        reason.into()
    }

    /// Waits for room on a connection that others share.
    pub(super) fn poll_queueing(
        &mut self,
        cx: &mut Context<'_>,
        request: &Request,
    ) -> Poll<Result<Option<Passed>, NoResponse>> {
        let (pool, limit) = (self.pool(), self.connect_timeout());
        let AttemptStage::Queueing(place, queued) = &mut self.stage else {
            return Poll::Ready(Err(NoResponse::Ended));
        };
        let Some(server) = place.as_ref().map(Place::server) else {
            return Poll::Ready(Err(NoResponse::Ended));
        };
        let worker = &self.forward.worker;
        let joined = ready!(queued.poll(cx, || match pool.speaks_http1(server) {
            // It has turned out so meanwhile.
            true => Some(None),
            false => pool.join_now(worker, server, limit).map(Some),
        }));
        let turn = Some(queued.turn());
        let Some(place) = place.take() else {
            return Poll::Ready(Err(NoResponse::Ended));
        };
        match joined.map_err(|reason| self.refused(&place, reason))? {
            Some(joined) => self.stage = AttemptStage::Joining(Some(place), joined.with_turn(turn)),
            None => self.connect(place, request)?,
        }
        Poll::Ready(Ok(None))
    }

    /// Waits until a connection that others share is made.
    pub(super) fn poll_joining(
        &mut self,
        cx: &mut Context<'_>,
        request: &Request,
    ) -> Poll<Result<Option<Passed>, NoResponse>> {
        let AttemptStage::Joining(place, joined) = &mut self.stage else {
            return Poll::Ready(Err(NoResponse::Ended));
        };
        let made = ready!(joined.poll_made(cx));
        let Some(place) = place.take() else {
            return Poll::Ready(Err(NoResponse::Ended));
        };
        let stage = std::mem::replace(&mut self.stage, AttemptStage::Over);
        let AttemptStage::Joining(_, joined) = stage else {
            return Poll::Ready(Err(NoResponse::Ended));
        };
        self.begin_on(&joined, made, place, request)?;
        Poll::Ready(Ok(None))
    }

    /// Begins to send the request on a connection that others share, which is
    /// made.
    fn begin_on(
        &mut self,
        joined: &Joined,
        made: Result<SpokenToServer, ConnectionError>,
        place: Place,
        request: &Request,
    ) -> Result<(), NoResponse> {
        match made {
            Ok(SpokenToServer::Http2) => {}
            Ok(SpokenToServer::Nothing) if self.ended < MOST_ENDED => {
                self.ended += 1;
                return self.join(place, joined.turn());
            }
            Ok(SpokenToServer::Nothing) => {
                let why = "the server ends its connections at once (GOAWAY)";
                let error = ConnectionError::Other(why.to_owned());
                self.note_failure(place.server(), &error);
                return Err(NoResponse::Connect(error));
            }
            Ok(SpokenToServer::Http1(None)) => return self.connect(place, request),
            Ok(SpokenToServer::Http1(Some(transport))) => {
                let client = request.transport.as_ref();
                let line = Line::made(&self.forward.worker, place, client, transport);
                self.begin(line, request);
                return Ok(());
            }
            Err(error) => {
                self.note_failure(place.server(), &error);
                return Err(NoResponse::Connect(error));
            }
        }
        let line = joined.line();
        let Some((permit, sender)) = line.enter() else {
            return self.join(place, joined.turn());
        };
        let connects = self.composed.upgrades && sender.is_extended_connect_protocol_enabled();
        if self.composed.upgrades && !connects && place.server().http() == HttpVersion::Auto {
            // It may know the protocol by HTTP/1.1.
            drop(permit);
            self.dial(place, request, true);
            return Ok(());
        }
        let (composed, server) = (self.composed, place.server());
        let head = composed.http2(request, &self.forward, server, connects)?;
        let ends = self.upload.framing() == SentFraming::None && !connects;
        let mut stream = UpstreamStream::begin(place, (permit, sender), head, ends)?;
        stream.connects = connects;
        self.stage = AttemptStage::Streaming(stream);
        Ok(())
    }
}
