//! Small pieces of the node API's messages, to and from the model.

use std::net::IpAddr;

use tacit_model::WorkloadName;
use tacit_wire::proto::mesh::Namespaced;

/// An address as 4 or 16 bytes.
pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// 4 or 16 bytes as an address.
pub(crate) fn address(bytes: &[u8]) -> Result<IpAddr, String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(v4));
    }
    let v6 = <[u8; 16]>::try_from(bytes).map_err(|_| format!("{bytes:?} is not an address"))?;
    Ok(IpAddr::from(v6))
}

/// A workload's name in a message.
pub(crate) fn namespaced(name: &WorkloadName) -> Namespaced {
    Namespaced {
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
    }
}

/// A workload's name from a message.
pub(crate) fn workload_name(name: Option<Namespaced>) -> Result<WorkloadName, String> {
    let Namespaced { namespace, name } = name.ok_or("the workload has no name")?;
    WorkloadName::parse(&namespace, &name).map_err(|e| e.to_string())
}
