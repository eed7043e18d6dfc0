//! Mesh: the settings of the whole mesh, and who its subjects are.

use crate::decode::{fields, words};
use crate::failover::{
    ClientOrder, Failback, Health, Limit, Spill, Step, WhenLimited, WhenNoneHealthy,
};
use crate::object::object;
use crate::retry_timeout::{CircuitBreaker, Hedge, Retry, Timeout};
use crate::values::DurationText;

object! {
    /// The settings of the whole mesh; there is one.
    Mesh { MeshSpec }
}

fields! {
    /// What a Mesh says.
    #[derive(Default)]
    pub struct MeshSpec {
        /// The SPIFFE trust domain.
        trust_domain: Option<String> = "trustDomain",
        /// The name of this cluster.
        cluster: Option<String> = "cluster",
        /// The name of this network.
        network: Option<String> = "network",
        /// Where policies have mesh scope.
        root_namespace: Option<String> = "rootNamespace",
        /// Which zone is in which region.
        localities: Option<Vec<RegionZones>> = "localities",
        /// Virtual addresses of services.
        service_addresses: Option<AddressRanges> = "serviceAddresses",
        /// Addresses of workloads.
        workload_addresses: Option<WorkloadAddresses> = "workloadAddresses",
        /// What holds when no AccessPolicy speaks.
        default_access: Option<DefaultAccess> = "defaultAccess",
        /// Certificates of workloads.
        certificates: Option<Certificates> = "certificates",
        /// How long a node serves without the control plane.
        max_offline: Option<DurationText> = "maxOffline",
        /// TCP to what is not in the mesh.
        egress: Option<Egress> = "egress",
        /// Who issues tokens.
        jwt_providers: Option<Vec<JwtProvider>> = "jwtProviders",
        /// Who is who.
        subjects: Option<Vec<Subject>> = "subjects",
        /// What holds where no policy speaks.
        defaults: Option<Defaults> = "defaults",
    }
}

fields! {
    /// The zones of a region.
    pub struct RegionZones {
        /// The region.
        region: String = "region",
        /// Its zones.
        zones: Vec<String> = "zones",
    }
}

fields! {
    /// Address ranges, as CIDR.
    #[derive(Default)]
    pub struct AddressRanges {
        /// For example `240.96.0.0/12`.
        ipv4: Option<String> = "ipv4",
        /// For example `fd00:7ac1:7::/64`.
        ipv6: Option<String> = "ipv6",
    }
}

fields! {
    /// Addresses of workloads, as CIDR.
    #[derive(Default)]
    pub struct WorkloadAddresses {
        /// For example `10.96.0.0/12`.
        ipv4: Option<String> = "ipv4",
    }
}

words! {
    /// What holds when no AccessPolicy speaks.
    pub enum DefaultAccess { Authenticated, Deny }
}

words! {
    /// TCP to what is not in the mesh.
    pub enum Egress { Allow, Deny }
}

fields! {
    /// Certificates of workloads.
    #[derive(Default)]
    pub struct Certificates {
        /// How long one is valid.
        lifetime: Option<DurationText> = "lifetime",
    }
}

fields! {
    /// An issuer of tokens.
    pub struct JwtProvider {
        /// The name that policies use.
        name: String = "name",
        /// The `iss` of its tokens.
        issuer: String = "issuer",
        /// Its keys.
        jwks: Jwks = "jwks",
    }
}

fields! {
    /// Where the keys of an issuer are.
    pub struct Jwks {
        /// An HTTPS URL.
        url: String = "url",
    }
}

fields! {
    /// Maps a way to be known (`uid`, `gid` or `certificate`) to a user and groups.
    #[derive(Default)]
    pub struct Subject {
        /// A user id of this machine.
        uid: Option<u32> = "uid",
        /// A group id of this machine.
        gid: Option<u32> = "gid",
        /// A client certificate.
        certificate: Option<CertificateSubject> = "certificate",
        /// The user's name.
        user: Option<String> = "user",
        /// Groups that the user is in.
        groups: Option<Vec<String>> = "groups",
    }
}

fields! {
    /// What a client certificate says.
    pub struct CertificateSubject {
        /// Its common name.
        common_name: String = "commonName",
    }
}

fields! {
    /// What holds where no policy speaks; used by Mesh and Workspace.
    #[derive(Default)]
    pub struct Defaults {
        /// As in RetryTimeoutPolicy.
        timeout: Option<Timeout> = "timeout",
        /// As in RetryTimeoutPolicy.
        retry: Option<Retry> = "retry",
        /// As in RetryTimeoutPolicy.
        hedge: Option<Hedge> = "hedge",
        /// As in RetryTimeoutPolicy.
        circuit_breaker: Option<CircuitBreaker> = "circuitBreaker",
        /// As in FailoverPolicy.
        order: Option<Vec<Step>> = "order",
        /// As in FailoverPolicy.
        orders: Option<Vec<ClientOrder>> = "orders",
        /// As in FailoverPolicy.
        health: Option<Health> = "health",
        /// As in FailoverPolicy.
        spill: Option<Spill> = "spill",
        /// As in FailoverPolicy.
        failback: Option<Failback> = "failback",
        /// As in FailoverPolicy.
        limit: Option<Limit> = "limit",
        /// As in FailoverPolicy.
        when_limited: Option<WhenLimited> = "whenLimited",
        /// As in FailoverPolicy.
        when_none_healthy: Option<WhenNoneHealthy> = "whenNoneHealthy",
    }
}
