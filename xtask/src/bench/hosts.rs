//! The network of a sample: two hosts joined by one link, and a pod on each where needed.

use std::net::Ipv4Addr;
use std::process::Command;

use tacit_sys::link::{Batch, LinkName, Net, Via};
use tacit_sys::{NetNs, sysctl};

/// The host of the client, and that of the application.
pub(crate) const HOST_A: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub(crate) const HOST_B: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// The pods of contenders that are no whole mesh. Tacit makes its workloads' namespaces itself.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 2);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 2, 2);
const CLIENT_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 1);
const SERVER_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 99, 2, 1);
/// The link between the hosts, as both call it.
const WIRE: &str = "wire";

/// Two hosts.
pub(crate) struct Hosts {
    pub(crate) a: NetNs,
    pub(crate) b: NetNs,
    pub(crate) wire: LinkName,
}

/// A pod on each host, as a container network makes them: a link to the host, which forwards.
pub(crate) struct Pods {
    pub(crate) client: NetNs,
    pub(crate) server: NetNs,
}

impl Hosts {
    pub(crate) fn make() -> Result<Self, String> {
        let (a, b) = (netns()?, netns()?);
        let wire = name(WIRE)?;
        let mut batch = Batch::new();
        batch.veth(&wire, &wire, Some(&b));
        run(&batch, &a)?;
        for (host, address) in [(&a, HOST_A), (&b, HOST_B)] {
            let mut batch = Batch::new();
            batch
                .loopback_up()
                .address(&wire, Net::new(address.into(), 24))
                .up(&wire);
            run(&batch, host)?;
            sysctl::set(Some(host), "ipv4.ip_forward", "1").map_err(|e| e.to_string())?;
        }
        Ok(Self { a, b, wire })
    }

    /// Adds the pods.
    pub(crate) fn pods(&self) -> Result<Pods, String> {
        let pods = Pods {
            client: netns()?,
            server: netns()?,
        };
        let client = (
            &self.a,
            &pods.client,
            CLIENT,
            CLIENT_GATEWAY,
            HOST_B,
            SERVER,
        );
        let server = (
            &self.b,
            &pods.server,
            SERVER,
            SERVER_GATEWAY,
            HOST_A,
            CLIENT,
        );
        for (host, pod, address, gateway, peer_host, peer) in [client, server] {
            let (inner, outer) = (name("eth0")?, name("pod")?);
            let mut batch = Batch::new();
            batch
                .veth(&outer, &inner, Some(pod))
                .address(&outer, Net::new(gateway.into(), 24))
                .up(&outer);
            let to_peer = Via::Router {
                address: peer_host.into(),
                link: None,
            };
            batch.route(Net::host(peer.into()), &to_peer, None);
            run(&batch, host)?;
            let mut batch = Batch::new();
            let default = Via::Router {
                address: gateway.into(),
                link: None,
            };
            batch
                .loopback_up()
                .address(&inner, Net::new(address.into(), 24))
                .up(&inner)
                .route(Net::new(Ipv4Addr::UNSPECIFIED.into(), 0), &default, None);
            run(&batch, pod)?;
        }
        Ok(pods)
    }
}

/// Makes every connection of a namespace use CUBIC: the machine's default may be BBR, whose
/// timers cost CPU that has nothing to do with a proxy.
pub(crate) fn use_cubic(netns: &NetNs) -> Result<(), String> {
    for table in ["local", "main"] {
        let routes = ip(netns, &["-4", "route", "show", "table", table])?;
        for route in routes
            .lines()
            .filter(|route| !route.starts_with("broadcast"))
        {
            let mut change = vec!["-4", "route", "change", "table", table];
            change.extend(route.split_whitespace().filter(|word| *word != "linkdown"));
            change.extend(["congctl", "cubic"]);
            ip(netns, &change)?;
        }
    }
    Ok(())
}

fn ip(netns: &NetNs, args: &[&str]) -> Result<String, String> {
    let output = netns
        .enter_with(|| Command::new("ip").args(args).output())
        .map_err(|e| e.to_string())?
        .map_err(|e| format!("ip: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

fn netns() -> Result<NetNs, String> {
    NetNs::create().map_err(|e| e.to_string())
}

fn name(text: &str) -> Result<LinkName, String> {
    LinkName::try_from(text).map_err(|e| e.to_string())
}

fn run(batch: &Batch, netns: &NetNs) -> Result<(), String> {
    batch.run(Some(netns)).map_err(|e| e.to_string())
}
