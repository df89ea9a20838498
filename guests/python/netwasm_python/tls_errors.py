"""Exceptions of `_ssl`, and how failures of the host's sessions become these."""

import errno

from netwasm_python import host
from netwasm_python.tls_constants import SSL_ERROR_EOF, SSL_ERROR_SSL
from netwasm_python.tls_constants import SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE

# Alerts that SSL 3 had already: OpenSSL's names of them say so.
_ALERTS_OF_SSL3 = {10, 20, 30, 40, 41, 42, 43, 44, 45, 46, 47}
# OpenSSL's reasons, which programs look at, by words of the host: the peer speaks no
# TLS, no version of it that is allowed, no suite, or has no certificate.
_REASONS = (
    ("InvalidContentType", "WRONG_VERSION_NUMBER"),
    ("UnknownProtocolVersion", "WRONG_VERSION_NUMBER"),
    ("Tls12NotOffered", "UNSUPPORTED_PROTOCOL"),
    ("ServerDoesNotSupportTls12Or13", "UNSUPPORTED_PROTOCOL"),
    ("ServerTlsVersionIsDisabledByOurConfig", "UNSUPPORTED_PROTOCOL"),
    ("SupportedVersionsExtensionRequired", "UNSUPPORTED_PROTOCOL"),
    ("NoCipherSuitesInCommon", "NO_SHARED_CIPHER"),
    ("did not return a certificate", "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
)


class _Uncaught:
    """An error that nobody can catch, which Python tells of as this is dropped:
    PyErr_WriteUnraisable of C."""

    def __init__(self, error):
        self._error = error

    def __del__(self):
        raise self._error


def report(error):
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


class SSLPermissionError(SSLError, PermissionError):
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


def ssl_error(kind, code, text, reason=None):
    error = kind(code, text)
    error.library, error.reason = "SSL", reason
    return error


def raised(failure):
    """Makes Python's exception of a failure of a session."""
    why = failure.value
    if type(why) is host.FailureCertificate:
        code, text = why.value
        reason = "CERTIFICATE_VERIFY_FAILED"
        error = ssl_error(
            SSLCertVerificationError,
            SSL_ERROR_SSL,
            f"[SSL: {reason}] certificate verify failed: {text}",
            reason,
        )
        error.verify_code, error.verify_message = code, text
        return error
    if type(why) is host.FailureAlert:
        number, name = why.value
        name = name.upper().replace(" ", "_").replace("-", "_")
        family = "SSLV3" if number in _ALERTS_OF_SSL3 else "TLSV13" if number in (109, 116) else "TLSV1"
        reason = f"{family}_ALERT_{name}"
        words = reason.lower().replace("_", " ")
        return ssl_error(SSLError, SSL_ERROR_SSL, f"[SSL: {reason}] {words}", reason)
    if type(why) is host.FailureTruncated:
        return ssl_error(
            SSLEOFError,
            SSL_ERROR_EOF,
            "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol",
            "UNEXPECTED_EOF_WHILE_READING",
        )
    if type(why) is host.FailureDenied:
        return SSLPermissionError(errno.EACCES, why.value)
    reason = next((reason for words, reason in _REASONS if words in why.value), None)
    if reason is None:
        return ssl_error(SSLError, SSL_ERROR_SSL, f"[SSL] {why.value}")
    words = reason.lower().replace("_", " ")
    return ssl_error(SSLError, SSL_ERROR_SSL, f"[SSL: {reason}] {words}: {why.value}", reason)


def checked(result):
    if type(result) is host.Failure:
        raise raised(result)
    return result


_NOT_READ, _NOT_WRITTEN = (f"The operation did not complete ({what})" for what in ("read", "write"))


def no_data():
    return SSLWantReadError(SSL_ERROR_WANT_READ, _NOT_READ)


def no_room():
    return SSLWantWriteError(SSL_ERROR_WANT_WRITE, _NOT_WRITTEN)
