//! Total conversions between messages and the model: what is unknown or missing is an error.
//!
//! Messages are taken apart field by field, so that a new field does not compile until it is
//! handled.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tacit_model::names::InvalidName;
use tacit_model::provenance::{ObjectRef, Provenance};
use tacit_model::{Locality, Namespace, PolicyName, ServiceAccount, ServiceName, WorkloadName};

use crate::proto::mesh as p;

mod access;
mod failover;
mod fault;
mod rate;
mod resilience;
mod route;
mod rows;

/// A value of the model that has a message.
pub trait Wire: Sized {
    /// The message.
    type Proto;

    /// The message of a value.
    fn to_wire(&self) -> Self::Proto;

    /// The value of a message, or which field of it cannot be used.
    fn from_wire(proto: Self::Proto) -> Result<Self, Invalid>;
}

/// What is shared travels as what it is.
impl<T: Wire> Wire for Arc<T> {
    type Proto = T::Proto;

    fn to_wire(&self) -> Self::Proto {
        T::to_wire(self)
    }

    fn from_wire(proto: Self::Proto) -> Result<Self, Invalid> {
        T::from_wire(proto).map(Self::new)
    }
}

/// Why a message is not a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The field, as in the `.proto` file; empty for the whole message.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// 4 or 16 bytes were expected; the number that came.
    Address(usize),
    /// Absent, or an unspecified enum value.
    Missing,
    /// Not a name of the kind that belongs there.
    Name(InvalidName),
    /// The resource has another name than its content says.
    OtherName { given: String, own: String },
    /// Too large.
    OutOfRange(u64),
    /// Not a protobuf message of this type.
    Undecodable(String),
    /// An enum value of a version that is not known here.
    UnknownValue(i32),
}

impl Invalid {
    pub(crate) fn new(field: &'static str, problem: Problem) -> Self {
        Self { field, problem }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "field `{}`: ", self.field)?;
        }
        match &self.problem {
            Problem::Address(length) => write!(f, "{length} bytes are not an IP address"),
            Problem::Missing => f.write_str("missing"),
            Problem::Name(invalid) => write!(f, "{invalid}"),
            Problem::OtherName { given, own } => {
                write!(
                    f,
                    "the resource is called {given:?} but its content is {own:?}"
                )
            }
            Problem::OutOfRange(number) => write!(f, "{number} is out of range"),
            Problem::Undecodable(error) => f.write_str(error),
            Problem::UnknownValue(number) => write!(f, "enum value {number} is not known here"),
        }
    }
}

impl std::error::Error for Invalid {}

/// Both directions of an enum without data; value 0 is unspecified and refused.
macro_rules! plain_enum {
    ($model:ty, $proto:ident, $field:literal, { $($variant:ident),+ $(,)? }) => {
        impl $crate::convert::Wire for $model {
            type Proto = i32;

            fn to_wire(&self) -> i32 {
                match self {
                    $(Self::$variant => $crate::proto::mesh::$proto::$variant.into(),)+
                }
            }

            fn from_wire(proto: i32) -> Result<Self, $crate::convert::Invalid> {
                use $crate::convert::{Invalid, Problem};
                match $crate::proto::mesh::$proto::try_from(proto) {
                    $(Ok($crate::proto::mesh::$proto::$variant) => Ok(Self::$variant),)+
                    Ok($crate::proto::mesh::$proto::Unspecified) => {
                        Err(Invalid::new($field, Problem::Missing))
                    }
                    Err(_) => Err(Invalid::new($field, Problem::UnknownValue(proto))),
                }
            }
        }
    };
}
pub(crate) use plain_enum;

/// The value of a message that must be present.
pub(crate) fn required<T: Wire>(field: &'static str, from: Option<T::Proto>) -> Result<T, Invalid> {
    T::from_wire(from.ok_or_else(|| Invalid::new(field, Problem::Missing))?)
}

/// The value of a message that may be absent.
pub(crate) fn optional<T: Wire>(from: Option<T::Proto>) -> Result<Option<T>, Invalid> {
    from.map(T::from_wire).transpose()
}

/// All messages of a list.
pub(crate) fn list_to<'a, T: Wire + 'a>(values: impl IntoIterator<Item = &'a T>) -> Vec<T::Proto> {
    values.into_iter().map(T::to_wire).collect()
}

/// All values of a list, in a vector or a set.
pub(crate) fn list_from<T: Wire, C: FromIterator<T>>(from: Vec<T::Proto>) -> Result<C, Invalid> {
    from.into_iter().map(T::from_wire).collect()
}

/// A valid name.
pub(crate) fn name<T>(field: &'static str, text: &str) -> Result<T, Invalid>
where
    T: for<'a> TryFrom<&'a str, Error = InvalidName>,
{
    T::try_from(text).map_err(|invalid| Invalid::new(field, Problem::Name(invalid)))
}

/// Names as texts.
pub(crate) fn texts<T: ToString>(values: &BTreeSet<T>) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

/// Texts as names.
pub(crate) fn names<T>(field: &'static str, texts: &[String]) -> Result<BTreeSet<T>, Invalid>
where
    T: for<'a> TryFrom<&'a str, Error = InvalidName> + Ord,
{
    texts.iter().map(|text| name(field, text)).collect()
}

/// A smaller number of a larger one.
pub(crate) fn narrow<T: TryFrom<u64>>(
    field: &'static str,
    number: impl Into<u64>,
) -> Result<T, Invalid> {
    let number = number.into();
    T::try_from(number).map_err(|_| Invalid::new(field, Problem::OutOfRange(number)))
}

/// Port numbers and status codes.
pub(crate) fn numbers(field: &'static str, values: Vec<u32>) -> Result<BTreeSet<u16>, Invalid> {
    values
        .into_iter()
        .map(|number| narrow(field, number))
        .collect()
}

impl Wire for IpAddr {
    type Proto = Vec<u8>;

    fn to_wire(&self) -> Vec<u8> {
        match self {
            Self::V4(address) => address.octets().to_vec(),
            Self::V6(address) => address.octets().to_vec(),
        }
    }

    fn from_wire(proto: Vec<u8>) -> Result<Self, Invalid> {
        if let Ok(octets) = <[u8; 4]>::try_from(proto.as_slice()) {
            return Ok(octets.into());
        }
        <[u8; 16]>::try_from(proto.as_slice())
            .map(Self::from)
            .map_err(|_| Invalid::new("address", Problem::Address(proto.len())))
    }
}

impl Wire for Duration {
    type Proto = p::Duration;

    fn to_wire(&self) -> p::Duration {
        p::Duration {
            seconds: self.as_secs(),
            nanos: self.subsec_nanos(),
        }
    }

    fn from_wire(proto: p::Duration) -> Result<Self, Invalid> {
        let p::Duration { seconds, nanos } = proto;
        if nanos > 999_999_999 {
            return Err(Invalid::new("nanos", Problem::OutOfRange(nanos.into())));
        }
        Ok(Self::new(seconds, nanos))
    }
}

impl Wire for Locality {
    type Proto = p::Locality;

    fn to_wire(&self) -> p::Locality {
        let Self {
            cluster,
            region,
            zone,
        } = self;
        p::Locality {
            cluster: cluster.to_string(),
            region: region.to_string(),
            zone: zone.to_string(),
        }
    }

    fn from_wire(proto: p::Locality) -> Result<Self, Invalid> {
        let p::Locality {
            cluster,
            region,
            zone,
        } = proto;
        Ok(Self {
            cluster: cluster.into(),
            region: region.into(),
            zone: zone.into(),
        })
    }
}

impl Wire for ObjectRef {
    type Proto = p::ObjectRef;

    fn to_wire(&self) -> p::ObjectRef {
        let Self {
            kind,
            namespace,
            name,
        } = self;
        p::ObjectRef {
            kind: kind.to_string(),
            namespace: namespace.as_ref().map(Namespace::to_string),
            name: name.to_string(),
        }
    }

    fn from_wire(proto: p::ObjectRef) -> Result<Self, Invalid> {
        let p::ObjectRef {
            kind,
            namespace,
            name: own,
        } = proto;
        Ok(Self {
            kind: kind.into(),
            namespace: namespace.map(|text| name("namespace", &text)).transpose()?,
            name: name("name", &own)?,
        })
    }
}

impl Wire for Provenance {
    type Proto = p::Provenance;

    fn to_wire(&self) -> p::Provenance {
        let from = match self {
            Self::Default => p::provenance::From::Default(p::provenance::Default {}),
            Self::Field { object, path } => p::provenance::From::Field(p::provenance::Field {
                object: Some(object.to_wire()),
                path: path.to_string(),
            }),
        };
        p::Provenance { from: Some(from) }
    }

    fn from_wire(proto: p::Provenance) -> Result<Self, Invalid> {
        let p::Provenance { from } = proto;
        match from.ok_or_else(|| Invalid::new("from", Problem::Missing))? {
            p::provenance::From::Default(p::provenance::Default {}) => Ok(Self::Default),
            p::provenance::From::Field(p::provenance::Field { object, path }) => Ok(Self::Field {
                object: required("object", object)?,
                path: path.into(),
            }),
        }
    }
}

/// The three kinds of namespaced names have one message.
macro_rules! namespaced {
    ($name:ident) => {
        impl Wire for $name {
            type Proto = p::Namespaced;

            fn to_wire(&self) -> p::Namespaced {
                let Self { namespace, name } = self;
                p::Namespaced {
                    namespace: namespace.to_string(),
                    name: name.to_string(),
                }
            }

            fn from_wire(proto: p::Namespaced) -> Result<Self, Invalid> {
                let p::Namespaced {
                    namespace,
                    name: own,
                } = proto;
                Ok(Self {
                    namespace: name("namespace", &namespace)?,
                    name: name("name", &own)?,
                })
            }
        }
    };
}
namespaced!(PolicyName);
namespaced!(ServiceName);
namespaced!(WorkloadName);

impl Wire for (Namespace, ServiceAccount) {
    type Proto = p::Namespaced;

    fn to_wire(&self) -> p::Namespaced {
        p::Namespaced {
            namespace: self.0.to_string(),
            name: self.1.to_string(),
        }
    }

    fn from_wire(proto: p::Namespaced) -> Result<Self, Invalid> {
        let p::Namespaced {
            namespace,
            name: own,
        } = proto;
        Ok((
            name("namespace", &namespace)?,
            name("service account", &own)?,
        ))
    }
}

/// Shared texts of a set.
pub(crate) fn shared(values: Vec<String>) -> BTreeSet<Arc<str>> {
    values.into_iter().map(Arc::from).collect()
}
