package netwasm

import (
	"net/netip"

	"github.com/netwasm/netwasm/internal/handlers"
	datagrams "github.com/netwasm/netwasm/internal/wit/netwasm_net_datagrams"
	types "github.com/netwasm/netwasm/internal/wit/netwasm_net_types"
	wit "github.com/netwasm/netwasm/internal/wit/types"
)

// Datagrams has a function for each event of a datagram socket. All may be nil.
type Datagrams struct {
	// Open announces a socket, before its first datagram.
	Open func(*Socket)
	// Datagram delivers one, which may be empty. The bytes are there until it
	// returns: bytes.Clone keeps them.
	Datagram func(s *Socket, data []byte, peer netip.AddrPort)
	// Error reports that an earlier datagram could not be delivered. peer is
	// the zero value if it is not known. The socket stays open.
	Error func(s *Socket, reason error, peer netip.AddrPort)
	// Closed is the last event.
	Closed func(s *Socket, reason error)
}

// Socket is a datagram socket.
type Socket struct {
	// State is the handler's own.
	State any

	id types.SocketId
}

var (
	sockets table[*Socket]
	serve   Datagrams
)

// ServeUDP handles the datagrams of --udp. Call it in init.
func ServeUDP(events Datagrams) { serve = events }

// SendTo sends one datagram.
func (s *Socket) SendTo(data []byte, peer netip.AddrPort) error {
	return failed(datagrams.SendTo(s.id, data, witAddrPort(peer)))
}

// LocalAddr returns the address that the socket is bound to; the zero value if
// it is closed.
func (s *Socket) LocalAddr() netip.AddrPort {
	if address, ok := datagrams.LocalAddress(s.id).Get(); ok {
		return addrPort(address)
	}
	return netip.AddrPort{}
}

// Close closes the socket for this instance.
func (s *Socket) Close() error {
	datagrams.Close(s.id)
	return nil
}

func init() {
	events := &handlers.UdpHandler
	events.ConnectionMade = func(id types.SocketId) uint64 {
		s := &Socket{id: id}
		token := sockets.add(s)
		if serve.Open != nil {
			serve.Open(s)
		}
		return token
	}
	events.DatagramReceived = func(token uint64, data []byte, peer types.IpSocketAddress) {
		if serve.Datagram != nil {
			serve.Datagram(sockets.get(token), data, addrPort(peer))
		}
	}
	events.ErrorReceived = func(
		token uint64, reason types.Error, peer wit.Option[types.IpSocketAddress],
	) {
		if serve.Error == nil {
			return
		}
		var address netip.AddrPort
		if known, ok := peer.Get(); ok {
			address = addrPort(known)
		}
		serve.Error(sockets.get(token), told(reason), address)
	}
	events.ConnectionLost = func(token uint64, reason wit.Option[types.Error]) {
		s := sockets.get(token)
		sockets.remove(token)
		if serve.Closed != nil {
			serve.Closed(s, lost(reason))
		}
	}
}
