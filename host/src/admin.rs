//! The admin interface: a small HTTP server beside the workers, for operators
//! and their tools.
//!
//! | path | answer |
//! | --- | --- |
//! | `/healthz` | 200 while the run answers |
//! | `/readyz` | 200 while it accepts connections; 503, with the reason, while it drains |
//! | `/metrics` | OpenMetrics, Prometheus's older text, or its protobuf |
//! | `/config` | the settings as a configuration file, without variables' values |
//! | `/connections` | what is open, for how long, in which stage: JSON |
//! | `POST /reload` | reads settings and components again; only over a Unix socket |
//!
//! `--probes` is a second one, which answers the first three to anybody:
//! orchestrators and scrapers ask from elsewhere.
//!
//! It runs on the main thread, which has nothing else to do, and asks the run by
//! messages. Nothing here is on the path of a request.

mod accepting;
mod ask;
mod audience;
mod client;
mod handing;
mod metrics;

use std::convert::Infallible;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use netwasm_base::config::{ListenAddress, ListenerKind};
use netwasm_base::error::Error;
use netwasm_net::listener::{self, Bound, Listener};

use crate::server::Event;

use self::accepting::{Accept, OwnListener};

pub(crate) use self::ask::{Ask, Connections, ListenerView, ServerView, ServiceView, View};
pub(crate) use self::audience::Audience;
pub use self::client::{ready, reload};

/// Time for a client to send its request. Those who connect and say nothing keep
/// others out.
const HEAD: Duration = Duration::from_secs(2);

/// Clients that wait for a reload at once.
const MOST_RELOADS: usize = 4;

/// Time for the run to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Time for the last answers at the end of a run.
const LAST: Duration = Duration::from_secs(1);

/// Pause when the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// The sockets of an interface.
#[derive(Debug)]
pub(crate) struct Admin {
    bound: Vec<Bound>,
    address: String,
    audience: Audience,
    is_unix: bool,
    accepting: Vec<AbortHandle>,
    /// Each task that answers has a clone, and nothing is ever sent.
    working: mpsc::Sender<()>,
    worked: mpsc::Receiver<()>,
}

impl Admin {
    /// Binds the interface. A Unix socket is its owner's alone.
    ///
    /// # Errors
    /// Fails with the address, what happened and what to do.
    pub(crate) fn bind(audience: Audience, address: &ListenAddress) -> Result<Self, Error> {
        let bound = listener::bind_private(address)?;
        Ok(Self::adopt(audience, address, bound))
    }

    /// Takes the sockets of another process.
    pub(crate) fn adopt(audience: Audience, address: &ListenAddress, bound: Vec<Bound>) -> Self {
        let (working, worked) = mpsc::channel(1);
        Self {
            bound,
            address: address.to_string(),
            audience,
            is_unix: matches!(address, ListenAddress::Unix(_)),
            accepting: Vec::new(),
            working,
            worked,
        }
    }

    /// Returns the listener for another process. It belongs to no service.
    pub(crate) fn listener(&self) -> (&str, usize, bool, String, &[Bound]) {
        let number = self.audience.number();
        ("", number, false, self.address.clone(), &self.bound)
    }

    /// Notes that the process whose interface this was has left it.
    pub(crate) fn own(&mut self) {
        self.bound.iter_mut().for_each(Bound::own);
    }

    /// Leaves the interface to another process. What is being answered goes on.
    pub(crate) fn leave(&mut self) {
        self.accepting.iter().for_each(AbortHandle::abort);
        self.bound.drain(..).for_each(Bound::leave);
    }

    /// Accepts no more, and waits a moment for what is being answered.
    pub(crate) async fn finish(mut self) {
        self.accepting.iter().for_each(AbortHandle::abort);
        drop(self.working);
        // Late answers are lost.
        let _ = timeout(LAST, self.worked.recv()).await;
    }

    /// Logs where it listens.
    pub(crate) fn announce(&self) {
        for Bound { url, .. } in &self.bound {
            match self.audience {
                Audience::Owner => tracing::info!(url, "the admin interface listens"),
                Audience::Anybody => tracing::info!(url, "probes are answered"),
            }
        }
    }

    /// Serves from now on, in tasks of the present runtime. The value must be
    /// kept: with it goes the file of a Unix socket.
    ///
    /// # Errors
    /// Fails if no descriptor is left.
    pub(crate) fn serve(&mut self, events: &mpsc::UnboundedSender<Event>) -> Result<(), Error> {
        let places = Arc::new(Semaphore::new(self.audience.most()));
        let reloads = Arc::new(Semaphore::new(MOST_RELOADS));
        let listing = Arc::new(Semaphore::new(1));
        let system = |source| Error::System {
            what: "the admin interface",
            source,
        };
        for bound in &self.bound {
            let listeners = bound.listeners(ListenerKind::Http, None, &[])?;
            for listener in listeners {
                let Listener::Stream(listener) = listener else {
                    continue;
                };
                let socket: OwnedFd = listener.into_socket();
                let server = AdminServer {
                    places: Arc::clone(&places),
                    reloads: Arc::clone(&reloads),
                    listing: Arc::clone(&listing),
                    events: events.clone(),
                    audience: self.audience,
                    is_unix: self.is_unix,
                    working: self.working.clone(),
                };
                let task = match self.is_unix {
                    true => {
                        let listener = UnixListener::from_std(socket.into()).map_err(system)?;
                        let has_rights = !self.address.starts_with("unix:@");
                        let listener = OwnListener {
                            listener,
                            has_rights,
                        };
                        tokio::spawn(async move { server.accept(listener).await })
                    }
                    false => {
                        let listener = TcpListener::from_std(socket.into()).map_err(system)?;
                        tokio::spawn(async move { server.accept(listener).await })
                    }
                };
                self.accepting.push(task.abort_handle());
            }
        }
        Ok(())
    }
}

/// Serves one listening socket.
#[derive(Clone, Debug)]
struct AdminServer {
    places: Arc<Semaphore>,
    /// Places for what takes long, so that the rest is answered meanwhile.
    reloads: Arc<Semaphore>,
    listing: Arc<Semaphore>,
    events: mpsc::UnboundedSender<Event>,
    audience: Audience,
    is_unix: bool,
    working: mpsc::Sender<()>,
}

impl AdminServer {
    /// Accepts connections for ever.
    async fn accept<L: Accept>(&self, listener: L) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return;
            };
            let stream = match listener.accept().await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, "the admin interface cannot accept a connection");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let server = self.clone();
            tokio::spawn(async move {
                let user = L::user(&stream);
                server.serve(stream, user).await;
                drop(place);
            });
        }
    }

    async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        user: Option<u32>,
    ) {
        let answered = Arc::new(Notify::new());
        let answer = service_fn(|mut request: Request<Incoming>| {
            let (server, answered) = (self.clone(), Arc::clone(&answered));
            async move {
                let response = match request.uri().path() {
                    path if !server.audience.may_ask(path) => text(
                        StatusCode::NOT_FOUND,
                        "there are /healthz, /readyz and /metrics\n",
                    ),
                    "/takeover" => server.hand_over(&mut request, user).await,
                    _ => server.answer(&request).await,
                };
                answered.notify_one();
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            // One request each: nobody keeps a place for long.
            .keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), answer)
            .with_upgrades();
        let slow = async {
            answered.notified().await;
            sleep(self.audience.time_to_take()).await;
        };
        tokio::select! {
            // A client that leaves is no fault of the run.
            _ = connection => {}
            () = slow => {}
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let is_private = self.audience == Audience::Owner;
        if is_private && !self.is_unix && !is_local(request.headers()) {
            // A page of the web could make a browser ask, by a name of its own.
            return text(StatusCode::MISDIRECTED_REQUEST, "ask by the address\n");
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/reload" if request.method() != Method::POST => not_allowed("POST"),
            "/reload" if !self.is_unix => text(
                StatusCode::FORBIDDEN,
                "only over a Unix socket: --admin unix:PATH\n",
            ),
            "/reload" => self.reload().await,
            "/healthz" | "/readyz" | "/metrics" | "/config" | "/connections" if !reads => {
                not_allowed("GET, HEAD")
            }
            "/healthz" => match self.view().await {
                Some(_) => text(StatusCode::OK, "alive\n"),
                None => no_answer(),
            },
            "/readyz" => match self.view().await {
                Some(View {
                    not_ready: None, ..
                }) => text(StatusCode::OK, "ready\n"),
                Some(View {
                    not_ready: Some(why),
                    ..
                }) => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("not ready: {why}\n"),
                ),
                None => no_answer(),
            },
            "/metrics" => match self.view().await {
                Some(view) => metrics::response(&view, request.headers()),
                None => no_answer(),
            },
            "/config" => match self.view().await {
                Some(view) => of_type("application/toml; charset=utf-8", view.config),
                None => no_answer(),
            },
            "/connections" => self.connections().await,
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /healthz, /readyz, /metrics, /config, /connections and /reload\n",
            ),
        }
    }

    /// Asks the run for its state.
    async fn view(&self) -> Option<View> {
        let (reply, answer) = oneshot::channel();
        self.events.send(Event::Asked(Ask::View(reply))).ok()?;
        timeout(ANSWER, answer).await.ok()?.ok()
    }

    async fn connections(&self) -> Response<Full<Bytes>> {
        let Ok(_place) = self.listing.try_acquire() else {
            return text(
                StatusCode::TOO_MANY_REQUESTS,
                "somebody else gets this list: ask again\n",
            );
        };
        let (reply, mut answers) = mpsc::unbounded_channel();
        if self
            .events
            .send(Event::Asked(Ask::Connections(reply)))
            .is_err()
        {
            return no_answer();
        }
        let mut all: Vec<Connections> = Vec::new();
        let collect = async {
            while let Some(some) = answers.recv().await {
                all.push(some);
            }
        };
        // A worker whose guest computes answers later than others.
        let complete = timeout(ANSWER, collect).await.is_ok();
        of_type(
            "application/json",
            format!("{:#}\n", ask::connections_in_json(&all, complete)),
        )
    }

    async fn reload(&self) -> Response<Full<Bytes>> {
        let Ok(_place) = self.reloads.try_acquire() else {
            return text(
                StatusCode::TOO_MANY_REQUESTS,
                "others wait for a reload: ask again\n",
            );
        };
        let (reply, answer) = oneshot::channel();
        if self.events.send(Event::Asked(Ask::Reload(reply))).is_err() {
            return no_answer();
        }
        match answer.await {
            Ok(Ok(changes)) => text(StatusCode::OK, format!("{changes}\n")),
            Ok(Err(reason)) => text(
                StatusCode::CONFLICT,
                format!("everything stays as it was: {reason}\n"),
            ),
            Err(_) => no_answer(),
        }
    }
}

/// True if a request names this machine by an address or as localhost.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|it| it.to_str().ok()) else {
        // A client of HTTP/1.0: no browser.
        return true;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = of_type("text/plain; charset=utf-8", text);
    *response.status_mut() = status;
    response
}

fn of_type(media: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(media),
    );
    headers.insert(header::SERVER, header::HeaderValue::from_static("netwasm"));
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {methods}\n"));
    response
        .headers_mut()
        .insert(header::ALLOW, header::HeaderValue::from_static(methods));
    response
}

/// Returns the answer where the run does not.
fn no_answer() -> Response<Full<Bytes>> {
    text(StatusCode::SERVICE_UNAVAILABLE, "the run does not answer\n")
}
