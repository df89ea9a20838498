//! Requests to async guests.

use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use netwasm_exchange::content::RequestBody;
use netwasm_exchange::head::target;
use netwasm_exchange::head::{HeadLimits, Refusal};
use netwasm_exchange::request::Request;
use netwasm_net::transport::LOOK;

use super::{AnswerStage, Answering};
use crate::h1::{Driver, Reading};
use crate::upload::UploadBody;

const UNTRANSLATABLE: Refusal = Refusal::new(400, "wasi:http has no such request");

impl Driver {
    /// Gives a request to an instance, with what has arrived of its body.
    /// Returns the bytes used of that.
    pub(in crate::h1) fn begin_answering(
        &mut self,
        mut request: Box<Request>,
        limits: &HeadLimits,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> usize {
        let most = self.limits().max_body as u64;
        let thread = Rc::clone(self.thread());
        request.secure = self.exchange.secure;
        let Some(head) = http_request(&request) else {
            self.refuse(request, UNTRANSLATABLE, out);
            return 0;
        };
        self.exchange.fresh = false;
        let upload = self.upload(&request, most, limits, input);
        let used = if upload.is_some() { input.len() } else { 0 };
        let entry = self.entry(&mut request);
        let body = match &upload {
            Some(upload) => RequestBody::new(UploadBody(Rc::clone(upload))),
            None => RequestBody::Empty,
        };
        let deadline = thread.tick_after(self.limits().response_timeout);
        let head = head.map(|()| body);
        let local = Rc::clone(&self.local);
        let own = &mut self.exchange.own;
        let traced = (request.secure, request.trace.clone());
        let site = request.site.clone();
        let (reply, requests) = own.begin(&local, &self.transport, site, head, traced);
        self.exchange.reading = Reading::Answer(Box::new(Answering {
            request,
            entry,
            upload,
            unread: None,
            reply,
            requests,
            deadline: Some(deadline),
            made: thread.now(),
            probes: 0,
            ended: None,
            look: thread.tick_after(LOOK),
            is_forwarded: false,
            stage: AnswerStage::Waiting,
        }));
        self.arm();
        used
    }
}

/// Returns the head of a request for `wasi:http`, which cannot express all that
/// HTTP allows.
fn http_request(request: &Request) -> Option<http::Request<()>> {
    let head = &request.head;
    let mut made = http::Request::new(());
    *made.method_mut() = Method::from_bytes(head.method().as_bytes()).ok()?;
    // An HTTP/1.0 client need not name the host.
    let authority = head.authority().unwrap_or("localhost");
    let target = target::for_uri(head.target());
    let uri = Uri::builder()
        .scheme(request.scheme())
        .authority(authority)
        .path_and_query(&*target)
        .build();
    *made.uri_mut() = match uri {
        Ok(uri) => uri,
        // The `http` crate may reject the authority. `Host` still tells it.
        Err(_) => target.parse().ok()?,
    };
    let mut headers = HeaderMap::with_capacity(8);
    for (name, value) in head.fields() {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(value).ok()?;
        headers.try_append(name, value).ok()?;
    }
    if made.uri().authority().is_none() && !headers.contains_key(header::HOST) {
        let host = HeaderValue::from_static("localhost");
        headers.try_insert(header::HOST, host).ok()?;
    }
    *made.headers_mut() = headers;
    Some(made)
}
