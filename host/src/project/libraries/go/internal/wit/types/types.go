// Package types has the types of WIT that Go has no word for.
package types

// Unit is the type of nothing.
type Unit struct{}

// Tags of an Option.
const (
	OptionNone uint8 = iota
	OptionSome
)

// Option is a value, or none. Its zero value is none.
type Option[T any] struct {
	tag   uint8
	value T
}

// None makes an Option without a value.
func None[T any]() Option[T] { return Option[T]{} }

// Some makes an Option with a value.
func Some[T any](value T) Option[T] { return Option[T]{OptionSome, value} }

// Tag returns OptionNone or OptionSome.
func (o Option[T]) Tag() uint8 { return o.tag }

// IsSome returns true if there is a value.
func (o Option[T]) IsSome() bool { return o.tag == OptionSome }

// Some returns the value.
func (o Option[T]) Some() T {
	if o.tag != OptionSome {
		panic("there is no value")
	}
	return o.value
}

// Get returns the value, or the type's zero value.
func (o Option[T]) Get() (value T, ok bool) { return o.value, o.tag == OptionSome }

// Tags of a Result.
const (
	ResultOk uint8 = iota
	ResultErr
)

// Result is the result of something that may fail.
type Result[T, E any] struct {
	tag  uint8
	ok   T
	fail E
}

// Ok makes a Result of success.
func Ok[T, E any](value T) Result[T, E] { return Result[T, E]{ok: value} }

// Err makes a Result of failure.
func Err[T, E any](fail E) Result[T, E] { return Result[T, E]{tag: ResultErr, fail: fail} }

// Tag returns ResultOk or ResultErr.
func (r Result[T, E]) Tag() uint8 { return r.tag }

// Ok returns the value of a success.
func (r Result[T, E]) Ok() T { return r.ok }

// Err returns the error of a failure.
func (r Result[T, E]) Err() E { return r.fail }

// IsErr returns true for a failure.
func (r Result[T, E]) IsErr() bool { return r.tag == ResultErr }

// Tuple2 is a tuple of two.
type Tuple2[A, B any] struct {
	F0 A
	F1 B
}

// Tuple3 is a tuple of three.
type Tuple3[A, B, C any] struct {
	F0 A
	F1 B
	F2 C
}

// Tuple4 is a tuple of four.
type Tuple4[A, B, C, D any] struct {
	F0 A
	F1 B
	F2 C
	F3 D
}

// Tuple8 is a tuple of eight.
type Tuple8[A, B, C, D, E, F, G, H any] struct {
	F0 A
	F1 B
	F2 C
	F3 D
	F4 E
	F5 F
	F6 G
	F7 H
}
