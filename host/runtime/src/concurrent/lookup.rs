//! `wasi:sockets/ip-name-lookup`, 0.2 and 0.3, in place of wasmtime-wasi's. The
//! policy is asked for every name. The addresses of a name are remembered,
//! because its rule holds for them.

use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::vec;

use send_wrapper::SendWrapper;
use tokio::task::JoinHandle;
use wasmtime::component::{Accessor, Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::network as p2;
use wasmtime_wasi::p2::{DynPollable, Network, Pollable, subscribe};
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup::ErrorCode;
use wasmtime_wasi::p3::bindings::sockets::types::IpAddress;

use netwasm_base::error::ConnectionError;
use netwasm_base::policy::{canonical_name, is_host_name};

use crate::concurrent::permissions::Permissions;
use crate::concurrent::state::{AsyncState, Store, drop_handle};
use crate::local::Local;

type Answer = Result<Vec<IpAddr>, ConnectionError>;

/// Replaces both versions in the linker.
///
/// # Errors
/// Fails if the linker does not allow shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    let mut p3 = linker.instance("wasi:sockets/ip-name-lookup@0.3.0")?;
    p3.func_wrap_concurrent(
        "resolve-addresses",
        |accessor: &Accessor<AsyncState>, (name,): (String,)| {
            let (local, permissions) = accessor.with(|mut store| parts(store.data_mut()));
            let looking = resolve(local, permissions, name);
            Box::pin(async move {
                let answer = looking.await.map_err(p3_error);
                let answer = answer.map(|all| all.into_iter().map(Into::into).collect());
                Ok((answer as Result<Vec<IpAddress>, ErrorCode>,))
            })
        },
    )?;
    add_p2(&mut linker.instance("wasi:sockets/ip-name-lookup@0.2.12")?)
}

fn parts(state: &AsyncState) -> (SendWrapper<Rc<Local>>, Arc<Permissions>) {
    let local = SendWrapper::new(Rc::clone(&state.local));
    (local, Arc::clone(&state.permissions))
}

/// Resolves a name, if the policy allows it. A text that is neither a name nor
/// an address is an invalid argument, and the policy is not asked.
fn resolve(
    local: SendWrapper<Rc<Local>>,
    permissions: Arc<Permissions>,
    name: String,
) -> SendWrapper<impl Future<Output = Answer>> {
    SendWrapper::new(async move {
        let name = name_or_address(&name).ok_or(ConnectionError::InvalidArgument)?;
        permissions.resolve(name)?;
        let addresses = local.worker.resolver.resolve(name).await?;
        permissions.remember(name, &addresses);
        Ok(addresses)
    })
}

/// Returns what to look up: a host name or an address, without the brackets that
/// an IPv6 address has in a URL. `None` if the text is neither.
fn name_or_address(text: &str) -> Option<&str> {
    let bracketed = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    if let Some(address) = bracketed {
        return address.parse::<Ipv6Addr>().is_ok().then_some(address);
    }
    let canonical = canonical_name(text);
    let valid = canonical.parse::<IpAddr>().is_ok() || is_host_name(&canonical);
    valid.then_some(text)
}

/// The WIT resource `resolve-address-stream`.
enum Lookup {
    Pending(SendWrapper<JoinHandle<Answer>>),
    Done(Result<vec::IntoIter<IpAddr>, ConnectionError>),
}

impl Lookup {
    fn done(answer: Answer) -> Self {
        Self::Done(answer.map(Vec::into_iter))
    }
}

#[async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        if let Self::Pending(task) = self {
            let answer = task.await.unwrap_or(Err(ConnectionError::ResolverFailure));
            *self = Self::done(answer);
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if let Self::Pending(task) = self {
            task.abort();
        }
    }
}

fn add_p2(l: &mut LinkerInstance<'_, AsyncState>) -> wasmtime::Result<()> {
    type Handle = Resource<Lookup>;

    l.resource(
        "resolve-address-stream",
        ResourceType::host::<Lookup>(),
        drop_handle::<Lookup>,
    )?;
    l.func_wrap(
        "resolve-addresses",
        |mut store: Store<'_>, (network, name): (Resource<Network>, String)| {
            let state = store.data_mut();
            state.table.get(&network)?;
            let (local, permissions) = parts(state);
            let looking = resolve(local, permissions, name);
            let task = tokio::task::spawn_local(looking);
            let handle = state.table.push(Lookup::Pending(SendWrapper::new(task)))?;
            Ok((Ok::<_, p2::ErrorCode>(handle),))
        },
    )?;
    l.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: Store<'_>, (handle,): (Handle,)| {
            let next = match store.data_mut().table.get_mut(&handle)? {
                Lookup::Pending(_) => Err(p2::ErrorCode::WouldBlock),
                Lookup::Done(Ok(addresses)) => Ok(addresses.next().map(p2::IpAddress::from)),
                Lookup::Done(Err(error)) => Err(p2_error(error)),
            };
            Ok((next,))
        },
    )?;
    l.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: Store<'_>, (handle,): (Handle,)| {
            let pollable: Resource<DynPollable> = subscribe(&mut store.data_mut().table, handle)?;
            Ok((pollable,))
        },
    )
}

fn p3_error(error: ConnectionError) -> ErrorCode {
    match error {
        ConnectionError::AccessDenied => ErrorCode::AccessDenied,
        ConnectionError::InvalidArgument => ErrorCode::InvalidArgument,
        ConnectionError::NameUnresolvable | ConnectionError::NoAddress => {
            ErrorCode::NameUnresolvable
        }
        ConnectionError::ResolverFailure | ConnectionError::Timeout(_) => {
            ErrorCode::TemporaryResolverFailure
        }
        other => ErrorCode::Other(Some(other.to_string())),
    }
}

fn p2_error(error: &ConnectionError) -> p2::ErrorCode {
    match error {
        ConnectionError::AccessDenied => p2::ErrorCode::AccessDenied,
        ConnectionError::InvalidArgument => p2::ErrorCode::InvalidArgument,
        ConnectionError::NameUnresolvable | ConnectionError::NoAddress => {
            p2::ErrorCode::NameUnresolvable
        }
        ConnectionError::ResolverFailure | ConnectionError::Timeout(_) => {
            p2::ErrorCode::TemporaryResolverFailure
        }
        _ => p2::ErrorCode::Unknown,
    }
}
