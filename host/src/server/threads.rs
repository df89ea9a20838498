//! The threads that serve connections. Each runs a worker of every service.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use netwasm_base::config::{Route, SharedListener};
use netwasm_base::error::Error;
use netwasm_exchange::handler::Handlers;
use netwasm_exchange::redirect::Redirects;
use netwasm_exchange::sites::{Member, Sites};
use netwasm_http::local::Account;
use netwasm_net::places::Places;
use netwasm_net::service::Services;
use netwasm_net::thread::Tick;
use netwasm_net::turns::{Steps, Turns};
use netwasm_net::worker::{self, Assignment, Ended, Phase, Worker};
use netwasm_runtime::guests::OfThread;

use crate::admin::Connections;
use crate::wiring::{Members, Replaceable, Run, Shared};

use super::Event;

/// Number of tasks that a worker polls before it looks for new socket events.
/// Most rounds end before that: no task is left, or tasks with more to do have
/// given way (`turns`).
const EVENT_INTERVAL: u32 = 256;

/// Stack size of a worker's thread in bytes. A guest's stack is on it.
pub(super) const STACK: usize = 4 << 20;

/// The threads. They end when this is dropped, or when their process does.
#[derive(Debug)]
pub(super) struct Threads {
    threads: Vec<mpsc::UnboundedSender<Order>>,
    steps: Steps,
    events: mpsc::UnboundedSender<Event>,
}

/// An order to a thread.
#[derive(Debug)]
enum Order {
    Begin(Box<Begin>),
    Replace(Box<Replace>),
    /// Say that the thread is alive.
    Ping(mpsc::UnboundedSender<()>),
    /// Describe the open connections of all workers.
    Describe(mpsc::UnboundedSender<Connections>),
}

/// The generations that serve beside each other, by the names of their
/// services.
pub(super) type Generations = BTreeMap<String, u64>;

/// A worker to begin on a thread.
#[derive(Debug)]
pub(super) struct Begin {
    /// Number of the service's generation.
    pub(super) generation: u64,
    /// The generations that it is to serve beside. Others may be on the thread
    /// that retire, or that a reload has undone.
    pub(super) beside: Arc<Generations>,
    pub(super) run: Run,
    /// Its listeners of HTTP.
    pub(super) sites: Vec<SharedListener>,
    /// Its own routes on these.
    pub(super) routes: Vec<Route>,
    /// Its redirects to HTTPS.
    pub(super) redirects: Redirects,
    pub(super) assignment: Assignment,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) clock: watch::Receiver<Tick>,
}

/// Services to replace on the listeners of a worker that goes on.
#[derive(Clone, Debug)]
pub(super) struct Replace {
    /// Number of the generation whose listeners they are.
    pub(super) generation: u64,
    /// The generations that it is to serve beside from now on.
    pub(super) beside: Arc<Generations>,
    /// Its listeners of HTTP, as they are to be.
    pub(super) sites: Vec<SharedListener>,
}

impl Threads {
    /// Starts threads. They report the ends of their workers as events.
    ///
    /// # Errors
    /// Fails if the system gives no thread.
    pub(super) fn start(
        count: usize,
        steps: &Steps,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<Self, Error> {
        let mut threads = Self {
            threads: Vec::with_capacity(count),
            steps: steps.clone(),
            events: events.clone(),
        };
        threads.grow(count)?;
        Ok(threads)
    }

    /// Starts more threads, until there are so many.
    ///
    /// # Errors
    /// Fails if the system gives no thread.
    pub(super) fn grow(&mut self, count: usize) -> Result<(), Error> {
        for number in self.count()..count {
            let (sender, orders) = mpsc::unbounded_channel();
            let (steps, events) = (self.steps.clone(), self.events.clone());
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .stack_size(STACK)
                .spawn(move || {
                    let work = || work(number, orders, steps, &events);
                    // A panic is already logged.
                    let worked = catch_unwind(AssertUnwindSafe(work));
                    if !matches!(worked, Ok(true)) {
                        let _ = events.send(Event::ThreadFailed { thread: number });
                    }
                })
                .map_err(Error::Thread)?;
            self.threads.push(sender);
        }
        Ok(())
    }

    /// Returns the number of threads.
    pub(super) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Begins a worker on a thread.
    pub(super) fn begin(&self, thread: usize, begin: Begin) {
        if let Some(thread) = self.threads.get(thread) {
            // A thread that has failed was reported.
            let _ = thread.send(Order::Begin(Box::new(begin)));
        }
    }

    /// Replaces services on the listeners of a generation, on all threads.
    pub(super) fn replace(&self, replace: &Replace) {
        for thread in &self.threads {
            let _ = thread.send(Order::Replace(Box::new(replace.clone())));
        }
    }

    /// Asks all threads to say that they are alive.
    pub(super) fn ping(&self, reply: &mpsc::UnboundedSender<()>) {
        for thread in &self.threads {
            let _ = thread.send(Order::Ping(reply.clone()));
        }
    }

    /// Asks all workers for their open connections.
    pub(super) fn describe(&self, reply: &mpsc::UnboundedSender<Connections>) {
        for thread in &self.threads {
            let _ = thread.send(Order::Describe(reply.clone()));
        }
    }
}

/// Runs a thread. Returns false if it cannot start.
fn work(
    thread: usize,
    mut orders: mpsc::UnboundedReceiver<Order>,
    steps: Steps,
    events: &mpsc::UnboundedSender<Event>,
) -> bool {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "a worker cannot start");
            return false;
        }
    };
    runtime.block_on(async {
        let turns = Turns::new(steps);
        let main = async {
            let workers: Rc<RefCell<Vec<Known>>> = Rc::default();
            while let Some(order) = orders.recv().await {
                match order {
                    Order::Begin(begin) => {
                        let (worker, guests) = begin.run.worker(&turns);
                        let shared = shared(&begin, &guests, &workers.borrow());
                        let (services, replaceable) = begin.run.services(&guests, shared);
                        workers.borrow_mut().push(Known {
                            service: begin.run.net.guest.clone(),
                            generation: begin.generation,
                            worker: Rc::clone(&worker),
                            guests,
                            redirects: begin.redirects,
                            run: begin.run.clone(),
                            replaceable,
                        });
                        let (workers, events) = (Rc::clone(&workers), events.clone());
                        spawn_local(serve(thread, *begin, worker, services, workers, events));
                    }
                    Order::Replace(order) => replace(&order, &workers.borrow()),
                    Order::Ping(reply) => {
                        let _ = reply.send(());
                    }
                    Order::Describe(reply) => {
                        for known in &*workers.borrow() {
                            // Nobody may wait for it any more.
                            let _ = reply.send(known.describe());
                        }
                    }
                }
            }
        };
        turns.run(main).await;
    });
    // A thread that still reads authorities must not delay the end.
    runtime.shutdown_background();
    true
}

/// A worker of this thread, until it ends.
struct Known {
    service: String,
    generation: u64,
    worker: Rc<Worker>,
    guests: OfThread,
    redirects: Redirects,
    run: Run,
    /// Its listeners of HTTP.
    replaceable: Vec<Replaceable>,
}

impl Known {
    /// Returns its handlers of requests, or those that redirect them.
    fn handlers(&self, redirects: bool) -> Rc<dyn Handlers> {
        match redirects {
            true => Rc::new(self.redirects),
            false => Rc::new(self.guests.clone()),
        }
    }

    fn describe(&self) -> Connections {
        Connections {
            service: self.service.clone(),
            generation: self.generation,
            open: self.worker.open_connections(),
        }
    }
}

/// The services on the listener of another one, on a thread.
#[derive(Default)]
struct Others<'a> {
    members: Vec<Member>,
    /// Accounts of those that are new.
    accounts: Vec<Rc<Account>>,
    places: Vec<&'a Places>,
}

/// Returns the other services on a shared listener, which have begun before. Those
/// of `present` stay as they are.
fn others<'a>(
    shared: &SharedListener,
    beside: &Generations,
    workers: &'a [Known],
    present: Option<&Sites>,
) -> Others<'a> {
    let mut others = Others::default();
    for other in &shared.others {
        let generation = beside.get(&other.name);
        let mut workers = workers.iter();
        let known = workers.find(|known| Some(&known.generation) == generation);
        let Some(known) = known else {
            continue;
        };
        let thread = &known.worker.thread;
        let neighbor = present.and_then(|sites| sites.neighbor(thread));
        let neighbor = neighbor.unwrap_or_else(|| {
            let handlers = known.handlers(other.redirects);
            let (neighbor, account) = known.run.neighbor(handlers);
            others.accounts.push(account);
            neighbor
        });
        others.members.push(Member {
            routes: other.routes.clone(),
            neighbor,
            thread: Rc::clone(thread),
        });
        others.places.push(&*known.run.net.places);
    }
    others
}

/// Returns the services on each listener of HTTP of a worker.
fn shared(begin: &Begin, guests: &OfThread, workers: &[Known]) -> Vec<Shared> {
    let of_listener = |shared: &SharedListener| {
        let handlers: Rc<dyn Handlers> = match shared.redirects {
            true => Rc::new(begin.redirects),
            false => Rc::new(guests.clone()),
        };
        let others = others(shared, &begin.beside, workers, None);
        let sites = Sites::new(handlers, begin.routes.clone(), others.members);
        Shared {
            sites: Rc::new(sites),
            places: Places::joined(&begin.run.net.places, &others.places),
            others: others.accounts,
        }
    };
    begin.sites.iter().map(of_listener).collect()
}

/// Replaces services on the listeners of a worker.
fn replace(order: &Replace, workers: &[Known]) {
    let mut owners = workers.iter();
    // Otherwise it has ended.
    let Some(owner) = owners.find(|known| known.generation == order.generation) else {
        return;
    };
    for (shared, replaceable) in order.sites.iter().zip(&owner.replaceable) {
        replaceable.replace(&owner.worker, |sites| {
            if sites.is_own() && shared.others.is_empty() {
                return None;
            }
            let others = others(shared, &order.beside, workers, Some(sites));
            Some(Members {
                members: others.members,
                accounts: others.accounts,
                places: Places::joined(&owner.run.net.places, &others.places),
            })
        });
    }
}

/// Runs a worker to its end, and reports that.
async fn serve(
    thread: usize,
    begin: Begin,
    worker: Rc<Worker>,
    services: Services,
    workers: Rc<RefCell<Vec<Known>>>,
    events: mpsc::UnboundedSender<Event>,
) {
    let Begin {
        generation,
        beside: _,
        run,
        sites: _,
        routes: _,
        redirects: _,
        assignment,
        phase,
        clock,
    } = begin;
    // Whoever hears of the end may count on it that nothing is left here.
    drop(run);
    let started = events.clone();
    let begun = move || {
        let _ = started.send(Event::Begun { generation });
    };
    let ending = Rc::clone(&worker);
    let serving = worker::run(worker, services, assignment, phase, clock, begun);
    let serving = spawn_local(serving);
    // A panic is already logged.
    let ended = serving.await.unwrap_or_else(|_| Ended {
        failed: true,
        ..Ended::default()
    });
    ending.end().await;
    drop(ending);
    let mut known = workers.borrow_mut();
    let place = known.iter().position(|it| it.generation == generation);
    let gone = place.map(|place| known.remove(place));
    drop(known);
    // With its instances.
    drop(gone);
    let _ = events.send(Event::Ended {
        generation,
        thread,
        ended,
    });
}
