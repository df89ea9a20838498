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
//! | `POST /reload` | reads settings and components anew; only over a Unix socket |
//!
//! It runs on the main thread, which has nothing else to do, and asks the run by
//! messages. Nothing here is on the path of a request.

mod accepting;
mod ask;
mod client;
mod metrics;

use std::convert::Infallible;
use std::io;
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
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use netwasm_base::config::{ListenAddress, ListenerKind};
use netwasm_base::error::Error;
use netwasm_net::listener::{self, Bound, Listener};

use crate::server::Event;
use crate::server::takeover::{self, Luggage};

use self::accepting::{Accept, OwnListener, is_allowed};

pub(crate) use self::ask::{Ask, Connections, ListenerView, ServerView, ServiceView, View};
pub use self::client::{ready, reload};

/// Connections at once. Others wait in the backlog.
const MOST: usize = 16;

/// Time for a client to send its request. Those who connect and say nothing keep
/// others out.
const HEAD: Duration = Duration::from_secs(2);

/// Clients that wait for a reload at once.
const MOST_RELOADS: usize = 4;

/// Time for a client to take an answer, beyond that for making it.
const TAKE: Duration = Duration::from_secs(30);

/// Time for the run to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Time for the last answers at the end of a run.
const LAST: Duration = Duration::from_secs(1);

/// Pause when the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// The sockets of the interface.
#[derive(Debug)]
pub(crate) struct Admin {
    bound: Vec<Bound>,
    address: String,
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
    pub(crate) fn bind(address: &ListenAddress) -> Result<Self, Error> {
        Ok(Self::new(listener::bind_private(address)?, address))
    }

    /// Takes the interface of another process, at its Unix socket.
    pub(crate) fn adopt(bound: Vec<Bound>, address: &ListenAddress) -> Self {
        Self::new(bound, address)
    }

    fn new(bound: Vec<Bound>, address: &ListenAddress) -> Self {
        let (working, worked) = mpsc::channel(1);
        Self {
            bound,
            address: address.to_string(),
            is_unix: matches!(address, ListenAddress::Unix(_)),
            accepting: Vec::new(),
            working,
            worked,
        }
    }

    /// Returns the listener for another process. It belongs to no service.
    pub(crate) fn listener(&self) -> (&str, usize, bool, String, &[Bound]) {
        ("", 0, false, self.address.clone(), &self.bound)
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

    /// Returns the URLs for the log.
    pub(crate) fn urls(&self) -> impl Iterator<Item = &str> {
        self.bound.iter().map(|bound| &*bound.url)
    }

    /// Serves from now on, in tasks of the present runtime. The value must be
    /// kept: with it goes the file of a Unix socket.
    ///
    /// # Errors
    /// Fails if no descriptor is left.
    pub(crate) fn serve(&mut self, events: &mpsc::UnboundedSender<Event>) -> Result<(), Error> {
        let places = Arc::new(Semaphore::new(MOST));
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
                let server = Server {
                    places: Arc::clone(&places),
                    reloads: Arc::clone(&reloads),
                    listing: Arc::clone(&listing),
                    events: events.clone(),
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
struct Server {
    places: Arc<Semaphore>,
    /// Places for what takes long, so that the rest is answered meanwhile.
    reloads: Arc<Semaphore>,
    listing: Arc<Semaphore>,
    events: mpsc::UnboundedSender<Event>,
    is_unix: bool,
    working: mpsc::Sender<()>,
}

impl Server {
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
            sleep(TAKE).await;
        };
        tokio::select! {
            // A client that leaves is no fault of the run.
            _ = connection => {}
            () = slow => {}
        }
    }

    /// Hands the listeners to another process, if it is the same user's or
    /// root's, and drains once that serves.
    async fn hand_over(
        &self,
        request: &mut Request<Incoming>,
        user: Option<u32>,
    ) -> Response<Full<Bytes>> {
        if !self.is_unix {
            return text(
                StatusCode::FORBIDDEN,
                "only over a Unix socket: --admin unix:PATH\n",
            );
        }
        if !user.is_some_and(is_allowed) {
            let own = rustix::process::geteuid().as_raw();
            let asks = user.map_or_else(String::new, |user| format!(" (this is user {user})"));
            return text(
                StatusCode::FORBIDDEN,
                format!("the run is user {own}'s, and only that user may take over{asks}\n"),
            );
        }
        let asked = request.headers().get(header::UPGRADE);
        if request.method() != Method::POST || asked.is_none_or(|it| it != takeover::PROTOCOL) {
            return not_allowed("POST");
        }
        let (reply, answer) = oneshot::channel();
        if self
            .events
            .send(Event::Asked(Ask::HandOver(reply)))
            .is_err()
        {
            return no_answer();
        }
        let luggage = match timeout(ANSWER, answer).await {
            Ok(Ok(Ok(luggage))) => luggage,
            Ok(Ok(Err(reason))) => return text(StatusCode::CONFLICT, format!("{reason}\n")),
            _ => return no_answer(),
        };
        let (coming, events) = (hyper::upgrade::on(request), self.events.clone());
        let working = self.working.clone();
        tokio::spawn(async move {
            let _working = working;
            let Ok(upgraded) = coming.await else { return };
            let Ok(parts) = upgraded.downcast::<TokioIo<UnixStream>>() else {
                return;
            };
            let stream = parts.io.into_inner();
            if let Err(error) = pass_on(&stream, luggage, &events).await {
                tracing::warn!(%error, "another process wanted to take over, and has not");
            }
        });
        let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        let upgrade = header::HeaderValue::from_static("Upgrade");
        headers.insert(header::CONNECTION, upgrade);
        let protocol = header::HeaderValue::from_static(takeover::PROTOCOL);
        headers.insert(header::UPGRADE, protocol);
        response
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !self.is_unix && !is_local(request.headers()) {
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

/// Passes the listeners on to the process at the other end, and tells the run
/// once that process serves.
async fn pass_on(
    stream: &UnixStream,
    luggage: Luggage,
    events: &mpsc::UnboundedSender<Event>,
) -> io::Result<()> {
    let process = stream.peer_cred()?.pid();
    let (unused, handing) = luggage.send(stream).await?;
    let (reply, done) = oneshot::channel();
    let taken_over = Event::Asked(Ask::TakenOver {
        process,
        unused,
        handing,
        reply,
    });
    if events.send(taken_over).is_ok() && done.await.is_ok() {
        takeover::say_ok(stream).await;
    }
    Ok(())
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
