"""A session (`_ssl._SSLSocket`): the handshake, data, the end, and what was agreed on."""

import operator
import weakref

from netwasm_python import certificates, host, sockets
from netwasm_python.certificates import Certificate
from netwasm_python.tls_constants import ALERT_DESCRIPTION_HANDSHAKE_FAILURE
from netwasm_python.tls_constants import ALERT_DESCRIPTION_INTERNAL_ERROR, CERT_NONE
from netwasm_python.tls_constants import PROTOCOL_TLS_CLIENT, PROTOCOL_TLS_SERVER
from netwasm_python.tls_constants import SSL_ERROR_SSL, SSL_ERROR_ZERO_RETURN
from netwasm_python.tls_ends import PIECE, MemoryEnds, SocketEnds
from netwasm_python.tls_errors import SSLError, SSLWantWriteError, SSLZeroReturnError
from netwasm_python.tls_errors import checked, no_data, raised, report, ssl_error
from netwasm_python.tls_settings import Settings
from netwasm_python.tls_suites import SUITES

_call, _Failure = host.call, host.Failure
_READ, _WRITE, _TAKE = host.TLS_READ, host.TLS_WRITE, host.TLS_TAKE
_EXCHANGE, _ENCRYPT = host.TLS_EXCHANGE, host.TLS_ENCRYPT
_DONE, _WANT_READ, _END = host.DONE, host.WANT_READ, host.END


class Session:
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
        self._incoming = ends._incoming if type(ends) is MemoryEnds else None
        self.server_side, self.server_hostname = bool(server_side), server_hostname
        self._owner = None if owner is None else weakref.ref(owner)
        self._session = None
        self._done = self._closed = False
        # True if the host has nothing to tell, and was not fed since: it need not be
        # asked again.
        self._dry = False
        # The bytes of write() that were encrypted, and are on their way.
        self._owed = 0
        self.session = None

    @property
    def owner(self):
        return None if self._owner is None else self._owner()

    @owner.setter
    def owner(self, value):
        self._owner = weakref.ref(value)

    @property
    def context(self):
        return self._context

    @context.setter
    def context(self, value):
        if not isinstance(value, Settings):
            raise TypeError("The value must be a SSLContext")
        self._context = value

    # The handshake

    def _begin(self):
        context = self._context
        if self.server_side:
            self._session = _call(host.TLS_ACCEPT, [])
            return
        name = self.server_hostname
        self._session = checked(
            _call(
                host.TLS_CONNECT,
                [
                    context.session_options(context._alpn),
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
            progress = _call(host.TLS_HANDSHAKE, [self._session])
            if type(progress) is _Failure:
                self._send_alert()
                raise raised(progress)
            self._flush()
            if progress is _DONE:
                self._done = True
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
                _call(host.TLS_REFUSE, [self._session, alert & 0xFF])
                self._send_alert()
                raise ssl_error(
                    SSLError, SSL_ERROR_SSL, "[SSL: CALLBACK_FAILED] callback failed", "CALLBACK_FAILED"
                )
        context = self._context
        # A server that knows none of what the client speaks goes on without, as
        # OpenSSL's does here: rustls would end the connection.
        alpn = [protocol for protocol in context._alpn if protocol in offered]
        clients = (
            host.ClientCertificates.NONE,
            host.ClientCertificates.OPTIONAL,
            host.ClientCertificates.REQUIRED,
        )[context._verify]
        answered = _call(
            host.TLS_ANSWER, [self._session, context.session_options(alpn), clients]
        )
        if type(answered) is _Failure:
            self._send_alert()
            raise raised(answered)

    def _choose(self, server_name):
        """Lets the program choose a context. Returns the alert by which it refuses
        the client, or None."""
        choose = self._context._on_name
        try:
            alert = choose(self.owner, server_name, self._context)
        except BaseException as error:
            # As C does: the error is the program's, and the client hears of it.
            report(error)
            return ALERT_DESCRIPTION_HANDSHAKE_FAILURE
        try:
            return None if alert is None else operator.index(alert)
        except TypeError as error:
            report(error)
            return ALERT_DESCRIPTION_INTERNAL_ERROR

    def _send_alert(self, alert=b""):
        """Sends what there is to say before an error is raised."""
        try:
            self._ends.send(alert)
            self._flush()
        except OSError:
            pass

    def _flush(self):
        self._ends.send(_call(_TAKE, [self._session]))

    def _fill(self):
        data = self._ends.receive()
        self._dry = False
        if data:
            _call(host.TLS_FEED, [self._session, data])
        else:
            _call(host.TLS_FEED_END, [self._session])

    def _check(self):
        if not self._done:
            # As OpenSSL: the first read or write is the handshake.
            self.do_handshake()

    # Data

    def read(self, size=1024, buffer=None, /):
        if buffer is None and self._done and 0 < size <= PIECE:
            return self._read(size)
        view = None
        if buffer is not None:
            view = buffer if sockets._is_plain(buffer) else memoryview(buffer).cast("B")
            if not 0 < size <= len(view):
                size = len(view)
        elif size < 0:
            raise ValueError("size should not be negative")
        if not self._done:
            self._check()
        data = b""
        if size:
            data = self._read(min(size, PIECE))
        if view is None:
            return data
        view[: len(data)] = data
        return len(data)

    def _read(self, size):
        while True:
            if not self._dry:
                data = _call(_READ, [self._session, size])
                if type(data) is bytes:
                    return data
                if data is not _WANT_READ:
                    return self._ended(data)
                self._dry = True
                self._flush()
            incoming = self._incoming
            if incoming is not None and not incoming._size and not incoming._ended:
                raise no_data()
            data = self._ends.receive()
            if not data:
                self._dry = False
                _call(host.TLS_FEED_END, [self._session])
                continue
            data, more = _call(_EXCHANGE, [self._session, data, size])
            self._dry = not more
            if data:
                return data

    def _ended(self, why):
        """The outcome of a read where no more data comes: it returns or raises it."""
        if why is _END:
            if self._closed:
                raise SSLZeroReturnError(
                    SSL_ERROR_ZERO_RETURN, "TLS/SSL connection has been closed (EOF)"
                )
            return b""
        self._send_alert()
        raise raised(why)

    def write(self, data, /):
        if not self._done:
            self._check()
        if self._closed:
            reason = "PROTOCOL_IS_SHUTDOWN"
            raise ssl_error(
                SSLZeroReturnError, SSL_ERROR_ZERO_RETURN, f"[SSL: {reason}] protocol is shutdown", reason
            )
        if self._incoming is None:
            self._ends.flush()
            if self._owed:
                written, self._owed = self._owed, 0
                return written
        if type(data) is not bytes or len(data) > PIECE:
            with sockets._view(data) as view:
                data = bytes(view[:PIECE])
        if not data:
            return 0
        encrypted, written = _call(_ENCRYPT, [self._session, data])
        if not written:
            self._send_alert(encrypted)
            written = checked(_call(_WRITE, [self._session, data]))
            encrypted = _call(_TAKE, [self._session])
        try:
            self._ends.send(encrypted)
        except SSLWantWriteError:
            # The program calls again with the same data, once there is room.
            self._owed = written
            raise
        return written

    def pending(self):
        return _call(host.TLS_PENDING, [self._session]) if self._done else 0

    def shutdown(self):
        """Sends close_notify, and waits for the peer's."""
        if self._session is None:
            raise ssl_error(SSLError, SSL_ERROR_SSL, "[SSL: UNINITIALIZED] uninitialized", "UNINITIALIZED")
        self._ends.flush()
        if not self._closed:
            self._closed = True
            _call(host.TLS_CLOSE, [self._session])
            self._flush()
        while True:
            data = _call(_READ, [self._session, 16384])
            if data is _END:
                return self._ends._socket() if isinstance(self._ends, SocketEnds) else None
            if data is _WANT_READ:
                self._flush()
                self._fill()
            elif type(data) is _Failure:
                raise raised(data)
            elif data:
                reason = "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
                raise ssl_error(
                    SSLError,
                    SSL_ERROR_SSL,
                    f"[SSL: {reason}] application data after close notify",
                    reason,
                )

    # The agreement

    def version(self):
        return _call(host.TLS_VERSION, [self._session]) if self._done else None

    def cipher(self):
        if not self._done:
            return None
        name, bits = _call(host.TLS_CIPHER, [self._session])
        found, version = SUITES.get(name, (name, self.version()))
        return found, version, bits

    def shared_ciphers(self):
        return [self.cipher()] if self.server_side and self._done else None

    def compression(self):
        return None

    def selected_alpn_protocol(self):
        return _call(host.TLS_ALPN, [self._session]) if self._done else None

    @property
    def session_reused(self):
        return _call(host.TLS_RESUMED, [self._session]) if self._done else False

    def _chain(self):
        return _call(host.TLS_PEER_CERTIFICATES, [self._session]) if self._done else []

    def getpeercert(self, binary_mode=False, /):
        if not self._done:
            raise ValueError("handshake not done yet")
        chain = self._chain()
        if not chain:
            return None
        if binary_mode:
            return chain[0]
        return {} if self._context._verify == CERT_NONE else certificates.decode(chain[0])

    def get_verified_chain(self):
        """The chain as the peer sent it: the host verifies it, and does not tell
        which authority it ended in."""
        return [Certificate(der) for der in self._chain()] or None

    get_unverified_chain = get_verified_chain

    def get_channel_binding(self, cb_type="tls-unique", /):
        if cb_type == "tls-exporter":
            if not self._done:
                return None
            return checked(
                _call(
                    host.TLS_EXPORT, [self._session, "EXPORTER-Channel-Binding", b"", 32]
                )
            )
        if cb_type == "tls-unique":
            return None  # the host does not tell (and TLS 1.3 has none)
        raise ValueError(f"'{cb_type}' channel binding type not implemented")

    def verify_client_post_handshake(self):
        raise NotImplementedError("Post-handshake auth is not supported by the host")


def _wrong_side(protocol, side):
    return ssl_error(
        SSLError, SSL_ERROR_SSL, f"Cannot create a {side} socket with a {protocol} context"
    )
