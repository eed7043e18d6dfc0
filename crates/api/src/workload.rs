//! Workload: something that runs and has an identity.

use crate::decode::fields;
use crate::object::object;

object! {
    /// Something that runs and has an identity.
    Workload { WorkloadSpec }
}

fields! {
    /// What a Workload says.
    pub struct WorkloadSpec {
        /// Its service account.
        service_account: String = "serviceAccount",
        /// Where it runs.
        node: String = "node",
        /// Its place; absent parts are those of its node.
        locality: Option<Place> = "locality",
        /// Its address; absent: assigned.
        address: Option<String> = "address",
        /// Ports that it listens on.
        ports: Option<Vec<WorkloadPort>> = "ports",
        /// What it can take.
        capacity: Option<Capacity> = "capacity",
        /// A command that its node starts and restarts.
        command: Option<Vec<String>> = "command",
    }
}

fields! {
    /// A place.
    #[derive(Default)]
    pub struct Place {
        /// The region.
        region: Option<String> = "region",
        /// The zone.
        zone: Option<String> = "zone",
    }
}

fields! {
    /// A port.
    #[derive(Default)]
    pub struct WorkloadPort {
        /// Its name.
        name: Option<String> = "name",
        /// Its number.
        port: u16 = "port",
        /// What travels on it, for example `http`.
        app_protocol: Option<String> = "appProtocol",
    }
}

fields! {
    /// What a workload can take.
    #[derive(Default)]
    pub struct Capacity {
        /// Requests per second.
        requests_per_second: Option<u32> = "requestsPerSecond",
    }
}
