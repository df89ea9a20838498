//! Cache of servers' answers, for their TTL.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::rr::{Name, RecordType};

use super::Answer;

/// Maximum of cached answers.
const MOST: usize = 8192;

/// Maximum time that an answer is cached.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The answers, shared by all workers.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Answers>);

type Answers = HashMap<(Name, RecordType), (Answer, Instant)>;

impl Cache {
    pub(super) fn get(&self, name: &Name, family: RecordType) -> Option<Answer> {
        let kept = self.kept();
        let (answer, until) = kept.get(&(name.clone(), family))?;
        (*until > Instant::now()).then(|| answer.clone())
    }

    /// Caches an answer for a time. A full cache drops the expired answers, or
    /// else all.
    pub(super) fn put(&self, name: &Name, family: RecordType, answer: &Answer, time: Duration) {
        if time.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut kept = self.kept();
        if kept.len() >= MOST {
            kept.retain(|_, (_, until)| *until > now);
        }
        if kept.len() >= MOST {
            kept.clear();
        }
        let until = now + time.min(LONGEST);
        kept.insert((name.clone(), family), (answer.clone(), until));
    }

    fn kept(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_by_number_and_time() {
        let cache = Cache::default();
        let name = |number: usize| -> Name {
            let name = format!("{number}.example.");
            name.parse().expect("a name")
        };
        let answer = Ok([[192, 0, 2, 1].into()].into());
        let minute = Duration::from_secs(60);
        for number in 0..3 * MOST {
            cache.put(&name(number), RecordType::A, &answer, minute);
        }
        assert!(cache.kept().len() <= MOST);
        assert_eq!(
            cache.get(&name(3 * MOST - 1), RecordType::A),
            Some(answer.clone())
        );
        cache.put(&name(0), RecordType::A, &answer, Duration::ZERO);
        assert_eq!(cache.get(&name(0), RecordType::A), None);
        assert_eq!(cache.get(&name(3 * MOST - 1), RecordType::AAAA), None);
        let nanosecond = Duration::from_nanos(1);
        cache.put(&name(1), RecordType::A, &answer, nanosecond);
        assert_eq!(cache.get(&name(1), RecordType::A), None);
    }
}
