// Package handlers has the functions that the exports of a component call:
// package netwasm sets them.
package handlers

import (
	http "github.com/netwasm/netwasm/internal/wit/netwasm_net_http"
	types "github.com/netwasm/netwasm/internal/wit/netwasm_net_types"
	wit "github.com/netwasm/netwasm/internal/wit/types"
)

// TcpHandler has the events of connections.
var TcpHandler struct {
	ConnectionMade func(types.ConnectionId) uint64
	DataReceived   func(token uint64, data []byte)
	EofReceived    func(token uint64) bool
	Writable       func(token uint64)
	TlsStarted     func(token uint64, info types.TlsInfo)
	ConnectionLost func(token uint64, reason wit.Option[types.Error])
}

// UdpHandler has the events of datagram sockets.
var UdpHandler struct {
	ConnectionMade   func(types.SocketId) uint64
	DatagramReceived func(token uint64, data []byte, peer types.IpSocketAddress)
	ErrorReceived    func(token uint64, fail types.Error, peer wit.Option[types.IpSocketAddress])
	ConnectionLost   func(token uint64, reason wit.Option[types.Error])
}

// HttpHandler answers requests.
var HttpHandler struct {
	Handle func(http.Method, string, *http.Request) http.Answer
}

// ResponseHandler hears of deferred requests whose clients have left.
var ResponseHandler struct {
	Writable  func(token uint64)
	Abandoned func(token uint64)
}

// ConnectHandler has the results of connecting.
var ConnectHandler struct {
	Connected func(token uint64, outcome wit.Result[types.ConnectionId, types.Error])
}

// TimerHandler has the event of the timer.
var TimerHandler struct{ Woken func() }

// ResolveHandler has the results of resolving.
var ResolveHandler struct {
	Resolved func(token uint64, answer wit.Result[[]types.IpAddress, types.Error])
}

// Lifecycle has the events of the host.
var Lifecycle struct{ ShuttingDown func(wit.Option[uint64]) }
