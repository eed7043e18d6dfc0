//! Which identities a node may host: what its join token was bound to.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{InvalidName, Namespace, ServiceAccount};

/// `NAMESPACE/SERVICEACCOUNT`; each half is a name, the beginning of one and `*`, or `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdentityPattern {
    namespace: Glob,
    service_account: Glob,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Glob {
    Exact(String),
    Prefix(String),
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPattern {
    text: String,
    why: String,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, why } = self;
        write!(
            f,
            "{text:?} names no identities: {why}; write NAMESPACE/SERVICEACCOUNT, such as \
             shop/web, shop/* or */*"
        )
    }
}

impl std::error::Error for InvalidPattern {}

impl Glob {
    /// `is_name` judges a whole name, also what a prefix could begin.
    fn parse(text: &str, is_name: impl Fn(&str) -> Option<InvalidName>) -> Result<Self, String> {
        let (known, glob) = match text.strip_suffix('*') {
            // Any letter makes a whole name of a prefix, also of one that ends in `-`.
            Some(prefix) => (format!("{prefix}a"), Self::Prefix(prefix.to_owned())),
            None => (text.to_owned(), Self::Exact(text.to_owned())),
        };
        match is_name(&known) {
            None => Ok(glob),
            Some(error) => Err(error.to_string()),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => name == exact,
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl IdentityPattern {
    /// `*/*`.
    #[must_use]
    pub fn any() -> Self {
        let any = || Glob::Prefix(String::new());
        Self {
            namespace: any(),
            service_account: any(),
        }
    }

    /// True for an identity that it means.
    #[must_use]
    pub fn matches(&self, namespace: &Namespace, account: &ServiceAccount) -> bool {
        self.namespace.matches(namespace.as_str()) && self.service_account.matches(account.as_str())
    }
}

impl TryFrom<&str> for IdentityPattern {
    type Error = InvalidPattern;

    fn try_from(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = |why: String| InvalidPattern {
            text: text.chars().take(200).collect(),
            why,
        };
        let halves = text.split_once('/');
        let (namespace, account) = halves.ok_or_else(|| invalid("it has no /".into()))?;
        let of_namespace = |text: &str| Namespace::try_from(text).err();
        let of_account = |text: &str| ServiceAccount::try_from(text).err();
        Ok(Self {
            namespace: Glob::parse(namespace, of_namespace).map_err(invalid)?,
            service_account: Glob::parse(account, of_account).map_err(invalid)?,
        })
    }
}

impl TryFrom<String> for IdentityPattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        Self::try_from(text.as_str())
    }
}

impl From<IdentityPattern> for String {
    fn from(pattern: IdentityPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for IdentityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service_account)
    }
}

/// What a node was allowed: nothing that none of its patterns means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MayHost(pub BTreeSet<IdentityPattern>);

impl MayHost {
    /// Every identity: said, never assumed.
    #[must_use]
    pub fn any() -> Self {
        Self([IdentityPattern::any()].into())
    }

    /// True for an identity that it may host.
    #[must_use]
    pub fn allows(&self, namespace: &Namespace, account: &ServiceAccount) -> bool {
        self.0.iter().any(|one| one.matches(namespace, account))
    }
}

impl fmt::Display for MayHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_say() {
        let cases = [
            (
                "shop/web",
                &["shop/web"][..],
                &["shop/web2", "shop2/web", "web/shop"][..],
            ),
            (
                "shop/*",
                &["shop/web", "shop/a"],
                &["shop2/web", "edge/web"],
            ),
            (
                "shop-*/pay*",
                &["shop-eu/pay", "shop-eu/payments"],
                &["shop/pay", "shop-eu/web"],
            ),
            ("*/*", &["shop/web", "a/b"], &[]),
        ];
        for (text, meant, not) in cases {
            let pattern = IdentityPattern::try_from(text).unwrap();
            assert_eq!(pattern.to_string(), text);
            let matches = |identity: &str| {
                let (namespace, account) = identity.split_once('/').unwrap();
                let account = account.try_into().unwrap();
                pattern.matches(&namespace.try_into().unwrap(), &account)
            };
            for identity in meant {
                assert!(matches(identity), "{text} {identity}");
            }
            for identity in not {
                assert!(!matches(identity), "{text} {identity}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_in_words() {
        for bad in [
            "",
            "shop",
            "/",
            "shop/",
            "/web",
            "sh*op/web",
            "shop/w/x",
            "Shop/web",
            "**/a",
        ] {
            let error = IdentityPattern::try_from(bad).unwrap_err().to_string();
            assert!(error.contains("shop/*"), "{bad}: {error}");
        }
    }

    #[test]
    fn nothing_allows_nothing() {
        let (shop, web) = ("shop".try_into().unwrap(), "web".try_into().unwrap());
        assert!(MayHost::any().allows(&shop, &web));
        assert!(!MayHost::default().allows(&shop, &web));
        assert_eq!(MayHost::any().to_string(), "*/*");
    }
}
