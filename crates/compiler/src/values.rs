//! Checks of single values that several kinds of objects share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tacit_api::policy::Callers;
use tacit_api::values::DurationText;
use tacit_model::access::{Cidr, From};
use tacit_model::names::InvalidName;
use tacit_model::{Namespace, ServiceAccount, TrustDomain, WorkspaceName};

use crate::findings::{BAD_NAME, BAD_TEXT, CONTRADICTION, EMPTY_LIST, OUT_OF_RANGE, Report};

/// The longest time that a timeout or an interval may say: nothing waits longer than a day.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Checks that a time lies in a range.
pub(crate) fn time(
    report: &mut Report<'_>,
    field: &str,
    value: Option<&DurationText>,
    range: std::ops::RangeInclusive<Duration>,
) {
    if let Some(value) = value.filter(|value| !range.contains(&value.duration())) {
        let (least, most) = (Seconds(*range.start()), Seconds(*range.end()));
        let message = format!("{value} is not between {least} and {most}");
        let fix = format!("choose a time between {least} and {most}");
        report.add(OUT_OF_RANGE, field, message, Some(fix));
    }
}

/// A duration in hours, seconds or milliseconds, for messages.
struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        if self.0.subsec_millis() == 0 && seconds > 0 && seconds.is_multiple_of(3600) {
            write!(f, "{}h", seconds / 3600)
        } else if self.0.subsec_millis() == 0 {
            write!(f, "{seconds}s")
        } else {
            write!(f, "{}ms", self.0.as_millis())
        }
    }
}

/// Checks that a number lies in a range.
pub(crate) fn number(
    report: &mut Report<'_>,
    field: &str,
    value: Option<u32>,
    range: std::ops::RangeInclusive<u32>,
) {
    if let Some(value) = value.filter(|value| !range.contains(value)) {
        let (least, most) = (range.start(), range.end());
        let message = format!("{value} is not between {least} and {most}");
        let fix = format!("choose a number between {least} and {most}");
        report.add(OUT_OF_RANGE, field, message, Some(fix));
    }
}

/// Checks that a list, if written, is not empty.
pub(crate) fn not_empty<T>(report: &mut Report<'_>, field: &str, list: Option<&[T]>) {
    if list.is_some_and(<[T]>::is_empty) {
        report.say(EMPTY_LIST, field, "the list is empty");
    }
}

/// Checks labels as Kubernetes has them: a key is `name` or `domain/name`.
pub(crate) fn labels(report: &mut Report<'_>, field: &str, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        let (domain, name) = match key.split_once('/') {
            Some((domain, name)) => (Some(domain), name),
            None => (None, key.as_str()),
        };
        let domain_fits = domain.is_none_or(|domain| domain.len() <= 253 && is_domain(domain));
        if !domain_fits || !is_label_text(name) {
            let message = format!("{key:?} is no key of a label");
            report.add(
                BAD_TEXT,
                &format!("{field}.{key}"),
                message,
                Some(LABEL.into()),
            );
        } else if !value.is_empty() && !is_label_text(value) {
            let message = format!("{value:?} is no value of a label");
            report.add(
                BAD_TEXT,
                &format!("{field}.{key}"),
                message,
                Some(LABEL.into()),
            );
        }
    }
}

const LABEL: &str = "use at most 63 letters, digits, '-', '_' and '.', with a letter or a digit at \
                     both ends; a key may have a domain and '/' before it";

fn is_label_text(text: &str) -> bool {
    let end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    (1..=63).contains(&text.len())
        && end(text.bytes().next())
        && end(text.bytes().last())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_domain(text: &str) -> bool {
    text.split('.')
        .all(|part| Namespace::try_from(part).is_ok())
}

/// An HTTP method, upper case.
pub(crate) fn is_method(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
}

/// A name of a header: a token (RFC 9110, 5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_token)
}

/// Checks a list of HTTP methods.
pub(crate) fn methods(report: &mut Report<'_>, field: &str, list: Option<&[String]>) {
    not_empty(report, field, list);
    for (index, method) in list.unwrap_or_default().iter().enumerate() {
        if !is_method(method) {
            let upper = method.to_ascii_uppercase();
            let fix = if is_method(&upper) {
                format!("write {upper}")
            } else {
                "write a method such as GET".to_owned()
            };
            let message = format!("{method:?} is no HTTP method");
            report.add(BAD_TEXT, &format!("{field}[{index}]"), message, Some(fix));
        }
    }
}

/// Reads an address range; a bare address is a range of one.
pub(crate) fn cidr(text: &str) -> Result<Cidr, String> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let no_range = || format!("{text:?} is no address range such as 10.0.0.0/8");
    let network: IpAddr = address.parse().map_err(|_| no_range())?;
    let bits: u8 = if network.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(prefix) => prefix
            .parse()
            .ok()
            .filter(|p| *p <= bits)
            .ok_or_else(no_range)?,
        None => bits,
    };
    let lowest = lowest(network, prefix);
    if lowest == network {
        Ok(Cidr { network, prefix })
    } else {
        Err(format!(
            "{text:?} has host bits; the range is {lowest}/{prefix}"
        ))
    }
}

/// The address with the bits after the prefix cleared.
fn lowest(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32_u32.saturating_sub(prefix))
                .unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(prefix))
                .unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

/// Checks the callers of a policy: each entry says something, and says it right.
pub(crate) fn callers(report: &mut Report<'_>, field: &str, list: Option<&[Callers]>) {
    not_empty(report, field, list);
    for (index, callers) in list.unwrap_or_default().iter().enumerate() {
        entry(report, &format!("{field}[{index}]"), callers);
    }
}

/// Checks `from` of a policy that callers' own nodes enforce.
pub(crate) fn client_callers(report: &mut Report<'_>, list: Option<&[Callers]>) {
    callers(report, "spec.from", list);
    for (index, from) in list.unwrap_or_default().iter().enumerate() {
        if from.unauthenticated == Some(true) {
            let field = format!("spec.from[{index}].unauthenticated");
            let message = "the mesh's own callers, for whom this kind is, are authenticated";
            let fix = Some("remove the field".to_owned());
            report.add(CONTRADICTION, &field, message.to_owned(), fix);
        }
    }
}

fn entry(report: &mut Report<'_>, at: &str, callers: &Callers) {
    let Callers {
        namespaces,
        service_accounts,
        workspaces,
        trust_domain,
        cidrs,
        except,
        unauthenticated,
        jwt: _,
    } = callers;
    if *callers == Callers::default() {
        report.say(EMPTY_LIST, at, "the entry names nobody");
    }
    names::<Namespace>(report, &format!("{at}.namespaces"), namespaces.as_deref());
    names::<WorkspaceName>(report, &format!("{at}.workspaces"), workspaces.as_deref());
    accounts(
        report,
        &format!("{at}.serviceAccounts"),
        service_accounts.as_deref(),
    );
    if let Some(Err(error)) = trust_domain.as_deref().map(TrustDomain::try_from) {
        report.say(BAD_NAME, &format!("{at}.trustDomain"), error.to_string());
    }
    for (name, list) in [("cidrs", cidrs), ("except", except)] {
        let field = format!("{at}.{name}");
        not_empty(report, &field, list.as_deref());
        for (index, text) in list.iter().flatten().enumerate() {
            if let Err(message) = cidr(text) {
                report.say(BAD_TEXT, &format!("{field}[{index}]"), message);
            }
        }
    }
    let identity = namespaces.is_some()
        || service_accounts.is_some()
        || workspaces.is_some()
        || trust_domain.is_some();
    if *unauthenticated == Some(true) && identity {
        let message = "callers without a certificate have no identity";
        report.say(CONTRADICTION, &format!("{at}.unauthenticated"), message);
    }
    if *unauthenticated == Some(false) {
        let message = "`unauthenticated: false` is what its absence means";
        report.say(
            crate::findings::NO_EFFECT,
            &format!("{at}.unauthenticated"),
            message,
        );
    }
}

fn names<'a, T: TryFrom<&'a str, Error = InvalidName>>(
    report: &mut Report<'_>,
    field: &str,
    list: Option<&'a [String]>,
) {
    not_empty(report, field, list);
    for (index, text) in list.unwrap_or_default().iter().enumerate() {
        if let Err(error) = T::try_from(text) {
            report.say(BAD_NAME, &format!("{field}[{index}]"), error.to_string());
        }
    }
}

fn accounts(report: &mut Report<'_>, field: &str, list: Option<&[String]>) {
    not_empty(report, field, list);
    for (index, text) in list.unwrap_or_default().iter().enumerate() {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text.as_str()),
        };
        let namespace = namespace.map(Namespace::try_from).transpose();
        let error = namespace
            .err()
            .or_else(|| ServiceAccount::try_from(name).err());
        if let Some(error) = error {
            report.say(BAD_NAME, &format!("{field}[{index}]"), error.to_string());
        }
    }
}

/// Callers as the planes have them. A bare service account means the entry's namespaces, else
/// the policy's own one; `namespace/name` means itself.
pub(crate) fn from(callers: &Callers, own: &Namespace) -> From {
    let set = |list: &Option<Vec<String>>| -> Option<BTreeSet<Namespace>> {
        let names = list.as_ref()?.iter();
        Some(
            names
                .filter_map(|name| name.as_str().try_into().ok())
                .collect(),
        )
    };
    let cidrs = |list: &Option<Vec<String>>| -> Option<BTreeSet<Cidr>> {
        Some(
            list.as_ref()?
                .iter()
                .filter_map(|text| cidr(text).ok())
                .collect(),
        )
    };
    let namespaces = set(&callers.namespaces);
    let homes = namespaces
        .clone()
        .unwrap_or_else(|| BTreeSet::from([own.clone()]));
    let accounts = callers
        .service_accounts
        .as_ref()
        .map(|list| list.iter().flat_map(|text| account(text, &homes)).collect());
    let workspaces = callers.workspaces.as_ref().map(|list| {
        list.iter()
            .filter_map(|name| name.as_str().try_into().ok())
            .collect()
    });
    From {
        namespaces,
        service_accounts: accounts,
        workspaces,
        trust_domain: callers
            .trust_domain
            .as_deref()
            .and_then(|td| td.try_into().ok()),
        cidrs: cidrs(&callers.cidrs),
        except: cidrs(&callers.except).unwrap_or_default(),
        unauthenticated: callers.unauthenticated == Some(true),
    }
}

fn account(text: &str, homes: &BTreeSet<Namespace>) -> Vec<(Namespace, ServiceAccount)> {
    let (homes, name) = match text.split_once('/') {
        Some((namespace, name)) => (namespace.try_into().into_iter().collect(), name),
        None => (homes.clone(), text),
    };
    let Ok(name) = ServiceAccount::try_from(name) else {
        return Vec::new();
    };
    homes.into_iter().map(|home| (home, name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.0.0.1", Some("10.0.0.1/32")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("fd00::/8", Some("fd00::/8")),
            ("::1", Some("::1/128")),
            ("10.0.0.1/8", None),
            ("10.0.0.0/33", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/-1", None),
            ("ten", None),
        ] {
            let read = cidr(text)
                .ok()
                .map(|c| format!("{}/{}", c.network, c.prefix));
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
