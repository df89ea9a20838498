//! The listening sockets of a run. They outlive the generations of services, so
//! that a reload closes none that stays.

use std::collections::HashSet;

use netwasm_base::config::{Config, ListenAddress, ListenerConfig, ListenerKind};
use netwasm_base::error::Error;
use netwasm_net::listener::{self, Bound};

use super::takeover::Handed;

/// The sockets of all services.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    entries: Vec<ListenerSockets>,
    closed: bool,
}

/// The sockets of a listener.
#[derive(Debug)]
struct ListenerSockets {
    /// Name of the service.
    owner: String,
    /// Number of the listener in the service's settings.
    listener: usize,
    /// True for datagrams. A stream listener may change its protocol.
    datagrams: bool,
    address: ListenAddress,
    bound: Vec<Bound>,
}

/// The sockets that a reload leads to, before it is sure to succeed.
#[derive(Debug)]
pub(super) struct NextSockets(Vec<NextEntry>);

/// The sockets of a listener after a reload.
#[derive(Debug)]
struct NextEntry {
    entry: ListenerSockets,
    /// Number of the old entry whose sockets stay; the new one has none then.
    old: Option<usize>,
}

impl Sockets {
    /// Binds the listeners of services, with a socket for each of `workers`,
    /// but for those whose sockets another process has handed over. Also returns
    /// the numbers of the others that it has handed over.
    ///
    /// # Errors
    /// Fails with the address, what happened and what to do.
    pub(super) fn open(
        handed: Vec<(usize, Handed)>,
        services: &[Config],
        workers: usize,
    ) -> Result<(Self, Vec<usize>), Error> {
        let mut numbers = Vec::new();
        let mut before = Self::default();
        for (number, handed) in handed {
            // Otherwise it is an address that no settings can have.
            let Ok(address) = handed.address.parse() else {
                continue;
            };
            numbers.push(number);
            before.entries.push(ListenerSockets {
                owner: handed.owner,
                listener: handed.listener,
                datagrams: handed.datagrams,
                address,
                bound: handed.bound,
            });
        }
        let next = before
            .next(services, workers)
            .map_err(|(.., error)| error)?;
        let taken: HashSet<_> = next.0.iter().filter_map(|next| next.old).collect();
        before.replace(next, services);
        let unused = numbers.into_iter().enumerate();
        let unused = unused.filter(|(place, _)| !taken.contains(place));
        Ok((before, unused.map(|(_, number)| number).collect()))
    }

    /// Returns the URLs.
    pub(super) fn urls(&self) -> Vec<String> {
        self.all().map(|(_, bound)| bound.url.clone()).collect()
    }

    /// Returns all listeners, for another process.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (&str, usize, bool, String, &[Bound])> {
        self.entries.iter().map(|entry| {
            let ListenerSockets {
                owner,
                listener,
                datagrams,
                address,
                bound,
            } = entry;
            (
                &**owner,
                *listener,
                *datagrams,
                address.to_string(),
                &**bound,
            )
        })
    }

    /// Notes that the process whose sockets these were has left them.
    pub(super) fn own(&mut self) {
        let entries = self.entries.iter_mut();
        entries
            .flat_map(|entry| &mut entry.bound)
            .for_each(Bound::own);
    }

    /// Leaves the sockets to another process, which has no use for listeners of
    /// these numbers.
    pub(super) fn leave(&mut self, unused: &[usize]) {
        self.closed = true;
        for (number, entry) in std::mem::take(&mut self.entries).into_iter().enumerate() {
            for bound in entry.bound {
                match unused.contains(&number) {
                    true => drop(bound.remove()),
                    false => bound.leave(),
                }
            }
        }
    }

    /// Returns the sockets of a service, each with the number of its listener.
    pub(super) fn of(&self, owner: &str) -> Vec<(usize, &Bound)> {
        let own = self.entries.iter().filter(|entry| entry.owner == owner);
        own.flat_map(ListenerSockets::numbered).collect()
    }

    /// Finds the sockets that services need after a reload, and binds those
    /// that are missing.
    ///
    /// # Errors
    /// Fails if a listener cannot be bound, with the number of its service, and
    /// its flag. Then nothing has changed.
    pub(super) fn next(
        &self,
        services: &[Config],
        workers: usize,
    ) -> Result<NextSockets, (usize, &'static str, Error)> {
        let mut taken = vec![false; self.entries.len()];
        let mut next = Vec::new();
        for own in [true, false] {
            // Services keep their own sockets before they get those of others.
            for (place_of_service, service) in services.iter().enumerate() {
                for number in 0..service.listeners.len() {
                    let known = |it: &NextEntry| {
                        it.entry.owner == service.guest.name && it.entry.listener == number
                    };
                    if next.iter().any(known) {
                        continue;
                    }
                    let Some(mut entry) = ListenerSockets::unbound(service, number) else {
                        continue;
                    };
                    let fits = |(place, old): &(usize, &ListenerSockets)| {
                        taken.get(*place) == Some(&false)
                            && old.address == entry.address
                            && old.datagrams == entry.datagrams
                            && (!own || old.owner == entry.owner)
                    };
                    let old = self.entries.iter().enumerate().find(fits);
                    let old = old.map(|(place, _)| place);
                    match old {
                        Some(place) => {
                            if let Some(taken) = taken.get_mut(place) {
                                *taken = true;
                            }
                        }
                        None if own => continue,
                        None => {
                            let Some(listener) = service.listeners.get(number) else {
                                continue;
                            };
                            let bound = bind(service, listener, workers);
                            entry.bound = bound
                                .map_err(|error| (place_of_service, listener.kind.flag(), error))?;
                        }
                    }
                    next.push(NextEntry { entry, old });
                }
            }
        }
        Ok(NextSockets(next))
    }

    /// Takes the sockets that a reload leads to, with the settings of these
    /// services, and closes the others. Returns the URLs of those that were
    /// opened, and of those that are closed.
    pub(super) fn replace(
        &mut self,
        next: NextSockets,
        services: &[Config],
    ) -> (Vec<String>, Vec<String>) {
        let mut old: Vec<_> = std::mem::take(&mut self.entries)
            .into_iter()
            .map(Some)
            .collect();
        let mut opened = Vec::new();
        for NextEntry { mut entry, old: of } in next.0 {
            match of
                .and_then(|place| old.get_mut(place))
                .and_then(Option::take)
            {
                Some(before) => {
                    entry.bound = before.bound;
                    entry.adjust(services);
                }
                None => opened.extend(entry.bound.iter().map(|it| it.url.clone())),
            }
            self.entries.push(entry);
        }
        let left = old.into_iter().flatten().flat_map(|entry| entry.bound);
        (opened, left.map(Bound::remove).collect())
    }

    /// Returns all sockets, with the names of their services.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Bound)> {
        let entries = self.entries.iter();
        entries.flat_map(|entry| entry.bound.iter().map(|it| (&*entry.owner, it)))
    }

    /// Closes the sockets, as the run is ending. Files of Unix sockets stay
    /// until this is dropped.
    pub(super) fn close(&mut self) {
        self.closed = true;
        for bound in self.entries.iter_mut().flat_map(|entry| &mut entry.bound) {
            bound.close();
        }
    }

    /// True after [`Self::close`].
    pub(super) fn are_closed(&self) -> bool {
        self.closed
    }
}

/// Binds a listener of a service.
fn bind(service: &Config, listener: &ListenerConfig, workers: usize) -> Result<Vec<Bound>, Error> {
    listener::bind(listener, workers, &service.limits, &service.unix)
}

impl NextSockets {
    /// Returns the sockets of a service, each with the number of its listener.
    pub(super) fn of<'a>(&'a self, now: &'a Sockets, owner: &str) -> Vec<(usize, &'a Bound)> {
        let own = self.0.iter().filter(|next| next.entry.owner == owner);
        own.flat_map(|next| {
            let old = next.old.and_then(|place| now.entries.get(place));
            let number = next.entry.listener;
            let from = old.unwrap_or(&next.entry);
            from.bound.iter().map(move |bound| (number, bound))
        })
        .collect()
    }
}

impl ListenerSockets {
    /// Returns `None` for a listener that another service opens.
    fn unbound(service: &Config, number: usize) -> Option<Self> {
        if service.hosted.contains(&number) {
            return None;
        }
        let listener = service.listeners.get(number)?;
        Some(Self {
            owner: service.guest.name.clone(),
            listener: number,
            datagrams: listener.kind == ListenerKind::Udp,
            address: listener.address.clone(),
            bound: Vec::new(),
        })
    }

    /// Applies the settings of the listener to sockets that were opened for
    /// others. That does not fail for sockets that listen already.
    fn adjust(&mut self, services: &[Config]) {
        let mut services = services.iter();
        let Some(service) = services.find(|it| it.guest.name == self.owner) else {
            return;
        };
        let Some(listener) = service.listeners.get(self.listener) else {
            return;
        };
        for bound in &mut self.bound {
            if let Err(error) = bound.adjust(listener.kind, &service.limits, &service.unix) {
                tracing::warn!(
                    url = bound.url, %error,
                    "not all settings of a listener could be changed"
                );
            }
        }
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &Bound)> {
        self.bound.iter().map(|bound| (self.listener, bound))
    }
}
