//! Limits on the growth of an instance's memories and tables.

use std::sync::Arc;

use bytesize::ByteSize;
use wasmtime::ResourceLimiter;

use netwasm_base::counters::Counters;

use crate::local::Env;

/// Limits on the growth of an instance's memories and tables. They count the
/// instance and its memory, too.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    env: Arc<Env>,
    held: HeldMemory,
    /// True once the instance is counted as made.
    is_made: bool,
    /// True if growth was denied. The log says so once, and again if the guest
    /// traps.
    pub(crate) denied: bool,
}

impl MemoryLimit {
    /// Returns the limit of an instance that has no memory yet.
    pub(crate) fn new(env: &Arc<Env>) -> Self {
        Self {
            env: Arc::clone(env),
            held: HeldMemory::new(&env.net.counters),
            is_made: false,
            denied: false,
        }
    }

    /// Counts the instance, which was made.
    pub(crate) fn made(&mut self) {
        self.is_made = true;
        self.env.net.counters.instances_made.add();
    }

    /// Forgets the memories of an attempt to make the instance that has failed.
    pub(crate) fn forget(&mut self) {
        self.held.forget();
    }

    fn deny(&mut self, wanted: usize) {
        if std::mem::replace(&mut self.denied, true) {
            return;
        }
        let size = |bytes: usize| ByteSize::b(bytes as u64).display().iec();
        tracing::warn!(
            guest = %self.env.net.guest,
            "the guest wants {} of memory, and --max-memory is {}",
            size(wanted),
            size(self.env.net.limits.max_memory)
        );
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if self.is_made {
            self.env.net.counters.instances_ended.add();
        }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The memory's own maximum denies it.
            return Ok(false);
        }
        let grown = self
            .held
            .grow(current, desired, self.env.net.limits.max_memory);
        if let Err(wanted) = grown {
            self.deny(wanted);
        }
        Ok(grown.is_ok())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= self.env.room.table_elements())
    }
}

/// Size of all memories of an instance together, which counts with that of
/// others.
#[derive(Debug)]
struct HeldMemory {
    bytes: usize,
    counters: Arc<Counters>,
}

impl HeldMemory {
    fn new(counters: &Arc<Counters>) -> Self {
        Self {
            bytes: 0,
            counters: Arc::clone(counters),
        }
    }

    /// Grows a memory from a size to another, within `most` for all.
    ///
    /// # Errors
    /// Fails with the size of all that is wanted.
    fn grow(&mut self, current: usize, desired: usize, most: usize) -> Result<(), usize> {
        let wanted = self.bytes.saturating_sub(current).saturating_add(desired);
        if wanted > most {
            return Err(wanted);
        }
        let level = &self.counters.instance_memory;
        level.raise(wanted.saturating_sub(self.bytes));
        self.bytes = self.bytes.max(wanted);
        Ok(())
    }

    fn forget(&mut self) {
        self.counters.instance_memory.lower(self.bytes);
        self.bytes = 0;
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_of_a_failed_attempt_do_not_count_in_the_next() {
        let counters = Arc::<Counters>::default();
        let level = || counters.instance_memory.get();
        let mut held = HeldMemory::new(&counters);
        held.grow(0, 10, 16).expect("it fits");
        assert_eq!((level(), held.grow(0, 10, 16)), (10, Err(20)));
        held.forget();
        assert_eq!(level(), 0);
        // The next attempt begins with the same memory, and may grow it.
        held.grow(0, 10, 16).expect("it fits");
        held.grow(10, 16, 16).expect("it fits");
        assert_eq!((level(), held.grow(16, 17, 16)), (16, Err(17)));
        drop(held);
        assert_eq!(level(), 0);
    }
}
