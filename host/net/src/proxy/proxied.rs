//! Facts that a proxy has told of a connection, besides the client's address.

use netwasm_base::address::Address;

use super::Header;

/// Maximum of fields that are kept for a connection, in bytes.
const MOST_FIELDS: usize = 4 << 10;

/// Types of fields: section 2.2 of the specification.
const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const NO_OPERATION: u8 = 0x04;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_COMMON_NAME: u8 = 0x22;
const SSL_CIPHER: u8 = 0x23;
const SSL_SIGNATURE: u8 = 0x24;
const SSL_KEY: u8 = 0x25;

/// Facts that a proxy has told of a connection. It is as true as the proxy is honest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// Address of the proxy.
    pub proxy: Address,
    /// Address that the client has connected to; `None` if the proxy does not say.
    pub destination: Option<Address>,
    /// Whole fields, each with its type and its length.
    fields: Box<[u8]>,
}

/// The TLS session of a client with a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxiedTls {
    /// True if the client has presented a certificate, on this connection or in the
    /// session that it has resumed.
    pub client_certificate: bool,
    /// True if the proxy has verified that.
    pub verified: bool,
    /// Version, such as `TLSv1.3`.
    pub version: Option<String>,
    /// Cipher suite, as the proxy names it.
    pub cipher: Option<String>,
    /// Common name of the client's certificate.
    pub common_name: Option<String>,
    /// Algorithm that has signed the proxy's certificate, such as `SHA256`.
    pub signature_algorithm: Option<String>,
    /// Kind of the proxy's key, such as `RSA2048`.
    pub key_algorithm: Option<String>,
}

impl Proxied {
    pub(crate) fn new(proxy: Address, header: &Header, fields: &[u8]) -> Self {
        let mut kept = Vec::new();
        for (kind, value) in each(fields) {
            // Padding says nothing.
            if kind == NO_OPERATION || kept.len() + value.len() + 3 > MOST_FIELDS {
                continue;
            }
            kept.push(kind);
            let length = u16::try_from(value.len()).unwrap_or_default();
            kept.extend(length.to_be_bytes());
            kept.extend(value);
        }
        Self {
            proxy,
            destination: header.destination.clone(),
            fields: kept.into(),
        }
    }

    /// Returns the fields, each with its type, in their order. Those that only fill
    /// the header are left out, and so is what is more than 4 KiB in all.
    pub fn fields(&self) -> impl Iterator<Item = (u8, &[u8])> {
        each(&self.fields)
    }

    fn field(&self, kind: u8) -> Option<&[u8]> {
        field(&self.fields, kind)
    }

    /// Returns the protocol that was agreed on with the client (ALPN).
    #[must_use]
    pub fn alpn(&self) -> Option<String> {
        self.field(ALPN).map(text)
    }

    /// Returns the name that the client has asked for (SNI).
    #[must_use]
    pub fn authority(&self) -> Option<String> {
        self.field(AUTHORITY).map(text)
    }

    /// Returns what the proxy knows the connection by.
    #[must_use]
    pub fn unique_id(&self) -> Option<&[u8]> {
        self.field(UNIQUE_ID)
    }

    /// Returns the client's TLS session with the proxy, if there is one.
    #[must_use]
    pub fn tls(&self) -> Option<ProxiedTls> {
        const BY_TLS: u8 = 1;
        const CERTIFICATE: u8 = 2 | 4;
        let (client, rest) = self.field(SSL)?.split_first()?;
        let (verify, fields) = rest.split_first_chunk::<4>()?;
        let its = |kind| field(fields, kind).map(text);
        let client_certificate = client & CERTIFICATE != 0;
        (client & BY_TLS != 0).then(|| ProxiedTls {
            client_certificate,
            verified: client_certificate && *verify == [0; 4],
            version: its(SSL_VERSION),
            cipher: its(SSL_CIPHER),
            common_name: its(SSL_COMMON_NAME),
            signature_algorithm: its(SSL_SIGNATURE),
            key_algorithm: its(SSL_KEY),
        })
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn field(fields: &[u8], kind: u8) -> Option<&[u8]> {
    let found = each(fields).find(|(of, _)| *of == kind);
    found.map(|(_, value)| value)
}

/// Returns fields, each with its type. What is no whole field ends them.
fn each(mut fields: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [kind, high, low, rest @ ..] = fields else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = rest.split_at_checked(length)?;
        fields = next;
        Some((*kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).expect("a length");
        [&[kind][..], &length.to_be_bytes(), value].concat()
    }

    fn proxied(fields: &[Vec<u8>]) -> Proxied {
        let header = Header {
            length: 0,
            client: None,
            destination: None,
            fields: 0..0,
        };
        Proxied::new(Address::Unix(None), &header, &fields.concat())
    }

    #[test]
    fn known_fields_are_read_and_all_are_kept() {
        let session = [
            &[0x05, 0, 0, 0, 0][..],
            &field(SSL_VERSION, b"TLSv1.3"),
            &field(SSL_COMMON_NAME, b"a client"),
        ];
        let all = [
            field(ALPN, b"h2"),
            field(NO_OPERATION, &[0; 9]),
            field(AUTHORITY, b"a.example"),
            field(UNIQUE_ID, &[0xff, 1]),
            field(SSL, &session.concat()),
            field(0xe0, b"own"),
        ];
        let told = proxied(&all);
        assert_eq!(told.alpn().as_deref(), Some("h2"));
        assert_eq!(told.authority().as_deref(), Some("a.example"));
        assert_eq!(told.unique_id(), Some(&[0xff, 1][..]));
        let expected = ProxiedTls {
            client_certificate: true,
            verified: true,
            version: Some("TLSv1.3".to_owned()),
            common_name: Some("a client".to_owned()),
            ..ProxiedTls::default()
        };
        assert_eq!(told.tls(), Some(expected));
        let kinds: Vec<_> = told.fields().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [ALPN, AUTHORITY, UNIQUE_ID, SSL, 0xe0]);
        assert_eq!(told.fields().last(), Some((0xe0, &b"own"[..])));
    }

    #[test]
    fn what_is_too_much_or_malformed_is_left_out() {
        let told = proxied(&[
            field(0xe0, &[1; 3000]),
            field(0xe1, &[2; 3000]),
            field(0xe2, &[3; 500]),
        ]);
        let kinds: Vec<_> = told.fields().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [0xe0, 0xe2]);
        // A session without TLS, an unverified certificate, and less than a session.
        assert_eq!(proxied(&[field(SSL, &[0, 0, 0, 0, 0])]).tls(), None);
        let unverified = proxied(&[field(SSL, &[3, 0, 0, 0, 1])]).tls();
        assert!(unverified.is_some_and(|it| it.client_certificate && !it.verified));
        let plain = proxied(&[field(SSL, &[1, 0, 0, 0, 0])]).tls();
        assert!(plain.is_some_and(|it| !it.client_certificate && !it.verified));
        assert_eq!(proxied(&[field(SSL, &[1, 0])]).tls(), None);
    }
}
