//! A request that an instance answers: the call of its handler, and the body of
//! the response on its way to the connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use send_wrapper::SendWrapper;
use tokio::sync::oneshot;
use wasmtime::component::{Accessor, AccessorTask, HasSelf};
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{FieldMap, WasiBody, WasiHttpView, p3};

use netwasm_exchange::content::{Content, FileContent};
use netwasm_exchange::failure::Failure;
use netwasm_exchange::handler::Call;
use netwasm_exchange::hop;
use netwasm_exchange::reply::{Answered, NoResponse};
use netwasm_net::health::Health;

use crate::concurrent::failure::{of_failure, of_guest};
use crate::concurrent::http::Requests;
use crate::concurrent::response;
use crate::concurrent::sending::Replying;
use crate::concurrent::state::AsyncState;
use crate::local::Local;
use crate::moving::Moving;

/// The exported handler.
pub(super) enum HttpGuest {
    Proxy(Proxy),
    Service(Service),
}

/// Answers a request, as a task of its store.
pub(super) struct Answering {
    pub(super) guest: Arc<HttpGuest>,
    pub(super) request: SendWrapper<Call>,
    pub(super) requests: SendWrapper<Rc<Requests>>,
}

impl AccessorTask<AsyncState, HasSelf<AsyncState>> for Answering {
    async fn run(mut self, accessor: &Accessor<AsyncState>) -> wasmtime::Result<()> {
        hop::remove_named(self.request.head.headers_mut());
        let reply = SendWrapper::new(Rc::clone(&self.request.reply));
        match &*self.guest {
            HttpGuest::Proxy(proxy) => answer_by_proxy(accessor, proxy, self.request).await?,
            HttpGuest::Service(service) => {
                answer_by_service(accessor, service, self.request, &self.requests).await?;
            }
        }
        // The store holds the other end of the body.
        poll_fn(|cx| reply.poll_over(cx)).await;
        self.requests.finished(&reply);
        Ok(())
    }
}

async fn answer_by_proxy(
    accessor: &Accessor<AsyncState>,
    proxy: &Proxy,
    request: SendWrapper<Call>,
) -> wasmtime::Result<()> {
    let Call {
        head,
        secure,
        reply,
        ..
    } = request.take();
    let reply = SendWrapper::new(reply);
    let answering = SendWrapper::new(Rc::clone(&reply));
    let scheme = if secure { Scheme::Https } else { Scheme::Http };
    let (request, out) = accessor.with(|mut store| {
        let state = store.data_mut();
        let health = state.health.clone();
        let local = state.local.clone();
        let head = head.map(|body| Moving::new(body.map_err(of_failure), &health));
        let mut view = state.http();
        let request = view.new_incoming_request(scheme, head)?;
        let out = view.new_response_outparam_from_callback(move |answer| {
            answering.answer(match answer {
                Ok(response) => Ok(Answered {
                    response: response.map(|body| GuestBody::new(body, &health, &local).boxed()),
                    sent: None,
                    trailers: None,
                }),
                Err(code) => Err(NoResponse::Failed(format!("it answers {code:?}"))),
            });
        })?;
        state.http.replying = Some(Replying::new(&out, &reply));
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
    accessor: &Accessor<AsyncState>,
    service: &Service,
    request: SendWrapper<Call>,
    requests: &SendWrapper<Rc<Requests>>,
) -> wasmtime::Result<()> {
    let Call {
        head,
        secure,
        reply,
        ..
    } = request.take();
    let reply = SendWrapper::new(reply);
    let (parts, body) = head.into_parts();
    let is_head = parts.method == http::Method::HEAD;
    let scheme = match secure {
        true => http::uri::Scheme::HTTPS,
        false => http::uri::Scheme::HTTP,
    };
    let uri = parts.uri.into_parts();
    let (health, local, headers) = accessor.with(|mut store| {
        let state = store.data_mut();
        let headers = FieldMap::new_immutable(state.http().hooks, parts.headers);
        (state.health.clone(), state.local.clone(), headers)
    });
    let (request, _) = p3::Request::new(
        parts.method,
        Some(scheme),
        uri.authority,
        uri.path_and_query,
        headers,
        None,
        Moving::new(body.map_err(of_failure), &health),
    );
    // As `Service::handle` does it, which does not tell which call it is.
    let handler = service.wasi_http_handler().func_handle();
    let call = accessor.with(|mut store| {
        let request = store.data_mut().table.push(request)?;
        handler.start_call_concurrent(store, (request,))
    })?;
    requests.note_call(call.task(), &reply);
    let (answered,) = handler.finish_call_concurrent(accessor, call).await?;
    let answered = match answered {
        Ok(response) => Ok(accessor.with(|mut store| store.data_mut().table.delete(response))?),
        Err(code) => Err(code),
    };
    match answered {
        Ok(response) if !response::is_clear(&response) => {
            accessor.with(|store| response::discard(store, response))?;
            let why = "its content-length is not one number";
            reply.answer(Err(NoResponse::Failed(why.into())));
        }
        Ok(response) => {
            let (sent, told) = oneshot::channel();
            let told = async move {
                let told = told.await.unwrap_or(Err(Failure::ConnectionTerminated));
                told.map_err(of_failure)
            };
            let (made, unfit) = accessor.with(|mut store| {
                let unfit = store.data_mut().http.unfit.get() > 0;
                (response::into_http(store, response, told), unfit)
            });
            let (response, trailers) = made?;
            let mut response = response.map(|body| GuestBody::new(body, &health, &local));
            let bodiless = is_head || matches!(response.status().as_u16(), 204 | 304);
            if unfit && !bodiless && response.body_mut().body.fails() {
                let why = "it has no contents, and its content-length says otherwise";
                reply.answer(Err(NoResponse::Failed(why.into())));
                return Ok(());
            }
            reply.answer(Ok(Answered {
                response: response.map(GuestBody::boxed),
                sent: Some(sent),
                trailers,
            }));
        }
        Err(code) => reply.answer(Err(NoResponse::Failed(format!("it answers {code:?}")))),
    }
    Ok(())
}

/// The body of a guest's response.
struct GuestBody {
    body: Moving<WasiBody>,
    local: SendWrapper<Rc<Local>>,
}

impl GuestBody {
    fn new(body: WasiBody, health: &Rc<Health>, local: &SendWrapper<Rc<Local>>) -> Self {
        Self {
            body: Moving::new(body, health),
            local: local.clone(),
        }
    }

    fn boxed(self) -> Box<dyn Content + Unpin> {
        Box::new(self)
    }
}

impl Content for GuestBody {
    fn take_file(&mut self) -> Option<FileContent> {
        self.body.take_file(&self.local.hand_back)
    }
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map(|frame| frame.map(|frame| frame.map_err(of_guest)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
