package netwasm

import (
	"net/netip"
	"time"

	"github.com/netwasm/netwasm/internal/handlers"
	connector "github.com/netwasm/netwasm/internal/wit/netwasm_net_connector"
	transports "github.com/netwasm/netwasm/internal/wit/netwasm_net_transports"
	types "github.com/netwasm/netwasm/internal/wit/netwasm_net_types"
	wit "github.com/netwasm/netwasm/internal/wit/types"
)

// Events has a function for each event of a connection. All may be nil. Events
// of one connection come in the order Open, Data, EOF, Closed; Writable and
// TLSStarted come in between.
type Events struct {
	// Open announces a connection.
	Open func(*Conn)
	// Data delivers bytes, at least one. They are there until it returns:
	// bytes.Clone keeps them.
	Data func(c *Conn, data []byte)
	// EOF reports that the peer sends no more. Return true to go on sending;
	// false, or no function, closes the connection once all is sent.
	EOF func(*Conn) bool
	// Writable reports that there is room again after Full returned true, or
	// after WantWrite.
	Writable func(*Conn)
	// TLSStarted reports that the handshake of StartTLSServer or StartTLSClient
	// is done.
	TLSStarted func(*Conn, *TLSInfo)
	// Closed is the last event: nil if the connection ended in an orderly way.
	Closed func(c *Conn, reason error)
}

// Conn is a connection. It is an io.Writer, and no method waits.
type Conn struct {
	// State is the handler's own, such as a pointer to what it knows of this
	// client.
	State any

	id     types.ConnectionId
	events *Events
	full   bool
}

var (
	conns  table[*Conn]
	accept *Events
)

// ServeTCP handles the connections of --tcp and --tls. Call it in init or in
// the initialiser of a variable: nothing calls main.
func ServeTCP(events Events) { accept = &events }

// Write sends bytes after all that was written before, and takes all of them.
// It never fails: the reason of a failure comes with Closed.
func (c *Conn) Write(data []byte) (int, error) {
	c.full = transports.Write(c.id, data) == 0
	return len(data), nil
}

// WriteString is like Write.
func (c *Conn) WriteString(text string) (int, error) { return c.Write([]byte(text)) }

// Writev sends several pieces by one system call where possible.
func (c *Conn) Writev(pieces ...[]byte) {
	c.full = transports.Writelines(c.id, pieces) == 0
}

// Full returns true if the queue is at its limit: write no more until Writable.
// Whoever writes on regardless is cut off at --max-write-buffer.
func (c *Conn) Full() bool { return c.full }

// WantWrite asks for Writable, as soon as there is room and others had their
// turn.
func (c *Conn) WantWrite() { transports.WantWrite(c.id) }

// CloseWrite ends the sending side once all is sent (half-close).
func (c *Conn) CloseWrite() error { return failed(transports.WriteEof(c.id)) }

// Close sends what is queued, then ends the connection.
func (c *Conn) Close() error {
	transports.Close(c.id)
	return nil
}

// Abort ends the connection at once, by a reset.
func (c *Conn) Abort() { transports.Abort(c.id) }

// IsClosing returns true after Close, Abort or a failure.
func (c *Conn) IsClosing() bool { return transports.IsClosing(c.id) }

// PauseReading receives nothing until ResumeReading, so that the peer has to
// wait.
func (c *Conn) PauseReading() { transports.PauseReading(c.id) }

// ResumeReading receives again.
func (c *Conn) ResumeReading() { transports.ResumeReading(c.id) }

// Relay copies all that arrives to another connection, or back, in the host:
// no more Data comes.
func (c *Conn) Relay(to *Conn) error { return failed(transports.Relay(c.id, to.id)) }

// SendFile sends a part of a file by sendfile(2), or all that follows offset if
// length is negative. Returns how much will be sent.
func (c *Conn) SendFile(file *File, offset, length int64) (int64, error) {
	part := wit.None[uint64]()
	if length >= 0 {
		part = wit.Some(uint64(length))
	}
	sent := transports.SendFile(c.id, file.inner, uint64(offset), part)
	if sent.IsErr() {
		return 0, told(sent.Err())
	}
	c.full = transports.Room(c.id) == 0
	return int64(sent.Ok()), nil
}

// SetIdleTimeout ends the connection if nothing moves for so long; 0 is the
// command line's.
func (c *Conn) SetIdleTimeout(after time.Duration) {
	transports.SetIdleTimeout(c.id, some(after))
}

// SetWriteLimits sets the queue's length in bytes at which Full is true, and
// the one at which Writable comes.
func (c *Conn) SetWriteLimits(high, low uint64) {
	transports.SetWriteBufferLimits(c.id, high, low)
}

// StartTLSServer continues in TLS, with the certificates of the command line.
// received are bytes that came with the last Data and already belong to TLS.
func (c *Conn) StartTLSServer(received []byte) error {
	return failed(transports.StartTls(c.id, types.MakeTlsRoleServer(), received))
}

// StartTLSClient continues in TLS as its client.
func (c *Conn) StartTLSClient(tls TLS, received []byte) error {
	role := types.MakeTlsRoleClient(tls.options())
	return failed(transports.StartTls(c.id, role, received))
}

// Info returns the addresses and the TLS session.
func (c *Conn) Info() Info { return info(transports.Info(c.id)) }

// RemoteAddr returns the address of the peer; the zero value for Unix sockets.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.Info().Peer }

// TLS are the options of a client for TLS.
type TLS struct {
	// ServerName is the name that the certificate must carry; empty for the
	// name that was connected to.
	ServerName string
	// ALPN are the protocols to offer, best first.
	ALPN []string
}

func (t TLS) options() types.TlsOptions {
	options := types.TlsOptions{Alpn: t.ALPN}
	if t.ServerName != "" {
		options.ServerName = wit.Some(t.ServerName)
	}
	return options
}

// Dialer opens connections. Its zero value is ready for use.
type Dialer struct {
	// TLS opens a TLS session first, if it is not nil.
	TLS *TLS
	// Timeout is for all of resolving, connecting and the handshake; 0 is 30 s.
	Timeout time.Duration
	// LocalAddr is the address to connect from; the zero value lets the system
	// choose.
	LocalAddr netip.Addr
}

type dial struct {
	events *Events
	failed func(error)
}

var dials table[dial]

// Dial connects to a name or address and a port. Its events begin with Open, or
// failed is called.
func (d Dialer) Dial(host string, port uint16, events Events, failed func(error)) error {
	if address, err := netip.ParseAddr(host); err == nil {
		to := witAddrPort(netip.AddrPortFrom(address, port))
		return d.dial(types.MakeEndpointIp(to), events, failed)
	}
	name := wit.Tuple2[string, uint16]{F0: host, F1: port}
	return d.dial(types.MakeEndpointName(name), events, failed)
}

// DialUnix connects to a Unix domain socket on the host.
func (d Dialer) DialUnix(path string, events Events, failed func(error)) error {
	return d.dial(types.MakeEndpointUnix(path), events, failed)
}

// DialUpstream connects to a server of the group that --upstream names, as the
// host chooses it. Of the Dialer, Timeout counts alone: the rest is the group's.
func (d Dialer) DialUpstream(group string, events Events, failed func(error)) error {
	return begin(events, failed, func(token uint64) wit.Result[wit.Unit, types.Error] {
		return connector.ConnectUpstream(token, group, some(d.Timeout))
	})
}

// Dial connects by a zero Dialer.
func Dial(host string, port uint16, events Events, failed func(error)) error {
	return Dialer{}.Dial(host, port, events, failed)
}

func (d Dialer) dial(to types.Endpoint, events Events, fail func(error)) error {
	options := types.ConnectOptions{Timeout: some(d.Timeout)}
	if d.TLS != nil {
		options.Tls = wit.Some(d.TLS.options())
	}
	if d.LocalAddr.IsValid() {
		options.LocalAddress = wit.Some(witAddr(d.LocalAddr))
	}
	return begin(events, fail, func(token uint64) wit.Result[wit.Unit, types.Error] {
		return connector.Connect(token, to, options)
	})
}

// begin asks the host for a connection.
func begin(
	events Events, fail func(error), ask func(token uint64) wit.Result[wit.Unit, types.Error],
) error {
	// Only who dials has the event of its result.
	handlers.ConnectHandler.Connected = connected
	token := dials.add(dial{&events, fail})
	// Tokens of connections are of another table.
	if err := failed(ask(token | dialed)); err != nil {
		dials.remove(token)
		return err
	}
	return nil
}

// dialed marks the tokens of connections that the guest opens.
const dialed = 1 << 32

// opened maps the tokens of dialled connections to them.
var opened = map[uint64]*Conn{}

func connected(token uint64, outcome wit.Result[types.ConnectionId, types.Error]) {
	asked := dials.get(token &^ dialed)
	if outcome.IsErr() {
		dials.remove(token &^ dialed)
		if asked.failed != nil {
			asked.failed(told(outcome.Err()))
		}
		return
	}
	c := &Conn{id: outcome.Ok(), events: asked.events}
	opened[token] = c
	if c.events.Open != nil {
		c.events.Open(c)
	}
}

// conn returns the connection with a token.
func conn(token uint64) *Conn {
	if token&dialed != 0 {
		return opened[token]
	}
	return conns.get(token)
}

func init() {
	events := &handlers.TcpHandler
	events.ConnectionMade = func(id types.ConnectionId) uint64 {
		if accept == nil {
			panic("nothing called netwasm.ServeTCP: call it in an init function")
		}
		c := &Conn{id: id, events: accept}
		token := conns.add(c)
		if c.events.Open != nil {
			c.events.Open(c)
		}
		return token
	}
	events.DataReceived = func(token uint64, data []byte) {
		c := conn(token)
		if c.events.Data != nil {
			c.events.Data(c, data)
		}
	}
	events.EofReceived = func(token uint64) bool {
		c := conn(token)
		return c.events.EOF != nil && c.events.EOF(c)
	}
	events.Writable = func(token uint64) {
		c := conn(token)
		c.full = false
		if c.events.Writable != nil {
			c.events.Writable(c)
		}
	}
	events.TlsStarted = func(token uint64, info types.TlsInfo) {
		c := conn(token)
		if c.events.TLSStarted != nil {
			c.events.TLSStarted(c, tlsInfo(info))
		}
	}
	events.ConnectionLost = func(token uint64, reason wit.Option[types.Error]) {
		c := conn(token)
		if token&dialed != 0 {
			delete(opened, token)
			dials.remove(token &^ dialed)
		} else {
			conns.remove(token)
		}
		if c.events.Closed != nil {
			c.events.Closed(c, lost(reason))
		}
	}
}
