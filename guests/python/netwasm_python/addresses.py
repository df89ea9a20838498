"""Names and addresses for `sockets.py`: getaddrinfo(3) and its relatives, and
the forms of an address in Python and in the host.

A name is looked up by the host. What is said of a name by its text alone, and
the names of services, are known here.
"""

import errno as _errno
import os as _os

from netwasm_python import host as _host, waiting as _waiting
from netwasm_python.socket_constants import *

__all__ = [
    "gaierror",
    "getaddrinfo",
    "gethostbyaddr",
    "gethostbyname",
    "gethostbyname_ex",
    "gethostname",
    "getnameinfo",
    "getprotobyname",
    "getservbyname",
    "getservbyport",
    "herror",
    "htonl",
    "htons",
    "if_indextoname",
    "if_nameindex",
    "if_nametoindex",
    "inet_aton",
    "inet_ntoa",
    "inet_ntop",
    "inet_pton",
    "ntohl",
    "ntohs",
]

_call = _host.call

# glibc's words of gai_strerror(3).
_RESOLVING = {
    EAI_BADFLAGS: "Bad value for ai_flags",
    EAI_NONAME: "Name or service not known",
    EAI_AGAIN: "Temporary failure in name resolution",
    EAI_FAIL: "Non-recoverable failure in name resolution",
    EAI_NODATA: "No address associated with hostname",
    EAI_FAMILY: "ai_family not supported",
    EAI_SOCKTYPE: "ai_socktype not supported",
    EAI_SERVICE: "Servname not supported for ai_socktype",
    EAI_ADDRFAMILY: "Address family for hostname not supported",
}

# Of services(5), those that programs name.
_SERVICES = {
    "echo": 7,
    "discard": 9,
    "daytime": 13,
    "ftp-data": 20,
    "ftp": 21,
    "ssh": 22,
    "telnet": 23,
    "smtp": 25,
    "time": 37,
    "domain": 53,
    "tftp": 69,
    "gopher": 70,
    "finger": 79,
    "http": 80,
    "www": 80,
    "kerberos": 88,
    "pop3": 110,
    "nntp": 119,
    "ntp": 123,
    "imap2": 143,
    "imap": 143,
    "snmp": 161,
    "irc": 194,
    "ldap": 389,
    "https": 443,
    "submissions": 465,
    "syslog": 514,
    "submission": 587,
    "ldaps": 636,
    "imaps": 993,
    "pop3s": 995,
    "mysql": 3306,
    "postgresql": 5432,
    "amqp": 5672,
}
_DATAGRAM_ONLY = {"tftp", "syslog"}
_STREAM_ONLY = {"ftp", "ssh", "telnet", "smtp", "http", "www", "pop3", "imap2", "imap", "nntp"}
_PROTOCOLS = {"ip": 0, "icmp": 1, "tcp": 6, "udp": 17, "ipv6": 41, "ipv6-icmp": 58}


class gaierror(OSError):
    """getaddrinfo(3) failed."""


class herror(OSError):
    """gethostbyaddr(3) failed."""


for _kind in (gaierror, herror):
    _kind.__module__ = "socket"


def _resolving(code):
    return gaierror(code, _RESOLVING[code])


# Addresses as text and bytes


def inet_pton(address_family, ip_string, /):
    if not isinstance(ip_string, str):
        raise TypeError(f"inet_pton() argument 2 must be str, not {type(ip_string).__name__}")
    if address_family == AF_INET:
        parts = _ipv4(ip_string)
        if parts is not None:
            return bytes(parts)
    elif address_family == AF_INET6:
        groups = _ipv6(ip_string)
        if groups is not None:
            return b"".join([group.to_bytes(2, "big") for group in groups])
    else:
        raise OSError(_errno.EAFNOSUPPORT, _os.strerror(_errno.EAFNOSUPPORT))
    raise OSError("illegal IP address string passed to inet_pton")


def inet_ntop(address_family, packed_ip, /):
    packed = bytes(packed_ip)
    if address_family == AF_INET:
        if len(packed) != 4:
            raise ValueError("invalid length of packed IP address string")
        return "%d.%d.%d.%d" % tuple(packed)
    if address_family == AF_INET6:
        if len(packed) != 16:
            raise ValueError("invalid length of packed IP address string")
        return _host.ipv6_text(
            [int.from_bytes(packed[at : at + 2], "big") for at in range(0, 16, 2)]
        )
    raise ValueError(f"unknown address family {address_family}")


def inet_aton(ip_addr, /):
    """Takes what inet_aton(3) takes: "127.1", "0x7f.1", "2130706433"."""
    numbers = []
    for part in ip_addr.split()[0].split(".") if ip_addr.split() else [""]:
        base = 10
        if part[:2] in ("0x", "0X"):
            part, base = part[2:], 16
        elif part[:1] == "0" and len(part) > 1:
            part, base = part[1:], 8
        if not part.isascii() or not part.isalnum():
            raise OSError("illegal IP address string passed to inet_aton")
        try:
            numbers.append(int(part, base))
        except ValueError:
            raise OSError("illegal IP address string passed to inet_aton") from None
    *leading, last = numbers
    if len(leading) > 3 or any(number > 255 for number in leading) or last >= 256 ** (4 - len(leading)):
        raise OSError("illegal IP address string passed to inet_aton")
    return bytes(leading) + last.to_bytes(4 - len(leading), "big")


def inet_ntoa(packed_ip, /):
    packed = bytes(packed_ip)
    if len(packed) != 4:
        raise OSError("packed IP wrong length")
    return "%d.%d.%d.%d" % tuple(packed)


def _ipv4(text):
    """The four bytes of a dotted quad, or None."""
    parts = text.split(".")
    if len(parts) != 4:
        return None
    numbers = []
    for part in parts:
        if not (part.isascii() and part.isdigit()) or len(part) > 3 or part[0] == "0" != part:
            return None
        numbers.append(int(part))
    return tuple(numbers) if max(numbers) < 256 else None


def _ipv6(text):
    """The eight groups of an address of RFC 4291, or None."""
    left, gap, right = text.partition("::")
    if "::" in right or right.startswith(":"):
        return None
    head = _groups(left, last=not gap)
    tail = _groups(right, last=True)
    if head is None or tail is None:
        return None
    missing = 8 - len(head) - len(tail)
    if missing < 0 or bool(gap) != (missing > 0):
        return None
    return tuple(head + [0] * missing + tail)


def _groups(text, last):
    """The groups of a part of an address; the last of all may be a dotted quad."""
    if not text:
        return []
    groups = []
    pieces = text.split(":")
    for index, piece in enumerate(pieces):
        if "." in piece and last and index == len(pieces) - 1:
            quad = _ipv4(piece)
            if quad is None:
                return None
            groups += [quad[0] << 8 | quad[1], quad[2] << 8 | quad[3]]
            continue
        if not 1 <= len(piece) <= 4 or any(c not in "0123456789abcdefABCDEF" for c in piece):
            return None
        groups.append(int(piece, 16))
    return groups


def htons(integer, /):
    return _swapped(integer, 2, "htons")


def ntohs(integer, /):
    return _swapped(integer, 2, "ntohs")


def htonl(integer, /):
    return _swapped(integer, 4, "htonl")


def ntohl(integer, /):
    return _swapped(integer, 4, "ntohl")


def _swapped(integer, size, what):
    if not 0 <= integer < 1 << 8 * size:
        raise OverflowError(f"{what}: Python int out of range for {size * 8} bits")
    return int.from_bytes(integer.to_bytes(size, "little"), "big")


# Addresses for the host

# Addresses that were made for the host, by family and Python's form.
_made = {}


def to_host(family, address, binding=False):
    """Makes an address for the host. A name is looked up, and that waits, as it
    does in C."""
    try:
        made = _made.get((family, address))
    except TypeError:
        made = None
    if made is not None:
        return made
    if family == AF_UNIX:
        return _unix(address)
    if not isinstance(address, tuple):
        raise TypeError(
            f"AF_INET{'6' if family == AF_INET6 else ''} address must be tuple, "
            f"not {type(address).__name__}"
        )
    made, numeric = _inet(address) if family == AF_INET else _inet6(address)
    if numeric:
        if len(_made) >= 4096:
            _made.clear()
        _made[family, address] = made
    return made


def _unix(address):
    if isinstance(address, str):
        text = address
    else:
        text = _os.fsdecode(bytes(address))
    if text.startswith("\0"):
        raise OSError(_errno.EOPNOTSUPP, "a component has no abstract sockets: use a path")
    if len(_os.fsencode(text)) > 107:
        raise OSError("AF_UNIX path too long")
    return _host.unix_address(_os.path.abspath(text) if text else None)


def _inet(address):
    if len(address) != 2:
        raise TypeError("AF_INET address must be a pair (host, port)")
    host, port = address
    port = _port(port)
    host = _text(host)
    if host == "":
        return _host.ipv4_address((0, 0, 0, 0), port), True
    if host == "<broadcast>":
        return _host.ipv4_address((255, 255, 255, 255), port), True
    parts = _ipv4(host)
    if parts is not None:
        return _host.ipv4_address(parts, port), True
    return _host.ipv4_address(_ipv4(_first(host, AF_INET)), port), False


def _inet6(address):
    if not 2 <= len(address) <= 4:
        raise TypeError(
            "AF_INET6 address must be a tuple (host, port[, flowinfo[, scopeid]])"
        )
    host, port, flow_info, scope_id = (*address, 0, 0)[:4]
    port = _port(port)
    if not 0 <= flow_info <= 0xFFFFF:
        raise OverflowError("flowinfo must be 0-1048575.")
    if not 0 <= scope_id <= 0xFFFF_FFFF:
        raise OverflowError("scope id must be 0-4294967295.")
    host = _text(host)
    name, percent, scope = host.partition("%")
    if percent:
        scope_id = _scope(scope)
    groups = _ipv6(name) if name else (0,) * 8
    if groups is not None:
        return _host.ipv6_address(groups, port, flow_info, scope_id), True
    found = _first(host, AF_INET6)
    return _host.ipv6_address(_ipv6(found), port, flow_info, scope_id), False


def _first(name, family):
    return getaddrinfo(name, 0, family, SOCK_STREAM)[0][4][0]


def _port(port):
    if not isinstance(port, int):
        raise TypeError(f"an integer is required (got type {type(port).__name__})")
    if not 0 <= port <= 65535:
        raise OverflowError("port must be 0-65535.")
    return port


def _text(host):
    """A host's name as the host wants it: IDNA (RFC 3490) is Python's part."""
    if isinstance(host, (bytes, bytearray)):
        return bytes(host).decode("ascii")
    if not isinstance(host, str):
        raise TypeError("host name must be str, bytes or bytearray")
    if "\0" in host:
        raise ValueError("host name must not contain null character")
    if host.isascii() and len(host) < 64 and ".." not in host and host[:1] != ".":
        return host
    # Refuses empty labels and long ones, too.
    return host.encode("idna").decode("ascii")


def _scope(text):
    if text.isdigit():
        return int(text)
    raise _resolving(EAI_NONAME)  # the names of interfaces are the host's


def family_of(address):
    """The family of an address that the host has given."""
    if isinstance(address, str):
        return AF_UNIX
    return AF_INET if len(address) == 2 else AF_INET6


# Names


class Query:
    """A question of getaddrinfo(3). With `name` None it is answered already;
    otherwise `answer` takes what the host finds for the name."""

    def __init__(self, host, port, family=0, type=0, proto=0, flags=0):
        family, flags = int(family), int(flags)
        if family not in (AF_UNSPEC, AF_INET, AF_INET6):
            raise _resolving(EAI_FAMILY)
        if flags & AI_CANONNAME and host is None:
            raise _resolving(EAI_BADFLAGS)
        self.family, self.flags = family, flags
        self.kinds = _kinds(int(type), int(proto))
        self.port, self.kinds = _service(port, self.kinds, flags)
        if host is None and port is None:
            raise _resolving(EAI_NONAME)
        self.host = None if host is None else _text(host)
        self.scope = 0
        self.name, self.numeric = None, self._known()
        if self.numeric is None:
            if flags & AI_NUMERICHOST:
                raise _resolving(EAI_NONAME)
            self.name = self.host

    def _known(self):
        """The addresses that the text itself names."""
        if self.host is None or self.host == "" and self.flags & AI_PASSIVE:
            wildcard = self.flags & AI_PASSIVE
            return ["0.0.0.0", "::"] if wildcard else ["::1", "127.0.0.1"]
        if self.host == "":
            raise _resolving(EAI_NONAME)
        try:
            return [inet_ntoa(inet_aton(self.host))] if " " not in self.host else None
        except OSError:
            pass
        name, percent, scope = self.host.partition("%")
        groups = _ipv6(name)
        if groups is None:
            return None
        if percent:
            self.scope = _scope(scope)
        return [_host.ipv6_text(groups)]

    def answer(self, addresses):
        """Makes getaddrinfo(3)'s list of addresses."""
        canonical = self.host if self.flags & AI_CANONNAME else ""
        made = []
        for address in addresses:
            family = AF_INET6 if ":" in address else AF_INET
            if self.family not in (AF_UNSPEC, family):
                if not (self.family == AF_INET6 and self.flags & AI_V4MAPPED):
                    continue
                if any(":" in other for other in addresses) and not self.flags & AI_ALL:
                    continue
                family, address = AF_INET6, "::ffff:" + address
            if family == AF_INET:
                at = (address, self.port)
            else:
                at = (address, self.port, 0, self.scope)
            for kind, protocol in self.kinds:
                made.append((family, kind, protocol, canonical, at))
                canonical = ""
        if not made:
            known = self.numeric is not None
            raise _resolving(EAI_ADDRFAMILY if known else EAI_NODATA)
        return made


def _kinds(kind, protocol):
    """The pairs of a type and a protocol to answer with."""
    kind &= ~(SOCK_NONBLOCK | SOCK_CLOEXEC)
    known = [(SOCK_STREAM, IPPROTO_TCP), (SOCK_DGRAM, IPPROTO_UDP), (SOCK_RAW, protocol)]
    found = [
        pair
        for pair in known
        if kind in (0, pair[0]) and (protocol in (0, pair[1]))
    ]
    if not found:
        raise _resolving(EAI_SOCKTYPE)
    if protocol and not kind:
        return found[:1]
    return found


def _service(port, kinds, flags):
    """The number of a port, and the kinds of sockets that it has."""
    if port is None:
        return 0, kinds
    if isinstance(port, int):
        return port & 0xFFFF, kinds
    if isinstance(port, (bytes, bytearray)):
        port = bytes(port).decode("ascii", "replace")
    elif not isinstance(port, str):
        raise OSError("Int or String expected")
    if port.isascii() and port.isdigit():
        return int(port) & 0xFFFF, kinds
    if port == "":
        return 0, kinds
    number = None if flags & AI_NUMERICSERV else _SERVICES.get(port)
    if port in _DATAGRAM_ONLY:
        kinds = [pair for pair in kinds if pair[0] == SOCK_DGRAM]
    elif port in _STREAM_ONLY:
        kinds = [pair for pair in kinds if pair[0] == SOCK_STREAM]
    if number is None or not kinds:
        raise _resolving(EAI_NONAME if flags & AI_NUMERICSERV else EAI_SERVICE)
    return number, kinds


def begin(name):
    """Begins to look a name up, and returns the descriptor that becomes readable
    when it is done."""
    return _looked_up(_call(_host.LOOK_UP, [name]))


def take(descriptor):
    """Takes the addresses that were found, or None if that is not done. Closes
    the descriptor."""
    found = _call(_host.FOUND, [descriptor])
    if type(found) is _host.Failure and found.value[0] == _errno.EAGAIN:
        return None
    _call(_host.CLOSE, [descriptor])
    return _looked_up(found)


def _looked_up(result):
    if type(result) is not _host.Failure:
        return result
    code, text = result.value
    if code < 0:
        raise _resolving(code)
    if code == _errno.ETIMEDOUT:
        raise _resolving(EAI_AGAIN)
    if code in (_errno.EINVAL, _errno.ENAMETOOLONG):
        raise _resolving(EAI_NONAME)
    raise _waiting.failed(result)


def _addresses(query):
    if query.name is None:
        return query.numeric
    descriptor = begin(query.name)
    found = None
    try:
        while found is None:
            _waiting.wait_for(descriptor, _waiting.READABLE, None)
            found = take(descriptor)
    except KeyboardInterrupt:
        _call(_host.CLOSE, [descriptor])
        raise
    return found


def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
    query = Query(host, port, family, type, proto, flags)
    return query.answer(_addresses(query))


def gethostbyname(hostname, /):
    return getaddrinfo(hostname or None, 0, AF_INET, SOCK_STREAM, 0, 0 if hostname else AI_PASSIVE)[0][4][0]


def gethostbyname_ex(hostname, /):
    found = getaddrinfo(hostname, 0, AF_INET, SOCK_STREAM)
    return hostname, [], [entry[4][0] for entry in found]


def gethostbyaddr(ip_address, /):
    """The host looks no addresses up: there is a name for none."""
    getaddrinfo(ip_address, 0)
    raise herror(1, "Unknown host")


def gethostname():
    return "localhost"


def getnameinfo(sockaddr, flags, /):
    if not isinstance(sockaddr, tuple):
        raise TypeError("getnameinfo() argument 1 must be a tuple")
    if not 2 <= len(sockaddr) <= 4:
        raise TypeError("getnameinfo(): illegal sockaddr argument")
    host, port = sockaddr[:2]
    if not isinstance(port, int):
        raise TypeError("getnameinfo(): illegal sockaddr argument")
    found = getaddrinfo(host, port, AF_UNSPEC, SOCK_DGRAM, 0, AI_NUMERICHOST)[0]
    if flags & NI_NAMEREQD:
        raise _resolving(EAI_NONAME)
    name = found[4][0]
    if len(sockaddr) == 4 and sockaddr[3] and found[0] == AF_INET6:
        name += f"%{sockaddr[3]}"
    service = str(port)
    if not flags & NI_NUMERICSERV:
        try:
            service = getservbyport(port, "udp" if flags & NI_DGRAM else "tcp")
        except OSError:
            pass
    return name, service


def getservbyname(servicename, protocolname=None, /):
    number = _SERVICES.get(servicename)
    if number is None or not _speaks(servicename, protocolname):
        raise OSError("service/proto not found")
    return number


def getservbyport(port, protocolname=None, /):
    if not 0 <= port <= 65535:
        raise OverflowError("getservbyport: port must be 0-65535.")
    for name, number in _SERVICES.items():
        if number == port and _speaks(name, protocolname):
            return name
    raise OSError("port/proto not found")


def _speaks(service, protocol):
    if protocol not in (None, "tcp", "udp"):
        return False
    return not (
        protocol == "tcp" and service in _DATAGRAM_ONLY
        or protocol == "udp" and service in _STREAM_ONLY
    )


def getprotobyname(protocolname, /):
    try:
        return _PROTOCOLS[protocolname]
    except KeyError:
        raise OSError("protocol not found") from None


def if_nameindex():
    """The interfaces are the host's, and are not told."""
    return []


def if_nametoindex(oname, /):
    raise OSError("no interface with this name")


def if_indextoname(if_index, /):
    raise OSError(_errno.ENXIO, _os.strerror(_errno.ENXIO))
