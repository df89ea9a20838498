// Package metrics counts for the handler, beside the host, in /metrics of
// --admin.
//
//	var lines = metrics.NewCounter("lines", "Lines that clients sent", nil)
//
// is netwasm_guest_lines_total there. All instances of the service count
// together. Labels are for what has few values: no series is ever removed. One
// that the host refuses counts nothing, and the log says why.
package metrics

import (
	"github.com/netwasm/netwasm"
	host "github.com/netwasm/netwasm/internal/wit/netwasm_net_metrics"
	types "github.com/netwasm/netwasm/internal/wit/netwasm_net_types"
	wit "github.com/netwasm/netwasm/internal/wit/types"
)

// Labels tell one series of a metric from another.
type Labels map[string]string

// Counter is a number that only grows.
type Counter struct{ id *host.CounterId }

// Gauge is a number that goes up and down; 0 at first.
type Gauge struct{ id *host.GaugeId }

// Histogram has numbers of observed values, by size.
type Histogram struct{ id *host.HistogramId }

// NewCounter opens a counter. help says in a sentence what is counted.
func NewCounter(name, help string, labels Labels) Counter {
	return Counter{opened(name, host.Counter(name, help, labels.wire()))}
}

// NewGauge opens a gauge.
func NewGauge(name, help string, labels Labels) Gauge {
	return Gauge{opened(name, host.Gauge(name, help, labels.wire()))}
}

// NewHistogram opens a histogram with 1 to 32 bounds, each larger than the one
// before.
func NewHistogram(name, help string, bounds []float64, labels Labels) Histogram {
	return Histogram{opened(name, host.Histogram(name, help, bounds, labels.wire()))}
}

// Add adds to a counter.
func (c Counter) Add(more uint64) {
	if c.id != nil {
		host.Add(*c.id, more)
	}
}

// Set sets a gauge.
func (g Gauge) Set(value float64) {
	if g.id != nil {
		host.Set(*g.id, value)
	}
}

// Change adds to a gauge, or takes from it.
func (g Gauge) Change(by float64) {
	if g.id != nil {
		host.Change(*g.id, by)
	}
}

// Observe counts a value.
func (h Histogram) Observe(value float64) {
	if h.id != nil {
		host.Observe(*h.id, value)
	}
}

func (l Labels) wire() []host.Label {
	labels := make([]host.Label, 0, len(l))
	for name, value := range l {
		labels = append(labels, host.Label{Name: name, Value: value})
	}
	return labels
}

func opened[T any](name string, result wit.Result[T, types.Error]) *T {
	if result.IsErr() {
		why := "the metric " + name + " counts nothing: " + result.Err().Text
		netwasm.Log(netwasm.Warning, why)
		return nil
	}
	id := result.Ok()
	return &id
}
