//! The host's values as text, and back.

use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::netwasm::net::types::{
    ConnectionInfo, Endpoint, Error, ErrorCode, IpAddress, IpSocketAddress, Ipv4SocketAddress,
    Ipv6SocketAddress, ProxyInfo, SocketAddress,
};

/// An error's name in WIT, and what the system or TLS says of it.
pub(super) fn error(error: &Error) -> String {
    let code = error.code;
    let name = format!("{code:?}");
    let name = kebab(name.trim_start_matches("ErrorCode::"));
    match code {
        ErrorCode::Tls | ErrorCode::Other => format!("{name}: {}", error.text),
        _ => name,
    }
}

/// `NotFound` as `not-found`, from what `Debug` gives.
pub(super) fn kebab(name: impl Debug) -> String {
    let mut text = String::new();
    for c in format!("{name:?}").trim_matches('"').chars() {
        if c.is_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.extend(c.to_lowercase());
    }
    text
}

/// Addresses with spaces between.
pub(super) fn addresses(addresses: &[IpAddress]) -> String {
    let words: Vec<String> = addresses
        .iter()
        .map(|address| match *address {
            IpAddress::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).to_string(),
            IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => {
                Ipv6Addr::new(a, b, c, d, e, f, g, h).to_string()
            }
        })
        .collect();
    words.join(" ")
}

/// `peer ADDR local ADDR [tls VERSION CIPHER [alpn NAME] [server-name NAME]
/// [peer-certificate LENGTH]]`, where ADDR is IP:PORT or unix:PATH.
pub(super) fn info(info: &ConnectionInfo) -> String {
    let mut text = format!("peer {} local {}", socket(&info.peer), socket(&info.local));
    if let Some(tls) = &info.tls {
        text += &format!(" tls {} {}", tls.version, tls.cipher);
        if let Some(alpn) = &tls.alpn {
            text += &format!(" alpn {alpn}");
        }
        if let Some(name) = &tls.server_name {
            text += &format!(" server-name {name}");
        }
        for certificate in &tls.peer_certificates {
            text += &format!(" peer-certificate {}", certificate.len());
        }
    }
    text
}

/// `proxy ADDR [destination ADDR] [alpn NAME] [authority NAME] [id BYTES] [tls VERSION
/// [certificate [verified]] [common-name NAME]] fields TYPE...`, or `none`.
pub(super) fn proxied(told: Option<ProxyInfo>) -> String {
    let Some(told) = told else {
        return "none".to_owned();
    };
    let mut text = format!("proxy {}", socket(&told.proxy));
    if let Some(destination) = &told.destination {
        text += &format!(" destination {}", socket(destination));
    }
    if let Some(alpn) = &told.alpn {
        text += &format!(" alpn {alpn}");
    }
    if let Some(authority) = &told.authority {
        text += &format!(" authority {authority}");
    }
    if let Some(id) = &told.unique_id {
        text += &format!(" id {}", String::from_utf8_lossy(id));
    }
    if let Some(tls) = &told.tls {
        text += &format!(" tls {}", tls.version.as_deref().unwrap_or("?"));
        for (is_so, word) in [
            (tls.client_certificate, " certificate"),
            (tls.verified, " verified"),
        ] {
            text += if is_so { word } else { "" };
        }
        if let Some(name) = &tls.common_name {
            text += &format!(" common-name {name}");
        }
    }
    text += " fields";
    for (kind, _) in &told.fields {
        text += &format!(" {kind}");
    }
    text
}

fn socket(address: &SocketAddress) -> String {
    match address {
        SocketAddress::Unix(path) => format!("unix:{}", path.as_deref().unwrap_or("")),
        SocketAddress::Ip(IpSocketAddress::Ipv4(v4)) => {
            let (a, b, c, d) = v4.address;
            SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), v4.port).to_string()
        }
        SocketAddress::Ip(IpSocketAddress::Ipv6(v6)) => {
            let (a, b, c, d, e, f, g, h) = v6.address;
            let ip = Ipv6Addr::new(a, b, c, d, e, f, g, h);
            SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id).to_string()
        }
    }
}

/// `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`. An address as text with a port is
/// given to the host as an address, anything else as a name.
pub(super) fn endpoint(text: &str) -> Option<Endpoint> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Some(Endpoint::Unix(path.to_owned()));
    }
    match text.parse() {
        Ok(SocketAddr::V4(v4)) => {
            let [a, b, c, d] = v4.ip().octets();
            Some(Endpoint::Ip(IpSocketAddress::Ipv4(Ipv4SocketAddress {
                port: v4.port(),
                address: (a, b, c, d),
            })))
        }
        Ok(SocketAddr::V6(v6)) => {
            let [a, b, c, d, e, f, g, h] = v6.ip().segments();
            Some(Endpoint::Ip(IpSocketAddress::Ipv6(Ipv6SocketAddress {
                port: v6.port(),
                flow_info: v6.flowinfo(),
                address: (a, b, c, d, e, f, g, h),
                scope_id: v6.scope_id(),
            })))
        }
        Err(_) => {
            let (host, port) = text.rsplit_once(':')?;
            Some(Endpoint::Name((host.to_owned(), port.parse().ok()?)))
        }
    }
}
