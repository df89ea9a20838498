//! Names of families, kinds and options in steps.

use crate::bindings::netwasm::net::sockets::{Family, Kind, OptionName};

pub(crate) fn named_family(name: &str) -> Result<Family, String> {
    match name {
        "inet" => Ok(Family::Inet),
        "inet6" => Ok(Family::Inet6),
        "unix" => Ok(Family::Unix),
        _ => Err("a family".to_owned()),
    }
}

pub(crate) fn named_kind(name: &str) -> Result<Kind, String> {
    match name {
        "stream" => Ok(Kind::Stream),
        "datagram" => Ok(Kind::Datagram),
        _ => Err("a kind".to_owned()),
    }
}

pub(crate) fn named_option(name: &str) -> Result<OptionName, String> {
    const ALL: [(&str, OptionName); 17] = [
        ("reuse-address", OptionName::ReuseAddress),
        ("reuse-port", OptionName::ReusePort),
        ("broadcast", OptionName::Broadcast),
        ("keep-alive", OptionName::KeepAlive),
        ("keep-alive-idle", OptionName::KeepAliveIdle),
        ("keep-alive-interval", OptionName::KeepAliveInterval),
        ("keep-alive-count", OptionName::KeepAliveCount),
        ("linger", OptionName::Linger),
        ("no-delay", OptionName::NoDelay),
        ("quick-ack", OptionName::QuickAck),
        ("user-timeout", OptionName::UserTimeout),
        ("receive-buffer", OptionName::ReceiveBuffer),
        ("send-buffer", OptionName::SendBuffer),
        ("only-ipv6", OptionName::OnlyIpv6),
        ("hop-limit", OptionName::HopLimit),
        ("traffic-class", OptionName::TrafficClass),
        ("listens", OptionName::Listens),
    ];
    let found = ALL.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, option)| *option)
        .ok_or_else(|| "an option".to_owned())
}
