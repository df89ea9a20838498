//! The room that a component's instances take in the process, and so how many
//! connections fit at once.
//!
//! A pool reserves address space for all its slots at start. Slots are counted
//! from the compiled component, so that no connection within
//! `--max-connections` is refused for want of a slot.

mod share;
mod uses;

use std::sync::{Mutex, PoisonError};

use bytesize::ByteSize;
use rustix::process::{Resource, getrlimit};
use wasmtime::PoolingAllocationConfig;
use wasmtime::component::Component;

use netwasm_base::config::{Config, Isolation, Limits, ListenerKind};

use crate::kind::Kind;

use self::share::{MEMORY_MAPPINGS, STACK_MAPPINGS, Share, address_space};

pub use self::share::{connections_by_mappings, mappings_of_instances};
pub(crate) use self::uses::Uses;

/// Size of a WebAssembly page in bytes.
const PAGE: u64 = 64 << 10;

/// Number of elements by which a table may grow.
const TABLE_GROWTH: usize = 20_000;

/// Size of the guard behind each memory in bytes. Compiled code relies on it.
pub(crate) const GUARD: usize = 64 << 10;

/// Address space reserved for a memory, in bytes. Code is compiled for one of
/// these sizes, and so is good for any `--max-memory` up to that size.
const RESERVATIONS: [usize; 3] = [64 << 20, 1 << 30, LARGEST];

/// The largest of these sizes: all that 32 bits reach.
pub(crate) const LARGEST: usize = 4 << 30;

/// Async instances of a worker that briefly outlive their connections, before
/// they take a place of `--max-background`.
const MOMENTARY: usize = 64;

/// Returns the address space of each memory without its guard, in bytes.
pub(crate) fn reservation(limits: &Limits) -> usize {
    let fits = |reservation: &usize| *reservation >= limits.max_memory;
    RESERVATIONS
        .into_iter()
        .find(fits)
        .unwrap_or(limits.max_memory)
}

/// True if the process may not have all address space that it likes (`ulimit
/// -v`).
pub(crate) fn is_space_limited() -> bool {
    getrlimit(Resource::As).current.is_some()
}

/// Pool slots that an instance takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Number of memories. The heap of collected objects is one too.
    memories: usize,
    collected: bool,
    tables: usize,
    /// Elements of the largest table, grown.
    table_elements: usize,
}

impl Needs {
    /// Counts what the component has, including all nested components.
    ///
    /// # Errors
    /// Fails if a memory is larger than `--max-memory` from the start.
    pub(crate) fn of(component: &Component, uses: Uses, limits: &Limits) -> Result<Self, String> {
        // `None` for a component that imports modules, which no host has.
        let resources = component.resources_required();
        let (memories, tables, elements, pages) = resources.map_or((1, 1, 0, 0), |it| {
            (
                it.num_memories,
                it.num_tables,
                it.max_initial_table_size.unwrap_or(0),
                it.max_initial_memory_size.unwrap_or(0),
            )
        });
        let initial = pages.saturating_mul(PAGE);
        if initial > limits.max_memory as u64 {
            return Err(format!(
                "it begins with a memory of {}, and an instance may have {} (--max-memory)",
                ByteSize::b(initial).display().iec(),
                ByteSize::b(limits.max_memory as u64).display().iec()
            ));
        }
        let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let elements = usize::try_from(elements).unwrap_or(usize::MAX);
        Ok(Self {
            memories: number(memories) + usize::from(uses.gc),
            collected: uses.gc,
            tables: number(tables),
            table_elements: elements.saturating_add(TABLE_GROWTH),
        })
    }
}

/// Address space of a stack, in bytes.
const STACK_SPACE: usize = 2 << 20;

/// Sum of all that the pools of the process take.
static RESERVED: Mutex<Reserve> = Mutex::new(Reserve {
    space: 0,
    mappings: 0,
});

/// Resources that a pool takes from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reserve {
    /// Address space in bytes.
    space: usize,
    /// Mappings: those of stacks. Those of memories come with connections.
    mappings: usize,
}

/// The reserve of a pool. Dropping this gives it back.
#[derive(Debug)]
pub(crate) struct Reserved(Reserve);

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.space = reserved.space.saturating_sub(self.0.space);
        reserved.mappings = reserved.mappings.saturating_sub(self.0.mappings);
    }
}

/// Numbers of instances and connections that fit at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    needs: Needs,
    /// Largest number of connections at once.
    pub connections: usize,
    instances: usize,
    /// Number of stacks for async guests.
    stacks: usize,
    max_memory: usize,
    /// Address space of the pool, in bytes.
    space: usize,
    /// Mappings that a connection takes.
    mappings: usize,
}

impl Room {
    /// Makes room for all connections that are allowed. If the command line
    /// gives no number, makes room for as many as fit into the share of one of
    /// so many services.
    ///
    /// # Errors
    /// Fails if the connections do not fit, and says what helps.
    pub(crate) fn new(
        kind: Kind,
        isolation: Isolation,
        needs: Needs,
        run: &Config,
        services: usize,
    ) -> Result<Self, String> {
        let limits = &run.limits;
        let workers = run.workers.get();
        let sockets = run
            .listeners
            .iter()
            .filter(|it| it.kind == ListenerKind::Udp);
        let left_behind = match kind {
            Kind::Streams | Kind::Proxy | Kind::Service => {
                limits.max_background + workers * MOMENTARY
            }
            Kind::Events | Kind::Command => 0,
        };
        // Instances of datagram sockets, instances that end while others begin,
        // and instances that outlive their connections.
        let others = workers * (2 + sockets.count()) + left_behind;
        // Instances that answer HTTP requests are not shared like others: a
        // worker has as many as are busy.
        let shared = isolation == Isolation::Worker && !kind.answers_requests();
        let awaits = !matches!(kind, Kind::Events | Kind::Command);
        let mut room = Self {
            needs,
            connections: limits.max_connections,
            instances: others,
            stacks: 1,
            max_memory: limits.max_memory,
            space: 0,
            mappings: 0,
        };
        if kind == Kind::Command {
            return Ok(room);
        }
        let of_memories = usize::from(!shared) * needs.memories * MEMORY_MAPPINGS;
        let of_stacks = usize::from(awaits) * STACK_MAPPINGS;
        room.mappings = of_memories + of_stacks;
        let share = Share {
            limits,
            services: services.max(1),
            others,
        };
        let space = memory_space(needs, limits, shared);
        let bounds = [
            space.map(|each| share.of_space(each)),
            share.of_mappings(of_memories, of_stacks),
        ];
        let least = bounds.into_iter().flatten().min_by_key(|(most, _)| *most);
        if let Some((most, reason)) = least
            && most < limits.max_connections
        {
            if limits.connections_given || most == 0 {
                return Err(format!(
                    "there is room for {most} connections at once, not for {} \
                     (--max-connections): {reason}",
                    limits.max_connections
                ));
            }
            tracing::debug!("up to {most} connections at once: {reason}");
            room.connections = most;
        }
        if !shared {
            room.instances += room.connections;
        }
        if awaits {
            // A call that waits inside a host call holds a stack, and each
            // instance needs one for its next call.
            room.stacks = room.connections + others;
        }
        let memories = memory_space(needs, limits, false).unwrap_or(0);
        room.space = memories
            .saturating_mul(room.instances)
            .saturating_add(room.stacks.saturating_mul(STACK_SPACE));
        Ok(room)
    }

    /// Returns how many mappings a connection takes.
    pub(crate) fn mappings(&self) -> u32 {
        u32::try_from(self.mappings).unwrap_or(u32::MAX)
    }

    /// Reserves what the pool takes; returns `None` if there is no pool.
    ///
    /// # Errors
    /// Fails if other pools take too much of it.
    pub(crate) fn reserve(&self) -> Result<Option<Reserved>, String> {
        if self.space == 0 {
            return Ok(None);
        }
        let own = Reserve {
            space: self.space,
            mappings: self.stacks * STACK_MAPPINGS,
        };
        let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
        let space = reserved.space.saturating_add(own.space);
        let mappings = reserved.mappings.saturating_add(own.mappings);
        let (most, allowed) = (address_space(), mappings_of_instances());
        let is_first = reserved.space == 0;
        if space > most && !is_first {
            let shown = |bytes: usize| ByteSize::b(bytes as u64).display().iec().to_string();
            return Err(format!(
                "its instances take {} of address space, and others have {} of {} (a smaller \
                 --max-connections or --max-memory takes less)",
                shown(own.space),
                shown(reserved.space),
                shown(most)
            ));
        }
        if mappings > allowed && !is_first {
            return Err(format!(
                "its instances take {} mappings, and others have {} of {allowed} (sysctl -w \
                 vm.max_map_count=N allows more, a smaller --max-connections takes less)",
                own.mappings, reserved.mappings
            ));
        }
        *reserved = Reserve { space, mappings };
        Ok(Some(Reserved(own)))
    }

    /// Returns how many elements a table may have.
    pub(crate) fn table_elements(&self) -> usize {
        self.needs.table_elements
    }

    /// Returns the configuration of a pool with this room.
    pub(crate) fn pool(&self) -> PoolingAllocationConfig {
        let Needs {
            memories,
            collected,
            tables,
            table_elements,
        } = self.needs;
        let count = |each: usize| u32::try_from(self.instances * each).unwrap_or(u32::MAX);
        let each = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut pool = PoolingAllocationConfig::new();
        // Instances are limited by what they take. What reserves nothing has no
        // limit.
        pool.total_component_instances(u32::MAX)
            .total_core_instances(u32::MAX)
            .max_core_instances_per_component(u32::MAX)
            .max_component_instance_size(usize::MAX)
            .max_core_instance_size(MAX_INSTANCE)
            .total_stacks(each(self.stacks))
            .total_memories(count(memories).max(UNUSED))
            .total_tables(count(tables).max(UNUSED))
            .total_gc_heaps(count(usize::from(collected)).max(1))
            .max_memories_per_component(each(memories))
            // wasmtime iterates over this many for each module that it unloads.
            .max_memories_per_module(each(memories).max(UNUSED))
            .max_tables_per_component(each(tables))
            .max_tables_per_module(each(tables).max(UNUSED))
            .max_memory_size(self.max_memory)
            .table_elements(table_elements)
            .linear_memory_keep_resident(64 << 10)
            .table_keep_resident(16 << 10)
            .max_unused_warm_slots(64)
            .pagemap_scan(wasmtime::Enabled::Auto);
        pool
    }
}

/// Largest size of the host's data for an instance of a core module, in bytes.
/// The size of the component bounds it, so nothing needs to bound it here.
const MAX_INSTANCE: usize = 1 << 30;

/// Slots for modules that the component never instantiates: wasmtime checks
/// those too against the pool.
const UNUSED: u32 = 64;

/// Returns the address space of an instance in bytes; `None` if it takes none.
fn memory_space(needs: Needs, limits: &Limits, shared: bool) -> Option<usize> {
    let memories = needs.memories * (reservation(limits) + GUARD);
    let tables = needs
        .tables
        .saturating_mul(needs.table_elements * size_of::<usize>());
    let each = memories.saturating_add(tables);
    (!shared && each > 0).then_some(each)
}

/// True if the kernel tells which pages of an instance's memory were used:
/// ioctl_pagemap_scan(2).
#[must_use]
pub fn is_pagemap_scan_available() -> bool {
    PoolingAllocationConfig::is_pagemap_scan_available()
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;

    #[test]
    fn what_nested_components_have_is_counted_for_each_of_their_instances() {
        let text = "(component
            (component $inner
                (core module $m (memory 1) (table 30000 funcref))
                (core instance (instantiate $m))
                (core instance (instantiate $m)))
            (instance (instantiate $inner))
            (instance (instantiate $inner)))";
        let engine = Engine::default();
        let component = Component::new(&engine, text).expect("a component");
        let limits = Limits::default();
        let gc = Uses {
            gc: true,
            ..Uses::default()
        };
        for (uses, memories) in [(Uses::default(), 4), (gc, 5)] {
            let needs = Needs::of(&component, uses, &limits).expect("it fits");
            assert_eq!((needs.memories, needs.tables), (memories, 4));
            assert_eq!(needs.table_elements, 50_000);
        }
    }

    #[test]
    fn code_is_good_for_any_limit_up_to_its_reservation() {
        for (max_memory, reserved) in [
            (1 << 20, 64 << 20),
            (64 << 20, 64 << 20),
            ((64 << 20) + 1, 1 << 30),
            (4 << 30, 4 << 30),
        ] {
            let limits = Limits {
                max_memory,
                ..Limits::default()
            };
            assert_eq!(reservation(&limits), reserved);
        }
    }
}
