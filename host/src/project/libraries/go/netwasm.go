// Package netwasm is for handlers of netwasm: network servers and clients as
// WebAssembly components, called for each event.
//
//	func init() {
//		netwasm.ServeTCP(netwasm.Events{
//			Data: func(c *netwasm.Conn, data []byte) { c.Write(data) },
//		})
//	}
//
//	func main() {}
//
// # Goroutines and time
//
// A handler handles one event and returns; no call waits. Nothing runs between
// two events. A goroutine that a handler starts runs only while a handler waits
// for it, by a channel, say; it must not wait for time or for the network:
// time.Sleep and the timers of package time do not work, because the host
// refuses to wait. AfterFunc works: its function is called by an event. What
// package os does with files works below the directories of --dir.
//
// Packages shared and metrics have what all instances of the service share, and
// counts of the handler's own.
//
// The garbage collector works while handlers run. Each instance has a Go
// runtime of its own, of a few hundred kilobytes, which takes a millisecond or
// so to start: --isolation worker has one for all connections of a worker.
package netwasm

import (
	"bytes"
	"net/netip"
	"strings"
	"time"

	"github.com/netwasm/netwasm/internal/handlers"
	log "github.com/netwasm/netwasm/internal/wit/netwasm_net_log"
	types "github.com/netwasm/netwasm/internal/wit/netwasm_net_types"
	wit "github.com/netwasm/netwasm/internal/wit/types"

	// The exports of the component.
	_ "github.com/netwasm/netwasm/internal/wit/wit_exports"
)

// Code is the kind of a failure.
type Code uint8

// Kinds of failures, of which wit/types.wit says more.
const (
	AccessDenied       = Code(types.ErrorCodeAccessDenied)
	InvalidState       = Code(types.ErrorCodeInvalidState)
	InvalidArgument    = Code(types.ErrorCodeInvalidArgument)
	NotSupported       = Code(types.ErrorCodeNotSupported)
	LimitExceeded      = Code(types.ErrorCodeLimitExceeded)
	TimedOut           = Code(types.ErrorCodeTimeout)
	ConnectionRefused  = Code(types.ErrorCodeConnectionRefused)
	ConnectionReset    = Code(types.ErrorCodeConnectionReset)
	ConnectionAborted  = Code(types.ErrorCodeConnectionAborted)
	ConnectionBroken   = Code(types.ErrorCodeConnectionBroken)
	RemoteUnreachable  = Code(types.ErrorCodeRemoteUnreachable)
	AddressNotBindable = Code(types.ErrorCodeAddressNotBindable)
	NameUnresolvable   = Code(types.ErrorCodeNameUnresolvable)
	NoAddress          = Code(types.ErrorCodeNoAddress)
	ResolverFailure    = Code(types.ErrorCodeResolverFailure)
	NotFound           = Code(types.ErrorCodeNotFound)
	TLSFailed          = Code(types.ErrorCodeTls)
	TLSTruncated       = Code(types.ErrorCodeTlsTruncated)
	Other              = Code(types.ErrorCodeOther)
)

// Error is the error of all functions here; errors.As finds it.
type Error struct {
	// Code is the kind, for a program.
	Code Code
	// Text is a sentence for a person.
	Text string
}

// Error returns the text.
func (e *Error) Error() string { return e.Text }

// Timeout returns true if the peer, or a resolver, took too long.
func (e *Error) Timeout() bool { return e.Code == TimedOut }

// Level is the severity of an entry in the log.
type Level uint8

// Levels; Trace is shown by -vv, Debug by -v.
const (
	Trace       = Level(log.LevelTrace)
	Debug       = Level(log.LevelDebug)
	Information = Level(log.LevelInfo)
	Warning     = Level(log.LevelWarn)
	Failure     = Level(log.LevelError)
)

// Log writes an entry to the host's log. What is printed goes there, too.
func Log(level Level, message string) { log.Log(uint8(level), message) }

// OnShutdown calls a function when the host begins to shut down. What is left
// open is ended after that time; a negative one is no limit.
func OnShutdown(call func(deadline time.Duration)) {
	handlers.Lifecycle.ShuttingDown = func(deadline wit.Option[uint64]) {
		left, limited := deadline.Get()
		if !limited {
			call(-1)
			return
		}
		call(time.Duration(left))
	}
}

// Info has a connection's addresses and its TLS session.
type Info struct {
	// Peer and Local are the two ends; the zero value for Unix sockets.
	Peer, Local netip.AddrPort
	// PeerPath and LocalPath are the paths of Unix sockets, if they have any.
	PeerPath, LocalPath string
	// TLS is nil without TLS.
	TLS *TLSInfo
}

// TLSInfo is a TLS session.
type TLSInfo struct {
	// Version is TLSv1.3 or TLSv1.2.
	Version string
	// Cipher is the IANA name of the cipher suite.
	Cipher string
	// ALPN is the protocol that was agreed on, if any.
	ALPN string
	// ServerName is what the client asked for, if anything.
	ServerName string
	// PeerCertificates are the peer's, in DER, its own first.
	PeerCertificates [][]byte
}

func init() {
	handlers.Lifecycle.ShuttingDown = func(wit.Option[uint64]) {}
}

// table has entries by small numbers.
type table[T any] struct {
	entries []T
	free    []uint64
}

func (t *table[T]) add(entry T) uint64 {
	if last := len(t.free) - 1; last >= 0 {
		token := t.free[last]
		t.free = t.free[:last]
		t.entries[token] = entry
		return token
	}
	t.entries = append(t.entries, entry)
	return uint64(len(t.entries) - 1)
}

func (t *table[T]) get(token uint64) T { return t.entries[token] }

func (t *table[T]) remove(token uint64) {
	var none T
	t.entries[token] = none
	t.free = append(t.free, token)
}

// told makes an error of the host's, whose text is the host's until the event
// ends, as all that it passes.
func told(fail types.Error) error { return &Error{Code(fail.Code), strings.Clone(fail.Text)} }

func failed[T any](result wit.Result[T, types.Error]) error {
	if result.IsErr() {
		return told(result.Err())
	}
	return nil
}

func lost(reason wit.Option[types.Error]) error {
	if fail, ok := reason.Get(); ok {
		return told(fail)
	}
	return nil
}

// some returns none for 0.
func some(duration time.Duration) wit.Option[uint64] {
	if duration <= 0 {
		return wit.None[uint64]()
	}
	return wit.Some(uint64(duration))
}

func info(from types.ConnectionInfo) Info {
	var to Info
	to.Peer, to.PeerPath = end(from.Peer)
	to.Local, to.LocalPath = end(from.Local)
	if tls, ok := from.Tls.Get(); ok {
		to.TLS = tlsInfo(tls)
	}
	return to
}

func end(address types.SocketAddress) (ip netip.AddrPort, path string) {
	if address.Tag() == types.SocketAddressIp {
		return addrPort(address.Ip()), ""
	}
	path, _ = address.Unix().Get()
	return ip, strings.Clone(path)
}

func tlsInfo(from types.TlsInfo) *TLSInfo {
	alpn, _ := from.Alpn.Get()
	name, _ := from.ServerName.Get()
	to := &TLSInfo{
		Version:    strings.Clone(from.Version),
		Cipher:     strings.Clone(from.Cipher),
		ALPN:       strings.Clone(alpn),
		ServerName: strings.Clone(name),
	}
	for _, certificate := range from.PeerCertificates {
		to.PeerCertificates = append(to.PeerCertificates, bytes.Clone(certificate))
	}
	return to
}
