//! What the policy kinds share: targets, precedence fields, callers.

use std::collections::BTreeMap;

use crate::decode::{fields, words};

fields! {
    /// One object in the policy's own namespace.
    pub struct TargetRef {
        /// The API group; `""` for a Service.
        group: String = "group",
        /// The kind, for example `Service`.
        kind: String = "kind",
        /// The name.
        name: String = "name",
        /// A part of the object, for example a route rule or a port name.
        section_name: Option<String> = "sectionName",
    }
}

fields! {
    /// Objects by label.
    pub struct TargetSelector {
        /// The API group; `""` for a Service.
        group: String = "group",
        /// The kind, for example `Service`.
        kind: String = "kind",
        /// Labels that the object must have, all of them.
        match_labels: BTreeMap<String, String> = "matchLabels",
        /// Namespaces to look in; absent: the policy's own.
        namespaces: Option<Vec<String>> = "namespaces",
        /// True: every namespace of the policy's scope.
        all_namespaces: Option<bool> = "allNamespaces",
    }
}

fields! {
    /// Everything in the policy's scope, written `{}`.
    #[derive(Default)]
    pub struct TargetAll {}
}

words! {
    /// Whether inner scopes may say otherwise.
    pub enum Enforcement { Default, Override }
}

fields! {
    /// Callers: the given fields all apply, any value of each.
    #[derive(Default)]
    pub struct Callers {
        /// Namespaces, one of which the caller is in.
        namespaces: Option<Vec<String>> = "namespaces",
        /// Service accounts; a bare name means `namespaces`, else the policy's own namespace.
        service_accounts: Option<Vec<String>> = "serviceAccounts",
        /// Workspaces, one of which the caller's namespace belongs to.
        workspaces: Option<Vec<String>> = "workspaces",
        /// The trust domain; absent: the local one.
        trust_domain: Option<String> = "trustDomain",
        /// Source address ranges.
        cidrs: Option<Vec<String>> = "cidrs",
        /// Source address ranges that do not match, whatever `cidrs` says.
        except: Option<Vec<String>> = "except",
        /// True: callers without a certificate, and only those.
        unauthenticated: Option<bool> = "unauthenticated",
        /// A token that the request must carry.
        jwt: Option<Jwt> = "jwt",
    }
}

fields! {
    /// A token that a request must carry.
    pub struct Jwt {
        /// A name of `Mesh` `jwtProviders`.
        provider: String = "provider",
        /// Audiences, one of which the token must name.
        audiences: Option<Vec<String>> = "audiences",
        /// Claims, all of which the token must have, with any of the values.
        claims: Option<BTreeMap<String, Vec<String>>> = "claims",
    }
}

/// The target fields of a policy. Exactly one must be present; the compiler says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targeting<'a> {
    /// `targetRefs`
    pub refs: Option<&'a [TargetRef]>,
    /// `targetSelectors`
    pub selectors: Option<&'a [TargetSelector]>,
    /// `targetAll`
    pub all: Option<&'a TargetAll>,
}

/// The fields that every policy kind has.
pub trait Policy {
    /// What it applies to.
    fn targeting(&self) -> Targeting<'_>;
    /// Whether inner scopes may say otherwise; absent: `Default`.
    fn enforcement(&self) -> Option<Enforcement>;
    /// Higher first at equal target; absent: 0.
    fn priority(&self) -> Option<i32>;
}

macro_rules! policy {
    ($spec:ty) => {
        impl crate::policy::Policy for $spec {
            fn targeting(&self) -> crate::policy::Targeting<'_> {
                crate::policy::Targeting {
                    refs: self.target_refs.as_deref(),
                    selectors: self.target_selectors.as_deref(),
                    all: self.target_all.as_ref(),
                }
            }

            fn enforcement(&self) -> Option<crate::policy::Enforcement> {
                self.enforcement
            }

            fn priority(&self) -> Option<i32> {
                self.priority
            }
        }
    };
}
pub(crate) use policy;
