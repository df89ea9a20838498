"""Reads certificates (X.509, RFC 5280) for getpeercert(): DER to the dictionary
that Python makes of it. The host has verified them; nothing here decides on
trust.
"""

import binascii
import re

from netwasm_python.tls_constants import ENCODING_DER, ENCODING_PEM

_SEQUENCE, _SET, _INTEGER, _OBJECT = 0x30, 0x31, 0x02, 0x06
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()

# OpenSSL's names, which are those that Python gives.
_NAMES = {
    "2.5.4.3": "commonName",
    "2.5.4.4": "surname",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "countryName",
    "2.5.4.7": "localityName",
    "2.5.4.8": "stateOrProvinceName",
    "2.5.4.9": "streetAddress",
    "2.5.4.10": "organizationName",
    "2.5.4.11": "organizationalUnitName",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.42": "givenName",
    "2.5.4.43": "initials",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "2.5.4.97": "organizationIdentifier",
    "1.2.840.113549.1.9.1": "emailAddress",
    "0.9.2342.19200300.100.1.1": "userId",
    "0.9.2342.19200300.100.1.25": "domainComponent",
    "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionLocalityName",
    "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionStateOrProvinceName",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionCountryName",
}
_SUBJECT_ALT_NAME = "2.5.29.17"
_BASIC_CONSTRAINTS = "2.5.29.19"
_CRL_POINTS = "2.5.29.31"
_AUTHORITY_INFO = "1.3.6.1.5.5.7.1.1"
_OCSP, _CA_ISSUERS = "1.3.6.1.5.5.7.48.1", "1.3.6.1.5.5.7.48.2"


def pem_blocks(text, label):
    """Returns the DER of each block of PEM with this label (RFC 7468)."""
    pattern = rf"-----BEGIN {label}-----(.*?)-----END {label}-----"
    return [
        binascii.a2b_base64("".join(body.split()))
        for body in re.findall(pattern, text, re.DOTALL)
    ]


def elements(der):
    """Yields the elements that a piece of DER is made of, each as its tag, its
    content, and all of it."""
    at = 0
    while at < len(der):
        tag, length, start = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4:
                raise ValueError("a length that is not of DER")
            length = int.from_bytes(der[start : start + size], "big")
            start += size
        if start + length > len(der):
            raise ValueError("an element that is cut short")
        yield tag, der[start : start + length], der[at : start + length]
        at = start + length


def certificates(der):
    """Splits certificates in DER that follow each other."""
    return [whole for _, _, whole in elements(der)]


def object_text(content):
    """Writes an object identifier with dots."""
    numbers, number = [], 0
    for octet in content:
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


def _text(tag, content):
    if tag == 0x1E:
        return content.decode("utf-16-be", "replace")
    if tag == 0x1C:
        return content.decode("utf-32-be", "replace")
    return content.decode("latin-1" if tag == 0x14 else "utf-8", "backslashreplace")


def _name(content):
    """A distinguished name, as a tuple of tuples of pairs."""
    parts = []
    for _, relative, _ in elements(content):
        pairs = []
        for _, pair, _ in elements(relative):
            (_, kind, _), (tag, value, _) = list(elements(pair))[:2]
            kind = object_text(kind)
            pairs.append((_NAMES.get(kind, kind), _text(tag, value)))
        parts.append(tuple(pairs))
    return tuple(parts)


def _time(tag, content):
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    month, day = _MONTHS[int(text[4:6]) - 1], int(text[6:8])
    return f"{month} {day:2d} {text[8:10]}:{text[10:12]}:{text[12:14]} {text[:4]} GMT"


def _general_name(tag, content):
    """One name of GeneralNames, as a pair of its kind and its text."""
    if tag == 0x81:
        return "email", content.decode("latin-1")
    if tag == 0x82:
        return "DNS", content.decode("latin-1")
    if tag == 0x86:
        return "URI", content.decode("latin-1")
    if tag == 0x87:
        if len(content) == 4:
            return "IP Address", ".".join(map(str, content))
        # OpenSSL writes each group, in capitals.
        groups = [int.from_bytes(content[at : at + 2], "big") for at in range(0, len(content), 2)]
        return "IP Address", ":".join(["%X" % group for group in groups])
    if tag == 0x88:
        return "Registered ID", object_text(content)
    if tag == 0xA4:
        return "DirName", _name(next(elements(content))[1])
    return "othername", "<unsupported>"


def _inside(octets):
    """The elements within the one element that `octets` is."""
    return list(elements(next(elements(octets))[1]))


def decode(der):
    """Makes the dictionary of getpeercert() of a certificate."""
    signed = list(elements(next(elements(der))[1]))
    fields = list(elements(signed[0][1]))
    version = 1
    if fields[0][0] == 0xA0:
        version = 1 + int.from_bytes(next(elements(fields.pop(0)[1]))[1], "big")
    serial, _, issuer, validity, subject = (field[1] for field in fields[:5])
    begins, ends = list(elements(validity))[:2]
    digits = "%X" % int.from_bytes(serial, "big", signed=True)
    found = {
        "subject": _name(subject),
        "issuer": _name(issuer),
        "version": version,
        "serialNumber": digits if len(digits) % 2 == 0 else "0" + digits,
        "notBefore": _time(*begins[:2]),
        "notAfter": _time(*ends[:2]),
    }
    extensions = {}
    for tag, content, _ in fields[5:]:
        if tag == 0xA3:
            for _, extension, _ in _inside(content):
                parts = list(elements(extension))
                extensions[object_text(parts[0][1])] = parts[-1][1]
    if names := extensions.get(_SUBJECT_ALT_NAME):
        found["subjectAltName"] = tuple(_general_name(*name[:2]) for name in _inside(names))
    if access := extensions.get(_AUTHORITY_INFO):
        for key, wanted in (("OCSP", _OCSP), ("caIssuers", _CA_ISSUERS)):
            places = []
            for _, description, _ in _inside(access):
                (_, kind, _), (tag, place, _) = list(elements(description))[:2]
                if object_text(kind) == wanted and tag == 0x86:
                    places.append(place.decode("latin-1"))
            if places:
                found[key] = tuple(places)
    if points := extensions.get(_CRL_POINTS):
        places = []
        for _, point, _ in _inside(points):
            for tag, name, _ in elements(point):
                if tag == 0xA0:
                    for _, full, _ in elements(name):
                        places += [
                            place.decode("latin-1")
                            for kind, place, _ in elements(full)
                            if kind == 0x86
                        ]
        if places:
            found["crlDistributionPoints"] = tuple(places)
    return found


def is_authority(der):
    """True if a certificate may sign others (basicConstraints)."""
    for tag, content, _ in list(elements(_inside(der)[0][1]))[5:]:
        if tag == 0xA3:
            for _, extension, _ in _inside(content):
                parts = list(elements(extension))
                if object_text(parts[0][1]) == _BASIC_CONSTRAINTS:
                    return any(tag == 0x01 and any(value) for tag, value, _ in _inside(parts[-1][1]))
    return False


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
        return decode(self._der)

    def __eq__(self, other):
        return isinstance(other, Certificate) and self._der == other._der

    def __hash__(self):
        return hash(self._der)
