//! Spans of requests, by OpenTelemetry's semantic conventions for HTTP: those
//! that clients send, those that guests send, and attempts at servers to which
//! requests are forwarded.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{HeaderName, HeaderValue};
use http::{Request, Response};

use netwasm_base::address::Address;
use netwasm_base::trace::{Attribute, Context, Trace, Tracer};
use netwasm_exchange::failure::Failure;
use netwasm_exchange::outgoing::{Received, WireBody};
use netwasm_net::endpoint::Endpoint;
use netwasm_net::env::Env;
use netwasm_net::upstream::Server;

use crate::access_log::{Entry, Text};
use crate::tally::Spoken;

/// `traceparent` of W3C Trace Context.
pub(crate) const PARENT: HeaderName = HeaderName::from_static("traceparent");

/// `tracestate` of W3C Trace Context.
pub(crate) const STATE: HeaderName = HeaderName::from_static("tracestate");

/// Methods that a span is named by; others are `_OTHER`.
const METHODS: [&str; 10] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE",
];

/// Attributes of a span.
type Attributes = Vec<(&'static str, Attribute)>;

/// Begins the span of a request, if requests are traced.
pub(crate) fn begin<'a>(
    env: &Env,
    field: impl Fn(&HeaderName) -> Option<&'a [u8]>,
) -> Option<Rc<Trace>> {
    let tracer = env.tracer.as_ref()?;
    Some(Rc::new(tracer.begin(field(&PARENT), field(&STATE))))
}

/// Ends the span of a request, of whose response's body so many bytes were sent.
pub(crate) fn end(tracer: &Tracer, entry: &Entry, sent: u64) {
    let (Some(trace), Some(text)) = (&entry.trace, &entry.text) else {
        return;
    };
    if !trace.context.sampled {
        return;
    }
    let method = text.line.split(|byte| *byte == b' ').next();
    let name = name(&String::from_utf8_lossy(method.unwrap_or_default()));
    let attributes = attributes(trace, entry, text, sent);
    tracer.end(trace, name, entry.begun, entry.status >= 500, attributes);
}

/// Returns the name of a span: the method, as the route is the guest's affair.
fn name(method: &str) -> String {
    match METHODS.contains(&method) {
        true => method.to_owned(),
        false => "HTTP".to_owned(),
    }
}

fn add_method(method: &str, all: &mut Attributes) {
    let known = METHODS.contains(&method);
    let shown = if known { method } else { "_OTHER" };
    all.push(("http.request.method", plain(shown)));
    if !known {
        all.push(("http.request.method_original", plain(method)));
    }
}

fn plain(text: &str) -> Attribute {
    Attribute::Text(text.to_owned())
}

fn whole(number: u64) -> Attribute {
    Attribute::Whole(i64::try_from(number).unwrap_or(i64::MAX))
}

fn attributes(trace: &Trace, entry: &Entry, text: &Text, sent: u64) -> Attributes {
    let mut all = Attributes::new();
    let line = String::from_utf8_lossy(&text.line);
    let mut words = line.split(' ');
    add_method(words.next().unwrap_or_default(), &mut all);
    let target = words.next().unwrap_or("/");
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    all.push(("url.path", plain(path)));
    if let Some(query) = query {
        all.push(("url.query", plain(query)));
    }
    let scheme = if text.secure { "https" } else { "http" };
    all.push(("url.scheme", plain(scheme)));
    if let Some(host) = &text.host {
        let port = host.rsplit_once(':').and_then(|(host, port)| {
            let port: u16 = port.parse().ok()?;
            Some((host, port))
        });
        all.push(("server.address", plain(port.map_or(host, |(host, _)| host))));
        if let Some((_, port)) = port {
            all.push(("server.port", whole(port.into())));
        }
    }
    match &text.peer {
        Address::Ip(address) => {
            all.push(("client.address", Attribute::Text(address.ip().to_string())));
            all.push(("client.port", whole(address.port().into())));
        }
        Address::Unix(_) => all.push(("network.transport", plain("unix"))),
    }
    let version = match entry.spoken {
        Spoken::Http1 if line.ends_with("HTTP/1.0") => "1.0",
        Spoken::Http1 => "1.1",
        Spoken::Http2 => "2",
    };
    all.push(("network.protocol.version", plain(version)));
    if let Some(agent) = &text.user_agent {
        let agent = String::from_utf8_lossy(agent).into_owned();
        all.push(("user_agent.original", Attribute::Text(agent)));
    }
    all.push(("http.response.status_code", whole(entry.status.into())));
    all.push(("http.response.body.size", whole(sent)));
    if entry.status >= 500 {
        let status = entry.status.to_string();
        all.push(("error.type", Attribute::Text(status)));
    }
    all.push(("netwasm.guest.duration", seconds(trace.guest())));
    if trace.upstream() > Duration::ZERO {
        all.push(("netwasm.upstream.duration", seconds(trace.upstream())));
    }
    all
}

fn seconds(time: Duration) -> Attribute {
    Attribute::Number(time.as_secs_f64())
}

/// A request that a guest sends while it handles another.
pub(crate) struct Sent {
    trace: Rc<Trace>,
    /// Its own span; `None` if the guest has told the peer another.
    own: Option<Context>,
    /// The span that it is directly within: the request's, or the guest's own.
    parent: [u8; 8],
    begun: (SystemTime, Instant),
    attributes: Attributes,
    name: String,
}

impl Sent {
    /// Begins the span of a request, and tells the peer, unless the guest did.
    pub(crate) fn begin(trace: Rc<Trace>, request: &mut Request<WireBody>) -> Self {
        let within = trace.innermost();
        let own = match request.headers().contains_key(&PARENT) {
            true => None,
            false => {
                let own = within.child();
                let headers = request.headers_mut();
                if let Ok(value) = HeaderValue::from_str(&own.to_string()) {
                    headers.insert(PARENT, value);
                }
                let state = trace.state_of(&own).map(HeaderValue::from_str);
                if let Some(Ok(value)) = state {
                    headers.insert(STATE, value);
                }
                Some(own)
            }
        };
        let mut attributes = Attributes::new();
        let uri = request.uri();
        if own.is_some_and(|own| own.sampled) {
            add_method(request.method().as_str(), &mut attributes);
            attributes.push(("url.full", Attribute::Text(uri.to_string())));
            attributes.push(("server.address", plain(uri.host().unwrap_or_default())));
            let default = if uri.scheme_str() == Some("https") {
                443
            } else {
                80
            };
            let port = uri.port_u16().unwrap_or(default);
            attributes.push(("server.port", whole(port.into())));
        }
        Self {
            name: name(request.method().as_str()),
            trace,
            own,
            parent: within.span,
            begun: (SystemTime::now(), Instant::now()),
            attributes,
        }
    }

    /// Ends the span once the response has begun, or failed.
    pub(crate) fn end(mut self, env: &Env, received: &Result<Received, Failure>) {
        let (wall, begun) = self.begun;
        let took = begun.elapsed();
        self.trace.add_upstream(took);
        let (Some(own), Some(tracer)) = (self.own, &env.tracer) else {
            return;
        };
        let status = received.as_ref().map(|(response, _)| status(response));
        let failed = match status {
            Ok(status) => {
                let shown = ("http.response.status_code", whole(status.into()));
                self.attributes.push(shown);
                status >= 400
            }
            Err(_) => true,
        };
        if failed {
            let what = match received {
                Ok((response, _)) => status_text(response),
                Err(failure) => format!("{failure:?}"),
            };
            self.attributes.push(("error.type", Attribute::Text(what)));
        }
        let Self {
            trace,
            parent,
            name,
            attributes,
            ..
        } = self;
        let identity = (own, parent);
        tracer.end_within(&trace, identity, name, (wall, took), failed, attributes);
    }
}

/// An attempt at a server, of a request that is forwarded. Dropping it ends its
/// span as that of a request that was given up.
pub(crate) struct Attempt {
    context: Context,
    /// `None` if it is not sampled, or has ended.
    open: Option<Box<OpenAttempt>>,
}

/// A span that has yet to end.
struct OpenAttempt {
    tracer: Tracer,
    trace: Rc<Trace>,
    begun: (SystemTime, Instant),
    name: String,
    attributes: Attributes,
}

impl Attempt {
    /// Begins the span of a request with this method and target. `before` is the
    /// number of earlier attempts.
    pub(crate) fn begin(
        trace: &Rc<Trace>,
        tracer: Option<&Tracer>,
        (method, target): (&str, &str),
        server: &Server,
        before: u32,
    ) -> Self {
        let context = trace.context.child();
        let open = tracer.filter(|_| context.sampled).map(|tracer| {
            let mut attributes = Attributes::new();
            add_method(method, &mut attributes);
            add_server(server, target, &mut attributes);
            if before > 0 {
                attributes.push(("http.request.resend_count", whole(before.into())));
            }
            Box::new(OpenAttempt {
                tracer: tracer.clone(),
                trace: Rc::clone(trace),
                begun: (SystemTime::now(), Instant::now()),
                name: name(method),
                attributes,
            })
        });
        Self { context, open }
    }

    /// Returns the span's identity.
    pub(crate) fn context(&self) -> Context {
        self.context
    }

    /// Ends the span: a response has begun.
    pub(crate) fn answered(mut self, status: u16) {
        let shown = ("http.response.status_code", whole(status.into()));
        let error = (status >= 400).then(|| status.to_string());
        self.finish(Some(shown), error.as_deref());
    }

    /// Ends the span: there is no response, for this kind of reason.
    pub(crate) fn failed(mut self, kind: &str) {
        self.finish(None, Some(kind));
    }

    fn finish(&mut self, more: Option<(&'static str, Attribute)>, error: Option<&str>) {
        let Some(open) = self.open.take() else {
            return;
        };
        let OpenAttempt {
            tracer,
            trace,
            begun: (wall, begun),
            name,
            mut attributes,
        } = *open;
        attributes.extend(more);
        attributes.extend(error.map(|kind| ("error.type", plain(kind))));
        let times = (wall, begun.elapsed());
        let failed = error.is_some();
        let identity = (self.context, trace.context.span);
        tracer.end_within(&trace, identity, name, times, failed, attributes);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.finish(None, Some("cancelled"));
    }
}

/// Adds what tells of a server.
fn add_server(server: &Server, target: &str, all: &mut Attributes) {
    let scheme = match server.tls() {
        Some(_) => "https",
        None => "http",
    };
    let (host, port) = match server.endpoint() {
        Endpoint::Address(address) => (address.ip().to_string(), Some(address.port())),
        Endpoint::Name { host, port } => (host.clone(), Some(*port)),
        Endpoint::Unix(path) => (path.to_string_lossy().into_owned(), None),
    };
    let authority = match port {
        Some(_) => server.to_string(),
        None => "localhost".to_owned(),
    };
    let path = if target == "*" { "" } else { target };
    let url = format!("{scheme}://{authority}{path}");
    all.push(("url.full", Attribute::Text(url)));
    all.push(("server.address", Attribute::Text(host)));
    match port {
        Some(port) => all.push(("server.port", whole(port.into()))),
        None => all.push(("network.transport", plain("unix"))),
    }
}

fn status<B>(response: &Response<B>) -> u16 {
    response.status().as_u16()
}

fn status_text<B>(response: &Response<B>) -> String {
    status(response).to_string()
}
