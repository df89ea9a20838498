//! Objects behind the numbers of connections and datagram sockets.

use slab::Slab;

/// Objects of an instance by their numbers, of which none is given twice.
#[derive(Debug)]
pub(crate) struct Numbers<T> {
    entries: Slab<NumberedEntry<T>>,
    /// Generation of the next number.
    next: u32,
}

#[derive(Debug)]
struct NumberedEntry<T> {
    generation: u32,
    value: T,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
            next: 0,
        }
    }
}

impl<T> Numbers<T> {
    /// Adds an object and returns its number: its place in the lower half, and
    /// above it a generation, so that places may be used again.
    pub(crate) fn add(&mut self, value: T) -> u64 {
        let generation = self.next;
        // After 4 billion objects, a guest that kept the number of one that is
        // long gone could mean another by it. Both are its own.
        self.next = generation.wrapping_add(1);
        number(
            self.entries.insert(NumberedEntry { generation, value }),
            generation,
        )
    }

    /// Returns the object of a number.
    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        let entry = self.entries.get(place(number))?;
        (entry.generation == generation(number)).then_some(&entry.value)
    }

    /// Removes the object of a number.
    pub(crate) fn remove(&mut self, number: u64) {
        if self.get(number).is_some() {
            self.entries.remove(place(number));
        }
    }

    /// Returns the number of the first object for which `is_wanted` is true.
    pub(crate) fn find(&self, is_wanted: impl Fn(&T) -> bool) -> Option<u64> {
        let mut entries = self.entries.iter();
        let found = entries.find(|(_, entry)| is_wanted(&entry.value));
        found.map(|(place, entry)| number(place, entry.generation))
    }

    /// Removes all objects for which `stays` is false.
    pub(crate) fn retain(&mut self, stays: impl Fn(&T) -> bool) {
        self.entries.retain(|_, entry| stays(&entry.value));
    }

    /// Returns how many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns all objects.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| &entry.value)
    }
}

fn number(place: usize, generation: u32) -> u64 {
    u64::from(generation) << 32 | place as u64
}

fn place(number: u64) -> usize {
    usize::try_from(number & u64::from(u32::MAX)).unwrap_or(usize::MAX)
}

fn generation(number: u64) -> u32 {
    u32::try_from(number >> 32).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_given_twice_and_old_ones_mean_nothing() {
        let mut numbers = Numbers::default();
        let (first, second) = (numbers.add('a'), numbers.add('b'));
        assert_eq!(numbers.get(first), Some(&'a'));
        numbers.remove(first);
        assert_eq!(numbers.get(first), None);
        let third = numbers.add('c');
        assert!(third != first && third != second);
        numbers.remove(first);
        assert_eq!(
            numbers.get(third),
            Some(&'c'),
            "its place was that of the first"
        );
        assert_eq!(numbers.get(second), Some(&'b'));
        assert_eq!(numbers.get(u64::MAX), None);
        assert_eq!(numbers.iter().count(), 2);
        assert_eq!(numbers.find(|value| *value == 'c'), Some(third));
        numbers.retain(|value| *value == 'b');
        assert_eq!(
            (numbers.find(|value| *value == 'c'), numbers.len()),
            (None, 1)
        );
    }
}
