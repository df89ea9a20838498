"""Addresses: the standard library's tuples, and the host's records."""

import ipaddress
import socket

from wit_world.imports.types import (
    IpAddress,
    IpAddress_Ipv4,
    IpAddress_Ipv6,
    IpSocketAddress,
    IpSocketAddress_Ipv4,
    IpSocketAddress_Ipv6,
    Ipv4SocketAddress,
    Ipv6SocketAddress,
    SocketAddress,
    SocketAddress_Ip,
)


class Address(tuple):
    """An address as asyncio has it: `(host, port)`, or `(host, port, flowinfo,
    scope_id)` for IPv6."""

    wire: IpSocketAddress


def from_wire(wire: IpSocketAddress) -> Address:
    it = wire.value
    if type(wire) is IpSocketAddress_Ipv4:
        address = Address(("%d.%d.%d.%d" % it.address, it.port))
    else:
        host = str(ipaddress.IPv6Address(_packed(it.address)))
        address = Address((host, it.port, it.flow_info, it.scope_id))
    address.wire = wire
    return address


def to_wire(address: tuple) -> IpSocketAddress:
    """Returns the record of an address.

    Raises ValueError if its host is a name: `loop.getaddrinfo` resolves it.
    """
    wire = getattr(address, "wire", None)
    if wire is not None:
        return wire
    host, port, *rest = address
    ip = ipaddress.ip_address(host)
    if ip.version == 4:
        return IpSocketAddress_Ipv4(Ipv4SocketAddress(port, tuple(ip.packed)))
    flow, scope = (*rest, 0, 0)[:2]
    return IpSocketAddress_Ipv6(Ipv6SocketAddress(port, flow, _words(ip), scope))


def ip_to_wire(host: str) -> IpAddress:
    ip = ipaddress.ip_address(host)
    return IpAddress_Ipv4(tuple(ip.packed)) if ip.version == 4 else IpAddress_Ipv6(_words(ip))


def end(address: SocketAddress) -> Address | str:
    """Returns one end of a connection: a tuple, or the path of a Unix socket."""
    if type(address) is SocketAddress_Ip:
        return from_wire(address.value)
    return address.value or ""


def info(ip: IpAddress, port: int, kind: int, proto: int) -> tuple:
    """Returns an entry of `getaddrinfo`."""
    if type(ip) is IpAddress_Ipv4:
        return (socket.AF_INET, kind, proto, "", ("%d.%d.%d.%d" % ip.value, port))
    host = str(ipaddress.IPv6Address(_packed(ip.value)))
    return (socket.AF_INET6, kind, proto, "", (host, port, 0, 0))


def _packed(words: tuple) -> bytes:
    return b"".join(word.to_bytes(2, "big") for word in words)


def _words(ip: ipaddress.IPv6Address) -> tuple:
    packed = ip.packed
    return tuple(int.from_bytes(packed[at : at + 2], "big") for at in range(0, 16, 2))
