//! Conversions between the interface's types and those of `net::posix`.

use std::path::PathBuf;

use netwasm_base::address::Address;
use netwasm_net::posix::{Direction, PosixOption, SocketFamily, SocketKind};

use crate::bindings::netwasm::net::types::SocketAddress;
use crate::concurrent::bindings::netwasm::net::sockets;

impl From<sockets::Family> for SocketFamily {
    fn from(family: sockets::Family) -> Self {
        match family {
            sockets::Family::Inet => Self::Inet,
            sockets::Family::Inet6 => Self::Inet6,
            sockets::Family::Unix => Self::Unix,
        }
    }
}

impl From<sockets::Kind> for SocketKind {
    fn from(kind: sockets::Kind) -> Self {
        match kind {
            sockets::Kind::Stream => Self::Stream,
            sockets::Kind::Datagram => Self::Datagram,
        }
    }
}

impl From<sockets::Direction> for Direction {
    fn from(direction: sockets::Direction) -> Self {
        match direction {
            sockets::Direction::Receiving => Self::Receiving,
            sockets::Direction::Sending => Self::Sending,
            sockets::Direction::Both => Self::Both,
        }
    }
}

impl From<sockets::OptionName> for PosixOption {
    fn from(name: sockets::OptionName) -> Self {
        match name {
            sockets::OptionName::ReuseAddress => Self::ReuseAddress,
            sockets::OptionName::ReusePort => Self::ReusePort,
            sockets::OptionName::Broadcast => Self::Broadcast,
            sockets::OptionName::KeepAlive => Self::KeepAlive,
            sockets::OptionName::KeepAliveIdle => Self::KeepAliveIdle,
            sockets::OptionName::KeepAliveInterval => Self::KeepAliveInterval,
            sockets::OptionName::KeepAliveCount => Self::KeepAliveCount,
            sockets::OptionName::Linger => Self::Linger,
            sockets::OptionName::NoDelay => Self::NoDelay,
            sockets::OptionName::QuickAck => Self::QuickAck,
            sockets::OptionName::UserTimeout => Self::UserTimeout,
            sockets::OptionName::ReceiveBuffer => Self::ReceiveBuffer,
            sockets::OptionName::SendBuffer => Self::SendBuffer,
            sockets::OptionName::OnlyIpv6 => Self::OnlyIpv6,
            sockets::OptionName::HopLimit => Self::HopLimit,
            sockets::OptionName::TrafficClass => Self::TrafficClass,
            sockets::OptionName::Listens => Self::Listens,
        }
    }
}

impl From<SocketAddress> for Address {
    fn from(address: SocketAddress) -> Self {
        match address {
            SocketAddress::Ip(address) => Self::Ip(address.into()),
            SocketAddress::Unix(path) => Self::Unix(path.map(PathBuf::from)),
        }
    }
}
