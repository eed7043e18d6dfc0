//! Names of things: one type for each kind, valid once made.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not a name of this kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName {
    /// The kind of name that was expected, for messages.
    pub expected: &'static str,
    /// The text as given, shortened to 80 characters.
    pub given: String,
}

impl InvalidName {
    pub(crate) fn new(expected: &'static str, given: &str) -> Self {
        Self {
            expected,
            given: given.chars().take(80).collect(),
        }
    }
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not {}", self.given, self.expected)
    }
}

impl std::error::Error for InvalidName {}

/// True for a DNS-1123 label: 1-63 of `a-z 0-9 -`, not starting or ending with `-`.
fn is_dns_label(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(ok)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// True for a DNS-1123 subdomain: labels joined by dots, at most 253 characters.
fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Says what is wrong with a text that is no such name, without making one.
            pub fn check(text: &str) -> Result<(), InvalidName> {
                match $check(text) {
                    true => Ok(()),
                    false => Err(InvalidName::new($expected, text)),
                }
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidName;

            fn try_from(text: &str) -> Result<Self, InvalidName> {
                Self::check(text).map(|()| Self(text.into()))
            }
        }

        // Texts order and hash as names do, so maps can be asked by text.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::try_from(text.as_str())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}
pub(crate) use name;

name!(
    /// The name of an object inside its namespace: a DNS-1123 subdomain.
    Name, "a name (lower-case letters, digits, '-' and '.')", is_dns_subdomain
);
name!(
    /// A namespace: a DNS-1123 label.
    Namespace, "a namespace (lower-case letters, digits and '-')", is_dns_label
);
name!(
    /// A service account's name inside its namespace: a DNS-1123 subdomain.
    ServiceAccount, "a service account (lower-case letters, digits, '-' and '.')", is_dns_subdomain
);
name!(
    /// A machine on which a node proxy runs: a DNS-1123 subdomain.
    NodeName, "a node name (lower-case letters, digits, '-' and '.')", is_dns_subdomain
);
name!(
    /// A Workspace's name: a DNS-1123 subdomain.
    WorkspaceName, "a workspace (lower-case letters, digits, '-' and '.')", is_dns_subdomain
);

macro_rules! namespaced {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name {
            /// Where it lives.
            pub namespace: Namespace,
            /// Its name there.
            pub name: Name,
        }

        impl $name {
            /// Joins parts that are valid already.
            #[must_use]
            pub fn new(namespace: Namespace, name: Name) -> Self {
                Self { namespace, name }
            }

            /// Checks both parts; the first invalid one is the error.
            pub fn parse(namespace: &str, name: &str) -> Result<Self, InvalidName> {
                Ok(Self { namespace: namespace.try_into()?, name: name.try_into()? })
            }
        }
    };
}

namespaced!(
    /// A Service, shown as `name.namespace` like its DNS name.
    ServiceName
);
namespaced!(
    /// A workload (pod, VM or process), shown as `namespace/name`.
    WorkloadName
);
namespaced!(
    /// A policy object of a kind known from context, shown as `namespace/name`.
    PolicyName
);

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The least text that is a name: where the names of a namespace begin in an ordered map.
const LEAST: &str = "0";

impl Name {
    /// The name before which there is none.
    #[must_use]
    pub fn least() -> Self {
        Self(LEAST.into())
    }
}

impl ServiceAccount {
    /// The account before which there is none.
    #[must_use]
    pub fn least() -> Self {
        Self(LEAST.into())
    }
}

impl ServiceName {
    /// The name that a search list needs no help for: `svc.ns.svc.cluster.local`.
    #[must_use]
    pub fn fqdn(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name, self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains() {
        let cases = [
            ("shop", true, true),
            ("shop-1", true, true),
            ("a.b", false, true),
            ("", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("A", false, false),
            ("a_b", false, false),
            ("a..b", false, false),
            ("a/b", false, false),
            ("a\0", false, false),
        ];
        for (text, label, subdomain) in cases {
            assert_eq!(Namespace::try_from(text).is_ok(), label, "{text:?}");
            assert_eq!(Name::try_from(text).is_ok(), subdomain, "{text:?}");
        }
        assert!(Namespace::try_from("a".repeat(63).as_str()).is_ok());
        assert!(Namespace::try_from("a".repeat(64).as_str()).is_err());
    }
}
