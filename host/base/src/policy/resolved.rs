//! Record of which names resolved to which addresses.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use super::name::canonical_name;

/// Maximum of addresses remembered; beyond it the oldest are forgotten.
const ADDRESSES: usize = 1024;

/// Maximum of names remembered for one address.
const NAMES: usize = 16;

/// The addresses that names resolved to. With it, a rule for a name also holds
/// if a guest resolves the name first and then connects to an address, as every
/// standard library does.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    names: HashMap<IpAddr, VecDeque<String>>,
    /// Addresses, the oldest first.
    order: VecDeque<IpAddr>,
}

impl Resolved {
    /// Remembers that a name resolved to these addresses.
    pub fn remember(&mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        let name = canonical_name(name);
        for ip in addresses {
            let ip = ip.to_canonical();
            let names = self.names.entry(ip).or_default();
            if names.is_empty() {
                self.order.push_back(ip);
            }
            if !names.contains(&name) {
                names.push_back(name.clone());
            }
            if names.len() > NAMES {
                names.pop_front();
            }
            if self.order.len() > ADDRESSES
                && let Some(oldest) = self.order.pop_front()
            {
                self.names.remove(&oldest);
            }
        }
    }

    /// Returns the names that resolved to an address.
    pub(super) fn names(&self, ip: IpAddr) -> impl Iterator<Item = &str> {
        self.names
            .get(&ip.to_canonical())
            .into_iter()
            .flatten()
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut resolved = Resolved::default();
        let address = |number: u32| IpAddr::from(Ipv4Addr::from_bits(number));
        for number in 0..5000 {
            resolved.remember("a.example", [address(number)]);
            resolved.remember(&format!("{number}.example"), [address(4999)]);
        }
        assert_eq!(resolved.names.len(), resolved.order.len());
        assert!(resolved.names.len() <= ADDRESSES);
        assert_eq!(resolved.names(address(0)).count(), 0);
        assert_eq!(
            resolved.names(address(4998)).collect::<Vec<_>>(),
            ["a.example"]
        );
        assert_eq!(resolved.names(address(4999)).count(), NAMES);
    }
}
