// Package shared has state that all instances of the service share, on all
// threads: rate limits, and small values that expire. So neither needs
// --isolation worker. It survives a reload, and ends with the host's process;
// --max-shared bounds it.
//
// Keys are texts or other bytes, 256 at most. A bucket and a value of one key
// have nothing to do with each other. A ttl of 0 is for ever.
package shared

import (
	"bytes"
	"strings"
	"time"

	"github.com/netwasm/netwasm"
	host "github.com/netwasm/netwasm/internal/wit/netwasm_net_shared"
	types "github.com/netwasm/netwasm/internal/wit/netwasm_net_types"
	wit "github.com/netwasm/netwasm/internal/wit/types"
)

// Limit is the rate and the size of token buckets.
type Limit struct {
	// Rate is the number of tokens that a bucket gains a second.
	Rate float64
	// Burst is the number of tokens that a bucket holds; it is full at first.
	Burst uint32
}

// Bucket is a bucket after tokens were taken from it, or not.
type Bucket struct {
	// Taken is true if the tokens were there and are taken.
	Taken bool
	// Left is the number of tokens that are left.
	Left uint32
	// Wait is the time until as many tokens are there as were asked for.
	Wait time.Duration
}

// Take takes a token from the bucket of a key.
func (l Limit) Take(key string) (Bucket, error) { return l.TakeMany(key, 1) }

// TakeMany takes so many tokens, or none if there are too few.
func (l Limit) TakeMany(key string, count uint32) (Bucket, error) {
	taken, err := done(host.Take([]byte(key), l.Rate, l.Burst, count))
	return Bucket{taken.Taken, taken.Left, time.Duration(taken.Wait)}, err
}

// Value is a value, and the number that each change of it makes another one.
type Value struct {
	Data    []byte
	Version uint64
}

// Get returns the value of a key; false if there is none, or it has expired.
func Get(key string) (value Value, ok bool) {
	found, ok := host.Get([]byte(key)).Get()
	if !ok {
		return value, false
	}
	return Value{bytes.Clone(found.Data), found.Version}, true
}

// Set sets a value of 64 KiB at most, and returns its version.
func Set(key string, data []byte, ttl time.Duration) (version uint64, err error) {
	return done(host.Set([]byte(key), data, some(ttl)))
}

// Create sets a value if there is none. Returns false if there is one.
func Create(key string, data []byte, ttl time.Duration) (version uint64, ok bool, err error) {
	return swap(key, wit.None[uint64](), data, ttl)
}

// CompareAndSwap sets a value if the one that is there has that version, and
// returns the new one. Returns false if another instance was faster.
func CompareAndSwap(
	key string, version uint64, data []byte, ttl time.Duration,
) (next uint64, ok bool, err error) {
	return swap(key, wit.Some(version), data, ttl)
}

func swap(
	key string, version wit.Option[uint64], data []byte, ttl time.Duration,
) (uint64, bool, error) {
	now, err := done(host.CompareAndSwap([]byte(key), version, data, some(ttl)))
	next, ok := now.Get()
	return next, ok, err
}

// Add adds to a counter, and returns the sum. A new one begins at 0 and expires
// after ttl; that of one that is there stays.
func Add(key string, more int64, ttl time.Duration) (sum int64, err error) {
	return done(host.Add([]byte(key), more, some(ttl)))
}

// Touch lets a value expire after ttl from now. Returns false if there is none.
func Touch(key string, ttl time.Duration) bool { return host.Touch([]byte(key), some(ttl)) }

// Remove removes a value. Returns false if there is none.
func Remove(key string) bool { return host.Remove([]byte(key), wit.None[uint64]()) }

// RemoveVersion removes a value if it has that version.
func RemoveVersion(key string, version uint64) bool {
	return host.Remove([]byte(key), wit.Some(version))
}

func done[T any](result wit.Result[T, types.Error]) (value T, err error) {
	if result.IsErr() {
		fail := result.Err()
		return value, &netwasm.Error{Code: netwasm.Code(fail.Code), Text: strings.Clone(fail.Text)}
	}
	return result.Ok(), nil
}

func some(ttl time.Duration) wit.Option[uint64] {
	if ttl <= 0 {
		return wit.None[uint64]()
	}
	return wit.Some(uint64(ttl))
}
