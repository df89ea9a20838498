//! The room that a component's instances take in the process, and so how many
//! connections fit at once.
//!
//! A pool reserves address space for all its slots at start. Slots are counted
//! from the compiled component, so that no connection within
//! `--max-connections` is refused for want of a slot.

mod uses;

use std::sync::{Mutex, PoisonError};

use bytesize::ByteSize;
use rustix::process::{Resource, getrlimit};
use wasmtime::PoolingAllocationConfig;
use wasmtime::component::Component;

use netwasm_base::config::{Config, Isolation, Limits, ListenerKind};

use crate::kind::Kind;

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

/// Largest address space of a pool in bytes: half of what 47 bits reach.
const ADDRESS_SPACE: usize = 1 << 46;

/// Linux's default for `vm.max_map_count`, the mappings that a process may
/// have.
const DEFAULT_MAPPINGS: usize = 65_530;

/// Mappings that do not belong to instances: code, heaps, threads.
const OTHER_MAPPINGS: usize = 1024;

/// Mappings of a memory: below, in and above its image, and the rest of its
/// reservation.
const MEMORY_MAPPINGS: usize = 4;

/// Mappings of an async guest's stack: the stack and its guard.
const STACK_MAPPINGS: usize = 2;

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

/// Generations of a service for which there is room by default: one that serves,
/// and one that replaces it.
const GENERATIONS: usize = 2;

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
        let (memories, stacks) = (usize::from(!shared) * needs.memories, usize::from(awaits));
        let mut most = usize::MAX;
        let mut reason = String::new();
        let mut bound = |limit: usize, why: &dyn Fn() -> String| {
            if limit < most {
                (most, reason) = (limit, why());
            }
        };
        if let Some(each) = memory_space(needs, limits, shared) {
            let all = address_space();
            let share = all / services.max(1) / GENERATIONS;
            // A given number may leave no room for a second generation: a reload
            // then says so.
            let fits =
                |space: usize| limits.max_connections <= (space / each).saturating_sub(others);
            let is_little = limits.connections_given && !fits(share) || share / each <= others;
            let space = if is_little { all } else { share };
            bound((space / each).saturating_sub(others), &|| {
                format!(
                    "each takes {} of address space, of which there are {} (fewer bytes of \
                     --max-memory take less)",
                    ByteSize::b(each as u64).display().iec(),
                    ByteSize::b(space as u64).display().iec()
                )
            });
        }
        let (of_memories, of_stacks) = (memories * MEMORY_MAPPINGS, stacks * STACK_MAPPINGS);
        let mappings = of_memories + of_stacks;
        room.mappings = mappings;
        let allowed = mappings_allowed();
        let fit = match stacks {
            0 => mappings_of_instances().checked_div(mappings),
            // Stacks are mapped from the beginning, in each generation.
            _ => {
                let share = mappings_of_instances() / services.max(1);
                let share = share / (of_memories + GENERATIONS * of_stacks);
                let wanted = limits.max_connections.saturating_add(others);
                let is_little = limits.connections_given && share < wanted || share <= others;
                Some(match is_little {
                    true => mappings_of_instances() / mappings,
                    false => share,
                })
            }
        };
        if let Some(fit) = fit {
            bound(fit.saturating_sub(others), &|| {
                format!(
                    "each takes up to {mappings} mappings, and the system allows a process \
                     {allowed} (sysctl -w vm.max_map_count=N allows more)"
                )
            });
        }
        if most < limits.max_connections {
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

/// Returns the address space for a pool in bytes.
fn address_space() -> usize {
    let limit = getrlimit(Resource::As).current.map(|limit| limit / 2);
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(ADDRESS_SPACE, |limit| limit.min(ADDRESS_SPACE))
}

/// Returns how many connections have room in the mappings that the system allows,
/// if each has an instance with one memory, beside a second generation. Those that
/// `awaits` have a stack, too.
#[must_use]
pub fn connections_by_mappings(awaits: bool) -> usize {
    let stacks = if awaits {
        GENERATIONS * STACK_MAPPINGS
    } else {
        0
    };
    mappings_of_instances() / (MEMORY_MAPPINGS + stacks)
}

/// True if the kernel tells which pages of an instance's memory were used:
/// ioctl_pagemap_scan(2).
#[must_use]
pub fn is_pagemap_scan_available() -> bool {
    PoolingAllocationConfig::is_pagemap_scan_available()
}

/// Returns the number of mappings that the instances of a process may have.
#[must_use]
pub fn mappings_of_instances() -> usize {
    mappings_allowed().saturating_sub(OTHER_MAPPINGS)
}

/// Returns the number of mappings that the system allows a process.
fn mappings_allowed() -> usize {
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_MAPPINGS)
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
