//! `request.new` and `client.send` of `wasi:http@0.3`, in place of
//! wasmtime-wasi-http's: the future of a request tells of one that could not be
//! sent, and a request without a path asks for `/`.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::uri::PathAndQuery;
use tokio::sync::oneshot;
use wasmtime::AsContextMut as _;
use wasmtime::component::{Access, Accessor, FutureReader, Linker, Resource, StreamReader};
use wasmtime_wasi_http::p3::bindings::http::client::HostWithStore;
use wasmtime_wasi_http::p3::bindings::http::types::{
    ErrorCode, HostRequestWithStore, RequestOptions,
};
use wasmtime_wasi_http::p3::{Request, Response};
use wasmtime_wasi_http::{FieldMap, WasiHttp, WasiHttpView};

use crate::concurrent::sent::{self, Passing, Sent, Trailers};
use crate::concurrent::state::{AsyncState, Store};

/// Number of transmissions from which those of requests that are gone are forgotten.
const MOST_GONE: usize = 32;

/// Replaces the functions in the linker.
///
/// # Errors
/// Fails if the linker does not allow shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    type Parameters = (
        Resource<FieldMap>,
        Option<StreamReader<u8>>,
        FutureReader<Trailers>,
        Option<Resource<RequestOptions>>,
    );
    linker.instance("wasi:http/types@0.3.0")?.func_wrap(
        "[static]request.new",
        |store: Store<'_>, parameters: Parameters| Ok((new(store, parameters)?,)),
    )?;
    linker
        .instance("wasi:http/client@0.3.0")?
        .func_wrap_concurrent(
            "send",
            |accessor: &Accessor<AsyncState>, (request,): (Resource<Request>,)| {
                Box::pin(async move { Ok((send(accessor, request).await?,)) })
            },
        )
}

/// Parameters of `request.new`.
type Made = (
    Resource<FieldMap>,
    Option<StreamReader<u8>>,
    FutureReader<Trailers>,
    Option<Resource<RequestOptions>>,
);

fn new(
    mut store: Store<'_>,
    (headers, contents, trailers, options): Made,
) -> wasmtime::Result<(Resource<Request>, FutureReader<Sent>)> {
    let access = Access::<AsyncState, WasiHttp>::new(store.as_context_mut(), AsyncState::http);
    let (request, sent) = <WasiHttp as HostRequestWithStore<AsyncState>>::new(
        access, headers, contents, trailers, options,
    )?;
    let (told, heard) = oneshot::channel();
    let transmission = Transmission::new(told);
    let passed = transmission.clone();
    sent.pipe(&mut store, Passing::to(move |it| passed.tell(it)))?;
    let known = &mut store.data_mut().http.transmissions;
    // Requests that are gone without being sent leave their numbers to others. The
    // future of each was told then, so that its number means nothing.
    if known.len() >= MOST_GONE {
        known.retain(|_, it| !it.is_over());
    }
    known.insert(request.rep(), transmission);
    Ok((request, sent::future(store.as_context_mut(), heard)?))
}

async fn send(
    accessor: &Accessor<AsyncState>,
    request: Resource<Request>,
) -> wasmtime::Result<Result<Resource<Response>, ErrorCode>> {
    let sending = accessor.with(|mut store| {
        let state = store.data_mut();
        let path = &mut state.table.get_mut(&request)?.path_with_query;
        path.get_or_insert_with(|| PathAndQuery::from_static("/"));
        let transmission = state.http.transmissions.remove(&request.rep());
        wasmtime::error::Ok(transmission.map(TransmissionGuard::begin))
    })?;
    let http = accessor.with_getter::<WasiHttp>(AsyncState::http);
    let sent = <WasiHttp as HostWithStore<AsyncState>>::send(&http, request).await;
    let sent = match sent {
        Ok(response) => Ok(response),
        Err(error) => Err(error.downcast()?),
    };
    if let (Some(sending), Err(code)) = (&sending, &sent) {
        sending.fail(code);
    }
    Ok(sent)
}

/// The transmissions of an instance's requests that are not being sent yet, by the
/// numbers of the requests.
pub(super) type Transmissions = HashMap<u32, Transmission>;

/// The outcome that the future of a request is to tell. Clones share it.
#[derive(Clone)]
pub(super) struct Transmission(Arc<Mutex<TransmissionState>>);

enum TransmissionState {
    /// The future waits.
    Open(oneshot::Sender<Sent>),
    /// `send` goes on, and may fail. The outcome so far waits for that.
    Sending(oneshot::Sender<Sent>, Option<Sent>),
    Over,
}

impl Transmission {
    fn new(told: oneshot::Sender<Sent>) -> Self {
        Self(Arc::new(Mutex::new(TransmissionState::Open(told))))
    }

    fn is_over(&self) -> bool {
        matches!(*self.telling(), TransmissionState::Over)
    }

    fn telling(&self) -> MutexGuard<'_, TransmissionState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the outcome, or keeps it until `send` has ended.
    fn tell(&self, outcome: Sent) {
        let mut telling = self.telling();
        *telling = match mem::replace(&mut *telling, TransmissionState::Over) {
            TransmissionState::Open(told) => {
                // The guest may have dropped the future.
                let _ = told.send(outcome);
                TransmissionState::Over
            }
            TransmissionState::Sending(told, _) => TransmissionState::Sending(told, Some(outcome)),
            TransmissionState::Over => TransmissionState::Over,
        };
    }
}

/// A `send` that goes on. Dropping it lets the outcome pass.
struct TransmissionGuard(Transmission);

impl TransmissionGuard {
    fn begin(transmission: Transmission) -> Self {
        let mut telling = transmission.telling();
        *telling = match mem::replace(&mut *telling, TransmissionState::Over) {
            TransmissionState::Open(told) => TransmissionState::Sending(told, None),
            other => other,
        };
        drop(telling);
        Self(transmission)
    }

    /// Notes that the request could not be sent, unless there is another reason.
    fn fail(&self, code: &ErrorCode) {
        if let TransmissionState::Sending(_, outcome) = &mut *self.0.telling()
            && !matches!(outcome, Some(Err(_)))
        {
            *outcome = Some(Err(code.clone()));
        }
    }
}

impl Drop for TransmissionGuard {
    fn drop(&mut self) {
        let mut telling = self.0.telling();
        *telling = match mem::replace(&mut *telling, TransmissionState::Over) {
            TransmissionState::Sending(told, None) => TransmissionState::Open(told),
            TransmissionState::Sending(told, Some(outcome)) => {
                let _ = told.send(outcome);
                TransmissionState::Over
            }
            other => other,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin() -> (Transmission, oneshot::Receiver<Sent>) {
        let (told, heard) = oneshot::channel();
        (Transmission::new(told), heard)
    }

    #[test]
    fn what_comes_while_a_request_is_sent_waits_for_that() {
        let (transmission, mut heard) = begin();
        let sending = TransmissionGuard::begin(transmission.clone());
        transmission.tell(Ok(()));
        assert!(heard.try_recv().is_err());
        drop(sending);
        assert!(matches!(heard.try_recv(), Ok(Ok(()))));
    }

    #[test]
    fn a_request_that_could_not_be_sent_was_not() {
        let (transmission, mut heard) = begin();
        let sending = TransmissionGuard::begin(transmission.clone());
        transmission.tell(Ok(()));
        sending.fail(&ErrorCode::DnsTimeout);
        drop(sending);
        assert!(matches!(heard.try_recv(), Ok(Err(ErrorCode::DnsTimeout))));
        // A reason that the body has goes first.
        let (transmission, mut heard) = begin();
        let sending = TransmissionGuard::begin(transmission.clone());
        transmission.tell(Err(ErrorCode::HttpRequestBodySize(None)));
        sending.fail(&ErrorCode::DnsTimeout);
        drop(sending);
        assert!(matches!(
            heard.try_recv(),
            Ok(Err(ErrorCode::HttpRequestBodySize(None)))
        ));
    }

    #[test]
    fn what_comes_after_a_request_was_sent_is_told_at_once() {
        let (transmission, mut heard) = begin();
        drop(TransmissionGuard::begin(transmission.clone()));
        assert!(heard.try_recv().is_err());
        transmission.tell(Ok(()));
        assert!(matches!(heard.try_recv(), Ok(Ok(()))));
    }
}
