//! Permits for what there is only so much of: connections, above all.
//!
//! A service has a budget, which its generations share: while one replaces
//! another, there are no more connections than otherwise. The budgets of all
//! services are within those of the process. A connection on a listener that
//! services share takes of the budget of each, as it may need an instance of
//! each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// A budget that several draw from.
#[derive(Debug)]
pub struct Whole {
    free: Semaphore,
    most: Mutex<usize>,
    /// Place in the order in which permits are taken, the same for all.
    order: u64,
    /// Notified when a permit is wanted and none is free.
    pub(crate) wanted: Notify,
}

impl Whole {
    /// Returns a budget of so many permits.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let most = most.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            free: Semaphore::new(most),
            most: Mutex::new(most),
            order: MADE.fetch_add(1, Ordering::Relaxed),
            wanted: Notify::new(),
        })
    }

    /// Raises the budget to so many permits. A smaller number changes nothing:
    /// permits that were given cannot be taken back.
    pub fn raise(&self, most: usize) {
        let most = most.min(Semaphore::MAX_PERMITS);
        let mut now = self.most.lock().unwrap_or_else(PoisonError::into_inner);
        if most > *now {
            self.free.add_permits(most - *now);
            *now = most;
        }
    }
}

/// A service's budget, within those of the process.
#[derive(Debug)]
pub struct Permits {
    most: usize,
    /// All that a permit takes, and how much of each: the service's own budget,
    /// and then those of the process.
    takes: Vec<(Arc<Whole>, u32)>,
}

impl Permits {
    /// Returns a budget of so many permits, each of which takes so much of
    /// budgets of the process.
    #[must_use]
    pub fn new(most: usize, within: Vec<(Arc<Whole>, u32)>) -> Arc<Self> {
        let mut takes = vec![(Whole::new(most), 1)];
        takes.extend(within);
        Arc::new(Self::in_order(most, takes))
    }

    /// Returns a budget of its own for connections that may use any of several
    /// services. A permit takes one of each service's budget, and as much of the process's as
    /// the greediest.
    #[must_use]
    pub fn joined<'a>(first: &Self, others: impl Iterator<Item = &'a Arc<Self>>) -> Arc<Self> {
        let mut others = others.map(|its| &**its).peekable();
        if others.peek().is_none() {
            let (most, takes) = (first.most, first.takes.clone());
            return Arc::new(Self { most, takes });
        }
        let mut most = usize::MAX;
        let mut takes: Vec<(Arc<Whole>, u32)> = Vec::new();
        for permits in std::iter::once(first).chain(others) {
            most = most.min(permits.most);
            for (whole, each) in permits.what_lacks() {
                match takes.iter_mut().find(|(its, _)| Arc::ptr_eq(its, whole)) {
                    Some((_, known)) => *known = (*known).max(*each),
                    None => takes.push((Arc::clone(whole), *each)),
                }
            }
        }
        Arc::new(Self::in_order(most, takes))
    }

    /// Sorts what a permit takes, so that no two wait for what the other has. The
    /// budgets of the process were made first and are taken last, since others
    /// wait for them.
    fn in_order(most: usize, mut takes: Vec<(Arc<Whole>, u32)>) -> Self {
        takes.sort_by_key(|(whole, _)| std::cmp::Reverse(whole.order));
        Self { most, takes }
    }

    /// Returns what a permit takes, without the service's own budget if those of
    /// the process are used up before: of a thousand services, hardly one has a
    /// budget that is smaller.
    fn what_lacks(&self) -> &[(Arc<Whole>, u32)] {
        // The newest is the service's own.
        let of_process = self.takes.get(1..).unwrap_or_default();
        let fit = of_process.iter().map(|(whole, each)| {
            let most = *whole.most.lock().unwrap_or_else(PoisonError::into_inner);
            most / usize::try_from(*each).unwrap_or(usize::MAX).max(1)
        });
        match fit.min() {
            Some(fit) if fit <= self.most => of_process,
            _ => &self.takes,
        }
    }

    /// Returns the budget.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// True if permits of both budgets take as much of the process.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        // The newest is the service's own.
        let of_process = |it: &Self| it.takes.get(1..).unwrap_or_default().to_vec();
        let (own, its) = (of_process(self), of_process(other));
        let mut both = own.iter().zip(&its);
        self.most == other.most
            && own.len() == its.len()
            && both.all(|((whole, each), (other, each_of_other))| {
                Arc::ptr_eq(whole, other) && each == each_of_other
            })
    }

    /// Takes a permit if one is free.
    #[must_use]
    pub fn try_take(self: &Arc<Self>) -> Option<Permit> {
        let mut taking = Taking::of(self);
        for (whole, each) in &self.takes {
            whole.free.try_acquire_many(*each).ok()?.forget();
            taking.wholes += 1;
        }
        std::mem::forget(taking);
        Some(Permit(Arc::clone(self)))
    }

    /// Waits for a permit, in order.
    pub(crate) async fn take(self: &Arc<Self>) -> Permit {
        let mut taking = Taking::of(self);
        for (whole, each) in &self.takes {
            match whole.free.acquire_many(*each).await {
                Ok(permit) => permit.forget(),
                // Budgets are not closed.
                Err(_) => std::future::pending().await,
            }
            taking.wholes += 1;
        }
        std::mem::forget(taking);
        Permit(Arc::clone(self))
    }

    /// Returns the budgets from which a permit cannot be taken at present.
    pub(crate) fn scarce(&self) -> impl Iterator<Item = &Arc<Whole>> {
        let scarce = self.takes.iter().filter(|(whole, each)| {
            whole.free.available_permits() < usize::try_from(*each).unwrap_or(usize::MAX)
        });
        scarce.map(|(whole, _)| whole)
    }

    /// Returns all budgets that a permit takes of.
    pub(crate) fn wholes(&self) -> impl Iterator<Item = &Arc<Whole>> {
        self.takes.iter().map(|(whole, _)| whole)
    }

    /// Returns how much a permit takes of a budget.
    fn each_of(&self, of: &Arc<Whole>) -> u32 {
        let mut takes = self.takes.iter();
        let found = takes.find(|(whole, _)| Arc::ptr_eq(whole, of));
        found.map_or(0, |(_, each)| *each)
    }

    /// Frees what a permit has taken of the first so many budgets.
    fn free(&self, wholes: usize) {
        for (whole, each) in self.takes.iter().take(wholes) {
            whole.free.add_permits(usize::try_from(*each).unwrap_or(0));
        }
    }
}

/// A permit. Dropping it frees it.
#[derive(Debug)]
pub struct Permit(Arc<Permits>);

impl Permit {
    /// True if it was taken from this budget.
    pub(crate) fn is_of(&self, permits: &Arc<Permits>) -> bool {
        Arc::ptr_eq(&self.0, permits)
    }

    /// Makes it a permit of another budget: takes what that takes more, and frees
    /// what it takes less. Returns false if something is not free; then nothing
    /// has changed.
    #[must_use]
    pub(crate) fn move_to(&mut self, to: &Arc<Permits>) -> bool {
        if self.is_of(to) {
            return true;
        }
        let mut taken = Vec::new();
        for (whole, each) in &to.takes {
            let more = each.saturating_sub(self.0.each_of(whole));
            match whole.free.try_acquire_many(more) {
                Ok(permit) => taken.push(permit),
                // Those that were taken are freed.
                Err(_) => return false,
            }
        }
        taken.into_iter().for_each(SemaphorePermit::forget);
        for (whole, each) in &self.0.takes {
            let less = each.saturating_sub(to.each_of(whole));
            whole.free.add_permits(usize::try_from(less).unwrap_or(0));
        }
        self.0 = Arc::clone(to);
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.free(usize::MAX);
    }
}

/// A permit that is being taken. Dropping it gives back what it has.
struct Taking<'a> {
    of: &'a Permits,
    /// Number of budgets from which it was taken.
    wholes: usize,
}

impl<'a> Taking<'a> {
    fn of(permits: &'a Permits) -> Self {
        Self {
            of: permits,
            wholes: 0,
        }
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.of.free(self.wholes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_share_the_budget_of_their_process() {
        let (whole, weights) = (Whole::new(3), Whole::new(5));
        let within = |each| vec![(Arc::clone(&whole), 1), (Arc::clone(&weights), each)];
        let (light, heavy) = (Permits::new(2, within(1)), Permits::new(2, within(4)));
        let first = light.try_take().expect("a permit");
        let one = heavy.try_take().expect("a permit");
        // The rest is not enough for either.
        assert!(heavy.try_take().is_none());
        assert!(light.try_take().is_none());
        assert_eq!(whole.free.available_permits(), 1);
        drop(one);
        let second = light.try_take().expect("a permit");
        assert!(light.try_take().is_none(), "its own budget is used up");
        weights.raise(10);
        let third = heavy.try_take().expect("a permit");
        assert!(heavy.try_take().is_none(), "three in the process");
        drop((first, second, third));
        assert_eq!(whole.free.available_permits(), 3);
        assert_eq!(weights.free.available_permits(), 10);
        for permits in [&light, &heavy] {
            assert_eq!(permits.takes[0].0.free.available_permits(), 2);
            assert_eq!(permits.scarce().count(), 0);
        }
    }

    #[test]
    fn a_connection_that_may_use_several_services_takes_a_place_of_each() {
        let (process, mappings) = (Whole::new(9), Whole::new(20));
        let within = |each| vec![(Arc::clone(&process), 1), (Arc::clone(&mappings), each)];
        let (owner, member) = (Permits::new(5, within(2)), Permits::new(3, within(4)));
        let (light, heavy) = (Permits::new(9, within(1)), Permits::new(5, within(4)));
        let shared = Permits::joined(&owner, [&member, &light, &heavy].into_iter());
        assert_eq!(shared.most(), 3);
        assert_eq!(shared.takes.len(), 4, "two have as much as the process");
        let own = member.try_take().expect("a permit");
        let two = [shared.try_take(), shared.try_take()];
        assert!(two.iter().all(Option::is_some));
        assert_eq!(process.free.available_permits(), 6);
        assert_eq!(mappings.free.available_permits(), 20 - 3 * 4);
        assert!(shared.try_take().is_none() && member.try_take().is_none());
        assert_eq!(shared.scarce().count(), 1, "of the member");
        assert!(owner.try_take().is_some(), "the owner has room for others");
        drop(own);
        assert!(shared.try_take().is_some());
        drop(two);
        assert_eq!(process.free.available_permits(), 9);
        assert_eq!(mappings.free.available_permits(), 20);
    }

    #[test]
    fn a_permit_moves_with_what_it_takes_or_stays_as_it_is() {
        let (process, mappings) = (Whole::new(9), Whole::new(20));
        let within = |each| vec![(Arc::clone(&process), 1), (Arc::clone(&mappings), each)];
        let (owner, member) = (Permits::new(5, within(2)), Permits::new(2, within(4)));
        let alone = Permits::joined(&owner, [].into_iter());
        let shared = Permits::joined(&owner, [&member].into_iter());
        let free = || {
            let own = |permits: &Permits| permits.takes[0].0.free.available_permits();
            let of_process = [&process, &mappings].map(|whole| whole.free.available_permits());
            (own(&owner), own(&member), of_process)
        };
        let mut three = [(); 3].map(|()| alone.try_take().expect("a permit"));
        assert_eq!(free(), (2, 2, [6, 14]));
        let moved = three.each_mut().map(|permit| permit.move_to(&shared));
        assert_eq!(moved, [true, true, false], "the member has two");
        assert!(three[0].is_of(&shared) && three[2].is_of(&alone));
        assert_eq!(free(), (2, 0, [6, 10]));
        // The member leaves.
        let moved = three.each_mut().map(|permit| permit.move_to(&alone));
        assert_eq!((moved, free()), ([true; 3], (2, 2, [6, 14])));
        drop(three);
        assert_eq!(free(), (5, 2, [9, 20]));
    }
}
