//! Tasks that poll themselves again within a poll.

use super::Turns;

impl Turns {
    /// Notes that a task polls itself again, which is work as another poll is.
    /// Returns true if the round has time for it.
    pub fn goes_on(&self) -> bool {
        // The poll that this is part of reads the clock, at its end.
        self.work.set(self.work.get() + 1);
        !self.over.get() && !self.is_overdue()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Steps, WORK};
    use super::*;

    #[test]
    fn polling_again_is_work() {
        let turns = Turns::new(Steps::default());
        for _ in 0..WORK {
            assert!(turns.goes_on());
        }
        turns.turn().note(0);
        assert!(turns.begun.get().is_some(), "the clock was not read");
        turns.over.set(true);
        assert!(!turns.goes_on());
    }

    #[test]
    fn an_overdue_round_has_no_time() {
        let steps = Steps::default();
        let turns = Turns::new(steps.clone());
        assert!(turns.goes_on());
        steps.advance();
        assert!(!turns.goes_on());
    }
}
