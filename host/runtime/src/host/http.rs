use std::rc::Rc;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, WasmList};

use netwasm_base::error::ConnectionError;
use netwasm_exchange::answer::{Answer, Interim};
use netwasm_exchange::deferred::{Deferred, Settled};
use netwasm_exchange::request::Request;

use crate::bindings::netwasm::net::http::{Body, Fields, Forward, Host, HostRequest, Response};
use crate::bindings::netwasm::net::types::{ConnectionInfo, Error as WitError, ProxyInfo};
use crate::convert::called;
use crate::decisions;
use crate::forwards;
use crate::handles::RequestHandle;
use crate::responses::{DeferredRequest, trailers};
use crate::state::State;

/// Result of a function. The outer error is a trap.
type Called<T> = wasmtime::Result<Result<T, WitError>>;

/// Replaces the generated function that carries many bytes. This one reads the
/// guest's memory in place.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut interface = linker.instance("netwasm:net/http@0.2.0")?;
    interface.func_wrap(
        "send",
        |store: StoreContextMut<'_, State>, (token, data): (u64, WasmList<u8>)| {
            let data = data.as_le_slice(&store);
            Ok((store.data().send_body(token, data),))
        },
    )
}

impl State {
    /// Answers a deferred request.
    fn respond_to(&mut self, token: u64, response: Response) -> Called<()> {
        let Some(deferred) = self.responses.deferred(token).cloned() else {
            if let Body::File(handle) = &response.body {
                self.remove_file(handle)?;
            }
            return Ok(Err(called(ConnectionError::InvalidState)));
        };
        let DeferredRequest {
            decision: deferred,
            asker,
            ..
        } = deferred;
        if matches!(response.body, Body::Stream(_)) && !self.streams {
            self.responses.remove(token);
            deferred.give(Some(Settled::Answer(Answer::status(500, ""))));
            tracing::error!(
                guest = %self.local.env.net.guest,
                "it streams a body and does not export netwasm:net/response-handler"
            );
            return Ok(Err(called(ConnectionError::NotSupported)));
        }
        // A trap fails this request with the others that are deferred.
        self.refresh_files();
        self.responses.remove(token);
        let (answer, outcome) = match decisions::answer(self, response, Some(asker))? {
            Ok(answer) => (answer, Ok(())),
            Err(error) => (Answer::status(500, ""), Err(called(error))),
        };
        deferred.give(Some(Settled::Answer(answer)));
        self.drop_later(deferred);
        Ok(outcome)
    }

    /// Forwards a deferred request.
    fn forward_request(&mut self, token: u64, forward: Forward) -> Called<()> {
        let Some(deferred) = self.responses.deferred(token).cloned() else {
            return Ok(Err(called(ConnectionError::InvalidState)));
        };
        if deferred.is_read {
            return Ok(Err(called(ConnectionError::InvalidState)));
        }
        let asker = || deferred.asker.clone();
        let forward = forwards::forward(&self.local, self.judging(), asker, forward)?;
        let (settled, outcome) = match forward {
            Ok(forward) => (Settled::Forward(Box::new(forward)), Ok(())),
            // The denial was logged.
            Err(error) => (Settled::Answer(Answer::status(502, "")), Err(called(error))),
        };
        self.responses.remove(token);
        deferred.decision.give(Some(settled));
        self.drop_later(deferred.decision);
        Ok(outcome)
    }

    /// Drops a decision that nobody takes. A streamed body tells the guest, which
    /// cannot be called within its own call.
    fn drop_later(&self, deferred: Rc<Deferred>) {
        if Rc::strong_count(&deferred) == 1 {
            let thread = &self.local.worker.thread;
            thread.spawn_local(async move { drop(deferred) });
        }
    }
}

impl Host for State {
    fn respond(&mut self, token: u64, response: Response) -> Called<()> {
        self.respond_to(token, response)
    }

    fn forward_deferred(&mut self, token: u64, forward: Forward) -> Called<()> {
        self.forward_request(token, forward)
    }

    fn inform(&mut self, token: u64, status: u16, headers: Fields) -> Called<()> {
        let interim = self.checked(status, headers);
        let deferred = self.responses.deferred(token);
        Ok(interim
            .and_then(|interim| {
                let deferred = deferred.ok_or(ConnectionError::InvalidState)?;
                let informed = deferred.decision.inform(interim);
                informed.map_err(ConnectionError::LimitExceeded)
            })
            .map_err(called))
    }

    fn send(&mut self, token: u64, data: Vec<u8>) -> wasmtime::Result<u64> {
        Ok(self.send_body(token, &data))
    }

    fn finish(&mut self, token: u64, fields: Fields) -> Called<()> {
        let Some(outlet) = self.responses.body(token) else {
            return Ok(Err(called(ConnectionError::InvalidState)));
        };
        let fitting = Some(&fields).filter(|fields| self.fits(fields));
        let Some(trailers) = fitting.and_then(trailers) else {
            return Ok(Err(called(ConnectionError::InvalidArgument)));
        };
        if !outlet.finish(trailers) {
            // The guest is still to be told that it was cut.
            return Ok(Err(called(ConnectionError::InvalidState)));
        }
        self.responses.remove(token);
        Ok(Ok(()))
    }

    fn fail(&mut self, token: u64) -> wasmtime::Result<()> {
        if self
            .responses
            .body(token)
            .is_some_and(|outlet| outlet.fail())
        {
            self.responses.remove(token);
        }
        Ok(())
    }

    fn read_more(&mut self, token: u64, credit: u64) -> wasmtime::Result<()> {
        self.inlets.give(token, credit);
        Ok(())
    }

    fn stop_reading(&mut self, token: u64) -> wasmtime::Result<()> {
        self.inlets.stop(token);
        Ok(())
    }
}

/// Maximum of interim responses to a request while it is being handled.
const MOST_INTERIM: usize = 16;

const TOO_MANY_INTERIM: ConnectionError =
    ConnectionError::LimitExceeded("too many interim responses wait to be sent");

impl State {
    /// Checks the status and the size of an interim response. The connection
    /// checks the headers.
    fn checked(&self, status: u16, headers: Fields) -> Result<Interim, ConnectionError> {
        match status {
            102..200 if self.fits(&headers) => Ok(Interim { status, headers }),
            102..200 => Err(ConnectionError::LimitExceeded(
                "the headers are longer than --max-head",
            )),
            _ => Err(ConnectionError::InvalidArgument),
        }
    }

    /// True if fields are no longer than `--max-head`.
    fn fits(&self, fields: &Fields) -> bool {
        let size = |(name, value): &(String, Vec<u8>)| name.len() + value.len();
        let size: usize = fields.iter().map(size).sum();
        size <= self.local.env.net.limits.http.max_head
    }
}

/// The header of W3C Trace Context.
const PARENT: &str = "traceparent";

/// Returns the identity of a request's span, for the guest: where requests are
/// traced, it takes the place of what the client sent, so that what the guest
/// asks others for is within the span.
fn own_parent(request: &Request, name: &str) -> Option<Vec<u8>> {
    let trace = request.trace.as_ref()?;
    let is_wanted = name.eq_ignore_ascii_case(PARENT);
    is_wanted.then(|| trace.context.to_string().into_bytes())
}

impl HostRequest for State {
    fn header(
        &mut self,
        _this: Resource<RequestHandle>,
        name: String,
    ) -> wasmtime::Result<Option<Vec<u8>>> {
        let request = self.request()?;
        if let Some(own) = own_parent(request, &name) {
            return Ok(Some(own));
        }
        Ok(request.head.first(&name).map(<[u8]>::to_vec))
    }

    fn header_values(
        &mut self,
        _this: Resource<RequestHandle>,
        name: String,
    ) -> wasmtime::Result<Vec<Vec<u8>>> {
        let request = self.request()?;
        if let Some(own) = own_parent(request, &name) {
            return Ok(vec![own]);
        }
        let values = request.head.all(&name);
        Ok(values.map(<[u8]>::to_vec).collect())
    }

    fn headers(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<Fields> {
        let request = self.request()?;
        let own = own_parent(request, PARENT);
        let fields = request.head.fields();
        let fields = fields.filter(|(name, _)| own.is_none() || !name.eq_ignore_ascii_case(PARENT));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_vec()));
        let mut fields: Fields = fields.collect();
        fields.extend(own.map(|own| (PARENT.to_owned(), own)));
        Ok(fields)
    }

    fn is_whole(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<bool> {
        Ok(!self.request()?.arriving)
    }

    fn read_body(&mut self, _this: Resource<RequestHandle>, token: u64, credit: u64) -> Called<()> {
        Ok(Self::read_body(self, token, credit).map_err(called))
    }

    fn inform(
        &mut self,
        _this: Resource<RequestHandle>,
        status: u16,
        headers: Fields,
    ) -> Called<()> {
        if self.interim.len() >= MOST_INTERIM {
            return Ok(Err(called(TOO_MANY_INTERIM)));
        }
        let interim = self.checked(status, headers).map_err(called);
        Ok(interim.map(|interim| self.interim.push(interim)))
    }

    fn body(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.request()?.body.clone())
    }

    fn trailers(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<Fields> {
        Ok(self.request()?.trailers.clone())
    }

    fn scheme(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<String> {
        Ok(self.request()?.scheme().into())
    }

    fn authority(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.request()?.head.authority().map(str::to_owned))
    }

    fn minor_version(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<u8> {
        Ok(self.request()?.head.minor_version())
    }

    fn info(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<ConnectionInfo> {
        Ok(self.request()?.transport.as_deref().into())
    }

    fn proxied(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<Option<ProxyInfo>> {
        let transport = self.request()?.transport.as_deref();
        let told = transport.and_then(|transport| transport.proxied());
        Ok(told.map(Into::into))
    }

    fn drop(&mut self, _this: Resource<RequestHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}
