//! Values by small numbers that are used again.

/// Values, each by its key.
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    /// The first vacant entry, or the number of entries if none is vacant.
    vacant: usize,
}

enum Entry<T> {
    Taken(T),
    /// The next vacant entry.
    Vacant(usize),
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            vacant: 0,
        }
    }

    /// Returns the key that the next value gets.
    pub(crate) const fn next_key(&self) -> usize {
        self.vacant
    }

    pub(crate) fn insert(&mut self, value: T) -> usize {
        let key = self.vacant;
        match self.entries.get_mut(key) {
            Some(entry) => {
                if let Entry::Vacant(next) = std::mem::replace(entry, Entry::Taken(value)) {
                    self.vacant = next;
                }
            }
            None => {
                if self.entries.is_empty() {
                    // Most instances have one connection with one task.
                    self.entries.reserve_exact(1);
                }
                self.entries.push(Entry::Taken(value));
                self.vacant = self.entries.len();
            }
        }
        key
    }

    pub(crate) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        match self.entries.get_mut(key) {
            Some(Entry::Taken(value)) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: usize) -> Option<T> {
        let entry = self.entries.get_mut(key)?;
        if let Entry::Vacant(_) = entry {
            return None;
        }
        match std::mem::replace(entry, Entry::Vacant(self.vacant)) {
            Entry::Taken(value) => {
                self.vacant = key;
                Some(value)
            }
            Entry::Vacant(_) => None,
        }
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().filter_map(|entry| match entry {
            Entry::Taken(value) => Some(value),
            Entry::Vacant(_) => None,
        })
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Slab;

    #[test]
    fn keys_are_used_again() {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..4).map(|value| slab.insert(value)).collect();
        assert_eq!(keys, [0, 1, 2, 3]);
        assert_eq!(slab.remove(1), Some(1));
        assert_eq!(slab.remove(3), Some(3));
        assert_eq!(slab.remove(3), None);
        assert_eq!(slab.get_mut(1), None);
        assert_eq!(slab.next_key(), 3);
        assert_eq!((slab.insert(7), slab.insert(8), slab.insert(9)), (3, 1, 4));
        assert_eq!(
            slab.values_mut().map(|it| *it).collect::<Vec<_>>(),
            [0, 8, 2, 7, 9]
        );
    }
}
