//! Decisions of an event guest to forward a request.

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use netwasm_base::config::HttpVersion;
use netwasm_base::error::ConnectionError;
use netwasm_exchange::answer::Fields;
use netwasm_exchange::forward::{Edits, Forward, ForwardedHost, Judge, Tells, Verdict};
use netwasm_net::endpoint::Endpoint;
use netwasm_net::guest::Gone;
use netwasm_net::upstream::{Group, offered};

use crate::bindings::netwasm::net::http::{
    Edits as WitEdits, Forward as WitForward, ForwardedHost as WitHost, HttpVersion as WitVersion,
    Judging, Method, Server, Upstream,
};
use crate::convert::client_tls;
use crate::local::Local;
use crate::responses::Asker;

/// A guest that decides about responses to forwarded requests.
pub(crate) trait Judges {
    /// Calls the guest to decide, for the client of the request.
    fn judge(&self, token: u64, about: About<'_>, asker: &Asker) -> Result<Verdict, Gone>;
}

/// Subject of a guest's decision.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About<'a> {
    /// A response.
    Response(u16, &'a Fields),
    /// None; the client gets this status otherwise.
    Missing(u16),
}

/// The guest of a forwarded request.
struct JudgeOfGuest<G> {
    instance: Weak<G>,
    token: u64,
    /// True if it decides about responses, too.
    sees_responses: bool,
    /// The client of the request.
    asker: Asker,
}

impl<G: Judges> JudgeOfGuest<G> {
    fn judge(&self, about: About<'_>) -> Verdict {
        let instance = self.instance.upgrade();
        // A trap is already logged.
        let judged = instance.and_then(|it| it.judge(self.token, about, &self.asker).ok());
        judged.unwrap_or(Verdict::Gone)
    }
}

impl<G: Judges> Judge for JudgeOfGuest<G> {
    fn sees_responses(&self) -> bool {
        self.sees_responses
    }

    fn responded(&self, status: u16, headers: &HeaderMap) -> Verdict {
        let fields = headers.iter().map(|(name, value)| {
            let name = name.as_str().to_owned();
            (name, value.as_bytes().to_vec())
        });
        self.judge(About::Response(status, &fields.collect()))
    }

    fn failed(&self, status: u16) -> Verdict {
        self.judge(About::Missing(status))
    }
}

/// Converts a decision to forward a request of a client. `judging` is the instance,
/// if it exports `forward-handler`.
///
/// # Errors
/// Fails if the guest may not reach the upstream, which was logged, or if that
/// cannot be one. The outer error is a trap.
pub(crate) fn forward<G: Judges + 'static>(
    local: &Local,
    judging: Option<&Weak<G>>,
    asker: impl FnOnce() -> Asker,
    forward: WitForward,
) -> wasmtime::Result<Result<Forward, ConnectionError>> {
    let decides = match forward.decides {
        Judging::Nothing => None,
        Judging::Missing(token) => Some((token, false)),
        Judging::All(token) => Some((token, true)),
    };
    let judge = match (decides, judging) {
        (None, _) => None,
        (Some((token, sees_responses)), Some(instance)) => Some(Box::new(JudgeOfGuest {
            instance: Weak::clone(instance),
            token,
            sees_responses,
            asker: asker(),
        }) as Box<dyn Judge>),
        (Some(_), None) => wasmtime::bail!(
            "it decides about responses and does not export netwasm:net/forward-handler"
        ),
    };
    Ok(group(local, forward.to).map(|group| Forward {
        worker: Rc::clone(&local.worker),
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
        judge,
        max_body: forward.max_body.unwrap_or(u64::MAX),
    }))
}

/// Returns the servers that the guest may reach.
fn group(local: &Local, to: Upstream) -> Result<Arc<Group>, ConnectionError> {
    let env = &local.env.net;
    let Server { at, tls, http } = match to {
        Upstream::Group(name) => return env.upstream(&name).map(Arc::clone),
        Upstream::Server(server) => server,
    };
    let endpoint = Endpoint::from(at).checked()?;
    let http = match http {
        WitVersion::Http1 => HttpVersion::Http1,
        WitVersion::Http2 => HttpVersion::Http2,
        WitVersion::Auto => HttpVersion::Auto,
    };
    let tls = tls.map(|mut tls| {
        tls.alpn = offered(http);
        client_tls(tls, Some(&endpoint), env)
    });
    let tls = tls.transpose()?;
    env.may_connect(&endpoint, &local.worker.resolver.names())?;
    Ok(local
        .worker
        .kept
        .group_of(endpoint, tls, http, &env.counters))
}

/// Converts edits of a header.
pub(crate) fn edits(edits: WitEdits) -> Edits {
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
