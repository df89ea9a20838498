//! The query of a target, after its question mark. Nothing is percent-encoded.

use super::netwasm::net::http::Fields;

pub(super) struct Query<'a>(pub(super) &'a str);

impl<'a> Query<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(move |(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    pub(super) fn first(&self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.split('&').any(|word| word == name)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let text = self.first(name)?;
        Some(text.parse().expect("a number"))
    }

    /// Fields NAME:VALUE, and as many more as `fields` says.
    pub(super) fn fields(&self, name: &str) -> Fields {
        let more = self.number("fields").unwrap_or_default();
        let more = (0..more).map(|place| (format!("x-{place}"), b"1".to_vec()));
        self.all(name)
            .map(|field| {
                let (name, value) = field.split_once(':').expect("NAME:VALUE");
                (name.to_owned(), value.into())
            })
            .chain(more)
            .collect()
    }
}
