//! Pools of connections of a test.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::{Endpoint, HOST, Host, Pipe, Transport, begin_connecting, hold};
use crate::connect::connected;
use crate::host::PoolOptions;
use crate::{ErrorKind, PoolCounts, Result};

/// A pool, and who waits for its connections.
pub(super) struct Shelf {
    to: Endpoint,
    options: PoolOptions,
    idle: Vec<Rc<Pipe>>,
    waiting: VecDeque<u64>,
    counts: PoolCounts,
    closed: bool,
}

/// A pool, by its place among all.
#[derive(Clone, Copy)]
pub(crate) struct PoolHandle(usize);

fn shelf<R>(host: &Host, pool: usize, work: impl FnOnce(&mut Shelf) -> R) -> Option<R> {
    host.pools.borrow_mut().get_mut(pool).map(work)
}

impl PoolHandle {
    pub(crate) fn open(to: Endpoint, options: PoolOptions) -> Result<Self> {
        if options.size == 0 {
            return Err(ErrorKind::InvalidArgument.into());
        }
        HOST.with(|host| {
            let mut pools = host.pools.borrow_mut();
            let is_same = |it: &Shelf| !it.closed && it.to == to && it.options == options;
            let found = pools.iter().position(is_same);
            Ok(Self(found.unwrap_or_else(|| {
                pools.push(Shelf {
                    to,
                    options,
                    idle: Vec::new(),
                    waiting: VecDeque::new(),
                    counts: PoolCounts::default(),
                    closed: false,
                });
                pools.len() - 1
            })))
        })
    }

    pub(crate) fn get(self, token: u64, _timeout: Option<Duration>) -> Result<()> {
        let waits = |shelf: &mut Shelf| shelf.waiting.push_back(token);
        HOST.with(|host| shelf(host, self.0, waits));
        Ok(())
    }

    pub(crate) fn close(self) {
        HOST.with(|host| {
            shelf(host, self.0, |shelf| {
                shelf.closed = true;
                shelf.idle.drain(..).for_each(|pipe| pipe.close_idle());
            })
        });
    }

    pub(crate) fn counts(self) -> PoolCounts {
        let counts = |shelf: &mut Shelf| PoolCounts {
            idle: u32::try_from(shelf.idle.len()).unwrap_or(u32::MAX),
            waiting: u32::try_from(shelf.waiting.len()).unwrap_or(u32::MAX),
            ..shelf.counts
        };
        HOST.with(|host| shelf(host, self.0, counts))
            .unwrap_or_default()
    }
}

/// Puts a connection back into its pool.
pub(crate) fn put(connection: &Transport) {
    let pipe = &connection.0;
    pipe.detach();
    let pool = pipe.pool.take();
    HOST.with(|host| {
        give_place(host, pool);
        let kept = pool.and_then(|pool| {
            shelf(host, pool, |shelf| {
                let keeps = !shelf.closed && pipe.is_fresh();
                if keeps {
                    shelf.idle.push(pipe.clone());
                }
                keeps
            })
        });
        if kept != Some(true) {
            pipe.close_idle();
        }
    });
}

/// Frees the place of a connection in use.
pub(super) fn give_place(host: &Host, pool: Option<usize>) {
    if let Some(pool) = pool {
        shelf(host, pool, |shelf| shelf.counts.in_use -= 1);
    }
}

/// Gives up waiting.
pub(super) fn cancel(host: &Host, token: u64) {
    for shelf in host.pools.borrow_mut().iter_mut() {
        shelf.waiting.retain(|other| *other != token);
    }
}

/// Serves one who waits, if that is possible.
pub(super) fn deliver() -> bool {
    enum Turn {
        Reuse(u64, Rc<Pipe>),
        Make(u64, Endpoint, PoolOptions),
        Closed(u64),
    }
    let turn = |shelf: &mut Shelf| {
        if shelf.closed {
            return Some(Turn::Closed(shelf.waiting.pop_front()?));
        }
        if shelf.waiting.is_empty() || shelf.counts.in_use >= shelf.options.size {
            return None;
        }
        let token = shelf.waiting.pop_front()?;
        shelf.counts.in_use += 1;
        while let Some(pipe) = shelf.idle.pop() {
            if pipe.is_fresh() {
                shelf.counts.reused += 1;
                return Some(Turn::Reuse(token, pipe));
            }
            pipe.close_idle();
            shelf.counts.expired += 1;
        }
        shelf.counts.opened += 1;
        Some(Turn::Make(token, shelf.to.clone(), shelf.options.clone()))
    };
    let next = HOST.with(|host| {
        let mut pools = host.pools.borrow_mut();
        let mut turns = pools.iter_mut().map(turn).enumerate();
        turns.find_map(|(pool, turn)| Some((pool, turn?)))
    });
    match next {
        Some((pool, Turn::Reuse(token, pipe))) => {
            pipe.pool.set(Some(pool));
            if let Some(shared) = connected(token, Ok(Transport(pipe.clone()))) {
                pipe.attach(&shared);
                hold(shared);
            }
        }
        Some((pool, Turn::Make(token, to, options))) => {
            begin_connecting(token, to, options.connect, Some(pool));
        }
        Some((_, Turn::Closed(token))) => {
            connected(token, Err(ErrorKind::ConnectionAborted.into()));
        }
        None => return false,
    }
    true
}
