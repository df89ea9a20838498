//! Pools that an event instance uses, and the places there of its connections.

use std::collections::HashMap;
use std::sync::Arc;

use netwasm_net::parked::{Key, Parked};
use netwasm_net::pool::{Pool, PoolPlace};

use crate::numbers::Numbers;

/// A pool, and the endpoint and options that made it.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) pool: Arc<Pool<Parked>>,
    pub(crate) key: Arc<Key>,
}

/// Pools of an instance by their numbers, and places by the numbers of
/// connections.
#[derive(Debug, Default)]
pub(crate) struct Pooling {
    pools: Numbers<Opened>,
    places: HashMap<u64, PoolPlace<Parked>>,
}

impl Pooling {
    /// Returns the number of a pool, with one entry for each; `None` if there
    /// are `most` already.
    pub(crate) fn add(&mut self, opened: Opened, most: usize) -> Option<u64> {
        let same = |known: &Opened| Arc::ptr_eq(&known.pool, &opened.pool);
        if let Some(number) = self.pools.find(same) {
            return Some(number);
        }
        if self.pools.len() >= most {
            self.pools.retain(|known| !known.pool.is_closed());
        }
        (self.pools.len() < most).then(|| self.pools.add(opened))
    }

    /// Returns the pool of a number.
    pub(crate) fn get(&self, number: u64) -> Option<&Opened> {
        self.pools.get(number)
    }

    /// Notes that a connection has a place in a pool.
    pub(crate) fn take_place(&mut self, connection: u64, place: PoolPlace<Parked>) {
        self.places.insert(connection, place);
    }

    /// Returns the place of a connection, which it has no more.
    pub(crate) fn give_place(&mut self, connection: u64) -> Option<PoolPlace<Parked>> {
        // Mostly there are none.
        match self.places.is_empty() {
            true => None,
            false => self.places.remove(&connection),
        }
    }
}
