//! Addresses of workloads, a subnet for each node, and names of workloads of `tacit run`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use tacit_model::access::Cidr;
use tacit_model::{Namespace, ServiceAccount, WorkloadName};

/// Each node gets a /24: a machine runs fewer than 254 workloads of one mesh.
const NODE_PREFIX: u8 = 24;
/// Characters of the random end of a workload's name, as Kubernetes has them.
const SUFFIX: usize = 5;
/// No vowels and no digits that look like letters: no words by accident, nothing to misread.
const SUFFIX_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// An IPv4 range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    network: u32,
    prefix: u8,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.network), self.prefix)
    }
}

impl Range {
    /// Reads `10.96.0.0/12`; host bits must be zero.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (network, prefix) = text.split_once('/')?;
        let network: u32 = network.parse::<Ipv4Addr>().ok()?.into();
        let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        let range = Self { network, prefix };
        (network & !range.mask() == 0).then_some(range)
    }

    /// As the compiler knows it.
    pub(crate) fn cidr(self) -> Cidr {
        Cidr {
            network: IpAddr::V4(self.network.into()),
            prefix: self.prefix,
        }
    }

    /// The IPv4 range of a checked one.
    pub(crate) fn of(cidr: Cidr) -> Option<Self> {
        match cidr.network {
            IpAddr::V4(network) => Some(Self {
                network: network.into(),
                prefix: cidr.prefix,
            }),
            IpAddr::V6(_) => None,
        }
    }

    fn mask(self) -> u32 {
        u32::MAX
            .checked_shl(32 - u32::from(self.prefix))
            .unwrap_or(0)
    }

    fn contains(self, other: Self) -> bool {
        self.prefix <= other.prefix && other.network & self.mask() == self.network
    }

    /// True if the address lies inside.
    pub(crate) fn holds(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => u32::from(address) & self.mask() == self.network,
            IpAddr::V6(_) => false,
        }
    }

    /// The first subnet for a node that nobody has, counted from `start` and around; none if all
    /// are taken.
    pub(crate) fn free_subnet(self, taken: &BTreeSet<Self>, start: u64) -> Option<Self> {
        let prefix = NODE_PREFIX.max(self.prefix);
        let step = 1_u64 << (32 - prefix);
        let count = 1_u64 << (prefix - self.prefix);
        (0..count).find_map(|index| {
            let index = (start % count + index) % count;
            let network = u32::try_from(u64::from(self.network) + index * step).ok()?;
            let subnet = Self { network, prefix };
            // A range that was changed since may have left subnets of other sizes behind.
            let free = !taken
                .iter()
                .any(|other| other.contains(subnet) || subnet.contains(*other));
            free.then_some(subnet)
        })
    }

    /// The next address after `last` that nobody has, so that an address that was just freed
    /// rests: others may still have connections to it. Network, first and last are left out.
    pub(crate) fn free_address(
        self,
        taken: &BTreeSet<IpAddr>,
        last: Option<IpAddr>,
    ) -> Option<IpAddr> {
        let size = 1_u64 << (32 - self.prefix);
        let usable = size.saturating_sub(3);
        let last = match last {
            Some(IpAddr::V4(last)) if self.holds(last.into()) => {
                u64::from(u32::from(last) - self.network)
            }
            Some(_) | None => 1,
        };
        (0..usable).find_map(|index| {
            let offset = 2 + (last.saturating_sub(1) + index) % usable;
            let address = u32::try_from(u64::from(self.network) + offset).ok()?;
            let address = IpAddr::V4(address.into());
            (!taken.contains(&address)).then_some(address)
        })
    }
}

/// `<service account>-<5 characters>`, cut so that it stays a name.
pub(crate) fn run_name(
    namespace: &Namespace,
    account: &ServiceAccount,
    dice: tacit_model::Dice,
) -> Result<WorkloadName, tacit_model::names::InvalidName> {
    let mut dice = dice;
    let mut suffix = String::new();
    for _ in 0..SUFFIX {
        let (index, next) = dice.below(SUFFIX_LETTERS.len() as u64);
        dice = next;
        let letter = usize::try_from(index)
            .ok()
            .and_then(|index| SUFFIX_LETTERS.get(index));
        suffix.extend(letter.map(|letter| char::from(*letter)));
    }
    // A label of a DNS name has at most 63 characters.
    let stem: String = account.as_str().chars().take(63 - SUFFIX - 1).collect();
    let stem = stem.trim_end_matches(['-', '.']);
    WorkloadName::parse(namespace.as_str(), &format!("{stem}-{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        Range::parse(text).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_exact() {
        assert_eq!(range("10.96.0.0/12").to_string(), "10.96.0.0/12");
        for bad in [
            "10.96.0.1/12",
            "10.96.0.0",
            "10.96.0.0/33",
            "x/8",
            "fd00::/8",
        ] {
            assert_eq!(Range::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_node_has_a_subnet_of_its_own_until_none_is_left() {
        let all = range("10.0.0.0/22");
        let mut taken = BTreeSet::new();
        while let Some(subnet) = all.free_subnet(&taken, 0) {
            assert!(taken.insert(subnet));
        }
        let shown: Vec<_> = taken.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"]
        );
        let around = [3, 7, 4].map(|start| all.free_subnet(&BTreeSet::new(), start));
        assert_eq!(around[..2], [Some(range("10.0.3.0/24")); 2]);
        assert_eq!(around[2], Some(range("10.0.0.0/24")));
        let last_is_taken = [range("10.0.3.0/24")].into();
        let next = all.free_subnet(&last_is_taken, 3);
        assert_eq!(next, Some(range("10.0.0.0/24")), "it goes around");
    }

    #[test]
    fn a_freed_address_rests_while_others_are_free() {
        let subnet = range("10.0.1.0/24");
        let first = subnet.free_address(&BTreeSet::new(), None).unwrap();
        assert_eq!(first, address("10.0.1.2"));
        let next = subnet.free_address(&BTreeSet::new(), Some(first)).unwrap();
        assert_eq!(next, address("10.0.1.3"));
        let wrapped = subnet.free_address(&BTreeSet::new(), Some(address("10.0.1.254")));
        assert_eq!(wrapped, Some(first));
        let mut taken = BTreeSet::new();
        let mut last = None;
        while let Some(free) = subnet.free_address(&taken, last) {
            assert!(taken.insert(free));
            last = Some(free);
        }
        assert_eq!(taken.len(), 253);
        assert!(!taken.contains(&address("10.0.1.255")) && !taken.contains(&address("10.0.1.1")));
    }

    #[test]
    fn names_of_runs_are_names() {
        let namespace = "shop".try_into().unwrap();
        for account in ["payments", "a", &"x".repeat(63), "a.b"] {
            let account = account.try_into().unwrap();
            let name = run_name(&namespace, &account, tacit_model::Dice(7)).unwrap();
            assert!(name.name.as_str().len() <= 63, "{name}");
        }
    }
}
