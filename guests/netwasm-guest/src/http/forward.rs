//! Requests that the host forwards.

use std::time::Duration;

use super::{FromRequest, Method, Request, Response};
use crate::TlsOptions;
use crate::host::{Body, Endpoint, RawForward, RawHost, Upstream};

/// The version of HTTP that is spoken with a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: in TLS as the server has to agree on, and otherwise with prior
    /// knowledge.
    Http2,
    /// In TLS, HTTP/2 if the server agrees on it. Otherwise HTTP/1.1.
    Auto,
}

/// A decision to forward the request: the host sends it to a server, and the
/// server's response to the client. No body enters the component.
///
/// The server is one of a group that `--upstream NAME=SERVERS` names, or one to
/// which `--allow-connect` lets the component connect. If there is no response,
/// the client gets a 502, 503 or 504.
///
/// ```
/// use netwasm_guest::http::{Forward, Request, Response};
///
/// # #[cfg(not(doctest))]
/// netwasm_guest::export!(http: gateway);
///
/// async fn gateway(request: Request<'_>) -> Response {
///     if request.header("authorization").is_none() {
///         return Response::error(401);
///     }
///     match request.path().strip_prefix("/api") {
///         Some(path) => Forward::to("api").target(path).tell_x_forwarded().into(),
///         None => Forward::to("site").into(),
///     }
/// }
/// # let client = netwasm_guest::testing::Client::new(gateway);
/// # assert_eq!(client.get("/api/x").send().status(), 401);
/// # let answer = client.get("/api/x").header("authorization", "me").send();
/// # let expected = Forward::to("api").target("/x").tell_x_forwarded();
/// # assert_eq!(answer.forwarded(), Some(&expected));
/// ```
///
/// The host collects the request's body first, unless the handler takes
/// [`Unread`]. A handler may wait first, for a name or for what another service
/// says; one that has read the body piece by piece cannot forward any more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a request is forwarded once the handler has returned it"]
pub struct Forward(RawForward);

impl Forward {
    /// Forwards to a server of a group: the name of an `--upstream`.
    pub fn to(group: impl Into<String>) -> Self {
        Self::new(Upstream::Group(group.into()))
    }

    /// Forwards to a server by its name or address, and port.
    pub fn to_server(host: impl Into<String>, port: u16) -> Self {
        Self::server(Endpoint::Name(host.into(), port))
    }

    /// Forwards to a server at a Unix domain socket of the host.
    pub fn to_unix(path: impl Into<String>) -> Self {
        Self::server(Endpoint::Unix(path.into()))
    }

    fn server(at: Endpoint) -> Self {
        Self::new(Upstream::Server(at, None, HttpVersion::Http1))
    }

    fn new(to: Upstream) -> Self {
        Self(RawForward {
            to,
            ..RawForward::default()
        })
    }

    /// Speaks TLS with the server. Servers of a group have `https://` before
    /// their address instead.
    pub fn tls(self) -> Self {
        self.tls_with(TlsOptions::new())
    }

    /// Speaks TLS with the server, as these options say. Their protocols are the
    /// host's. Groups have settings instead.
    pub fn tls_with(mut self, options: impl Into<TlsOptions>) -> Self {
        if let Upstream::Server(_, tls, _) = &mut self.0.to {
            *tls = Some(options.into());
        }
        self
    }

    /// Sets the version of HTTP that is spoken with the server, which is 1.1
    /// otherwise. Groups have the setting `http` instead.
    pub fn version(mut self, version: HttpVersion) -> Self {
        if let Upstream::Server(_, _, http) = &mut self.0.to {
            *http = version;
        }
        self
    }

    /// Sets the key by which a group with `balance=hash` chooses the server:
    /// requests of one key go to one server.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.0.key = Some(key.as_ref().to_vec());
        self
    }

    /// Sets the method.
    pub fn method(mut self, method: Method) -> Self {
        self.0.method = Some(method);
        self
    }

    /// Sets path and query. It begins with a slash, which is added if it is
    /// missing.
    pub fn target(mut self, target: impl Into<String>) -> Self {
        let mut target = target.into();
        if !target.starts_with('/') && target != "*" {
            target.insert(0, '/');
        }
        self.0.target = Some(target);
        self
    }

    /// Sets the `Host` field, which is the client's otherwise.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.0.host = RawHost::Other(host.into());
        self
    }

    /// Sets the `Host` field to the server's own name and port.
    pub fn host_of_server(mut self) -> Self {
        self.0.host = RawHost::Server;
        self
    }

    /// Replaces a field of the request, or adds it.
    pub fn set(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.0.request.set.push(field(name, value));
        self
    }

    /// Adds a field to the request.
    pub fn add(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.0.request.add.push(field(name, value));
        self
    }

    /// Removes a field from the request.
    pub fn remove(mut self, name: impl Into<String>) -> Self {
        self.0.request.remove.push(name.into());
        self
    }

    /// Replaces a field of the response, or adds it.
    pub fn set_response(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.0.response.set.push(field(name, value));
        self
    }

    /// Adds a field to the response. [`Response::header`] does so, too.
    pub fn add_response(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.0.response.add.push(field(name, value));
        self
    }

    /// Removes a field from the response.
    pub fn remove_response(mut self, name: impl Into<String>) -> Self {
        self.0.response.remove.push(name.into());
        self
    }

    /// Adds `Via` to the request.
    pub fn tell_via(mut self) -> Self {
        self.0.via = true;
        self
    }

    /// Adds `Forwarded` to the request: the client's address, host and scheme.
    pub fn tell_forwarded(mut self) -> Self {
        self.0.forwarded = true;
        self
    }

    /// Adds `X-Forwarded-For`, `X-Forwarded-Host` and `X-Forwarded-Proto` to the
    /// request.
    pub fn tell_x_forwarded(mut self) -> Self {
        self.0.x_forwarded = true;
        self
    }

    /// Believes such fields that came with the request, for one of a trusted
    /// proxy. Otherwise they are removed.
    pub fn believe(mut self) -> Self {
        self.0.believe = true;
        self
    }

    /// Sets the time that connecting may take. It is 5 s otherwise.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.0.connect_timeout = Some(limit);
        self
    }

    /// Sets the time for which the server may be silent before its response. It
    /// is `--response-timeout` otherwise.
    pub fn response_timeout(mut self, limit: Duration) -> Self {
        self.0.response_timeout = Some(limit);
        self
    }

    /// Sets the number of further servers to try, where that can do no harm. It
    /// is 1 otherwise.
    pub fn retries(mut self, retries: u32) -> Self {
        self.0.retries = retries;
        self
    }

    /// Sets the most bytes that the request's body may have, below `--max-body`.
    /// The client of a larger one gets a 413.
    pub fn max_body(mut self, most: u64) -> Self {
        self.0.max_body = Some(most);
        self
    }

    /// Lets the component decide about the response before the client gets it,
    /// and what it gets without one: the function that it exports as `verdicts`
    /// is told this token.
    pub fn token(mut self, token: u64) -> Self {
        self.0.decides = Some((token, true));
        self
    }

    /// Lets the component decide what the client gets if no server has given a
    /// response: the function that it exports as `verdicts` is told this token.
    /// Responses pass without a call of it, which costs some microseconds.
    pub fn token_if_missing(mut self, token: u64) -> Self {
        self.0.decides = Some((token, false));
        self
    }

    #[cfg(not(target_family = "wasm"))]
    pub(super) const fn from_raw(raw: RawForward) -> Self {
        Self(raw)
    }
}

fn field(name: impl Into<String>, value: impl AsRef<[u8]>) -> (String, Vec<u8>) {
    (name.into(), value.as_ref().to_vec())
}

impl From<Forward> for Response {
    fn from(forward: Forward) -> Self {
        Self::new(200).body(Body::Forward(Box::new(forward.0)))
    }
}

/// An argument of a handler that leaves the body of the request unread, such as
/// one that forwards it: the handler is called when the head has arrived, if the
/// component exports its app as `uploads`. The body is then forwarded as it
/// arrives, instead of being collected first.
///
/// ```
/// use netwasm_guest::http::{Forward, Unread};
///
/// # #[cfg(not(doctest))]
/// netwasm_guest::export!(uploads: gateway);
///
/// async fn gateway(_: Unread) -> Forward {
///     Forward::to("api")
/// }
/// # let client = netwasm_guest::testing::Client::new(gateway);
/// # let answer = client.post("/", "body").send();
/// # assert_eq!(answer.forwarded(), Some(&Forward::to("api")));
/// ```
pub struct Unread(());

impl FromRequest for Unread {
    const READS_PIECES: bool = true;

    fn from_request(_: &Request<'_>) -> Result<Self, Response> {
        Ok(Self(()))
    }
}
