package netwasm

import (
	"container/heap"
	"net/netip"
	"time"

	"github.com/netwasm/netwasm/internal/handlers"
	resolver "github.com/netwasm/netwasm/internal/wit/netwasm_net_resolver"
	clock "github.com/netwasm/netwasm/internal/wit/netwasm_net_timers"
	types "github.com/netwasm/netwasm/internal/wit/netwasm_net_types"
	wit "github.com/netwasm/netwasm/internal/wit/types"
)

// Timer is a call to come.
type Timer struct {
	at    uint64
	index int
	call  func()
}

// timers is a heap: the first to come is the first.
type timers []*Timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at < t[j].at }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}

func (t *timers) Push(it any) {
	timer := it.(*Timer)
	timer.index = len(*t)
	*t = append(*t, timer)
}

func (t *timers) Pop() any {
	last := len(*t) - 1
	timer := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	timer.index = -1
	return timer
}

var waiting timers

// Now returns the time of a monotonic clock, whose start means nothing.
func Now() time.Duration { return time.Duration(clock.Now()) }

// AfterFunc calls a function after some time, in an event of its own.
func AfterFunc(after time.Duration, call func()) *Timer {
	handlers.TimerHandler.Woken = woken
	timer := &Timer{at: clock.Now() + uint64(max(after, 0)), call: call}
	heap.Push(&waiting, timer)
	if timer.index == 0 {
		clock.WakeAt(wit.Some(timer.at))
	}
	return timer
}

// Stop cancels the call. Returns false if it was made or cancelled before.
func (t *Timer) Stop() bool {
	if t.index < 0 {
		return false
	}
	// The host may wake for nothing: that costs less than telling it.
	heap.Remove(&waiting, t.index)
	return true
}

func woken() {
	for len(waiting) > 0 && waiting[0].at <= clock.Now() {
		heap.Pop(&waiting).(*Timer).call()
	}
	if len(waiting) > 0 {
		clock.WakeAt(wit.Some(waiting[0].at))
	}
}

var lookups table[func([]netip.Addr, error)]

// Resolve looks up a name, and calls back with its addresses, in the order in
// which they should be tried, or the error.
func Resolve(name string, call func([]netip.Addr, error)) error {
	handlers.ResolveHandler.Resolved = resolved
	token := lookups.add(call)
	if err := failed(resolver.Resolve(token, name)); err != nil {
		lookups.remove(token)
		return err
	}
	return nil
}

func resolved(token uint64, answer wit.Result[[]types.IpAddress, types.Error]) {
	call := lookups.get(token)
	lookups.remove(token)
	if answer.IsErr() {
		call(nil, told(answer.Err()))
		return
	}
	addresses := make([]netip.Addr, 0, len(answer.Ok()))
	for _, address := range answer.Ok() {
		addresses = append(addresses, addr(address))
	}
	call(addresses, nil)
}
