//! What servers said, for as long as they say.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::rr::{Name, RecordType};

use super::Answer;

/// Answers that are kept.
const MOST: usize = 8192;

/// How long an answer is kept at most.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The answers that all workers share.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Answers>);

type Answers = HashMap<(Name, RecordType), (Answer, Instant)>;

impl Cache {
    pub(super) fn get(&self, name: &Name, family: RecordType) -> Option<Answer> {
        let kept = self.kept();
        let (answer, until) = kept.get(&(name.clone(), family))?;
        (*until > Instant::now()).then(|| answer.clone())
    }

    /// Keeps an answer for a time. When there are too many, those go that are
    /// no longer good, or else all.
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
