//! Addresses as text: `127.0.0.1:80`, `[::1]:80`, `unix:/run/a`.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crate::bindings::netwasm::net::types::{
    IpAddress, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, SocketAddress,
};

pub(crate) fn parse(text: &str) -> Result<SocketAddress, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(SocketAddress::Unix(
            (!path.is_empty()).then(|| path.to_owned()),
        ));
    }
    let address: SocketAddr = text.parse().map_err(|_| format!("{text} is no address"))?;
    Ok(SocketAddress::Ip(match address {
        SocketAddr::V4(v4) => IpSocketAddress::Ipv4(Ipv4SocketAddress {
            port: v4.port(),
            address: v4.ip().octets().into(),
        }),
        SocketAddr::V6(v6) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port: v6.port(),
            flow_info: v6.flowinfo(),
            address: v6.ip().segments().into(),
            scope_id: v6.scope_id(),
        }),
    }))
}

pub(crate) fn shown(address: &SocketAddress) -> String {
    match address {
        SocketAddress::Unix(None) => "unix".to_owned(),
        SocketAddress::Unix(Some(path)) => format!("unix:{path}"),
        SocketAddress::Ip(IpSocketAddress::Ipv4(v4)) => {
            SocketAddr::from((<[u8; 4]>::from(v4.address), v4.port)).to_string()
        }
        SocketAddress::Ip(IpSocketAddress::Ipv6(v6)) => {
            let ip = <[u16; 8]>::from(v6.address).into();
            SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id).to_string()
        }
    }
}

pub(crate) fn ip_text(address: IpAddress) -> String {
    let ip: IpAddr = match address {
        IpAddress::Ipv4(v4) => <[u8; 4]>::from(v4).into(),
        IpAddress::Ipv6(v6) => <[u16; 8]>::from(v6).into(),
    };
    ip.to_string()
}
