//! Queries and forms by serde.

use serde::de::value::{Error, MapDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, Visitor,
};
use serde::forward_to_deserialize_any;

use super::Pairs;

/// Deserializes names and values.
pub(super) fn read<T: DeserializeOwned>(pairs: Pairs) -> Result<T, Error> {
    let pairs = pairs.into_inner().into_iter();
    let parts = pairs.map(|(name, value)| (name, Value(value)));
    T::deserialize(MapDeserializer::new(parts))
}

/// A value, which becomes what is asked for.
struct Value(String);

impl IntoDeserializer<'_> for Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($deserialize:ident $visit:ident $what:literal)+) => {
        $(fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(serde::de::Error::custom(concat!("expected ", $what))),
            }
        })+
    };
}

impl<'de> Deserializer<'de> for Value {
    type Error = Error;

    parsed! {
        deserialize_bool visit_bool "true or false"
        deserialize_i8 visit_i8 "a number"
        deserialize_i16 visit_i16 "a number"
        deserialize_i32 visit_i32 "a number"
        deserialize_i64 visit_i64 "a number"
        deserialize_u8 visit_u8 "a number"
        deserialize_u16 visit_u16 "a number"
        deserialize_u32 visit_u32 "a number"
        deserialize_u64 visit_u64 "a number"
        deserialize_f32 visit_f32 "a number"
        deserialize_f64 visit_f64 "a number"
        deserialize_char visit_char "one character"
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.0)
    }

    /// A value that was sent is there, even if it is empty.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        i128 u128 str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// A unit variant by its name.
impl<'de> EnumAccess<'de> for Value {
    type Error = Error;
    type Variant = <serde::de::value::StringDeserializer<Error> as EnumAccess<'de>>::Variant;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Error> {
        let name: serde::de::value::StringDeserializer<Error> = self.0.into_deserializer();
        name.variant_seed(seed)
    }
}
