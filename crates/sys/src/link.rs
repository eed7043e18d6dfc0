//! Links, addresses and routes of network namespaces, as batches for one `ip` process.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use crate::command::Tool;
use crate::{NetNs, SysError};

/// Longest name of a link: `IFNAMSIZ` without its zero byte.
const NAME_LIMIT: usize = 15;

/// The name of a link: 1 to 15 visible ASCII characters without `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName(String);

impl LinkName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for LinkName {
    type Error = SysError;

    fn try_from(name: &str) -> Result<Self, SysError> {
        let invalid = |why: &str| SysError::Invalid {
            what: format!("link name {name:?}"),
            why: why.to_owned(),
        };
        if name.is_empty() || name.len() > NAME_LIMIT {
            return Err(invalid("it must have 1 to 15 characters"));
        }
        if name == "." || name == ".." || !name.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
            return Err(invalid("it must be visible ASCII without '/'"));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address range: address and prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Net {
    /// One address alone: /32 or /128.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }

    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        Self { address, prefix }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Where a route leads.
#[derive(Clone, Debug)]
pub enum Via {
    /// Straight onto a link.
    Link(LinkName),
    /// To a router; `link` with `onlink` when the router is not in a range of that link.
    Router {
        address: IpAddr,
        link: Option<LinkName>,
    },
    /// Nowhere: packets are refused with "unreachable".
    Unreachable,
}

/// Changes of links, made in order by one `ip -batch -` process (about 3 ms).
///
/// Stops at the first change that fails; earlier ones stay.
#[derive(Debug, Default)]
pub struct Batch {
    lines: Vec<String>,
    /// Namespaces that lines refer to by descriptor number: kept open until the batch ran.
    namespaces: Vec<NetNs>,
}

impl Batch {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A pair of links; the second end is made in `peer_netns` if given.
    pub fn veth(&mut self, a: &LinkName, b: &LinkName, peer_netns: Option<&NetNs>) -> &mut Self {
        let place = peer_netns.map_or_else(String::new, |n| format!(" netns {}", self.refer(n)));
        self.line(format!("link add name {a} type veth peer name {b}{place}"))
    }

    pub fn bridge(&mut self, name: &LinkName) -> &mut Self {
        self.line(format!("link add name {name} type bridge"))
    }

    /// Moves a link into another namespace.
    pub fn move_to(&mut self, link: &LinkName, netns: &NetNs) -> &mut Self {
        let place = self.refer(netns);
        self.line(format!("link set dev {link} netns {place}"))
    }

    pub fn rename(&mut self, link: &LinkName, name: &LinkName) -> &mut Self {
        self.line(format!("link set dev {link} name {name}"))
    }

    /// Makes a link a port of a bridge.
    pub fn enslave(&mut self, link: &LinkName, bridge: &LinkName) -> &mut Self {
        self.line(format!("link set dev {link} master {bridge}"))
    }

    pub fn up(&mut self, link: &LinkName) -> &mut Self {
        self.line(format!("link set dev {link} up"))
    }

    pub fn loopback_up(&mut self) -> &mut Self {
        self.line("link set lo up".to_owned())
    }

    pub fn down(&mut self, link: &LinkName) -> &mut Self {
        self.line(format!("link set dev {link} down"))
    }

    pub fn delete(&mut self, link: &LinkName) -> &mut Self {
        self.line(format!("link delete dev {link}"))
    }

    /// Adds an address; an IPv6 one is usable at once (no duplicate detection).
    pub fn address(&mut self, link: &LinkName, net: Net) -> &mut Self {
        let nodad = if net.address.is_ipv6() { " nodad" } else { "" };
        self.line(format!("address add {net} dev {link}{nodad}"))
    }

    /// Adds or replaces a route. `Net { 0.0.0.0, 0 }` is the default route.
    pub fn route(&mut self, to: Net, via: &Via, source: Option<IpAddr>) -> &mut Self {
        let family = if to.address.is_ipv6() { "-6 " } else { "" };
        let source = source.map_or_else(String::new, |s| format!(" src {s}"));
        let way = match via {
            Via::Link(link) => format!(" dev {link}"),
            Via::Router {
                address,
                link: Some(link),
            } => format!(" via {address} dev {link} onlink"),
            Via::Router {
                address,
                link: None,
            } => format!(" via {address}"),
            Via::Unreachable => {
                return self.line(format!("{family}route replace unreachable {to}"));
            }
        };
        self.line(format!("{family}route replace {to}{way}{source}"))
    }

    pub fn delete_route(&mut self, to: Net) -> &mut Self {
        self.line(format!("route delete {to}"))
    }

    /// Answers neighbour requests for `address` on `link` (proxy ARP for one address).
    pub fn neighbour_proxy(&mut self, address: IpAddr, link: &LinkName) -> &mut Self {
        self.line(format!("neighbour replace proxy {address} dev {link}"))
    }

    /// Looks packets that carry `mark` up in routing table `table`. `v6`: of which family.
    pub fn rule_for_mark(&mut self, mark: u32, table: u32, v6: bool) -> &mut Self {
        let family = if v6 { "-6 " } else { "" };
        self.line(format!("{family}rule add fwmark {mark} lookup {table}"))
    }

    /// Delivers everything that is looked up in `table` to this host itself.
    pub fn deliver_locally(&mut self, table: u32, v6: bool) -> &mut Self {
        let (family, all) = if v6 {
            ("-6 ", "::/0")
        } else {
            ("", "0.0.0.0/0")
        };
        self.line(format!(
            "{family}route replace local {all} dev lo table {table}"
        ))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Makes the changes. `netns`: where; `None` is the namespace of the calling thread.
    pub fn run(&self, netns: Option<&NetNs>) -> Result<(), SysError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let text = self.lines.join("\n") + "\n";
        let inherit: Vec<_> = self.namespaces.iter().map(AsFd::as_fd).collect();
        ip(&["-batch", "-"], &text, &inherit, netns)
            .map(drop)
            .map_err(|error| self.with_line(error))
    }

    /// Adds the failing line to an error, which `ip` gives by number only.
    fn with_line(&self, error: SysError) -> SysError {
        let SysError::Tool {
            command,
            status,
            stderr,
        } = error
        else {
            return error;
        };
        let line = stderr
            .rsplit_once("Command failed -:")
            .and_then(|(_, number)| number.trim().parse::<usize>().ok())
            .and_then(|number| self.lines.get(number.checked_sub(1)?));
        let command = line.map_or(command, |line| format!("ip {line}"));
        SysError::Tool {
            command,
            status,
            stderr,
        }
    }

    fn refer(&mut self, netns: &NetNs) -> String {
        self.namespaces.push(netns.clone());
        format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd())
    }

    fn line(&mut self, line: String) -> &mut Self {
        self.lines.push(line);
        self
    }
}

/// True when a link of that name exists. `netns` as in [`Batch::run`].
pub fn exists(netns: Option<&NetNs>, link: &LinkName) -> Result<bool, SysError> {
    let find = || nix::net::if_::if_nametoindex(link.as_str());
    let found = match netns {
        Some(netns) => netns.enter_with(find)?,
        None => find(),
    };
    match found {
        Ok(_) => Ok(true),
        Err(nix::errno::Errno::ENODEV) => Ok(false),
        Err(e) => Err(SysError::call(format!("look up the link {link}"), e)),
    }
}

/// What `ip -json ARGS` prints, for looking: routes, addresses, links.
pub fn show(netns: Option<&NetNs>, args: &[&str]) -> Result<String, SysError> {
    let mut all = vec!["-json"];
    all.extend_from_slice(args);
    ip(&all, "", &[], netns)
}

fn ip(
    args: &[&str],
    stdin: &str,
    inherit: &[std::os::fd::BorrowedFd<'_>],
    netns: Option<&NetNs>,
) -> Result<String, SysError> {
    Tool {
        program: "ip",
        package: "iproute2",
        args,
        stdin,
        inherit,
    }
    .run(netns)
}
