//! `response.new` of `wasi:http@0.3`, in place of wasmtime-wasi-http's. A body
//! that is the stream of a file is handed back to the connection. A body without
//! contents is known to be empty.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use send_wrapper::SendWrapper;
use tokio::sync::oneshot;
use wasmtime::AsContextMut;
use wasmtime::component::{
    Access, FutureConsumer, FutureReader, Linker, Resource, Source, StreamReader,
};
use wasmtime_wasi_http::p3::Response;
use wasmtime_wasi_http::p3::bindings::http::types::{ErrorCode, HostResponseWithStore};
use wasmtime_wasi_http::{Error, FieldMap, WasiBody, WasiHttp, WasiHttpView};

use netwasm_exchange::content::{Ended, FileContent};
use netwasm_exchange::failure::Failure;

use crate::concurrent::failure::{of_failure, of_guest};
use crate::concurrent::files::Rest;
use crate::concurrent::sent::{self, Passing, Sent, Trailers};
use crate::concurrent::state::{AsyncState, Store};
use crate::local::Local;

/// Read size in bytes for a file body that is taken as bytes.
const PIECE: usize = 64 << 10;

/// Replaces the function in the linker.
///
/// # Errors
/// Fails if the linker does not allow shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    type Parameters = (
        Resource<FieldMap>,
        Option<StreamReader<u8>>,
        FutureReader<Trailers>,
    );
    let mut types = linker.instance("wasi:http/types@0.3.0")?;
    types.func_wrap(
        "[static]response.new",
        |store: Store<'_>, (headers, contents, trailers): Parameters| {
            Ok((new(store, headers, contents, trailers)?,))
        },
    )
}

fn new(
    mut store: Store<'_>,
    headers: Resource<FieldMap>,
    contents: Option<StreamReader<u8>>,
    trailers: FutureReader<Trailers>,
) -> wasmtime::Result<(Resource<Response>, FutureReader<Sent>)> {
    let contents = match contents.map(|contents| contents.try_into::<Rest>(&mut store)) {
        Some(Ok(file)) => return of_file(store, headers, file, trailers),
        Some(Err(contents)) => contents,
        None => return without_contents(store, headers, trailers),
    };
    let access = Access::<AsyncState, WasiHttp>::new(store, AsyncState::http);
    <WasiHttp as HostResponseWithStore<AsyncState>>::new(access, headers, Some(contents), trailers)
}

fn of_file(
    mut store: Store<'_>,
    headers: Resource<FieldMap>,
    file: Rest,
    trailers: FutureReader<Trailers>,
) -> wasmtime::Result<(Resource<Response>, FutureReader<Sent>)> {
    let (told, ended) = oneshot::channel();
    trailers.pipe(&mut store, Telling(Some(told)))?;
    let body = FileBody::new(&store.data().local, file, ended);
    of_host(store, headers, body)
}

/// Makes a response of which only trailers may follow the head.
fn without_contents(
    mut store: Store<'_>,
    headers: Resource<FieldMap>,
    trailers: FutureReader<Trailers>,
) -> wasmtime::Result<(Resource<Response>, FutureReader<Sent>)> {
    let (told, ended) = oneshot::channel();
    trailers.pipe(&mut store, Telling(Some(told)))?;
    let state = store.data_mut();
    let length = state.table.get(&headers)?.get(CONTENT_LENGTH);
    let body = match length.is_none_or(|length| length == "0") {
        true => NoContents {
            ended: Some(ended),
            _unfit: None,
        },
        // It is right for HEAD and for a 304. Others fail at once.
        false => NoContents {
            ended: None,
            _unfit: Some(Unfit::new(&state.http.unfit)),
        },
    };
    of_host(store, headers, body)
}

/// Makes a response of a body that needs nothing of the guest.
fn of_host(
    mut store: Store<'_>,
    headers: Resource<FieldMap>,
    body: impl Body<Data = Bytes, Error = Error> + Send + 'static,
) -> wasmtime::Result<(Resource<Response>, FutureReader<Sent>)> {
    let state = store.data_mut();
    let mut response = http::Response::new(body);
    *response.headers_mut() = state.table.delete(headers)?.into();
    let (response, sent) = Response::from_http(state.http().hooks, response);
    let response = state.table.push(response)?;
    let sent = async move { Ok::<Sent, wasmtime::Error>(sent.await.map_err(|it| code(&it))) };
    Ok((response, FutureReader::new(store.as_context_mut(), sent)?))
}

/// True if the head of a response has one length at most. wasmtime-wasi-http
/// ends the instance for a second one.
pub(crate) fn is_clear(response: &Response) -> bool {
    let mut lengths = response.headers.get_all(CONTENT_LENGTH).iter();
    let number = |value: &HeaderValue| {
        let digits = value.as_bytes().iter().all(u8::is_ascii_digit);
        digits && value.to_str().is_ok_and(|it| it.parse::<u64>().is_ok())
    };
    lengths.next().is_none_or(number) && lengths.next().is_none()
}

/// Drops a response that cannot be sent.
///
/// # Errors
/// Fails if the instance holds too many handles.
pub(crate) fn discard(
    mut store: impl AsContextMut<Data = AsyncState>,
    response: Response,
) -> wasmtime::Result<()> {
    let mut store = store.as_context_mut();
    let response = store.data_mut().table.push(response)?;
    let access = Access::<AsyncState, WasiHttp>::new(store, AsyncState::http);
    <WasiHttp as HostResponseWithStore<AsyncState>>::drop(access, response)
}

/// Makes a guest's response one for the connection, and takes its trailers out
/// of its body. So the end of the body shows by itself, and the guest learns
/// that the body was sent even if it gives its trailers only after that. `told`
/// resolves when the response was sent. A body of known length shows its end
/// anyway, and is left as it is.
///
/// # Errors
/// Fails if the instance holds too many handles.
pub(crate) fn into_http(
    mut store: impl AsContextMut<Data = AsyncState>,
    response: Response,
    told: impl Future<Output = Result<(), Error>> + Send + 'static,
) -> wasmtime::Result<(http::Response<WasiBody>, Option<Ended>)> {
    let mut store = store.as_context_mut();
    if response.headers.contains_key(CONTENT_LENGTH) {
        return Ok((response.into_http(store, told)?, None));
    }
    let (status, headers) = (response.status, response.headers.clone());
    let table = &mut store.data_mut().table;
    let headers = table.push(headers)?;
    let response = table.push(response)?;
    let (outcome, heard) = oneshot::channel();
    let heard = sent::future(store.as_context_mut(), heard)?;
    let access = Access::<AsyncState, WasiHttp>::new(store.as_context_mut(), AsyncState::http);
    let (contents, trailers) =
        <WasiHttp as HostResponseWithStore<AsyncState>>::consume_body(access, response, heard)?;
    let (telling, ended) = oneshot::channel();
    trailers.pipe(&mut store, Telling(Some(telling)))?;
    let none = async { Ok::<Trailers, wasmtime::Error>(Ok(None)) };
    let none = FutureReader::new(store.as_context_mut(), none)?;
    let access = Access::<AsyncState, WasiHttp>::new(store.as_context_mut(), AsyncState::http);
    let (response, sent) = <WasiHttp as HostResponseWithStore<AsyncState>>::new(
        access,
        headers,
        Some(contents),
        none,
    )?;
    let tell = move |it| {
        // The guest may have dropped the future.
        let _ = outcome.send(it);
    };
    sent.pipe(&mut store, Passing::to(tell))?;
    let mut response = store.data_mut().table.delete(response)?;
    response.status = status;
    Ok((response.into_http(store, told)?, Some(ended)))
}

/// Returns why a response was not sent, for the guest.
fn code(error: &Error) -> ErrorCode {
    match error {
        Error::HttpResponseBodySize(size) => ErrorCode::HttpResponseBodySize(*size),
        _ => ErrorCode::ConnectionTerminated,
    }
}

/// Passes on the guest's trailers.
struct Telling(Option<oneshot::Sender<Result<Option<HeaderMap>, Failure>>>);

impl FutureConsumer<AsyncState> for Telling {
    type Item = Trailers;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: Store<'_>,
        mut source: Source<'_, Trailers>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut trailers = None;
        source.read(&mut store, &mut trailers)?;
        let told = match trailers {
            Some(Ok(Some(fields))) => Ok(Some(store.data_mut().table.delete(fields)?.into())),
            Some(Ok(None)) | None => Ok(None),
            Some(Err(code)) => Err(of_guest(code.into())),
        };
        if let Some(sender) = self.0.take() {
            // The connection may be gone.
            let _ = sender.send(told);
        }
        Poll::Ready(Ok(()))
    }
}

/// A body that is a file.
struct FileBody {
    local: SendWrapper<Rc<Local>>,
    /// `None` after the end of the file.
    file: Option<Rest>,
    ended: Option<Ended>,
}

impl FileBody {
    fn new(local: &Rc<Local>, file: Rest, ended: Ended) -> Self {
        local.hand_back.count(true);
        Self {
            local: SendWrapper::new(Rc::clone(local)),
            file: Some(file),
            ended: Some(ended),
        }
    }

    /// Reads the next piece; `None` at the end.
    fn read(&mut self) -> Option<Result<Bytes, Error>> {
        let mut buffer = vec![0; PIECE];
        let read = self.file.as_mut()?.read(&mut buffer);
        match read {
            Ok(0) => self.file = None,
            Ok(count) => {
                buffer.truncate(count);
                return Some(Ok(buffer.into()));
            }
            Err(error) => {
                let told = error.to_string();
                if let Some(file) = self.file.take() {
                    file.fail(error);
                }
                return Some(Err(Error::InternalError(Some(told))));
            }
        }
        None
    }
}

impl Drop for FileBody {
    fn drop(&mut self) {
        self.local.hand_back.count(false);
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let hand_back = &this.local.hand_back;
        if hand_back.is_asked()
            && let (Some(file), Some(ended)) = (this.file.take(), this.ended.take())
        {
            let (file, offset, reading) = file.into_parts();
            hand_back.give(FileContent {
                file,
                offset,
                reading,
                ended,
            });
            return Poll::Pending;
        }
        if let Some(piece) = this.read() {
            return Poll::Ready(Some(piece.map(Frame::data)));
        }
        poll_trailers(&mut this.ended, cx)
    }
}

/// A body of which only trailers can follow the head. Its end shows only after
/// they were asked for.
struct NoContents {
    ended: Option<Ended>,
    _unfit: Option<Unfit>,
}

/// Counts a body without contents whose head tells another length.
struct Unfit(SendWrapper<Rc<Cell<usize>>>);

impl Unfit {
    fn new(count: &SendWrapper<Rc<Cell<usize>>>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone())
    }
}

impl Drop for Unfit {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Body for NoContents {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        poll_trailers(&mut self.ended, cx)
    }

    fn is_end_stream(&self) -> bool {
        self.ended.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

/// Polls for the trailers after the last byte of a body.
fn poll_trailers(
    ended: &mut Option<Ended>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
    let Some(coming) = ended else {
        return Poll::Ready(None);
    };
    let told = ready!(Pin::new(coming).poll(cx));
    *ended = None;
    Poll::Ready(match told {
        Ok(Ok(Some(trailers))) => Some(Ok(Frame::trailers(trailers))),
        // An instance that ends without giving trailers has none.
        Ok(Ok(None)) | Err(_) => None,
        Ok(Err(failure)) => Some(Err(of_failure(failure))),
    })
}
