"""Stands in for the C module `_ssl`: TLS by the host, under Python's own ssl.py.

The host's sessions do no input and output of their own, as OpenSSL's do none
over a MemoryBIO: bytes of the network are fed to a session, and taken from it.
A context keeps what a program has said of it, and tells a session when the
session begins. Keys and certificates are verified and used by the host.

    _SSLContext --begins--> _SSLSocket ---> MemoryBIO, or a socket
    tls_settings.py         tls_session.py  tls_ends.py

Their exceptions are in `tls_errors.py`, the numbers in `tls_constants.py`.
"""

import os as _os

from netwasm_python import certificates as _certificates
from netwasm_python.certificates import Certificate
from netwasm_python.tls_constants import *
from netwasm_python.tls_ends import MemoryBIO
from netwasm_python.tls_ends import MemoryEnds as _MemoryEnds, SocketEnds as _SocketEnds
from netwasm_python.tls_errors import SSLCertVerificationError, SSLEOFError, SSLError
from netwasm_python.tls_errors import SSLSyscallError, SSLWantReadError, SSLWantWriteError
from netwasm_python.tls_errors import SSLZeroReturnError
from netwasm_python.tls_session import Session as _SSLSocket
from netwasm_python.tls_settings import Settings as _Settings

HAS_SSLv2 = HAS_SSLv3 = HAS_TLSv1 = HAS_TLSv1_1 = HAS_NPN = HAS_PSK = HAS_PHA = False
HAS_TLSv1_2 = HAS_TLSv1_3 = HAS_SNI = HAS_ECDH = HAS_ALPN = True
HAS_TLS_UNIQUE = HAS_PSK_TLS13 = False
# Programs read this number to learn whether OpenSSL 3's features are there.
OPENSSL_VERSION = "netwasm's host, by rustls, in the form of OpenSSL 3.0"
OPENSSL_VERSION_INFO = _OPENSSL_API_VERSION = (3, 0, 0, 0, 0)
OPENSSL_VERSION_NUMBER = 0x30000000
_DEFAULT_CIPHERS = "DEFAULT"

_OBJECTS = [
    (129, "serverAuth", "TLS Web Server Authentication", "1.3.6.1.5.5.7.3.1"),
    (130, "clientAuth", "TLS Web Client Authentication", "1.3.6.1.5.5.7.3.2"),
    (13, "CN", "commonName", "2.5.4.3"),
    (85, "subjectAltName", "X509v3 Subject Alternative Name", "2.5.29.17"),
]


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


class _SSLContext(_Settings):
    """_ssl._SSLContext"""

    def _wrap_socket(self, sock, server_side, server_hostname=None, *, owner=None, session=None):
        return _SSLSocket(self, _SocketEnds(sock), server_side, server_hostname, owner)

    def _wrap_bio(
        self, incoming, outgoing, server_side, server_hostname=None, *, owner=None, session=None
    ):
        return _SSLSocket(self, _MemoryEnds(incoming, outgoing), server_side, server_hostname, owner)
