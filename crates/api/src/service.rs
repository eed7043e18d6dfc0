//! Service of core/v1: a name and ports with endpoints.

use std::collections::BTreeMap;

use crate::decode::fields;
use crate::object::object;
use crate::values::PortRef;

object! {
    /// A name and ports with endpoints, as Kubernetes has it.
    Service { ServiceSpec }
}

fields! {
    /// What a Service says: the fields of core/v1 that people write.
    #[derive(Default)]
    pub struct ServiceSpec {
        /// Labels of the workloads behind it, all of them.
        selector: Option<BTreeMap<String, String>> = "selector",
        /// Its ports.
        ports: Option<Vec<ServicePort>> = "ports",
        /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
        service_type: Option<String> = "type",
        /// Its virtual address, or `None` for a headless one; absent: assigned.
        cluster_ip: Option<String> = "clusterIP",
        /// Its virtual addresses.
        cluster_ips: Option<Vec<String>> = "clusterIPs",
        /// Addresses outside the mesh.
        external_ips: Option<Vec<String>> = "externalIPs",
        /// A name outside the mesh.
        external_name: Option<String> = "externalName",
        /// `Cluster` or `Local`.
        external_traffic_policy: Option<String> = "externalTrafficPolicy",
        /// `Cluster` or `Local`.
        internal_traffic_policy: Option<String> = "internalTrafficPolicy",
        /// `IPv4`, `IPv6`.
        ip_families: Option<Vec<String>> = "ipFamilies",
        /// `SingleStack`, `PreferDualStack` or `RequireDualStack`.
        ip_family_policy: Option<String> = "ipFamilyPolicy",
        /// True: endpoints take part before they are ready.
        publish_not_ready_addresses: Option<bool> = "publishNotReadyAddresses",
        /// `None` or `ClientIP`.
        session_affinity: Option<String> = "sessionAffinity",
        /// For example `PreferSameZone`.
        traffic_distribution: Option<String> = "trafficDistribution",
    }
}

fields! {
    /// A port of a service.
    #[derive(Default)]
    pub struct ServicePort {
        /// Its name.
        name: Option<String> = "name",
        /// Its number.
        port: u16 = "port",
        /// The workload's port, by number or name; absent: the same number.
        target_port: Option<PortRef> = "targetPort",
        /// `TCP`, `UDP` or `SCTP`; absent: `TCP`.
        protocol: Option<String> = "protocol",
        /// What travels on it, for example `http`.
        app_protocol: Option<String> = "appProtocol",
        /// A port of every node.
        node_port: Option<u16> = "nodePort",
    }
}
