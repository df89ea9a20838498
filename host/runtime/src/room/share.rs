//! The address space and the mappings that a process may have, and the share of a
//! service in them.

use bytesize::ByteSize;
use rustix::process::{Resource, getrlimit};

use netwasm_base::config::Limits;

/// Largest address space of a pool in bytes: half of what 47 bits reach.
const ADDRESS_SPACE: usize = 1 << 46;

/// Linux's default for `vm.max_map_count`, the mappings that a process may
/// have.
const DEFAULT_MAPPINGS: usize = 65_530;

/// Mappings that do not belong to instances: code, heaps, threads.
const OTHER_MAPPINGS: usize = 1024;

/// Mappings of a memory: below, in and above its image, and the rest of its
/// reservation.
pub(super) const MEMORY_MAPPINGS: usize = 4;

/// Mappings of an async guest's stack: the stack and its guard.
pub(super) const STACK_MAPPINGS: usize = 2;

/// Generations of a service for which there is room by default: one that serves,
/// and one that replaces it.
const GENERATIONS: usize = 2;

/// The share of a service in what a process may have.
pub(super) struct Share<'a> {
    pub(super) limits: &'a Limits,
    /// Number of services.
    pub(super) services: usize,
    /// Instances besides those of connections.
    pub(super) others: usize,
}

impl Share<'_> {
    /// Returns how many connections fit if each takes this much address space, in
    /// bytes, and why no more do.
    pub(super) fn of_space(&self, each: usize) -> (usize, String) {
        let all = address_space();
        let share = all / self.services / GENERATIONS;
        // A given number may leave no room for a second generation: a reload
        // then says so.
        let fit = |space: usize| (space / each).saturating_sub(self.others);
        let is_little = self.limits.connections_given && fit(share) < self.limits.max_connections
            || share / each <= self.others;
        let space = if is_little { all } else { share };
        let reason = format!(
            "each takes {} of address space, of which there are {} (fewer bytes of \
             --max-memory take less)",
            ByteSize::b(each as u64).display().iec(),
            ByteSize::b(space as u64).display().iec()
        );
        (fit(space), reason)
    }

    /// Returns how many connections fit if each takes this many mappings, and why
    /// no more do; `None` if they take none.
    pub(super) fn of_mappings(
        &self,
        of_memories: usize,
        of_stacks: usize,
    ) -> Option<(usize, String)> {
        let each = of_memories + of_stacks;
        let all = mappings_of_instances();
        let fit = match of_stacks {
            0 => all.checked_div(each)?,
            // Stacks are mapped from the beginning, in each generation.
            _ => {
                let share = all / self.services / (of_memories + GENERATIONS * of_stacks);
                let wanted = self.limits.max_connections.saturating_add(self.others);
                let is_little =
                    self.limits.connections_given && share < wanted || share <= self.others;
                if is_little { all / each } else { share }
            }
        };
        let reason = format!(
            "each takes up to {each} mappings, and the system allows a process {} (sysctl -w \
             vm.max_map_count=N allows more)",
            mappings_allowed()
        );
        Some((fit.saturating_sub(self.others), reason))
    }
}

/// Returns the address space for a pool in bytes.
pub(super) fn address_space() -> usize {
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
