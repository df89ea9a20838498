//! Decisions of an event guest to forward a request.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use netwasm_base::error::ConnectionError;
use netwasm_exchange::forward::{Edits, Forward, ForwardedHost, Tells};
use netwasm_net::endpoint::Endpoint;
use netwasm_net::upstream::Group;

use crate::bindings::netwasm::net::http::{
    Edits as WitEdits, Forward as WitForward, ForwardedHost as WitHost, Method, Server, Upstream,
};
use crate::convert::client_tls;
use crate::state::State;

/// Converts a decision to forward the request that the guest handles.
///
/// # Errors
/// Fails if the guest may not reach the upstream, which was logged, or if that
/// cannot be one. The outer error is a trap.
pub(crate) fn forward(
    state: &State,
    forward: WitForward,
) -> wasmtime::Result<Result<Forward, ConnectionError>> {
    let request = state.request()?;
    if request.arriving && request.coming.is_none() {
        wasmtime::bail!("it forwards a request whose body it reads");
    }
    Ok(group(state, forward.to).map(|group| Forward {
        worker: Rc::clone(&state.local.worker),
        group,
        key: forward.key,
        method: forward.method.map(method),
        target: forward.target,
        host: match forward.host {
            WitHost::Keep => ForwardedHost::Kept,
            WitHost::Server => ForwardedHost::OfServer,
            WitHost::Other(host) => ForwardedHost::Replaced(host),
        },
        request: edits(forward.request),
        response: edits(forward.response),
        tells: Tells {
            via: forward.tell.via,
            forwarded: forward.tell.forwarded,
            x_forwarded: forward.tell.x_forwarded,
            believes: forward.tell.believe,
        },
        connect_timeout: forward.connect_timeout.map(Duration::from_nanos),
        response_timeout: forward.response_timeout.map(Duration::from_nanos),
        retries: forward.retries,
    }))
}

/// Returns the servers that the guest may reach.
fn group(state: &State, to: Upstream) -> Result<Arc<Group>, ConnectionError> {
    let local = &state.local;
    let env = &local.env.net;
    let Server { at, tls } = match to {
        Upstream::Group(name) => return env.upstream(&name).map(Arc::clone),
        Upstream::Server(server) => server,
    };
    let endpoint = Endpoint::from(at).checked()?;
    let tls = tls.map(|mut tls| {
        tls.alpn = vec!["http/1.1".to_owned()];
        client_tls(tls, Some(&endpoint), env)
    });
    let tls = tls.transpose()?;
    env.may_connect(&endpoint, &local.worker.resolver.names())?;
    Ok(local.worker.kept.group_of(endpoint, tls, &env.counters))
}

fn edits(edits: WitEdits) -> Edits {
    Edits {
        remove: edits.remove,
        set: edits.set,
        add: edits.add,
    }
}

fn method(method: Method) -> String {
    match method {
        Method::Get => "GET".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Delete => "DELETE".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Trace => "TRACE".to_owned(),
        Method::Patch => "PATCH".to_owned(),
        Method::Other(name) => name,
    }
}
