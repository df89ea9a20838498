//! Permits for what there is only so much of: connections, above all.
//!
//! A service has a budget, which its generations share: while one replaces
//! another, there are no more connections than otherwise. The budgets of all
//! services are within those of the process.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// A budget of the process, which services draw from.
#[derive(Debug)]
pub struct Whole {
    free: Semaphore,
    most: Mutex<usize>,
    /// Notified when a permit is wanted and none is free.
    pub(crate) wanted: Notify,
}

impl Whole {
    /// Returns a budget of so many permits.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        let most = most.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            free: Semaphore::new(most),
            most: Mutex::new(most),
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

/// A service's budget.
#[derive(Debug)]
pub struct Permits {
    free: Semaphore,
    most: usize,
    /// Budgets of the process, and how much of each a permit takes.
    within: Vec<(Arc<Whole>, u32)>,
}

impl Permits {
    /// Returns a budget of so many permits, each of which takes so much of
    /// budgets of the process.
    #[must_use]
    pub fn new(most: usize, within: Vec<(Arc<Whole>, u32)>) -> Arc<Self> {
        Arc::new(Self {
            free: Semaphore::new(most.min(Semaphore::MAX_PERMITS)),
            most,
            within,
        })
    }

    /// Returns the budget.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// True if permits of both budgets take as much of the process.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let mut both = self.within.iter().zip(&other.within);
        self.most == other.most
            && self.within.len() == other.within.len()
            && both.all(|((whole, each), (its, each_of_its))| {
                Arc::ptr_eq(whole, its) && each == each_of_its
            })
    }

    /// Takes a permit if one is free.
    #[must_use]
    pub fn try_take(self: &Arc<Self>) -> Option<Permit> {
        let mut taking = Taking::with(self, self.free.try_acquire().ok()?);
        for (whole, each) in &self.within {
            taking.add(whole.free.try_acquire_many(*each).ok()?);
        }
        std::mem::forget(taking);
        Some(Permit(Arc::clone(self)))
    }

    /// Waits for a permit, in order.
    pub(crate) async fn take(self: &Arc<Self>) -> Permit {
        let mut taking = match self.free.acquire().await {
            Ok(permit) => Taking::with(self, permit),
            // Budgets are not closed.
            Err(_) => std::future::pending().await,
        };
        for (whole, each) in &self.within {
            match whole.free.acquire_many(*each).await {
                Ok(permit) => taking.add(permit),
                Err(_) => std::future::pending().await,
            }
        }
        std::mem::forget(taking);
        Permit(Arc::clone(self))
    }

    /// Returns the budgets of the process from which a permit cannot be taken at
    /// present.
    pub(crate) fn scarce(&self) -> impl Iterator<Item = &Arc<Whole>> {
        let within = self.within.iter();
        let scarce = within.filter(|(whole, each)| {
            whole.free.available_permits() < usize::try_from(*each).unwrap_or(usize::MAX)
        });
        scarce.map(|(whole, _)| whole)
    }

    /// Returns the budgets of the process.
    pub(crate) fn wholes(&self) -> impl Iterator<Item = &Arc<Whole>> {
        self.within.iter().map(|(whole, _)| whole)
    }

    /// Frees a permit, of which the first so many budgets of the process were
    /// taken.
    fn free(&self, wholes: usize) {
        self.free.add_permits(1);
        for (whole, each) in self.within.iter().take(wholes) {
            whole.free.add_permits(usize::try_from(*each).unwrap_or(0));
        }
    }
}

/// A permit. Dropping it frees it.
#[derive(Debug)]
pub struct Permit(Arc<Permits>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.free(usize::MAX);
    }
}

/// A permit that is being taken. Dropping it gives back what it has.
struct Taking<'a> {
    of: &'a Permits,
    /// Number of budgets of the process from which it was taken.
    wholes: usize,
}

impl<'a> Taking<'a> {
    /// Begins with a permit of the service's budget.
    fn with(of: &'a Permits, permit: SemaphorePermit<'_>) -> Self {
        permit.forget();
        Self { of, wholes: 0 }
    }

    fn add(&mut self, permit: SemaphorePermit<'_>) {
        permit.forget();
        self.wholes += 1;
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
        assert_eq!(
            (
                light.free.available_permits(),
                heavy.free.available_permits()
            ),
            (2, 2)
        );
    }
}
