//! Instances that answer HTTP requests: `wasi:http/incoming-handler@0.2` and
//! `wasi:http/handler@0.3`.
//!
//! An instance is a task. Requests come to it by a queue of its own, one at a
//! time to a handler of 0.2, whose calls exclude each other, and several at once
//! to one of 0.3. A response goes to the connection as soon as it has begun; its
//! body is taken by the connection itself.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use send_wrapper::SendWrapper;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;
use wasmtime::component::{Accessor, AccessorTask, HasSelf};
use wasmtime::{Store, Trap};
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{
    Error, FieldMap, RequestOptions, Result as HttpResult, WasiBody, WasiHttpCtx, WasiHttpCtxView,
    WasiHttpHooks, WasiHttpView, p3,
};

use crate::config::Isolation;
use crate::connect::Endpoint;
use crate::http::{
    Answered, Destination, Exchange, MOST_EXCHANGES, Moving, NoResponse, Reply, RequestBody, hop,
};
use crate::stream::Health;
use crate::wasm::concurrent::Entry;
use crate::wasm::concurrent::Permissions;
use crate::wasm::concurrent::instance::{Running, in_turns, note_exit, report};
use crate::wasm::concurrent::response;
use crate::wasm::concurrent::state::State;
use crate::wasm::instance::one_line;
use crate::wasm::wasi;
use crate::worker::Worker;

/// The largest piece of a body that is copied out of a guest at once, bytes: so
/// much of it, and a little more, may be in memory.
const CHUNK: usize = 256 << 10;

/// Requests that wait for an instance, and those that it is at.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Whether it may get another one.
    open: Cell<bool>,
    waiting: RefCell<VecDeque<Request>>,
    /// Those that were given to it and are not over, the oldest first.
    running: RefCell<Vec<Weak<Reply>>>,
    /// How many it was given.
    taken: Cell<usize>,
    most: usize,
    most_at_once: usize,
    waker: RefCell<Option<Waker>>,
    task: RefCell<Option<AbortHandle>>,
}

/// A request for a guest.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: http::Request<RequestBody>,
    pub(crate) secure: bool,
    pub(crate) reply: Rc<Reply>,
}

/// Gives a request to an instance: to a new one, to the one of the connection,
/// which is kept in `own`, or to one of the worker's. Returns which.
pub(crate) fn begin(
    worker: &Rc<Worker>,
    own: &mut Option<Rc<Requests>>,
    request: Request,
) -> Rc<Requests> {
    let takes = |requests: &Rc<Requests>| requests.takes();
    let found = match worker.shared.isolation {
        Isolation::Request => None,
        Isolation::Connection => own.take().and_then(|old| {
            if takes(&old) {
                return Some(old);
            }
            old.close();
            None
        }),
        Isolation::Worker => {
            let mut all = worker.requests.borrow_mut();
            all.retain(|requests| requests.open.get());
            all.iter().find(|&it| takes(it)).map(Rc::clone)
        }
    };
    if let Some(requests) = found {
        requests.push(request);
        if worker.shared.isolation == Isolation::Connection {
            *own = Some(Rc::clone(&requests));
        }
        return requests;
    }
    let requests = Requests::new(worker);
    requests.push(request);
    match worker.shared.isolation {
        Isolation::Request => requests.close(),
        Isolation::Connection => *own = Some(Rc::clone(&requests)),
        Isolation::Worker => worker.requests.borrow_mut().push(Rc::clone(&requests)),
    }
    requests.start(worker);
    requests
}

impl Requests {
    fn new(worker: &Worker) -> Rc<Self> {
        let limits = &worker.shared.limits.http;
        let one = match worker.shared.program.requests().map(|it| &it.entry) {
            Some(Entry::Proxy(_)) => Some(1),
            _ => None,
        };
        Rc::new(Self {
            open: Cell::new(true),
            waiting: RefCell::default(),
            running: RefCell::default(),
            taken: Cell::new(0),
            most: limits.max_instance_reuse,
            most_at_once: one.unwrap_or(limits.max_instance_concurrency),
            waker: RefCell::default(),
            task: RefCell::default(),
        })
    }

    /// Whether it takes another request at present.
    fn takes(&self) -> bool {
        if !self.open.get() {
            return false;
        }
        let running = self.running.borrow();
        let busy = |reply: &&Weak<Reply>| reply.upgrade().is_some_and(|it| !it.is_done());
        running.iter().filter(busy).count() < self.most_at_once
    }

    fn push(&self, request: Request) {
        self.running
            .borrow_mut()
            .push(Rc::downgrade(&request.reply));
        self.waiting.borrow_mut().push_back(request);
        self.taken.set(self.taken.get() + 1);
        if self.taken.get() >= self.most {
            self.open.set(false);
        }
        self.wake();
    }

    /// Gives it no more requests; it ends after those that it has.
    pub(crate) fn close(&self) {
        self.open.set(false);
        self.wake();
    }

    /// Nobody waits for one of its requests any more. Where it has no others, it
    /// is at its end.
    pub(crate) fn abandon(&self, reply: &Reply) {
        reply.abandon();
        self.close();
        self.end_if_unwanted();
    }

    /// Ends an instance that is at nothing but requests for which nobody waits.
    fn end_if_unwanted(&self) {
        let wanted = |reply: &Weak<Reply>| reply.upgrade().is_some_and(|it| !it.is_abandoned());
        let running = self.running.borrow();
        let unwanted = !running.is_empty() && !running.iter().any(wanted);
        if unwanted && let Some(task) = self.task.take() {
            task.abort();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next request; `None` where there will be none.
    fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Request>> {
        if let Some(request) = self.waiting.borrow_mut().pop_front() {
            return Poll::Ready(Some(request));
        }
        if !self.open.get() {
            return Poll::Ready(None);
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether requests wait for it.
    fn is_behind(&self) -> bool {
        !self.waiting.borrow().is_empty() || self.running.borrow().len() > 1
    }

    fn finished(&self, reply: &Rc<Reply>) {
        self.running
            .borrow_mut()
            .retain(|other| !std::ptr::eq(other.as_ptr(), Rc::as_ptr(reply)));
        self.wake();
        self.end_if_unwanted();
    }

    /// Waits until none is running.
    async fn all_finished(&self) {
        poll_fn(|cx| {
            if self.running.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The guest exited with success. Waits until the connections have what it
    /// answered: a body that it has ended is whole, and only such a one.
    async fn exited(&self) {
        self.open.set(false);
        self.waiting.borrow_mut().clear();
        let running: Vec<Rc<Reply>> = {
            let running = self.running.borrow();
            running.iter().filter_map(Weak::upgrade).collect()
        };
        for reply in &running {
            let unanswered = NoResponse::Failed("it exits before it answers".into());
            reply.answer(Err(unanswered));
            reply.returned();
        }
        for reply in &running {
            poll_fn(|cx| reply.poll_over(cx)).await;
        }
        self.running.borrow_mut().clear();
    }

    fn fail_all(&self, reason: &NoResponse) {
        self.open.set(false);
        let running = self.running.take();
        for reply in running.iter().filter_map(Weak::upgrade) {
            reply.fail(reason.clone());
        }
        self.waiting.borrow_mut().clear();
    }

    fn start(self: &Rc<Self>, worker: &Rc<Worker>) {
        let requests = Rc::clone(self);
        let serving = Rc::clone(worker);
        let life = async move { serve(&serving, &requests).await };
        let task = match worker.shared.isolation {
            // It ends with the worker, and its connections are waited for.
            Isolation::Worker => tokio::task::spawn_local(life).abort_handle(),
            Isolation::Request | Isolation::Connection => worker.spawn_abortable(life),
        };
        *self.task.borrow_mut() = Some(task);
    }
}

/// An instance from its beginning to its end.
async fn serve(worker: &Rc<Worker>, requests: &Rc<Requests>) {
    let health: Rc<Health> = Rc::default();
    let (mut store, guest) = match instantiate(worker, &health).await {
        Ok(made) => made,
        Err(error) => {
            worker.shared.counters.instances_failed.add();
            let error = one_line(&error);
            tracing::error!(guest = %worker.shared.guest.name, %error, "no instance for a request");
            return requests.fail_all(&NoResponse::NoInstance);
        }
    };
    let mut life = Running::new(&health);
    let guest = Arc::new(guest);
    let after = worker.shared.limits.http.response_timeout;
    let running = store.run_concurrent(async |accessor| {
        while let Some(request) = poll_fn(|cx| requests.poll_next(cx)).await {
            let answering = Answering {
                guest: Arc::clone(&guest),
                request: SendWrapper::new(request),
                requests: SendWrapper::new(Rc::clone(requests)),
            };
            match &*guest {
                // A task of its own is for what goes on beside others.
                Guest::Service(_) if requests.open.get() || requests.is_behind() => {
                    accessor.spawn(answering)?;
                }
                Guest::Proxy(_) | Guest::Service(_) => answering.run(accessor).await?,
            }
        }
        requests.all_finished().await;
        // What it spawned goes on, for a while.
        let rest = poll_fn(|cx| accessor.poll_no_interesting_tasks(cx));
        let in_time = tokio::time::timeout(after, rest).await.is_ok();
        if !in_time {
            tracing::info!("what the guest did after its response took too long");
        }
        Ok(in_time)
    });
    let ended = in_turns(&health, running).await;
    match ended.and_then(|ended: wasmtime::Result<bool>| ended) {
        Ok(true) => life.end(),
        Ok(false) => {}
        Err(error) if wasi::has_exited(&error) => {
            note_exit(&store, "handle");
            // The store has the other ends of the bodies.
            requests.exited().await;
        }
        Err(error) => {
            report(&store, "handle", &error);
            requests.fail_all(&match error.downcast_ref() {
                Some(Trap::Interrupt) => NoResponse::TimedOut,
                _ => NoResponse::Trapped,
            });
        }
    }
}

async fn instantiate(
    worker: &Rc<Worker>,
    health: &Rc<Health>,
) -> wasmtime::Result<(Store<State>, Guest)> {
    let program = worker
        .shared
        .program
        .requests()
        .ok_or_else(|| wasmtime::Error::msg("the component takes no requests"))?;
    let (mut store, instance) = program.instantiate(State::new(worker, health)).await?;
    let guest = match &program.entry {
        Entry::Proxy(indices) => Guest::Proxy(indices.load(&mut store, &instance)?),
        Entry::Service(indices) => Guest::Service(indices.load(&mut store, &instance)?),
        _ => wasmtime::bail!("the component takes no requests"),
    };
    Ok((store, guest))
}

/// What is called.
enum Guest {
    Proxy(Proxy),
    Service(Service),
}

/// A request as a task of its store.
struct Answering {
    guest: Arc<Guest>,
    request: SendWrapper<Request>,
    requests: SendWrapper<Rc<Requests>>,
}

impl AccessorTask<State, HasSelf<State>> for Answering {
    async fn run(mut self, accessor: &Accessor<State>) -> wasmtime::Result<()> {
        hop::remove_named(self.request.head.headers_mut());
        let reply = SendWrapper::new(Rc::clone(&self.request.reply));
        match &*self.guest {
            Guest::Proxy(proxy) => answer_by_proxy(accessor, proxy, self.request).await?,
            Guest::Service(service) => answer_by_service(accessor, service, self.request).await?,
        }
        // The store has the other end of the body.
        poll_fn(|cx| reply.poll_over(cx)).await;
        self.requests.finished(&reply);
        Ok(())
    }
}

async fn answer_by_proxy(
    accessor: &Accessor<State>,
    proxy: &Proxy,
    request: SendWrapper<Request>,
) -> wasmtime::Result<()> {
    let Request {
        head,
        secure,
        reply,
    } = request.take();
    let reply = SendWrapper::new(reply);
    let answering = SendWrapper::new(Rc::clone(&reply));
    let scheme = if secure { Scheme::Https } else { Scheme::Http };
    let (request, out) = accessor.with(|mut store| {
        let state = store.data_mut();
        let health = state.health.clone();
        let head = head.map(|body| Moving::new(body, &health));
        let mut view = state.http();
        let request = view.new_incoming_request(scheme, head)?;
        let out = view.new_response_outparam_from_callback(move |answer| {
            answering.answer(match answer {
                Ok(response) => Ok(Answered {
                    response: response.map(|body| Moving::new(body, &health)),
                    sent: None,
                    trailers: None,
                }),
                Err(code) => Err(NoResponse::Failed(format!("it answers {code:?}"))),
            });
        })?;
        Ok::<_, wasmtime::Error>((request, out))
    })?;
    let handler = proxy.wasi_http_incoming_handler();
    let handle = handler.func_handle();
    handle.call_concurrent(accessor, (request, out)).await?;
    reply.answer(Err(NoResponse::Failed("it never answers".into())));
    reply.returned();
    Ok(())
}

async fn answer_by_service(
    accessor: &Accessor<State>,
    service: &Service,
    request: SendWrapper<Request>,
) -> wasmtime::Result<()> {
    let Request {
        head,
        secure,
        reply,
    } = request.take();
    let reply = SendWrapper::new(reply);
    let (parts, body) = head.into_parts();
    let scheme = match secure {
        true => http::uri::Scheme::HTTPS,
        false => http::uri::Scheme::HTTP,
    };
    let uri = parts.uri.into_parts();
    let (health, headers) = accessor.with(|mut store| {
        let state = store.data_mut();
        let headers = FieldMap::new_immutable(state.http().hooks, parts.headers);
        (state.health.clone(), headers)
    });
    let (request, _) = p3::Request::new(
        parts.method,
        Some(scheme),
        uri.authority,
        uri.path_and_query,
        headers,
        None,
        Moving::new(body, &health),
    );
    match service.handle(accessor, request).await? {
        Ok(response) => {
            let (sent, told) = oneshot::channel();
            let told = async move { told.await.unwrap_or(Err(Error::ConnectionTerminated)) };
            let (response, trailers) =
                accessor.with(|store| response::into_http(store, response, told))?;
            reply.answer(Ok(Answered {
                response: response.map(|body| Moving::new(body, &health)),
                sent: Some(sent),
                trailers,
            }));
        }
        Err(code) => reply.answer(Err(NoResponse::Failed(format!("it answers {code:?}")))),
    }
    Ok(())
}

/// What `wasi:http` needs of an instance.
pub(crate) struct Http {
    context: WasiHttpCtx,
    hooks: Hooks,
}

impl Http {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        health: &Rc<Health>,
        permissions: &Arc<Permissions>,
    ) -> Self {
        Self {
            context: WasiHttpCtx::new(),
            hooks: Hooks {
                worker: SendWrapper::new(Rc::clone(worker)),
                health: SendWrapper::new(Rc::clone(health)),
                permissions: Arc::clone(permissions),
                exchanges: None,
                refused: false,
            },
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.http.hooks,
            table: &mut self.table,
            ctx: &mut self.http.context,
        }
    }
}

struct Hooks {
    worker: SendWrapper<Rc<Worker>>,
    health: SendWrapper<Rc<Health>>,
    permissions: Arc<Permissions>,
    /// Requests that it may send besides those that are under way; made when
    /// first used.
    exchanges: Option<Arc<Semaphore>>,
    /// Whether it wanted more, which is logged once.
    refused: bool,
}

/// A response, and what sees to the rest of the connection.
type Sending = HttpResult<(
    http::Response<WasiBody>,
    Box<dyn Future<Output = HttpResult<()>> + Send>,
)>;

impl Hooks {
    /// Takes a place for an exchange, if the guest may send there.
    fn begin_exchange(
        &mut self,
        uri: &http::Uri,
        options: Option<RequestOptions>,
    ) -> HttpResult<Exchange> {
        let endpoint = Destination::of(uri)?.endpoint;
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
                let guest = &self.worker.shared.guest.name;
                tracing::warn!(%guest, "no more than {MOST_EXCHANGES} HTTP requests at once");
            }
            return Err(Error::ConnectionLimitReached);
        };
        Ok(Exchange {
            place,
            health: self.health.clone(),
            options: options.unwrap_or_default(),
        })
    }
}

impl WasiHttpHooks for Hooks {
    /// What the guest made of the response is nothing to the peer.
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = HttpResult<()>> + Send>,
    ) -> Box<dyn Future<Output = Sending> + Send> {
        let exchange = self.begin_exchange(request.uri(), options);
        let client = self.worker.http_client().clone();
        Box::new(async move { client.send(request, exchange?).await })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }
}
