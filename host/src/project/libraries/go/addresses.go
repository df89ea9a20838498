package netwasm

import (
	"net/netip"
	"strconv"

	types "github.com/netwasm/netwasm/internal/wit/netwasm_net_types"
)

func addr(from types.IpAddress) netip.Addr {
	if from.Tag() == types.IpAddressIpv4 {
		return addr4(from.Ipv4())
	}
	return addr6(from.Ipv6())
}

func addr4(a types.Ipv4Address) netip.Addr {
	return netip.AddrFrom4([4]byte{a.F0, a.F1, a.F2, a.F3})
}

func addr6(a types.Ipv6Address) netip.Addr {
	var bytes [16]byte
	for i, part := range [8]uint16{a.F0, a.F1, a.F2, a.F3, a.F4, a.F5, a.F6, a.F7} {
		bytes[2*i], bytes[2*i+1] = byte(part>>8), byte(part)
	}
	return netip.AddrFrom16(bytes)
}

func addrPort(from types.IpSocketAddress) netip.AddrPort {
	if from.Tag() == types.IpSocketAddressIpv4 {
		it := from.Ipv4()
		return netip.AddrPortFrom(addr4(it.Address), it.Port)
	}
	it := from.Ipv6()
	address := addr6(it.Address)
	if it.ScopeId != 0 {
		address = address.WithZone(strconv.FormatUint(uint64(it.ScopeId), 10))
	}
	return netip.AddrPortFrom(address, it.Port)
}

func wit4(a netip.Addr) types.Ipv4Address {
	b := a.As4()
	return types.Ipv4Address{F0: b[0], F1: b[1], F2: b[2], F3: b[3]}
}

func wit6(a netip.Addr) types.Ipv6Address {
	b := a.As16()
	part := func(i int) uint16 { return uint16(b[2*i])<<8 | uint16(b[2*i+1]) }
	return types.Ipv6Address{
		F0: part(0), F1: part(1), F2: part(2), F3: part(3),
		F4: part(4), F5: part(5), F6: part(6), F7: part(7),
	}
}

func witAddr(a netip.Addr) types.IpAddress {
	if a.Is4() {
		return types.MakeIpAddressIpv4(wit4(a))
	}
	return types.MakeIpAddressIpv6(wit6(a))
}

func witAddrPort(a netip.AddrPort) types.IpSocketAddress {
	if a.Addr().Is4() {
		return types.MakeIpSocketAddressIpv4(types.Ipv4SocketAddress{
			Port: a.Port(), Address: wit4(a.Addr()),
		})
	}
	// A zone that is no number has no meaning in a guest.
	scope, _ := strconv.ParseUint(a.Addr().Zone(), 10, 32)
	return types.MakeIpSocketAddressIpv6(types.Ipv6SocketAddress{
		Port: a.Port(), Address: wit6(a.Addr()), ScopeId: uint32(scope),
	})
}
