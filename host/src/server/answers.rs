//! Answers to the admin interface, and the two sides of a take-over.

use std::sync::Arc;

use netwasm_net::upstream::Group;

use crate::admin::{Admin, Ask, ListenerView, ServerView, ServiceView, View};

use super::Server;
use super::reload::By;
use super::service::Serving;
use super::takeover::{Handing, Luggage, Successor};

impl Server {
    /// Answers the admin interface.
    pub(super) fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::View(reply) => {
                // It may have left, here and below.
                let _ = reply.send(self.view());
            }
            Ask::Connections(reply) => self.threads.describe(&reply),
            Ask::HandOver(reply) => {
                let _ = reply.send(self.luggage());
            }
            Ask::TakenOver { handing, reply, .. } if self.sockets.are_closed() => {
                handing.done();
                let _ = reply.send(());
            }
            Ask::TakenOver {
                process,
                unused,
                handing,
                reply,
            } => {
                handing.done();
                self.successor = Some(Successor {
                    process,
                    unused,
                    reply,
                });
            }
            Ask::GivenUp => {
                self.handing = false;
                self.reload_if_put_off();
            }
            Ask::Reload(reply) if self.is_ending() => {
                let _ = reply.send(Err("the run is ending".into()));
            }
            Ask::Reload(reply) => {
                self.reloading.next.push(reply);
                self.reload(By::Request);
            }
        }
    }

    /// Packs the listeners for another process.
    fn luggage(&mut self) -> Result<Luggage, String> {
        let mut programs = self.services.iter().filter(|it| it.run.guests.is_program());
        if let Some(program) = programs.next() {
            return Err(format!(
                "{} is a program, whose sockets are its own: end this run, and then start the \
                 other",
                program.config.guest.name
            ));
        }
        if self.is_ending() {
            return Err("the run is ending".into());
        }
        if self.handing {
            return Err("another process takes over at present: ask that one".into());
        }
        if self.predecessor.is_some() {
            return Err("the run takes over from another one at present: try again".into());
        }
        if self.reloading.is_under_way() {
            return Err("a reload is under way: try again".into());
        }
        let interfaces = self.interfaces.iter().map(Admin::listener);
        let all = self.sockets.listeners().chain(interfaces);
        let luggage = Luggage::pack(all, Handing::new(&self.sender));
        let luggage = luggage.map_err(|error| error.to_string())?;
        self.handing = true;
        Ok(luggage)
    }

    /// Ends the process whose sockets were taken, once all workers serve.
    pub(super) fn end_predecessor(&mut self) {
        if self.services.iter().any(|service| service.beginning > 0) {
            return;
        }
        if let Some((predecessor, unused)) = self.predecessor.take() {
            let ended = predecessor.end(&unused);
            self.sockets.own();
            self.interfaces.iter_mut().for_each(Admin::own);
            match ended {
                Ok(()) => tracing::info!("--takeover: the other run no longer accepts"),
                Err(error) => {
                    tracing::warn!(%error, "--takeover: the other run does not say that it ends");
                }
            }
            if let Some(manager) = &self.manager {
                manager.is_main();
            }
            if self.ends_at.is_none() {
                self.is_ready();
            }
            self.reload_if_put_off();
        }
    }

    fn view(&self) -> View {
        let draining = self.sockets.are_closed();
        let listeners = self.sockets.all().map(|(service, bound)| ListenerView {
            service: service.to_owned(),
            url: bound.url.clone(),
            counts: Arc::clone(&bound.counts),
        });
        let listeners: Vec<_> = listeners.collect();
        View {
            not_ready: match (draining, listeners.is_empty()) {
                // Whoever asked before it is answered for the process that serves there.
                (true, _) if self.taken_over => None,
                (true, _) => Some("draining"),
                (false, true) => Some("nothing listens"),
                (false, false) => self.ends_at.map(|_| "it ends soon (--shutdown-delay)"),
            },
            config: self.shown.clone(),
            services: self
                .services
                .iter()
                .map(|service| ServiceView {
                    name: service.config.guest.name.clone(),
                    component: service.config.component.to_string(),
                    generation: service.generation,
                    since: service.since,
                    counters: Arc::clone(&service.run.net.counters),
                    pools: service.run.net.pools.counts(),
                    tallies: service.run.http.tallies.clone(),
                    upstreams: servers(service),
                })
                .collect(),
            listeners,
            workers: self.threads.count(),
            retiring: self.retired.len(),
            retired_failed: self.retired_failed,
            reloads: self.reloads,
            draining,
            spans: self.span_counts.as_ref().map(|it| it.all()),
        }
    }
}

/// Describes the servers of a service's upstream groups.
fn servers(service: &Serving) -> Vec<ServerView> {
    let groups = service.run.net.upstreams().all();
    let of_group = |group: &Arc<Group>| {
        let servers = group.servers().iter();
        let servers = servers.map(|server| ServerView {
            group: group.name().to_owned(),
            server: server.to_string(),
            up: server.is_up(),
            active: server.active(),
            checks_failed: server.checks_failed(),
        });
        servers.collect::<Vec<_>>()
    };
    groups.into_iter().flat_map(of_group).collect()
}
