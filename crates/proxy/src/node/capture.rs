//! The nftables rules of a workload's namespace: no packet passes that the proxy did not see.

/// Where redirected outbound TCP arrives, on loopback.
pub(crate) const OUTBOUND_PORT: u16 = 15001;
/// Where redirected inbound plaintext TCP arrives.
pub(crate) const INBOUND_PORT: u16 = 15006;
/// Where redirected DNS arrives, on loopback.
pub(crate) const DNS_PORT: u16 = 15053;
/// On the proxy's own sockets: their packets are not captured again.
pub(crate) const PROXY_MARK: u32 = 1337;
/// On sockets that speak to the application in the name of its caller: the application's
/// answers to that far address are delivered here instead of being sent away.
pub(crate) const CALLER_MARK: u32 = 1338;
/// The routing table of packets with [`CALLER_MARK`].
pub(crate) const CALLER_TABLE: u32 = 1338;

/// The rules, in nft's language. Everything that is not named is dropped and counted.
pub(crate) fn ruleset() -> String {
    format!(
        "table inet tacit {{
    counter udp_dropped {{ }}
    counter other_dropped {{ }}

    chain callers {{
        type route hook output priority mangle; policy accept;
        meta mark {CALLER_MARK} ct mark set {CALLER_MARK}
        ct mark {CALLER_MARK} meta mark set {CALLER_MARK}
    }}

    chain redirect_output {{
        type nat hook output priority -100; policy accept;
        meta mark {{ {PROXY_MARK}, {CALLER_MARK} }} return
        oifname \"lo\" return
        meta l4proto {{ tcp, udp }} th dport 53 redirect to :{DNS_PORT}
        meta l4proto tcp redirect to :{OUTBOUND_PORT}
    }}

    chain redirect_input {{
        type nat hook prerouting priority dstnat; policy accept;
        iifname \"lo\" return
        tcp dport {HBONE_PORT} return
        meta l4proto tcp redirect to :{INBOUND_PORT}
    }}

    chain output {{
        type filter hook output priority filter; policy drop;
        oifname \"lo\" accept
        meta mark {{ {PROXY_MARK}, {CALLER_MARK} }} accept
        ct status dnat accept
        ct state related accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit }} accept
        icmp type echo-reply accept
        meta l4proto udp counter name udp_dropped drop
        counter name other_dropped drop
    }}

    chain input {{
        type filter hook input priority filter; policy drop;
        iifname \"lo\" accept
        ct state established,related accept
        tcp dport {HBONE_PORT} accept
        ct status dnat accept
        icmp type echo-request accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert }} accept
        meta l4proto udp counter name udp_dropped drop
        counter name other_dropped drop
    }}
}}
",
        HBONE_PORT = tacit_transport::hbone::HBONE_PORT,
    )
}
