"""The settings of a context (`ssl.SSLContext`). Sessions are told of them as they begin."""

import os

from netwasm_python import certificates, host
from netwasm_python.tls_constants import *
from netwasm_python.tls_errors import SSLError, ssl_error
from netwasm_python.tls_suites import SUITES

_LOWEST, _HIGHEST = PROTO_TLSv1_2, PROTO_TLSv1_3


class Settings:
    """_ssl._SSLContext, but for the sessions that it begins."""

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
            raise ssl_error(
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
        known = [name.upper() for name, _ in SUITES.values()]
        for word in wanted:
            if word.startswith(("!", "-", "@")):
                continue
            parts = word.upper().lstrip("+").split("+")
            if not parts[0] or parts[0] in ("DEFAULT", "ALL", "HIGH", "ECDH", "ECDHE", "EECDH", "KECDHE", "AESGCM", "CHACHA20"):
                return
            if any(all(part in name for part in parts) for name in known):
                return
        raise ssl_error(SSLError, SSL_ERROR_SSL, "No cipher can be selected.")

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
            for name, version in SUITES.values()
        ]

    def load_cert_chain(self, certfile, keyfile=None, password=None):
        if certfile is None:
            raise TypeError("certfile should be a valid filesystem path")
        chain = _text_of(certfile)
        key = chain if keyfile is None else _text_of(keyfile)
        if "-----BEGIN CERTIFICATE-----" not in chain or "PRIVATE KEY-----" not in key:
            raise ssl_error(SSLError, 9, "[SSL] PEM lib", "PEM_LIB")
        if "ENCRYPTED" in key and callable(password):
            password = password()
        if isinstance(password, (bytes, bytearray)):
            password = bytes(password).decode("utf-8")
        if password is not None and not isinstance(password, str):
            raise TypeError("password should be a string or callable")
        self._identities.append(host.TlsIdentity(chain, key, password))
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
                found += certificates.pem_blocks(cadata, "CERTIFICATE")
                if not found:
                    raise ssl_error(
                        SSLError,
                        SSL_ERROR_SSL,
                        "no start line: cadata does not contain a certificate",
                        "NO_START_LINE",
                    )
            else:
                try:
                    found += certificates.certificates(bytes(cadata))
                except (ValueError, IndexError):
                    found = []
                if not found:
                    raise ssl_error(
                        SSLError,
                        SSL_ERROR_SSL,
                        "not enough data: cadata does not contain a certificate",
                        "NOT_ENOUGH_DATA",
                    )
        if cafile is not None:
            here = certificates.pem_blocks(_text_of(cafile), "CERTIFICATE")
            if not here:
                raise ssl_error(
                    SSLError,
                    SSL_ERROR_SSL,
                    "[X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found",
                    "NO_CERTIFICATE_OR_CRL_FOUND",
                )
            found += here
        if capath is not None and os.path.isdir(capath):
            for name in sorted(os.listdir(capath)):
                path = os.path.join(os.fspath(capath), name)
                if os.path.isfile(path):
                    found += certificates.pem_blocks(_text_of(path), "CERTIFICATE")
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
        authorities = sum(map(certificates.is_authority, self._authorities))
        return {"x509": len(self._authorities), "crl": 0, "x509_ca": authorities}

    def get_ca_certs(self, binary_form=False):
        found = [der for der in self._authorities if certificates.is_authority(der)]
        return found if binary_form else [certificates.decode(der) for der in found]

    def session_stats(self):
        names = (
            "number connect connect_good connect_renegotiate accept accept_good "
            "accept_renegotiate hits misses timeouts cache_full"
        )
        return {**dict.fromkeys(names.split(), 0), "accept": self._accepted}

    # The host's form

    def session_options(self, alpn):
        """The options for the host, made again only where they have changed."""
        key = (self._lowest, self._highest, self._options, tuple(alpn))
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = host.TlsOptions(
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
            raise ssl_error(
                SSLError,
                SSL_ERROR_SSL,
                f"[SSL: {reason}] no protocols available: the host speaks TLS 1.2 and 1.3",
                reason,
            )
        return lowest, highest


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
