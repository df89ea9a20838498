//! Reloads. What has changed is prepared on a thread of its own; then it begins
//! beside what runs; and once all its workers serve, it replaces that.
//!
//! ```text
//!   reload --thread--> prepared --sockets, duplicates--> begun --all serve--> commit
//!      ^                  |  Refused                        |  a worker fails
//!      +-- again <--------+-------> everything stays <------+
//! ```
//!
//! A service whose listener others share goes on when these are replaced: its
//! threads get the new ones for the next requests.
//!
//! Nothing that can fail follows the first change. If there is no room for one
//! more generation, the reload waits until one that was replaced has ended.

mod asked;
mod changes;
mod refused;
mod work;

use std::cell::RefCell;
use std::sync::Arc;

use netwasm_base::config::{Config, OtlpConfig, RunConfig, SharedListener};
use netwasm_net::tls::Renewed;
use netwasm_net::worker::{Ended, Phase};
use netwasm_runtime::Stamps;

use super::Server;
use super::report::announce;
use super::service::{Current, Prepared, Serving};
use super::sockets::NextSockets;
use super::starting::on_thread;
use super::threads::{Generations, Replace};

use crate::allocator;

pub(super) use self::asked::{By, Reloading};
use self::changes::Changes;
pub(super) use self::refused::Refused;
use self::work::{Fixed, Work};

/// Services that a reload has prepared.
#[derive(Debug)]
pub(crate) struct Reload {
    run: RunConfig,
    /// The services in the order of the settings.
    services: Vec<Next>,
    /// Lines for those who asked for the reload.
    warnings: Vec<String>,
}

/// A service after a reload.
#[derive(Debug)]
enum Next {
    /// It has not changed, or cannot.
    Kept(Box<Kept>),
    /// It is new, or has changed.
    New(Box<Prepared>),
}

/// A service that goes on.
#[derive(Debug)]
struct Kept {
    name: String,
    generation: u64,
    /// State of its component's file.
    stamp: Option<Stamps>,
    /// Its certificates, as the reload has read them.
    renewed: Option<Renewed>,
    /// Its settings, in which at most what others have on its listeners is new.
    config: Config,
}

/// A program that has ended.
#[derive(Debug)]
pub(super) struct Tombstone(Config);

impl Tombstone {
    pub(super) fn of(service: &Serving) -> Self {
        Self(service.config.clone())
    }
}

/// Services that a reload has begun.
#[derive(Debug)]
pub(super) struct Beginning {
    run: RunConfig,
    sockets: NextSockets,
    /// The services in the order of the settings.
    services: Vec<Begun>,
    /// The generations that are to serve beside each other.
    generations: Arc<Generations>,
    /// Lines for those who asked for the reload.
    warnings: Vec<String>,
}

/// A service whose reload has begun.
#[derive(Debug)]
enum Begun {
    Kept(Box<Kept>),
    New(Box<Serving>),
}

impl Beginning {
    fn new_ones(&mut self) -> impl Iterator<Item = &mut Serving> {
        self.services
            .iter_mut()
            .filter_map(|service| match service {
                Begun::New(serving) => Some(&mut **serving),
                Begun::Kept(_) => None,
            })
    }

    fn into_new_ones(self) -> impl Iterator<Item = Serving> {
        self.services
            .into_iter()
            .filter_map(|service| match service {
                Begun::New(serving) => Some(*serving),
                Begun::Kept(_) => None,
            })
    }
}

impl Server {
    /// Begins to read the settings, components and certificates again.
    pub(super) fn reload(&mut self, by: By) {
        self.common.logs.reopen();
        if self.handing || self.predecessor.is_some() {
            // The listeners stay as they are while they are handed over.
            tracing::info!("{by}: waits for the end of a take-over");
            self.reloading.put_off.get_or_insert(by);
            return;
        }
        if self.reloading.runs.is_some() {
            // Its settings may be old already.
            self.reloading.again.get_or_insert(by);
            return;
        }
        self.reloading.waits = None;
        self.reloading.runs = Some(by);
        let next = std::mem::take(&mut self.reloading.next);
        self.reloading.waiting.extend(next);
        let work = Work {
            origin: Arc::clone(&self.origin),
            warnings: RefCell::default(),
            current: self.services.iter().map(Current::of).collect(),
            ended: self.ended_programs.iter().map(|it| it.0.clone()).collect(),
            common: Arc::clone(&self.common),
            fixed: Fixed {
                workers: self.services.first().map(|it| it.config.workers),
                admin: self.admin.clone(),
                probes: self.probes.clone(),
                shutdown_delay: self.shutdown_delay,
                user: self.user.clone(),
                otlp: self.otlp.clone(),
                log: self.log,
            },
        };
        let events = self.sender.clone();
        let begun = on_thread("reload", move || {
            let prepare = std::panic::AssertUnwindSafe(|| work.prepare());
            // A panic is already logged.
            let reload = std::panic::catch_unwind(prepare)
                .unwrap_or_else(|_| Err(Refused::from("reading it panicked".to_owned())));
            drop(work);
            let _ = events.send(super::Event::Reloaded(Box::new(reload)));
        });
        match begun {
            Ok(()) => {
                if let Some(manager) = &self.manager {
                    manager.reloading();
                }
            }
            Err(error) => self.reload_ended(Err(error.to_string())),
        }
    }

    /// Begins what a reload has prepared.
    pub(super) fn reloaded(&mut self, reload: Result<Reload, Refused>) {
        if self.is_ending() {
            self.reload_ended(Err("the run is ending".into()));
            return;
        }
        let begun = reload.and_then(|reload| self.begin_beside(reload));
        match begun {
            Ok(beginning) => {
                self.beginning = Some(beginning);
                self.commit_if_begun();
            }
            Err(refused) if refused.crowded && !self.retired.is_empty() => {
                self.renew(refused.renewed);
                let by = self.reloading.runs.take().unwrap_or(By::Signal);
                self.reloading.waits = Some(by);
                tracing::warn!(
                    retiring = self.retired.len(),
                    "{by}: waits until a generation that was replaced has ended: {}",
                    refused.reason
                );
            }
            Err(refused) => {
                let reason = match self.renew(refused.renewed) {
                    true => format!("{} (certificates are renewed nevertheless)", refused.reason),
                    false => refused.reason,
                };
                self.reload_ended(Err(reason));
            }
        }
        allocator::give_back_soon();
    }

    /// Tries again what waits for room.
    pub(super) fn there_is_room(&mut self) {
        if let Some(by) = self.reloading.waits.take()
            && !self.is_ending()
        {
            self.reload(by);
        }
    }

    /// Begins the reload that waits for the end of a take-over.
    pub(super) fn reload_if_put_off(&mut self) {
        if let Some(by) = self.reloading.put_off.take()
            && !self.is_ending()
        {
            self.reload(by);
        }
    }

    /// Ends a reload for which it is too late, for this reason.
    pub(super) fn give_up_reload(&mut self, reason: &str) {
        if let Some(beginning) = self.beginning.take() {
            self.retired.extend(beginning.into_new_ones());
        }
        self.reloading.waits = None;
        let reloading = &mut self.reloading;
        for waiting in reloading.waiting.drain(..).chain(reloading.next.drain(..)) {
            // It may have left.
            let _ = waiting.send(Err(reason.into()));
        }
    }

    /// Takes the certificates that the reload has read. Returns false if there are none.
    fn renew(&self, renewed: Vec<(u64, Renewed)>) -> bool {
        let mut any = false;
        for (generation, renewed) in renewed {
            let mut services = self.services.iter();
            if let Some(service) = services.find(|it| it.generation == generation) {
                any |= !service.config.tls.certificates.is_empty();
                service.run.net.tls.renew(renewed);
            }
        }
        any
    }

    /// Begins the services that have changed, beside those that run. These
    /// stay as they are if that fails.
    fn begin_beside(&mut self, reload: Reload) -> Result<Beginning, Refused> {
        let Reload {
            run,
            services,
            warnings,
        } = reload;
        let is_new = |service: &Next| matches!(service, Next::New(new) if !new.is_program());
        if services.iter().any(is_new) {
            // A run of programs began with one.
            self.threads.grow(run.workers.get())?;
        }
        let sockets = self.sockets.next(&run.services, self.threads.count());
        let sockets = sockets.map_err(|(number, flag, error)| {
            let keys = [flag.trim_start_matches('-')];
            let text = error.to_string();
            let reason = self.origin.locate(&run, number, &keys, &text);
            Refused {
                reason,
                ..Refused::from(error)
            }
        })?;
        let generations = services.iter().map(|service| match service {
            Next::Kept(kept) => (kept.name.clone(), kept.generation),
            Next::New(prepared) => {
                let name = prepared.config.guest.name.clone();
                (name, self.next_generation())
            }
        });
        let generations: Arc<Generations> = Arc::new(generations.collect());
        let mut ready = Vec::new();
        for service in services {
            ready.push(match service {
                Next::Kept(kept) => Err(kept),
                Next::New(prepared) => {
                    let its = sockets.of(&self.sockets, &prepared.config.guest.name);
                    Ok(prepared.ready(&generations, &its, &self.threads)?)
                }
            });
        }
        // As at the start, the last ones first.
        let begun = ready.into_iter().rev().map(|service| match service {
            Ok(ready) => Begun::New(Box::new(ready.begin(&self.threads))),
            Err(kept) => Begun::Kept(kept),
        });
        let mut services: Vec<_> = begun.collect();
        services.reverse();
        Ok(Beginning {
            run,
            sockets,
            services,
            generations,
            warnings,
        })
    }

    /// Takes note of a worker that serves.
    pub(super) fn worker_begun(&mut self, generation: u64) {
        let of_reload = self.beginning.iter_mut().flat_map(Beginning::new_ones);
        for service in of_reload.chain(&mut self.services) {
            if service.generation == generation {
                service.beginning = service.beginning.saturating_sub(1);
            }
        }
        self.end_predecessor();
        self.commit_if_begun();
    }

    /// Takes note of the end of a worker that a reload has begun.
    pub(super) fn beginner_ended(&mut self, generation: u64, thread: usize, ended: Ended) {
        let mut failed = None;
        for service in self.beginning.iter_mut().flat_map(Beginning::new_ones) {
            if service.generation == generation {
                service.worker_ended(thread, ended);
                failed = ended.failed.then(|| service.config.guest.name.clone());
            }
        }
        if let Some(name) = failed {
            self.roll_back(&name);
        }
    }

    /// Undoes a reload of which a worker has failed.
    fn roll_back(&mut self, name: &str) {
        if let Some(beginning) = self.beginning.take() {
            for mut service in beginning.into_new_ones() {
                // It may have accepted connections already.
                service.retire();
                self.retired.push(service);
            }
            self.reload_ended(Err(format!("{name}: a worker cannot begin to serve")));
        }
    }

    fn commit_if_begun(&mut self) {
        let all_serve = |it: &mut Beginning| it.new_ones().all(|it| it.beginning == 0);
        if let Some(beginning) = self.beginning.take_if(all_serve) {
            let changes = self.commit(beginning);
            self.reload_ended(Ok(changes));
        }
    }

    /// Replaces the services that have changed. Nothing here can fail.
    fn commit(&mut self, beginning: Beginning) -> Changes {
        let Beginning {
            run,
            sockets,
            services,
            generations,
            warnings,
        } = beginning;
        self.several |= services.len() > 1;
        let mut old = std::mem::take(&mut self.services);
        let mut changes = Changes {
            warnings,
            ..Changes::default()
        };
        let known = old.iter().map(|it| it.config.guest.name.clone());
        let known: Vec<_> = known.collect();
        for service in services {
            match service {
                Begun::New(serving) => {
                    let name = serving.config.guest.name.clone();
                    match known.contains(&name) {
                        true => changes.replaced.push(name),
                        false => changes.added.push(name),
                    }
                    self.services.push(*serving);
                }
                Begun::Kept(kept) => {
                    let place = old.iter().position(|it| it.generation == kept.generation);
                    // A program may have ended meanwhile.
                    let Some(place) = place else { continue };
                    let mut service = old.remove(place);
                    let was_shared = is_shared(&service.config.sites);
                    service.stamp = kept.stamp;
                    service.config = kept.config;
                    if let Some(renewed) = kept.renewed {
                        service.run.net.tls.renew(renewed);
                    }
                    let sites = &service.config.sites;
                    if was_shared || is_shared(sites) {
                        // Before those that are replaced begin to end.
                        self.threads.replace(&Replace {
                            generation: service.generation,
                            beside: Arc::clone(&generations),
                            sites: sites.clone(),
                        });
                    }
                    self.services.push(service);
                }
            }
        }
        // Before their workers look whether a listener stays.
        let (opened, closed) = self.sockets.replace(sockets, &run.services);
        for mut service in old {
            let name = &service.config.guest.name;
            if !changes.replaced.contains(name) {
                changes.removed.push(name.clone());
            }
            if service.phase() == Phase::Serving {
                service.retire();
            }
            self.retired.push(service);
        }
        if let Err(error) = announce(&opened, self.log) {
            tracing::warn!(%error, "cannot print the new listeners");
        }
        for url in &closed {
            tracing::info!(url, "no longer listening");
        }
        (changes.opened, changes.closed) = (opened, closed);
        let settings = &run.services;
        self.ended_programs
            .retain(|it| settings.iter().any(|new| new.guest.name == it.0.guest.name));
        self.renew_otlp_headers(run.otlp);
        self.shown = run.shown;
        let certificates = run.services.iter().map(|it| it.tls.certificates.len());
        changes.certificates = certificates.sum();
        changes
    }

    /// Takes the headers of requests to the receiver of traces, of settings that are
    /// otherwise the present ones.
    fn renew_otlp_headers(&mut self, next: Option<OtlpConfig>) {
        let (Some(next), Some(headers)) = (next, &self.otlp_headers) else {
            return;
        };
        match headers.renew(&next.headers) {
            Ok(()) => self.otlp = Some(next),
            Err(error) => tracing::warn!(%error, "the present headers stay"),
        }
    }

    /// Tells how a reload went: the log, and those who wait for it.
    fn reload_ended(&mut self, done: Result<Changes, String>) {
        let by = self.reloading.runs.take().unwrap_or(By::Signal);
        let [well, badly] = &mut self.reloads;
        match &done {
            Ok(changes) => {
                *well += 1;
                changes.log(by);
            }
            Err(reason) => {
                *badly += 1;
                tracing::error!("{by}: everything stays as it was: {reason}");
            }
        }
        let done = done.map(|changes| changes.to_string());
        for waiting in self.reloading.waiting.drain(..) {
            // It may have left.
            let _ = waiting.send(done.clone());
        }
        if self.is_ending() {
            return;
        }
        self.is_ready();
        if let Some(by) = self.reloading.again.take() {
            self.reload(by);
        }
    }
}

/// True if other services answer on one of these listeners.
fn is_shared(sites: &[SharedListener]) -> bool {
    sites.iter().any(|site| !site.others.is_empty())
}
