//! A group of servers: what gets into it, and to which of them.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use netwasm_base::config::{
    Check, GroupSettings, HttpVersion, UpstreamAddress, UpstreamGroup, UpstreamTls,
};
use netwasm_base::counters::Counters;
use netwasm_base::error::{ConnectionError, Error};

use crate::endpoint::Endpoint;
use crate::tls::ClientTls;
use crate::upstream::choice::{ServerChoice, Wish};
use crate::upstream::clock::Clock;
use crate::upstream::limit::Limit;
use crate::upstream::server::{NoPlace, Place, Server};
use crate::upstream::sticky::Sticky;

/// Servers that take the same requests.
#[derive(Debug)]
pub struct Group {
    /// Name, for the log.
    name: Arc<str>,
    choice: ServerChoice,
    /// Limit of requests at once, if there is one.
    limit: Option<Limit>,
    check: Option<Check>,
    sticky: Option<Sticky>,
    counters: Arc<Counters>,
}

/// Entry of a request to a group.
pub enum Entry {
    /// It has a place at a server.
    Place(Place),
    /// It waits for one, in the queue of a server.
    Queue(Pin<Box<dyn Future<Output = Result<Place, NoPlace>>>>),
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Place(place) => f.debug_tuple("Place").field(place).finish(),
            Self::Queue(_) => f.write_str("Queue"),
        }
    }
}

impl Group {
    /// Makes a group that `--upstream` names.
    ///
    /// # Errors
    /// Fails if a server's name cannot be one of a certificate, or if the key of
    /// a sticky cookie cannot be read.
    pub fn new(group: &UpstreamGroup, counters: &Arc<Counters>) -> Result<Self, Error> {
        let settings = &group.settings;
        let name: Arc<str> = Arc::from(&*group.name);
        let servers = group.servers.iter().map(|server| {
            let endpoint = match &server.address {
                UpstreamAddress::Socket(address) => Endpoint::Address(*address),
                UpstreamAddress::Name(host, port) => Endpoint::named(host.clone(), *port),
                UpstreamAddress::Unix(path) => Endpoint::Unix(path.clone()),
            };
            let tls = match server.secure {
                true => Some(tls_of(&endpoint, &group.settings)?),
                false => None,
            };
            let weight = server.weight;
            let mut settings = settings.clone();
            if server.prior_knowledge {
                settings.http = HttpVersion::Http2;
            }
            let server = Server::of_group(&name, endpoint, tls, weight, &settings, counters);
            Ok(Arc::new(server))
        });
        let servers: Result<Vec<_>, ConnectionError> = servers.collect();
        let servers =
            servers.map_err(|error| Error::Tls(format!("--upstream {}: {error}", group.name)))?;
        let sticky = settings.sticky.as_ref().map(|sticky| {
            let all = servers.iter().map(|server| &**server);
            Sticky::new(sticky, &group.name, all).map_err(|error| {
                let path = sticky.key.as_deref().map(Path::display);
                Error::Upstream(format!(
                    "--upstream {}: cannot read the file {} of sticky-key: {error}",
                    group.name,
                    path.map(|path| path.to_string()).unwrap_or_default()
                ))
            })
        });
        Ok(Self {
            sticky: sticky.transpose()?,
            ..Self::of(name, servers, settings, counters)
        })
    }

    /// Makes a group of one server, to which the policy lets the guest connect.
    /// `http` is the version that its TLS offers.
    pub fn alone(
        endpoint: Endpoint,
        tls: Option<ClientTls>,
        http: HttpVersion,
        counters: &Arc<Counters>,
    ) -> Self {
        let server = Server::by_policy(endpoint, tls, http, counters);
        let name = Arc::from(server.to_string());
        let settings = GroupSettings::default();
        Self::of(name, vec![Arc::new(server)], &settings, counters)
    }

    fn of(
        name: Arc<str>,
        servers: Vec<Arc<Server>>,
        settings: &GroupSettings,
        counters: &Arc<Counters>,
    ) -> Self {
        Self {
            name,
            choice: ServerChoice::new(servers, settings.balance),
            limit: settings.max_requests.map(Limit::new),
            check: settings.check.clone(),
            sticky: None,
            counters: Arc::clone(counters),
        }
    }

    /// Returns the name, for the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the servers; at least one.
    pub fn servers(&self) -> &[Arc<Server>] {
        &self.choice.servers
    }

    /// Returns the active health checks of the servers.
    pub fn check(&self) -> Option<&Check> {
        self.check.as_ref()
    }

    /// Returns the cookie that keeps a client with its server.
    pub fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref()
    }

    /// Chooses a server that was not tried, for a request, and takes a place
    /// there or in its queue.
    ///
    /// # Errors
    /// Fails if too many requests to the group are under way, or if all servers
    /// were tried or are down. The queue fails if too many wait there, or for
    /// too long. All but the second is counted.
    pub fn enter(&self, wish: Wish<'_>, tried: &[u64]) -> Result<Entry, NoPlace> {
        let refused = &self.counters.forwards_refused;
        let mut admitted = match &self.limit {
            None => None,
            Some(limit) => Some(limit.admit().ok_or_else(|| {
                refused.max_requests.add();
                NoPlace::TooMany
            })?),
        };
        let Some(server) = self.choice.choose(wish, tried, &Clock::default()) else {
            if self.servers().iter().all(|server| server.is_down()) {
                refused.down.add();
                return Err(NoPlace::Down);
            }
            return Err(NoPlace::AllTried);
        };
        Ok(match server.try_enter(&mut admitted) {
            Some(place) => Entry::Place(place),
            None => Entry::Queue(Box::pin(Arc::clone(server).enter(admitted))),
        })
    }

    /// True if there is a server that was not tried and is not down.
    pub fn has_another(&self, tried: &[u64]) -> bool {
        self.choice.has_another(tried)
    }
}

/// Returns a client's TLS settings for a server of a group.
fn tls_of(endpoint: &Endpoint, settings: &GroupSettings) -> Result<ClientTls, ConnectionError> {
    let UpstreamTls {
        name,
        authority,
        identity,
    } = settings.tls.clone();
    let name = name.or_else(|| endpoint.server_name());
    let name = name.ok_or(ConnectionError::InvalidArgument)?;
    let tls = ClientTls::new(name, offered(settings.http))?;
    Ok(tls.choosing(authority, identity))
}

/// Returns the protocols that a TLS session with a server offers (ALPN).
pub fn offered(http: HttpVersion) -> Vec<String> {
    let names: &[&str] = match http {
        HttpVersion::Http1 => &["http/1.1"],
        HttpVersion::Http2 => &["h2"],
        HttpVersion::Auto => &["h2", "http/1.1"],
    };
    names.iter().map(|&name| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(text: &str) -> Group {
        let group = text.parse().expect(text);
        Group::new(&group, &Arc::default()).expect("a group")
    }

    fn enter(group: &Group) -> Result<Entry, NoPlace> {
        group.enter(Wish::default(), &[])
    }

    #[test]
    fn a_group_admits_so_many_requests_those_that_wait_included() {
        let group = group("g=127.0.0.1:1;max-connections=1;max-requests=2");
        let one = enter(&group).expect("a place");
        let other = enter(&group).expect("a place in the queue");
        assert!(matches!((&one, &other), (Entry::Place(_), Entry::Queue(_))));
        assert_eq!(enter(&group).err(), Some(NoPlace::TooMany));
        assert_eq!(enter(&group).err(), Some(NoPlace::TooMany));
        // It has not begun to wait.
        drop(other);
        assert!(matches!(enter(&group), Ok(Entry::Queue(_))));
        drop(one);
        assert!(matches!(enter(&group), Ok(Entry::Place(_))));
        assert_eq!(group.counters.forwards_refused.max_requests.get(), 2);
    }

    #[test]
    fn a_server_that_is_down_gets_nothing_even_if_all_are() {
        let group = group("g=127.0.0.1:1,127.0.0.1:2;check=connect;rise=1");
        let [one, other] = group.servers() else {
            panic!("two servers");
        };
        one.was_checked(Err("refused"));
        for _ in 0..4 {
            let Ok(Entry::Place(place)) = enter(&group) else {
                panic!("a place");
            };
            assert_eq!(place.server().number(), other.number());
        }
        assert!(!group.has_another(&[other.number()]));
        let tried = group.enter(Wish::default(), &[other.number()]);
        assert_eq!(tried.err(), Some(NoPlace::AllTried));
        other.was_checked(Err("refused"));
        assert_eq!(enter(&group).err(), Some(NoPlace::Down));
        let counters = &group.counters;
        assert_eq!(counters.forwards_refused.down.get(), 1);
        assert_eq!(counters.upstreams_down.get(), 2);
        one.was_checked(Ok::<(), &str>(()));
        assert!(enter(&group).is_ok());
        assert_eq!((one.checks_failed(), one.is_up()), (1, true));
    }
}
