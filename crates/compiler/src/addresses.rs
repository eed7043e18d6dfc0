//! Gives addresses away: the same name gets the same one, and what was given does not move.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use imbl::OrdSet;
use tacit_model::access::Cidr;

/// Addresses at the start of a range that are never given away: its network and its gateway.
const FIRST: u32 = 2;

/// Chooses addresses inside one range.
#[derive(Debug)]
pub(crate) struct Allocator<'t, T> {
    range: Cidr,
    /// Addresses that somebody else gave away.
    others: &'t T,
    taken: BTreeSet<IpAddr>,
}

/// Addresses that are not free.
pub(crate) trait Taken {
    fn has(&self, address: IpAddr) -> bool;
    fn count(&self) -> usize;
}

impl Taken for BTreeSet<IpAddr> {
    fn has(&self, address: IpAddr) -> bool {
        self.contains(&address)
    }

    fn count(&self) -> usize {
        self.len()
    }
}

/// Addresses in their order, each once.
#[derive(Debug)]
pub(crate) struct Sorted(pub(crate) Vec<IpAddr>);

impl Taken for Sorted {
    fn has(&self, address: IpAddr) -> bool {
        self.0.binary_search(&address).is_ok()
    }

    fn count(&self) -> usize {
        self.0.len()
    }
}

impl Taken for OrdSet<IpAddr> {
    fn has(&self, address: IpAddr) -> bool {
        self.contains(&address)
    }

    fn count(&self) -> usize {
        self.len()
    }
}

impl<'t, T: Taken> Allocator<'t, T> {
    /// None of `others` is ever given away.
    pub(crate) fn new(range: Cidr, others: &'t T) -> Self {
        Self {
            range,
            others,
            taken: BTreeSet::new(),
        }
    }

    fn is_taken(&self, address: IpAddr) -> bool {
        self.taken.contains(&address) || self.others.has(address)
    }

    /// The address for `name`: `before` if it is still free and in the range, else the first free
    /// one from the hash of the name on. Nothing if the range is full.
    pub(crate) fn give(&mut self, name: &str, before: Option<IpAddr>) -> Option<IpAddr> {
        let kept =
            before.filter(|address| self.range.contains(*address) && !self.is_taken(*address));
        let given = kept.or_else(|| self.probe(name))?;
        self.taken.insert(given);
        Some(given)
    }

    fn probe(&self, name: &str) -> Option<IpAddr> {
        let IpAddr::V4(network) = self.range.network else {
            return None;
        };
        let size = 1_u64.checked_shl(32_u32.checked_sub(u32::from(self.range.prefix))?)?;
        // Neither the first ones nor the last one, which is the broadcast address.
        let usable = u32::try_from(size.checked_sub(u64::from(FIRST) + 1)?).ok()?;
        if usable == 0 {
            return None;
        }
        let start = u32::try_from(hash(name) % u64::from(usable)).ok()?;
        // One more probe than there are taken addresses finds a free one, if there is one.
        let probes = u32::try_from(self.taken.len() + self.others.count())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        (0..probes.min(usable)).find_map(|step| {
            let index = (u64::from(start) + u64::from(step)) % u64::from(usable);
            let offset = FIRST + u32::try_from(index).ok()?;
            let address = IpAddr::V4(Ipv4Addr::from(u32::from(network).checked_add(offset)?));
            (!self.is_taken(address)).then_some(address)
        })
    }
}

/// FNV-1a with a final mix: stable for ever, and no defence against anybody: a crafted name only
/// shares a probe sequence.
fn hash(name: &str) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(prefix: u8) -> Cidr {
        Cidr {
            network: "10.0.0.0".parse().unwrap(),
            prefix,
        }
    }

    #[test]
    fn a_range_is_used_up_and_then_full() {
        let nobody = BTreeSet::new();
        let mut allocator = Allocator::new(range(24), &nobody);
        let given: BTreeSet<IpAddr> = (0..253)
            .map(|n| allocator.give(&format!("s{n}"), None).unwrap())
            .collect();
        assert_eq!(given.len(), 253);
        let edges = ["10.0.0.0", "10.0.0.1", "10.0.0.255"];
        assert!(
            edges
                .iter()
                .all(|edge| !given.contains(&edge.parse().unwrap()))
        );
        assert_eq!(allocator.give("one-more", None), None);
    }

    #[test]
    fn what_was_given_stays() {
        let wish = Some("10.0.0.77".parse().unwrap());
        let nobody = BTreeSet::new();
        let mut allocator = Allocator::new(range(24), &nobody);
        assert_eq!(allocator.give("a", wish), wish);
        assert_ne!(allocator.give("b", wish), wish);
        let outside = Some("10.9.0.1".parse().unwrap());
        assert_ne!(allocator.give("c", outside), outside);
        let alone = || Allocator::new(range(12), &nobody).give("svc.ns", None);
        assert_eq!(alone(), alone());
    }
}
