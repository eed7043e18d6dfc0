//! Rows as resources of the discovery protocol: type, name, version by content, bytes.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use tacit_model::labels::Labels;
use tacit_model::route::RouteKey;
use tacit_model::{Generation, Row, RowKey};

use crate::convert::{Invalid, Problem, Wire};
use crate::proto::discovery::{Any, Resource};
use crate::proto::mesh;

/// The type of the resource that ends a generation.
pub const COMMIT_TYPE_URL: &str = "type.googleapis.com/tacit.mesh.v1.Commit";
/// The name of the only resource of that type.
pub const COMMIT_NAME: &str = "commit";

/// The kinds of row, in the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Mesh,
    Namespace,
    Access,
    Service,
    Route,
    Class,
    Workload,
    RunGrant,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Mesh,
        Self::Namespace,
        Self::Access,
        Self::Service,
        Self::Route,
        Self::Class,
        Self::Workload,
        Self::RunGrant,
    ];

    /// The type of its resources.
    #[must_use]
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Mesh => "type.googleapis.com/tacit.mesh.v1.Mesh",
            Self::Namespace => "type.googleapis.com/tacit.mesh.v1.Namespace",
            Self::Access => "type.googleapis.com/tacit.mesh.v1.Access",
            Self::Service => "type.googleapis.com/tacit.mesh.v1.Service",
            Self::Route => "type.googleapis.com/tacit.mesh.v1.Route",
            Self::Class => "type.googleapis.com/tacit.mesh.v1.Class",
            Self::Workload => "type.googleapis.com/tacit.mesh.v1.Workload",
            Self::RunGrant => "type.googleapis.com/tacit.mesh.v1.RunGrant",
        }
    }

    /// The table whose resources have this type.
    #[must_use]
    pub fn of_type_url(type_url: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|table| table.type_url() == type_url)
    }

    /// The table of a key.
    #[must_use]
    pub fn of(key: &RowKey) -> Self {
        match key {
            RowKey::Access(_) => Self::Access,
            RowKey::Class(_) => Self::Class,
            RowKey::Mesh => Self::Mesh,
            RowKey::Namespace(_) => Self::Namespace,
            RowKey::Route(_) => Self::Route,
            RowKey::RunGrant(..) => Self::RunGrant,
            RowKey::Service(_) => Self::Service,
            RowKey::Workload(_) => Self::Workload,
        }
    }
}

/// A table and a resource name in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    pub table: Table,
    pub name: Arc<str>,
}

impl ResourceKey {
    /// The resource that carries the row with this key.
    #[must_use]
    pub fn of(key: &RowKey) -> Self {
        Self {
            table: Table::of(key),
            name: resource_name(key).into(),
        }
    }
}

/// A row as bytes, encoded once and shared by all sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub key: ResourceKey,
    /// 128 bits of the SHA-256 of `value`, in hexadecimal digits.
    pub version: Arc<str>,
    /// The message without its `Any`.
    pub value: Bytes,
}

impl Encoded {
    /// Encodes a row. Equal rows have equal bytes.
    #[must_use]
    pub fn new(row: &Row) -> Self {
        let value: Bytes = match row {
            Row::Access(row) => row.to_wire().encode_to_vec(),
            Row::Class(row) => row.to_wire().encode_to_vec(),
            Row::Mesh(row) => row.to_wire().encode_to_vec(),
            Row::Namespace(row) => row.to_wire().encode_to_vec(),
            Row::Route(row) => row.to_wire().encode_to_vec(),
            Row::RunGrant(row) => row.to_wire().encode_to_vec(),
            Row::Service(row) => row.to_wire().encode_to_vec(),
            Row::Workload(row) => row.to_wire().encode_to_vec(),
        }
        .into();
        Self {
            key: ResourceKey::of(&row.key()),
            version: content_version(&value),
            value,
        }
    }

    /// The resource as it is sent.
    #[must_use]
    pub fn resource(&self) -> Resource {
        Resource {
            version: self.version.to_string(),
            resource: Some(Any {
                type_url: self.key.table.type_url().to_owned(),
                value: self.value.clone(),
            }),
            name: self.key.name.to_string(),
        }
    }
}

/// Reads a row. The name must be the one that the row's key has.
pub fn decode(table: Table, name: &str, value: &[u8]) -> Result<Row, Invalid> {
    let row = match table {
        Table::Mesh => Row::Mesh(read(value)?),
        Table::Namespace => Row::Namespace(read(value)?),
        Table::Access => Row::Access(read(value)?),
        Table::Service => Row::Service(read(value)?),
        Table::Route => Row::Route(read(value)?),
        Table::Class => Row::Class(read(value)?),
        Table::Workload => Row::Workload(read(value)?),
        Table::RunGrant => Row::RunGrant(read(value)?),
    };
    let own = resource_name(&row.key());
    if own == name {
        Ok(row)
    } else {
        Err(Invalid::new(
            "name",
            Problem::OtherName {
                given: name.to_owned(),
                own,
            },
        ))
    }
}

fn read<T: Wire>(value: &[u8]) -> Result<Arc<T>, Invalid>
where
    T::Proto: Message + Default,
{
    let message = T::Proto::decode(value)
        .map_err(|error| Invalid::new("", Problem::Undecodable(error.to_string())))?;
    Ok(Arc::new(T::from_wire(message)?))
}

/// The resource name of a key: unambiguous text.
#[must_use]
pub fn resource_name(key: &RowKey) -> String {
    match key {
        RowKey::Access(name) => name.to_string(),
        RowKey::Class(class) => format!(
            "{}/{}/{}",
            class.namespace,
            class.service_account,
            labels_text(&class.labels)
        ),
        RowKey::Mesh => "mesh".to_owned(),
        RowKey::Namespace(namespace) => namespace.to_string(),
        RowKey::Route(RouteKey {
            route,
            parent,
            port,
        }) => {
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            format!("{route}@{}/{}{port}", parent.namespace, parent.name)
        }
        RowKey::RunGrant(workspace, index) => format!("{workspace}/{index}"),
        RowKey::Service(service) => format!("{}/{}", service.namespace, service.name),
        RowKey::Workload(workload) => workload.to_string(),
    }
}

/// `key=value;` for each label, with the three special characters escaped.
fn labels_text(labels: &Labels) -> String {
    let escape = |text: &str| {
        text.replace('%', "%25")
            .replace('=', "%3D")
            .replace(';', "%3B")
    };
    labels
        .0
        .iter()
        .map(|(key, value)| format!("{}={};", escape(key), escape(value)))
        .collect()
}

fn content_version(value: &[u8]) -> Arc<str> {
    let digest = Sha256::digest(value);
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .into()
}

/// The resource that ends a generation.
#[must_use]
pub fn commit_resource(generation: Generation) -> Resource {
    let Generation { epoch, number } = generation;
    Resource {
        version: generation.to_string(),
        resource: Some(Any {
            type_url: COMMIT_TYPE_URL.to_owned(),
            value: mesh::Commit { epoch, number }.encode_to_vec().into(),
        }),
        name: COMMIT_NAME.to_owned(),
    }
}

/// Reads the end of a generation.
pub fn decode_commit(value: &[u8]) -> Result<Generation, Invalid> {
    let mesh::Commit { epoch, number } = mesh::Commit::decode(value)
        .map_err(|error| Invalid::new("", Problem::Undecodable(error.to_string())))?;
    if number == 0 {
        return Err(Invalid::new("number", Problem::Missing));
    }
    Ok(Generation { epoch, number })
}
