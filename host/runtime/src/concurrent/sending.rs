//! HTTP requests that guests send by `wasi:http`: allowed by the policy, and
//! limited in number and memory.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use http::HeaderName;
use http_body_util::BodyExt as _;
use netwasm_base::trace::Trace;
use netwasm_exchange::destination::Destination;
use netwasm_exchange::outgoing::{Exchange, MOST_EXCHANGES, SendOptions, WireBody};
use netwasm_exchange::reply::Reply;
use netwasm_net::endpoint::Endpoint;
use netwasm_net::health::Health;
use send_wrapper::SendWrapper;
use tokio::sync::Semaphore;
use wasmtime::component::{GuestTaskId, Resource};
use wasmtime_wasi_http::p2::types::HostResponseOutparam;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, Result as HttpResult, WasiBody, WasiHttpCtx,
    WasiHttpHooks,
};

use crate::concurrent::failure::{of_failure, of_guest};
use crate::concurrent::permissions::Permissions;
use crate::concurrent::transmission::Transmissions;
use crate::local::Local;
use crate::moving::Moving;

/// Largest piece of a body copied out of a guest at once, in bytes. That much
/// of a body, and a little more, may be in memory.
const CHUNK: usize = 256 << 10;

/// Fields that no guest gets or sets. A constant would be made for each name
/// that is looked for.
static FORBIDDEN: [HeaderName; 9] = DEFAULT_FORBIDDEN_HEADERS;

/// State of an instance for `wasi:http`.
pub(crate) struct Http {
    pub(super) context: WasiHttpCtx,
    pub(super) hooks: Hooks,
    pub(super) replying: Option<Replying>,
    pub(super) transmissions: Transmissions,
    /// Number of responses without contents whose heads tell another length.
    pub(super) unfit: SendWrapper<Rc<Cell<usize>>>,
}

impl Http {
    pub(crate) fn new(
        local: &Rc<Local>,
        health: &Rc<Health>,
        permissions: &Arc<Permissions>,
    ) -> Self {
        Self {
            context: WasiHttpCtx::new(),
            replying: None,
            transmissions: Transmissions::default(),
            unfit: SendWrapper::new(Rc::default()),
            hooks: Hooks {
                local: SendWrapper::new(Rc::clone(local)),
                health: SendWrapper::new(Rc::clone(health)),
                permissions: Arc::clone(permissions),
                exchanges: None,
                refused: false,
                trace: None,
            },
        }
    }
}

/// The request that an instance answers, for its interim responses.
pub(super) struct Replying {
    /// Number of the guest's `response-outparam`.
    out: u32,
    reply: SendWrapper<Weak<Reply>>,
}

impl Replying {
    pub(super) fn new(out: &Resource<HostResponseOutparam>, reply: &Rc<Reply>) -> Self {
        Self {
            out: out.rep(),
            reply: SendWrapper::new(Rc::downgrade(reply)),
        }
    }

    /// Returns the reply that `out` sets; `None` if it is over.
    pub(super) fn to(&self, out: &Resource<HostResponseOutparam>) -> Option<Rc<Reply>> {
        self.reply.upgrade().filter(|_| self.out == out.rep())
    }
}

/// Sends the requests of an instance, if the policy allows it.
pub(super) struct Hooks {
    local: SendWrapper<Rc<Local>>,
    health: SendWrapper<Rc<Health>>,
    permissions: Arc<Permissions>,
    /// Places for further requests, besides those under way. Made when first
    /// used.
    exchanges: Option<Arc<Semaphore>>,
    /// True if the guest wanted more, which is logged once.
    refused: bool,
    /// Finds the spans of requests, if they are traced.
    trace: Option<SendWrapper<FindTrace>>,
}

/// Returns the span of the request that a call handles; without one, that of the
/// request that the instance handles alone.
type FindTrace = Box<dyn Fn(Option<GuestTaskId>) -> Option<Rc<Trace>>>;

/// A response, and a future for the rest of the exchange.
type SentRequest = HttpResult<(
    http::Response<WasiBody>,
    Box<dyn Future<Output = HttpResult<()>> + Send>,
)>;

impl Hooks {
    /// Notes how to find the spans of requests, as [`FindTrace`].
    pub(super) fn trace_by(
        &mut self,
        trace: impl Fn(Option<GuestTaskId>) -> Option<Rc<Trace>> + 'static,
    ) {
        self.trace = Some(SendWrapper::new(Box::new(trace)));
    }

    /// True if requests are traced.
    pub(super) fn traces(&self) -> bool {
        self.trace.is_some()
    }

    /// Returns the span of the request that a call handles, as [`FindTrace`].
    pub(super) fn trace(&self, call: Option<GuestTaskId>) -> Option<Rc<Trace>> {
        let find = self.trace.as_ref()?;
        find(call)
    }

    /// Takes a place for an exchange, if the guest may send there.
    fn begin_exchange(
        &mut self,
        uri: &http::Uri,
        options: Option<RequestOptions>,
    ) -> HttpResult<Exchange> {
        let endpoint = Destination::of(uri).map_err(of_failure)?.endpoint;
        if self.permissions.connect(&endpoint).is_err() {
            return Err(match endpoint {
                Endpoint::Address(_) => Error::DestinationIpProhibited,
                Endpoint::Name { .. } | Endpoint::Unix(_) => Error::HttpRequestDenied,
            });
        }
        let places = || Arc::new(Semaphore::new(MOST_EXCHANGES));
        let exchanges = Arc::clone(self.exchanges.get_or_insert_with(places));
        let Ok(place) = exchanges.try_acquire_owned() else {
            if !std::mem::replace(&mut self.refused, true) {
                let guest = &self.local.env.net.guest;
                tracing::warn!(%guest, "no more than {MOST_EXCHANGES} HTTP requests at once");
            }
            return Err(Error::ConnectionLimitReached);
        };
        Ok(Exchange {
            place,
            health: self.health.clone(),
            options: options.map_or_else(SendOptions::default, |it| SendOptions {
                connect_timeout: it.connect_timeout,
                first_byte_timeout: it.first_byte_timeout,
                between_bytes_timeout: it.between_bytes_timeout,
            }),
            trace: self.trace(None).map(SendWrapper::new),
        })
    }
}

impl WasiHttpHooks for Hooks {
    /// Sends a request. What the guest makes of the response does not concern
    /// the peer.
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = HttpResult<()>> + Send>,
    ) -> Box<dyn Future<Output = SentRequest> + Send> {
        let exchange = self.begin_exchange(request.uri(), options);
        let outgoing = Rc::clone(&self.local.outgoing);
        let health = self.health.clone();
        let request = request.map(|body| body.map_err(of_guest).boxed_unsync());
        Box::new(SendWrapper::new(async move {
            let (response, sent) = tokio::select! {
                biased;
                sent = outgoing.send(request, exchange?) => sent.map_err(of_failure)?,
                () = health.given_up() => return Err(Error::ConnectionTerminated),
            };
            let received =
                |body: WireBody| Moving::new(body.map_err(of_failure), &health).boxed_unsync();
            let sent = async move { sent.await.map_err(of_failure) };
            Ok((response.map(received), Box::new(sent) as Box<_>))
        }))
    }

    /// Answers as the default does, which allocates for each name.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        FORBIDDEN.contains(name)
    }

    /// Without it: the client derives `Host` from the URI.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }
}
