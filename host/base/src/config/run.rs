//! The settings of a run, and how its services go together: which of them share
//! a listener, and that they agree on its settings.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::{
    Config, ConfigError, HttpLimits, Limits, ListenAddress, ListenerConfig, ListenerKind,
    OtlpConfig, Route,
};
use crate::identity::{Identity, IdentityError};

/// The settings of a run: its services, and what they share.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// The services; never empty.
    pub services: Vec<Config>,
    /// Number of threads that serve connections, of all services.
    pub workers: NonZeroUsize,
    /// Address of the admin interface; `None` if there is none.
    pub admin: Option<ListenAddress>,
    /// Address where anybody may ask for its health and metrics; `None` if there
    /// is none.
    pub probes: Option<ListenAddress>,
    /// Time for which it serves on after it was asked to end, and says that it
    /// is not ready; `None` if it drains at once.
    pub shutdown_delay: Option<Duration>,
    /// User that it goes on as once it listens; `None` if it stays what it is.
    pub user: Option<String>,
    /// Group that it goes on as, in place of the user's own.
    pub group: Option<String>,
    /// Receiver of traces; `None` if there is none.
    pub otlp: Option<OtlpConfig>,
    /// True if it takes the listening sockets of the run at `admin`.
    pub takeover: bool,
    /// True if it is reloaded whenever its files change.
    pub watch: bool,
    /// Files of secrets that its settings name.
    pub secrets: Vec<PathBuf>,
    /// The configuration file; `None` if the settings come from a command line.
    pub file: Option<PathBuf>,
    /// The settings as a configuration file, without variables' values.
    pub shown: String,
}

impl RunConfig {
    /// Joins services. They have the number of workers in common.
    #[must_use]
    pub fn of(services: Vec<Config>) -> Self {
        let workers = services.first().map(|service| service.workers);
        Self {
            services,
            workers: workers.unwrap_or(NonZeroUsize::MIN),
            admin: None,
            probes: None,
            shutdown_delay: None,
            user: None,
            group: None,
            otlp: None,
            takeover: false,
            watch: false,
            secrets: Vec::new(),
            file: None,
            shown: String::new(),
        }
    }

    /// Returns the identity that it goes on with, if it is another one.
    ///
    /// # Errors
    /// Fails if the user or the group is unknown.
    pub fn identity(&self) -> Result<Option<Identity>, IdentityError> {
        let user = self.user.as_deref();
        let identity = user.map(|user| Identity::of(user, self.group.as_deref()));
        identity.transpose()
    }

    /// Checks that the services go together, and notes which listeners they
    /// share: the first service of a listener opens it for the others.
    ///
    /// # Errors
    /// Fails with the first fault, and the number of the service that has it.
    pub fn join(&mut self) -> Result<(), (usize, ConfigError)> {
        self.join_after(&[])
    }

    /// Joins the services once more, with those of these names before all others.
    ///
    /// # Errors
    /// Fails as [`Self::join`] does.
    pub fn join_after(&mut self, first: &[&str]) -> Result<(), (usize, ConfigError)> {
        for service in &mut self.services {
            service.hosted.clear();
            service.tls.shared.clear();
            let own = service.listeners.iter().enumerate();
            let own = own.filter(|(_, listener)| listener.kind.is_http());
            // Any may be shared after a reload.
            let sites = own.map(|(listener, its)| SharedListener {
                listener,
                redirects: its.kind == ListenerKind::Redirect,
                others: Vec::new(),
            });
            service.sites = sites.collect();
        }
        let mut taken: HashMap<_, (usize, usize)> = HashMap::new();
        let rank = |number: &usize| {
            let service = self.services.get(*number);
            let known = service.and_then(|service| {
                let name = &*service.guest.name;
                first.iter().position(|its| *its == name)
            });
            known.unwrap_or(first.len())
        };
        let mut order: Vec<_> = (0..self.services.len()).collect();
        order.sort_by_key(rank);
        for number in order {
            let listeners = match self.services.get(number) {
                Some(service) => service.listeners.clone(),
                None => continue,
            };
            for (place, listener) in listeners.iter().enumerate() {
                let datagrams = listener.kind == ListenerKind::Udp;
                let mut host = None;
                for address in listener.address.places() {
                    let before = *taken.entry((datagrams, address)).or_insert((number, place));
                    if before.0 != number {
                        host = Some(before);
                    }
                }
                let joined = match host {
                    Some(host) => self.share(host, (number, place), listener),
                    None => Ok(()),
                };
                joined.map_err(|error| (number, error))?;
            }
        }
        let certificates = self.services.iter().map(|service| {
            let its = service.tls.certificates.clone();
            (service.guest.name.clone(), its)
        });
        let certificates: HashMap<_, _> = certificates.collect();
        for service in &mut self.services {
            let hosted = &service.hosted;
            service
                .sites
                .retain(|site| !hosted.contains(&site.listener));
            let own = &service.tls.certificates;
            let of_others = service.sites.iter().map(|site| {
                let its = site.others.iter();
                let its = its.filter_map(|other| certificates.get(&other.name));
                let mut shared = Vec::new();
                for certificate in its.flatten() {
                    if !own.contains(certificate) && !shared.contains(certificate) {
                        shared.push(certificate.clone());
                    }
                }
                shared
            });
            let of_others: Vec<_> = of_others.collect();
            if of_others.iter().any(|its| !its.is_empty()) {
                service.tls.shared = of_others;
            }
        }
        Ok(())
    }

    /// Lets a service answer on the listener of another one.
    fn share(
        &mut self,
        host: (usize, usize),
        guest: (usize, usize),
        listener: &ListenerConfig,
    ) -> Result<(), ConfigError> {
        let (Some(owner), Some(member)) = (self.services.get(host.0), self.services.get(guest.0))
        else {
            return Ok(());
        };
        let other = owner.guest.name.clone();
        let opened = owner.listeners.get(host.1);
        // Some of the requests of a plain one may be redirected.
        let same = opened.is_some_and(|opened| {
            let secure = listener.kind.is_encrypted();
            opened.address == listener.address
                && opened.kind.is_http()
                && opened.kind.is_encrypted() == secure
        });
        if !same || !listener.kind.is_http() {
            let listener = listener.clone();
            return Err(ConfigError::OtherServices { listener, other });
        }
        if let Some(what) = differing(owner, member, listener) {
            return Err(ConfigError::SharedListenerDiffers { what, other });
        }
        let (name, routes) = (member.guest.name.clone(), member.routes.clone());
        let own = |routes: &[Route]| match routes {
            [] => vec![Route::all()],
            some => some.to_vec(),
        };
        let others = owner.sites.iter().filter(|it| it.listener == host.1);
        let others = others.flat_map(|it| &it.others);
        let all = others.map(|other| (&other.name, own(&other.routes)));
        for (other, taken) in all.chain([(&other, own(&owner.routes))]) {
            if let Some(route) = own(&routes).into_iter().find(|it| taken.contains(it)) {
                let other = other.clone();
                return Err(ConfigError::RouteTwice { route, other });
            }
        }
        if let Some(member) = self.services.get_mut(guest.0) {
            member.hosted.push(guest.1);
        }
        let Some(owner) = self.services.get_mut(host.0) else {
            return Ok(());
        };
        let site = owner.sites.iter_mut().find(|it| it.listener == host.1);
        if let Some(site) = site {
            site.others.push(SharingService {
                name,
                routes,
                redirects: listener.kind == ListenerKind::Redirect,
            });
        }
        Ok(())
    }
}

/// Returns the flag of a setting of connections in which two services differ
/// that share a listener. A connection is served before it is known for which
/// of them its requests are.
fn differing(one: &Config, other: &Config, listener: &ListenerConfig) -> Option<&'static str> {
    let its = &other.limits;
    let secure = listener.kind.is_encrypted();
    let is_unix = matches!(listener.address, ListenAddress::Unix(_));
    // All of them, so that a new limit is thought of.
    let Limits {
        max_connections,
        connections_given,
        // Of guests, each of which has its own.
        max_outgoing: _,
        max_memory: _,
        event_timeout: _,
        max_handles: _,
        background_timeout: _,
        max_background: _,
        max_metrics: _,
        max_shared: _,
        max_keyvalue: _,
        max_component_size: _,
        compile_timeout: _,
        backlog,
        idle_timeout,
        half_close_timeout,
        tcp,
        handshake_timeout,
        write_timeout,
        write_high,
        write_low,
        max_write_buffer,
        shutdown_timeout,
        http,
    } = &one.limits;
    let HttpLimits {
        max_head,
        max_request_line,
        max_headers,
        max_body,
        head_timeout,
        body_timeout,
        keep_alive_timeout,
        response_timeout,
        response_body_timeout,
        max_unread,
        send_informational,
        // Of guests.
        max_response_headers: _,
        max_instance_reuse: _,
        max_instance_concurrency: _,
        max_connection_instances: _,
        // Each service has its own.
        websocket: _,
        events: _,
    } = http;
    let theirs = &its.http;
    let settings = [
        (
            "--max-connections",
            // Defaults follow from what each may do.
            *max_connections == its.max_connections
                || !(*connections_given || its.connections_given),
        ),
        ("--backlog", *backlog == its.backlog),
        ("--idle-timeout", *idle_timeout == its.idle_timeout),
        (
            "--half-close-timeout",
            *half_close_timeout == its.half_close_timeout,
        ),
        ("--tcp-keepalive", tcp.keepalive == its.tcp.keepalive),
        (
            "--tcp-user-timeout",
            tcp.user_timeout == its.tcp.user_timeout,
        ),
        (
            "--tcp-receive-buffer",
            tcp.receive_buffer == its.tcp.receive_buffer,
        ),
        ("--tcp-send-buffer", tcp.send_buffer == its.tcp.send_buffer),
        ("--write-timeout", *write_timeout == its.write_timeout),
        ("--write-high", *write_high == its.write_high),
        ("--write-low", *write_low == its.write_low),
        (
            "--max-write-buffer",
            *max_write_buffer == its.max_write_buffer,
        ),
        (
            "--shutdown-timeout",
            *shutdown_timeout == its.shutdown_timeout,
        ),
        ("--max-body", *max_body == theirs.max_body),
        ("--max-head", *max_head == theirs.max_head),
        (
            "--max-request-line",
            *max_request_line == theirs.max_request_line,
        ),
        ("--max-headers", *max_headers == theirs.max_headers),
        ("--max-unread", *max_unread == theirs.max_unread),
        ("--head-timeout", *head_timeout == theirs.head_timeout),
        ("--body-timeout", *body_timeout == theirs.body_timeout),
        (
            "--keep-alive-timeout",
            *keep_alive_timeout == theirs.keep_alive_timeout,
        ),
        (
            "--response-timeout",
            *response_timeout == theirs.response_timeout,
        ),
        (
            "--response-body-timeout",
            *response_body_timeout == theirs.response_body_timeout,
        ),
        (
            "--send-informational",
            *send_informational == theirs.send_informational,
        ),
        ("--unix-mode", !is_unix || one.unix.mode == other.unix.mode),
        (
            "--unix-owner",
            !is_unix || one.unix.owner == other.unix.owner,
        ),
        (
            "--unix-group",
            !is_unix || one.unix.group == other.unix.group,
        ),
        ("--proxy-protocol-from", one.proxies == other.proxies),
        ("--allow-from", one.clients.allow == other.clients.allow),
        ("--deny-from", one.clients.deny == other.clients.deny),
        (
            "--max-client-connections",
            one.clients.connections == other.clients.connections,
        ),
        ("--max-client-rate", one.clients.rate == other.clients.rate),
        (
            "--max-client-requests",
            one.clients.requests == other.clients.requests,
        ),
        (
            "--handshake-timeout",
            !secure || *handshake_timeout == its.handshake_timeout,
        ),
        (
            "--client-ca",
            !secure || one.tls.client_ca == other.tls.client_ca,
        ),
        ("--alpn", !secure || one.tls.alpn == other.tls.alpn),
        (
            "--tls-min-version",
            !secure || one.tls.min_version == other.tls.min_version,
        ),
        (
            "--tls-ciphers",
            !secure || one.tls.ciphers == other.tls.ciphers,
        ),
    ];
    let wrong = settings.iter().find(|(_, agrees)| !agrees);
    wrong.map(|(flag, _)| *flag)
}

/// Returns how many connections at once these services ask for together: the sum of
/// what each is given, as they share what they are not given.
#[must_use]
pub fn connections_wanted(services: &[Config]) -> usize {
    let limits = services.iter().map(|it| &it.limits);
    let given = limits.clone().filter(|it| it.connections_given);
    let given: usize = given.map(|it| it.max_connections).sum();
    given.max(limits.map(|it| it.max_connections).max().unwrap_or(0))
}

/// A listener of HTTP whose requests go to services by their host and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedListener {
    /// Number of the listener in the settings of the service that opens it.
    pub listener: usize,
    /// True if the service that opens it redirects its requests to HTTPS.
    pub redirects: bool,
    /// The other services.
    pub others: Vec<SharingService>,
}

/// A service on the listener of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharingService {
    /// Name.
    pub name: String,
    /// Its routes there.
    pub routes: Vec<Route>,
    /// True if its requests are redirected to HTTPS.
    pub redirects: bool,
}
