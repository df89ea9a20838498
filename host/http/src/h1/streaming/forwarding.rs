//! Requests that are forwarded.

use std::rc::Rc;
use std::task::{Context, Poll};

use netwasm_exchange::content::RequestBody;
use netwasm_exchange::forward::Forward;
use netwasm_exchange::handler::Nobody;
use netwasm_exchange::reply::NoResponse;
use netwasm_exchange::request::Request;
use netwasm_net::transport::LOOK;

use super::{AnswerStage, Answering};
use crate::access_log::Entry;
use crate::exchange;
use crate::forward::{ClientTunnel, Passed, Upgrade};
use crate::h1::{Driver, Reading, Stage};
use crate::response;
use crate::upload::Upload;

impl Driver {
    /// Begins to forward a request, whose body may be arriving.
    pub(in crate::h1) fn forward(
        &mut self,
        mut request: Box<Request>,
        entry: Option<Entry>,
        upload: Option<Rc<Upload>>,
        coming: Option<RequestBody>,
        forward: Box<Forward>,
        out: &mut Vec<u8>,
    ) {
        let local = Rc::clone(&self.local);
        let site = request.site.clone();
        let env = &local.account(&site).net;
        let expects = upload.as_ref().is_some_and(|it| it.expects_continue());
        let begun = exchange::forward(&mut request, forward, coming, expects, true, env);
        let forwarding = match begun {
            Ok(forwarding) => forwarding,
            Err(answer) => {
                // An unread body hides where the next request begins.
                self.exchange.last |= upload.is_some();
                self.answer_for(&request, &answer, entry, out);
                local.put_request(request);
                return;
            }
        };
        let thread = Rc::clone(self.thread());
        self.exchange.reading = Reading::Answer(Box::new(Answering {
            request,
            entry,
            upload,
            unread: None,
            reply: Rc::default(),
            requests: Rc::new(Nobody),
            // Each attempt has its own.
            deadline: None,
            made: thread.now(),
            probes: 0,
            ended: None,
            look: thread.tick_after(LOOK),
            is_forwarded: true,
            stage: AnswerStage::Forwarding(forwarding),
        }));
        self.arm();
    }

    /// Begins to forward a request that was deferred. Returns what is left to do.
    pub(super) fn forward_deferred(
        &mut self,
        mut answering: Box<Answering>,
        forward: Box<Forward>,
        out: &mut Vec<u8>,
    ) -> Option<Box<Answering>> {
        let local = Rc::clone(&self.local);
        let site = answering.request.site.clone();
        let env = &local.account(&site).net;
        let coming = answering.unread.take();
        let upload = answering.upload.as_ref();
        let expects = upload.is_some_and(|it| it.expects_continue());
        let request = &mut answering.request;
        match exchange::forward(request, forward, coming, expects, true, env) {
            Ok(forwarding) => {
                answering.requests = Rc::new(Nobody);
                // Each attempt has its own.
                answering.deadline = None;
                answering.is_forwarded = true;
                answering.stage = AnswerStage::Forwarding(forwarding);
                Some(answering)
            }
            Err(answer) => self.begin_answer(answering, answer, out),
        }
    }

    /// Continues a request that is forwarded, and begins its response. Returns
    /// the request unless it is done with.
    pub(super) fn go_on_forwarding(
        &mut self,
        mut answering: Box<Answering>,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Box<Answering>> {
        let Answering { request, stage, .. } = &mut *answering;
        let AnswerStage::Forwarding(forwarding) = stage else {
            return Some(answering);
        };
        let polled = forwarding.poll(cx, request);
        let interim = forwarding.take_interim();
        // The server may have asked for the body, for which the client waits.
        if let Some(upload) = &answering.upload
            && upload.take_continue()
        {
            response::write_continue(out);
        }
        for (status, headers) in interim {
            // Some clients of HTTP/1.1 would take it for the answer.
            if self.limits().send_informational && answering.request.head.minor_version() > 0 {
                response::write_interim(status.as_u16(), &headers, out);
            }
        }
        match polled {
            Poll::Pending => Some(answering),
            Poll::Ready(Ok(Passed::Answer(answer))) => {
                answering.is_forwarded = false;
                self.begin_answer(answering, answer, out)
            }
            Poll::Ready(Ok(Passed::Upgrade(upgrade))) => {
                self.upgrade(*answering, upgrade, out);
                None
            }
            Poll::Ready(Ok(Passed::Response(answered))) => {
                self.begin_response(answering, answered, false, out)
            }
            Poll::Ready(Err(status)) => {
                self.refuse_response(*answering, &NoResponse::OfUpstream(status), out);
                None
            }
        }
    }

    /// Tells the client that its connection changes to another protocol.
    fn upgrade(&mut self, answering: Answering, upgrade: Upgrade, out: &mut Vec<u8>) {
        let Upgrade {
            headers, protocol, ..
        } = &upgrade;
        response::write_upgrade(headers, protocol, out);
        self.log_later(answering.entry, 101, 0, out);
        self.local.put_request(answering.request);
        self.exchange.reading = Reading::Tunnel(Box::new(upgrade));
    }

    /// Goes on with another protocol, which is the server's to speak.
    pub(in crate::h1) fn begin_tunnel(&mut self, upgrade: Upgrade) -> Stage {
        self.log_unsent();
        self.exchange.own.close();
        self.transport.set_alarm(None);
        let early = std::mem::take(&mut self.exchange.kept);
        match upgrade.join(&self.transport, &early) {
            Ok(ClientTunnel::Native(driver)) => Stage::Tunnel(driver),
            Ok(ClientTunnel::Copied(relaying)) => Stage::Relaying(Box::new(relaying)),
            Err(reason) => {
                self.transport.fail(reason.clone());
                self.lose(&Some(reason))
            }
        }
    }
}
