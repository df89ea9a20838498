"""Stands in for the C module `_ssl`: TLS by the host, under Python's own ssl.py.

The host's sessions do no input and output of their own, as OpenSSL's do none
over a MemoryBIO: bytes of the network are fed to a session, and taken from it.
A context keeps what a program has said of it, and tells a session when the
session begins. Keys and certificates are verified and used by the host.
"""

import errno as _errno
import operator as _operator
import os as _os
import weakref as _weakref

from netwasm_python import certificates as _certificates
from netwasm_python import host as _host
from netwasm_python import sockets as _sockets
from netwasm_python.tls_constants import *

HAS_SSLv2 = HAS_SSLv3 = HAS_TLSv1 = HAS_TLSv1_1 = HAS_NPN = HAS_PSK = HAS_PHA = False
HAS_TLSv1_2 = HAS_TLSv1_3 = HAS_SNI = HAS_ECDH = HAS_ALPN = True
HAS_TLS_UNIQUE = HAS_PSK_TLS13 = False
# Programs read this number to learn whether OpenSSL 3's features are there.
OPENSSL_VERSION = "netwasm's host, by rustls, in the form of OpenSSL 3.0"
OPENSSL_VERSION_INFO = _OPENSSL_API_VERSION = (3, 0, 0, 0, 0)
OPENSSL_VERSION_NUMBER = 0x30000000
_DEFAULT_CIPHERS = "DEFAULT"

_call, _Failure = _host.call, _host.Failure
_READ, _WRITE, _TAKE, _FEED = _host.TLS_READ, _host.TLS_WRITE, _host.TLS_TAKE, _host.TLS_FEED
_DONE, _WANT_READ, _END = _host.DONE, _host.WANT_READ, _host.END
_LOWEST, _HIGHEST = PROTO_TLSv1_2, PROTO_TLSv1_3
# As much as one call takes or gives; a socket's buffer is about as large.
_PIECE = 256 * 1024

# rustls's cipher suites: IANA's names, OpenSSL's, and the versions.
_SUITES = {
    "TLS13_AES_256_GCM_SHA384": ("TLS_AES_256_GCM_SHA384", "TLSv1.3"),
    "TLS13_AES_128_GCM_SHA256": ("TLS_AES_128_GCM_SHA256", "TLSv1.3"),
    "TLS13_CHACHA20_POLY1305_SHA256": ("TLS_CHACHA20_POLY1305_SHA256", "TLSv1.3"),
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2"),
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2"),
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLSv1.2"),
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": ("ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.2"),
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": ("ECDHE-RSA-AES128-GCM-SHA256", "TLSv1.2"),
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": ("ECDHE-RSA-CHACHA20-POLY1305", "TLSv1.2"),
}

_OBJECTS = [
    (129, "serverAuth", "TLS Web Server Authentication", "1.3.6.1.5.5.7.3.1"),
    (130, "clientAuth", "TLS Web Client Authentication", "1.3.6.1.5.5.7.3.2"),
    (13, "CN", "commonName", "2.5.4.3"),
    (85, "subjectAltName", "X509v3 Subject Alternative Name", "2.5.29.17"),
]

# Alerts that SSL 3 had already: OpenSSL's names of them say so.
_ALERTS_OF_SSL3 = {10, 20, 30, 40, 41, 42, 43, 44, 45, 46, 47}


# Errors


class _Uncaught:
    """An error that nobody can catch, which Python tells of as this is dropped:
    PyErr_WriteUnraisable of C."""

    def __init__(self, error):
        self._error = error

    def __del__(self):
        raise self._error


def _report(error):
    """Tells of an error that nobody can catch."""
    _Uncaught(error)


class SSLError(OSError):
    """An error occurred in the SSL implementation."""

    library = reason = None

    def __str__(self):
        return str(self.strerror) if isinstance(self.strerror, str) else str(self.args)


class SSLZeroReturnError(SSLError):
    """SSL/TLS session closed cleanly."""


class SSLWantReadError(SSLError):
    """Non-blocking SSL socket needs to read more data before the requested
    operation can be completed."""


class SSLWantWriteError(SSLError):
    """Non-blocking SSL socket needs to write more data before the requested
    operation can be completed."""


class SSLSyscallError(SSLError):
    """System error when attempting SSL operation."""


class SSLEOFError(SSLError):
    """SSL/TLS connection terminated abruptly."""


class SSLCertVerificationError(SSLError, ValueError):
    """A certificate could not be verified."""

    verify_code = 1
    verify_message = ""


class _SSLPermissionError(SSLError, PermissionError):
    """The command line does not allow it."""


for _kind in (
    SSLError,
    SSLZeroReturnError,
    SSLWantReadError,
    SSLWantWriteError,
    SSLSyscallError,
    SSLEOFError,
    SSLCertVerificationError,
):
    _kind.__module__ = "ssl"


def _error(kind, code, text, reason=None):
    error = kind(code, text)
    error.library, error.reason = "SSL", reason
    return error


def _raised(failure):
    """Makes Python's exception of a failure of a session."""
    why = failure.value
    if type(why) is _host.FailureCertificate:
        code, text = why.value
        reason = "CERTIFICATE_VERIFY_FAILED"
        error = _error(
            SSLCertVerificationError,
            SSL_ERROR_SSL,
            f"[SSL: {reason}] certificate verify failed: {text}",
            reason,
        )
        error.verify_code, error.verify_message = code, text
        return error
    if type(why) is _host.FailureAlert:
        number, name = why.value
        name = name.upper().replace(" ", "_").replace("-", "_")
        family = "SSLV3" if number in _ALERTS_OF_SSL3 else "TLSV13" if number in (109, 116) else "TLSV1"
        reason = f"{family}_ALERT_{name}"
        words = reason.lower().replace("_", " ")
        return _error(SSLError, SSL_ERROR_SSL, f"[SSL: {reason}] {words}", reason)
    if type(why) is _host.FailureTruncated:
        return _error(
            SSLEOFError,
            SSL_ERROR_EOF,
            "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol",
            "UNEXPECTED_EOF_WHILE_READING",
        )
    if type(why) is _host.FailureDenied:
        return _SSLPermissionError(_errno.EACCES, why.value)
    return _error(SSLError, SSL_ERROR_SSL, f"[SSL] {why.value}")


def _checked(result):
    if type(result) is _Failure:
        raise _raised(result)
    return result


_NOT_READ, _NOT_WRITTEN = (f"The operation did not complete ({what})" for what in ("read", "write"))


def _no_data():
    return SSLWantReadError(SSL_ERROR_WANT_READ, _NOT_READ)


def _no_room():
    return SSLWantWriteError(SSL_ERROR_WANT_WRITE, _NOT_WRITTEN)


# Functions


def RAND_bytes(n, /):
    return _os.urandom(n)


def RAND_add(string, entropy, /):
    """The host's random numbers need no more entropy."""


def RAND_status():
    return True


def txt2obj(txt, name=False):
    for nid, short, long, oid in _OBJECTS:
        if txt == oid or name and txt in (short, long):
            return nid, short, long, oid
    raise ValueError(f"unknown object '{txt[:100]}'")


def nid2obj(nid, /):
    for found in _OBJECTS:
        if found[0] == nid:
            return found
    raise ValueError(f"unknown NID {nid}")


def get_default_verify_paths():
    """Names of variables, and places that the host's own authorities are not
    in: they are found without any."""
    return "SSL_CERT_FILE", "/etc/ssl/cert.pem", "SSL_CERT_DIR", "/etc/ssl/certs"


def _test_decode_cert(path, /):
    with open(path, encoding="ascii") as file:
        return _certificates.decode(_certificates.pem_blocks(file.read(), "CERTIFICATE")[0])


class SSLSession:
    """A session to resume. The host resumes by itself."""


class Certificate:
    """A certificate, of get_verified_chain() and get_unverified_chain()."""

    def __init__(self, der):
        self._der = der

    def public_bytes(self, format=ENCODING_PEM):
        if format == ENCODING_DER:
            return self._der
        import ssl

        return ssl.DER_cert_to_PEM_cert(self._der)

    def get_info(self):
        return _certificates.decode(self._der)

    def __eq__(self, other):
        return isinstance(other, Certificate) and self._der == other._der

    def __hash__(self):
        return hash(self._der)


class MemoryBIO:
    """ssl.MemoryBIO"""

    __slots__ = ("_pieces", "_size", "_ended", "__weakref__")

    def __init__(self):
        self._pieces = []
        self._size = 0
        self._ended = False

    @property
    def pending(self):
        """The number of bytes pending in the memory BIO."""
        return self._size

    @property
    def eof(self):
        """True if the memory BIO is at EOF."""
        return self._ended and not self._size

    def read(self, size=-1, /):
        if size < 0 or size >= self._size:
            pieces = self._pieces
            if len(pieces) == 1:
                data = pieces[0]
            else:
                data = b"".join(pieces)
            pieces.clear()
            self._size = 0
            return data
        whole = b"".join(self._pieces)
        self._pieces[:] = [whole[size:]]
        self._size -= size
        return whole[:size]

    def write(self, b, /):
        if self._ended:
            raise _error(SSLError, SSL_ERROR_SSL, "cannot write() after write_eof()")
        if type(b) is bytes:
            data = b
        elif type(b) is memoryview and b.contiguous:
            data = b.tobytes()
        else:
            data = bytes(_sockets._view(b))
        if data:
            self._pieces.append(data)
            self._size += len(data)
        return len(data)

    def write_eof(self):
        self._ended = True


class _SSLContext:
    """_ssl._SSLContext"""

    def __new__(cls, protocol, /, *_, **__):
        if protocol not in (
            PROTOCOL_TLS,
            PROTOCOL_TLS_CLIENT,
            PROTOCOL_TLS_SERVER,
            PROTOCOL_TLSv1_2,
        ):
            raise ValueError("invalid or unsupported protocol version")
        self = object.__new__(cls)
        self._kind = protocol
        client = protocol == PROTOCOL_TLS_CLIENT
        self._verify = CERT_REQUIRED if client else CERT_NONE
        self._check_name = client
        self._flags = VERIFY_X509_TRUSTED_FIRST
        self._options = (
            OP_ALL
            | OP_NO_SSLv3
            | OP_CIPHER_SERVER_PREFERENCE
            | OP_NO_COMPRESSION
            | OP_ENABLE_MIDDLEBOX_COMPAT
            | OP_IGNORE_UNEXPECTED_EOF & 0
        )
        fixed = protocol == PROTOCOL_TLSv1_2
        self._lowest = PROTO_TLSv1_2 if fixed else PROTO_MINIMUM_SUPPORTED
        self._highest = PROTO_TLSv1_2 if fixed else PROTO_MAXIMUM_SUPPORTED
        self._alpn = []
        self._identities = []
        self._authorities = []
        self._default_authorities = False
        self._on_name = None
        self._on_message = None
        self._host_flags = 0
        self._made = {}
        self._accepted = 0
        self.keylog_filename = None
        self.post_handshake_auth = False
        self.num_tickets = 2
        return self

    # Settings

    @property
    def protocol(self):
        return self._kind

    @property
    def options(self):
        return self._options

    @options.setter
    def options(self, value):
        self._options = int(value)

    @property
    def verify_flags(self):
        return self._flags

    @verify_flags.setter
    def verify_flags(self, value):
        value = int(value)
        if value & VERIFY_CRL_CHECK_CHAIN:
            # Without an error a certificate that was revoked would pass.
            raise _error(
                SSLError,
                SSL_ERROR_SSL,
                "lists of revoked certificates are not supported: the host checks none",
            )
        self._flags = value

    @property
    def verify_mode(self):
        return self._verify

    @verify_mode.setter
    def verify_mode(self, value):
        value = int(value)
        if value not in (CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED):
            raise ValueError("invalid value for verify_mode")
        if value == CERT_NONE and self._check_name:
            raise ValueError(
                "Cannot set verify_mode to CERT_NONE when check_hostname is enabled."
            )
        self._verify = value

    @property
    def check_hostname(self):
        return self._check_name

    @check_hostname.setter
    def check_hostname(self, value):
        self._check_name = bool(value)
        if value and self._verify == CERT_NONE:
            self._verify = CERT_REQUIRED

    @property
    def minimum_version(self):
        return self._lowest

    @minimum_version.setter
    def minimum_version(self, value):
        self._lowest = _version(value, self._kind)

    @property
    def maximum_version(self):
        return self._highest

    @maximum_version.setter
    def maximum_version(self, value):
        self._highest = _version(value, self._kind)

    @property
    def security_level(self):
        return 2

    @property
    def sni_callback(self):
        return self._on_name

    @sni_callback.setter
    def sni_callback(self, value):
        if self._kind == PROTOCOL_TLS_CLIENT:
            raise ValueError("sni_callback cannot be set on TLS_CLIENT context")
        if value is not None and not callable(value):
            raise TypeError("not a callable object")
        self._on_name = value

    @property
    def _msg_callback(self):
        return self._on_message

    @_msg_callback.setter
    def _msg_callback(self, value):
        # The host tells nothing of a protocol's messages: it is never called.
        self._on_message = value

    def _set_alpn_protocols(self, protocols, /):
        protocols, self._alpn = bytes(protocols), []
        while protocols:
            length = protocols[0]
            self._alpn.append(protocols[1 : 1 + length].decode("latin-1"))
            protocols = protocols[1 + length :]
        self._made.clear()

    def set_ciphers(self, cipherlist, /):
        """Takes what OpenSSL takes. The host speaks the nine suites of rustls,
        all of which are good, whatever is said; none of them is an error."""
        wanted = cipherlist.replace(",", ":").replace(" ", ":").split(":")
        known = [name.upper() for name, _ in _SUITES.values()]
        for word in wanted:
            if word.startswith(("!", "-", "@")):
                continue
            parts = word.upper().lstrip("+").split("+")
            if not parts[0] or parts[0] in ("DEFAULT", "ALL", "HIGH", "ECDH", "ECDHE", "EECDH", "KECDHE", "AESGCM", "CHACHA20"):
                return
            if any(all(part in name for part in parts) for name in known):
                return
        raise _error(SSLError, SSL_ERROR_SSL, "No cipher can be selected.")

    def get_ciphers(self):
        return [
            {
                "id": 0,
                "name": name,
                "protocol": version,
                "description": f"{name} {version}",
                "strength_bits": 128 if "128" in name else 256,
                "alg_bits": 128 if "128" in name else 256,
                "aead": True,
                "symmetric": "chacha20-poly1305" if "CHACHA" in name else "aes-gcm",
                "digest": None,
                "kea": "kx-any" if version == "TLSv1.3" else "kx-ecdhe",
                "auth": "auth-any" if version == "TLSv1.3" else "auth-rsa" if "RSA" in name else "auth-ecdsa",
            }
            for name, version in _SUITES.values()
        ]

    def load_cert_chain(self, certfile, keyfile=None, password=None):
        if certfile is None:
            raise TypeError("certfile should be a valid filesystem path")
        chain = _text_of(certfile)
        key = chain if keyfile is None else _text_of(keyfile)
        if "-----BEGIN CERTIFICATE-----" not in chain or "PRIVATE KEY-----" not in key:
            raise _error(SSLError, 9, "[SSL] PEM lib", "PEM_LIB")
        if "ENCRYPTED" in key and callable(password):
            password = password()
        if isinstance(password, (bytes, bytearray)):
            password = bytes(password).decode("utf-8")
        if password is not None and not isinstance(password, str):
            raise TypeError("password should be a string or callable")
        self._identities.append(_host.TlsIdentity(chain, key, password))
        self._made.clear()

    def load_verify_locations(self, cafile=None, capath=None, cadata=None):
        if cafile is None and capath is None and cadata is None:
            raise TypeError("cafile, capath and cadata cannot be all omitted")
        found = []
        if cadata is not None:
            if isinstance(cadata, str):
                if not cadata.isascii():
                    raise TypeError(
                        "cadata should be an ASCII string or a bytes-like object"
                    )
                found += _certificates.pem_blocks(cadata, "CERTIFICATE")
                if not found:
                    raise _error(
                        SSLError,
                        SSL_ERROR_SSL,
                        "no start line: cadata does not contain a certificate",
                        "NO_START_LINE",
                    )
            else:
                try:
                    found += _certificates.certificates(bytes(cadata))
                except (ValueError, IndexError):
                    found = []
                if not found:
                    raise _error(
                        SSLError,
                        SSL_ERROR_SSL,
                        "not enough data: cadata does not contain a certificate",
                        "NOT_ENOUGH_DATA",
                    )
        if cafile is not None:
            here = _certificates.pem_blocks(_text_of(cafile), "CERTIFICATE")
            if not here:
                raise _error(
                    SSLError,
                    SSL_ERROR_SSL,
                    "[X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found",
                    "NO_CERTIFICATE_OR_CRL_FOUND",
                )
            found += here
        if capath is not None and _os.path.isdir(capath):
            for name in sorted(_os.listdir(capath)):
                path = _os.path.join(_os.fspath(capath), name)
                if _os.path.isfile(path):
                    found += _certificates.pem_blocks(_text_of(path), "CERTIFICATE")
        self._authorities += [der for der in found if der not in self._authorities]
        self._made.clear()

    def set_default_verify_paths(self):
        self._default_authorities = True
        self._made.clear()

    def load_dh_params(self, filepath, /):
        """Reads the file, as a test that it is there: rustls has ECDHE alone."""
        _text_of(filepath)

    def set_ecdh_curve(self, name, /):
        if isinstance(name, bytes):
            name = name.decode("ascii")
        if name.lower() not in ("prime256v1", "secp256r1", "secp384r1", "x25519"):
            raise ValueError(f"unknown elliptic curve name '{name}'")

    # Queries

    def cert_store_stats(self):
        authorities = sum(map(_certificates.is_authority, self._authorities))
        return {"x509": len(self._authorities), "crl": 0, "x509_ca": authorities}

    def get_ca_certs(self, binary_form=False):
        found = [der for der in self._authorities if _certificates.is_authority(der)]
        return found if binary_form else [_certificates.decode(der) for der in found]

    def session_stats(self):
        names = (
            "number connect connect_good connect_renegotiate accept accept_good "
            "accept_renegotiate hits misses timeouts cache_full"
        )
        return {**dict.fromkeys(names.split(), 0), "accept": self._accepted}

    # Sessions

    def _session_options(self, alpn):
        """The options for the host, made anew only where they have changed."""
        key = (self._lowest, self._highest, self._options, tuple(alpn))
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = _host.TlsOptions(
                self._identities,
                self._authorities,
                self._default_authorities,
                self._versions(),
                alpn,
            )
        return made

    def _versions(self):
        lowest = max(self._lowest, _LOWEST) if self._lowest > 0 else _LOWEST
        highest = min(self._highest, _HIGHEST) if self._highest > 0 else _HIGHEST
        if self._lowest == PROTO_MAXIMUM_SUPPORTED:
            lowest = _HIGHEST
        if self._highest == PROTO_MINIMUM_SUPPORTED:
            highest = _LOWEST
        if self._options & OP_NO_TLSv1_2:
            lowest = max(lowest, PROTO_TLSv1_3)
        if self._options & OP_NO_TLSv1_3:
            highest = min(highest, PROTO_TLSv1_2)
        if lowest > highest:
            reason = "NO_PROTOCOLS_AVAILABLE"
            raise _error(
                SSLError,
                SSL_ERROR_SSL,
                f"[SSL: {reason}] no protocols available: the host speaks TLS 1.2 and 1.3",
                reason,
            )
        return lowest, highest

    def _wrap_socket(self, sock, server_side, server_hostname=None, *, owner=None, session=None):
        return _SSLSocket(self, _SocketEnds(sock), server_side, server_hostname, owner)

    def _wrap_bio(
        self, incoming, outgoing, server_side, server_hostname=None, *, owner=None, session=None
    ):
        return _SSLSocket(self, _MemoryEnds(incoming, outgoing), server_side, server_hostname, owner)


def _version(value, protocol):
    value = int(value)
    if protocol not in (PROTOCOL_TLS, PROTOCOL_TLS_CLIENT, PROTOCOL_TLS_SERVER):
        raise ValueError("The context's protocol doesn't support modification of "
                         "highest and lowest version.")
    if value not in (
        PROTO_MINIMUM_SUPPORTED,
        PROTO_MAXIMUM_SUPPORTED,
        PROTO_SSLv3,
        PROTO_TLSv1,
        PROTO_TLSv1_1,
        PROTO_TLSv1_2,
        PROTO_TLSv1_3,
    ):
        raise ValueError(f"Unsupported protocol version 0x{value & 0xFFFF:x}")
    return value


def _text_of(path):
    with open(path, "rb") as file:
        return file.read().decode("latin-1")


class _MemoryEnds:
    """The two ends of a session that are memory: they never wait."""

    def __init__(self, incoming, outgoing):
        self._incoming, self._outgoing = incoming, outgoing

    def receive(self):
        """Bytes, or nothing at the end. Raises what says that it has none."""
        if self._incoming._size:
            # The host keeps no more than 1 MiB that is not read yet.
            return self._incoming.read(_PIECE)
        if self._incoming._ended:
            return b""
        raise _no_data()

    def send(self, data):
        if data:
            self._outgoing.write(data)

    def flush(self):
        pass


class _SocketEnds:
    """A socket as both ends of a session."""

    def __init__(self, sock):
        self._socket = _weakref.ref(sock)
        # Encrypted bytes that found no room.
        self._left = b""

    def _alive(self):
        sock = self._socket()
        if sock is None or sock.fileno() < 0:
            raise _error(SSLError, SSL_ERROR_SYSCALL, "Underlying socket has been closed.")
        return sock

    def receive(self):
        try:
            return _sockets.socket.recv(self._alive(), _PIECE)
        except BlockingIOError:
            raise _no_data() from None
        except TimeoutError:
            raise TimeoutError("The read operation timed out") from None
        except ConnectionResetError:
            return b""

    def send(self, data):
        if data:
            self._left += data
            self.flush()

    def flush(self):
        while self._left:
            try:
                sent = _sockets.socket.send(self._alive(), self._left)
            except BlockingIOError:
                raise _no_room() from None
            except TimeoutError:
                raise TimeoutError("The write operation timed out") from None
            self._left = self._left[sent:]


class _SSLSocket:
    """_ssl._SSLSocket"""

    def __init__(self, context, ends, server_side, server_hostname, owner):
        if server_side and context._kind == PROTOCOL_TLS_CLIENT:
            raise _wrong_side("PROTOCOL_TLS_CLIENT", "server")
        if not server_side and context._kind == PROTOCOL_TLS_SERVER:
            raise _wrong_side("PROTOCOL_TLS_SERVER", "client")
        if server_hostname is not None:
            if not server_hostname or server_hostname.startswith("."):
                raise ValueError(
                    "server_hostname cannot be an empty string or start with a leading dot."
                )
            if "\0" in server_hostname:
                raise TypeError("argument must be encoded string without null bytes")
        if context._check_name and not server_side and not server_hostname:
            raise ValueError("check_hostname requires server_hostname")
        self._context, self._ends = context, ends
        # Bytes of the network, where they are in memory.
        self._incoming = ends._incoming if type(ends) is _MemoryEnds else None
        self.server_side, self.server_hostname = bool(server_side), server_hostname
        self._owner = None if owner is None else _weakref.ref(owner)
        self._session = None
        self._done = self._closed = False
        # True if the host has no data, and was not fed since: it need not be asked
        # again.
        self._dry = False
        # The records that the last bytes that the host was fed made whole.
        self._records = 0
        # The bytes that the record begun with them still lacks; None if that is not
        # known.
        self._lacking = 0
        # The bytes of write() that were encrypted, and are on their way.
        self._owed = 0
        self.session = None

    @property
    def owner(self):
        return None if self._owner is None else self._owner()

    @owner.setter
    def owner(self, value):
        self._owner = _weakref.ref(value)

    @property
    def context(self):
        return self._context

    @context.setter
    def context(self, value):
        if not isinstance(value, _SSLContext):
            raise TypeError("The value must be a SSLContext")
        self._context = value

    # The handshake

    def _begin(self):
        context = self._context
        if self.server_side:
            self._session = _call(_host.TLS_ACCEPT, [])
            return
        name = self.server_hostname
        self._session = _checked(
            _call(
                _host.TLS_CONNECT,
                [
                    context._session_options(context._alpn),
                    name,
                    context._verify != CERT_NONE,
                    context._check_name,
                ],
            )
        )

    def do_handshake(self):
        if self._session is None:
            self._begin()
        self._ends.flush()
        while not self._done:
            progress = _call(_host.TLS_HANDSHAKE, [self._session])
            if type(progress) is _Failure:
                self._send_alert()
                raise _raised(progress)
            self._flush()
            if progress is _DONE:
                self._done, self._records = True, 0
            elif progress is _WANT_READ:
                self._fill()
            else:
                self._answer(*progress)

    def _answer(self, server_name, offered):
        """Answers a client's greeting: its name chooses a context."""
        self._context._accepted += 1
        self.server_hostname = self.server_hostname or server_name
        if self._context._on_name is not None:
            alert = self._choose(server_name)
            if alert is not None:
                _call(_host.TLS_REFUSE, [self._session, alert & 0xFF])
                self._send_alert()
                raise _error(
                    SSLError, SSL_ERROR_SSL, "[SSL: CALLBACK_FAILED] callback failed", "CALLBACK_FAILED"
                )
        context = self._context
        # A server that knows none of what the client speaks goes on without, as
        # OpenSSL's does here: rustls would end the connection.
        alpn = [protocol for protocol in context._alpn if protocol in offered]
        clients = (
            _host.ClientCertificates.NONE,
            _host.ClientCertificates.OPTIONAL,
            _host.ClientCertificates.REQUIRED,
        )[context._verify]
        answered = _call(
            _host.TLS_ANSWER, [self._session, context._session_options(alpn), clients]
        )
        if type(answered) is _Failure:
            self._send_alert()
            raise _raised(answered)

    def _choose(self, server_name):
        """Lets the program choose a context. Returns the alert by which it refuses
        the client, or None."""
        choose = self._context._on_name
        try:
            alert = choose(self.owner, server_name, self._context)
        except BaseException as error:
            # As C does: the error is the program's, and the client hears of it.
            _report(error)
            return ALERT_DESCRIPTION_HANDSHAKE_FAILURE
        try:
            return None if alert is None else _operator.index(alert)
        except TypeError as error:
            _report(error)
            return ALERT_DESCRIPTION_INTERNAL_ERROR

    def _send_alert(self):
        """Sends what there is to say before an error is raised."""
        try:
            self._flush()
        except OSError:
            pass

    def _flush(self):
        data = _call(_TAKE, [self._session])
        if data:
            self._ends.send(data)

    def _fill(self):
        data = self._ends.receive()
        if data:
            self._feed(data)
        else:
            self._dry, self._records = False, 0
            _call(_host.TLS_FEED_END, [self._session])

    def _feed(self, data):
        self._dry = False
        if self._lacking == 0 and len(data) >= 5 and len(data) == 5 + (data[3] << 8 | data[4]):
            self._records = 1
        else:
            self._count(data)
        _call(_FEED, [self._session, data])

    def _count(self, data):
        """Counts the records that data makes whole: each begins with its kind, its
        version and its length (RFC 8446, section 5.1)."""
        at, end, records = self._lacking, len(data), 0
        if at is None or at > end:
            self._lacking = at and at - end
            self._records = 0
            return
        if at:
            records = 1
        while at < end:
            if end - at < 5:
                # The rest of the length is in the next bytes: too rare to follow.
                self._lacking, self._records = None, 0
                return
            at += 5 + (data[at + 3] << 8 | data[at + 4])
            if at <= end:
                records += 1
        self._lacking, self._records = at - end, records

    def _check(self):
        if not self._done:
            # As OpenSSL: the first read or write is the handshake.
            self.do_handshake()

    # Data

    def exchange(self, incoming):
        """Takes bytes of the network, at most 256 KiB, and returns data; None where
        read() has more to say of it."""
        self._feed(incoming)
        data = _call(_READ, [self._session, _PIECE])
        if type(data) is bytes:
            self._dry = self._records == 1 and len(data) < _PIECE
            return data
        if data is _WANT_READ:
            self._dry = True
            # Keys are changed, and tickets come.
            self._flush()
        return None

    def encrypt(self, data):
        """Returns the bytes for the network, where these are in memory, and how much of
        the data they are."""
        written = _checked(_call(_WRITE, [self._session, data]))
        return _call(_TAKE, [self._session]), written

    def read(self, size=1024, buffer=None, /):
        if buffer is None and self._done and 0 < size <= _PIECE:
            return self._read(size)
        view = None
        if buffer is not None:
            view = buffer if _sockets._is_plain(buffer) else memoryview(buffer).cast("B")
            if not 0 < size <= len(view):
                size = len(view)
        elif size < 0:
            raise ValueError("size should not be negative")
        if not self._done:
            self._check()
        data = b""
        if size:
            data = self._read(min(size, _PIECE))
        if view is None:
            return data
        view[: len(data)] = data
        return len(data)

    def _read(self, size):
        fed = False
        while True:
            if not self._dry:
                data = _call(_READ, [self._session, size])
                if type(data) is bytes:
                    # It was all there is, if one record brought it.
                    self._dry = self._records == 1 and len(data) < size
                    return data
                if data is _END:
                    if self._closed:
                        raise SSLZeroReturnError(
                            SSL_ERROR_ZERO_RETURN, "TLS/SSL connection has been closed (EOF)"
                        )
                    return b""
                if type(data) is _Failure:
                    self._send_alert()
                    raise _raised(data)
                self._dry = True
                if fed:
                    # It was no data: keys are changed, and tickets come.
                    self._flush()
            incoming = self._incoming
            if incoming is not None and not incoming._size and not incoming._ended:
                raise _no_data()
            self._fill()
            fed = True

    def write(self, data, /):
        if not self._done:
            self._check()
        if self._closed:
            reason = "PROTOCOL_IS_SHUTDOWN"
            raise _error(
                SSLZeroReturnError, SSL_ERROR_ZERO_RETURN, f"[SSL: {reason}] protocol is shutdown", reason
            )
        if self._incoming is None:
            self._ends.flush()
            if self._owed:
                written, self._owed = self._owed, 0
                return written
        if type(data) is not bytes or len(data) > _PIECE:
            with _sockets._view(data) as view:
                data = bytes(view[:_PIECE])
        if not data:
            return 0
        written = _checked(_call(_WRITE, [self._session, data]))
        try:
            self._flush()
        except SSLWantWriteError:
            # The program calls again with the same data, once there is room.
            self._owed = written
            raise
        return written

    def pending(self):
        return _call(_host.TLS_PENDING, [self._session]) if self._done else 0

    def shutdown(self):
        """Sends close_notify, and waits for the peer's."""
        if self._session is None:
            raise _error(SSLError, SSL_ERROR_SSL, "[SSL: UNINITIALIZED] uninitialized", "UNINITIALIZED")
        self._ends.flush()
        if not self._closed:
            self._closed = True
            _call(_host.TLS_CLOSE, [self._session])
            self._flush()
        while True:
            data = _call(_READ, [self._session, 16384])
            if data is _END:
                return self._ends._socket() if isinstance(self._ends, _SocketEnds) else None
            if data is _WANT_READ:
                self._flush()
                self._fill()
            elif type(data) is _Failure:
                raise _raised(data)
            elif data:
                reason = "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
                raise _error(
                    SSLError,
                    SSL_ERROR_SSL,
                    f"[SSL: {reason}] application data after close notify",
                    reason,
                )

    # The agreement

    def version(self):
        return _call(_host.TLS_VERSION, [self._session]) if self._done else None

    def cipher(self):
        if not self._done:
            return None
        name, bits = _call(_host.TLS_CIPHER, [self._session])
        found, version = _SUITES.get(name, (name, self.version()))
        return found, version, bits

    def shared_ciphers(self):
        return [self.cipher()] if self.server_side and self._done else None

    def compression(self):
        return None

    def selected_alpn_protocol(self):
        return _call(_host.TLS_ALPN, [self._session]) if self._done else None

    @property
    def session_reused(self):
        return _call(_host.TLS_RESUMED, [self._session]) if self._done else False

    def _chain(self):
        return _call(_host.TLS_PEER_CERTIFICATES, [self._session]) if self._done else []

    def getpeercert(self, binary_mode=False, /):
        if not self._done:
            raise ValueError("handshake not done yet")
        chain = self._chain()
        if not chain:
            return None
        if binary_mode:
            return chain[0]
        return {} if self._context._verify == CERT_NONE else _certificates.decode(chain[0])

    def get_verified_chain(self):
        """The chain as the peer sent it: the host verifies it, and does not tell
        which authority it ended in."""
        return [Certificate(der) for der in self._chain()] or None

    get_unverified_chain = get_verified_chain

    def get_channel_binding(self, cb_type="tls-unique", /):
        if cb_type == "tls-exporter":
            if not self._done:
                return None
            return _checked(
                _call(
                    _host.TLS_EXPORT, [self._session, "EXPORTER-Channel-Binding", b"", 32]
                )
            )
        if cb_type == "tls-unique":
            return None  # the host does not tell (and TLS 1.3 has none)
        raise ValueError(f"'{cb_type}' channel binding type not implemented")

    def verify_client_post_handshake(self):
        raise NotImplementedError("Post-handshake auth is not supported by the host")


def _wrong_side(protocol, side):
    return _error(
        SSLError, SSL_ERROR_SSL, f"Cannot create a {side} socket with a {protocol} context"
    )
