//! Connections, ejection and places of a service as a DestinationRule.

use serde_json::{Map, Value, json};
use tacit_model::Sourced;
use tacit_model::failover::{Health, Signal, WhenNoneHealthy};
use tacit_model::tables::{Protocol, ServiceRow};

use crate::object::{Draft, Kind, seconds};
use crate::retries::effective;
use crate::world::World;

/// Failures in a row after which Istio avoids an endpoint if nobody says otherwise.
const FAILURES: u32 = 5;
/// Time between Istio's looks at the ejected if nobody says otherwise.
const LOOK: std::time::Duration = std::time::Duration::from_secs(10);

/// The DestinationRule of a service.
pub(crate) fn translate(world: &mut World<'_>, service: &ServiceRow) -> Draft {
    let name = &service.name;
    let mut draft = Draft::new(Kind::DestinationRule, &name.namespace, &name.name);
    draft.set("host", name.fqdn().into());
    draft.note(
        "spec.host",
        format!("Service/{}/{}", name.namespace, name.name),
    );
    let policy = json!({
        "connectionPool": pool(&mut draft, service),
        "outlierDetection": outliers(&mut draft, service),
        "loadBalancer": {"localityLbSetting": crate::locality::setting(world, &mut draft, service)},
    });
    draft.set("trafficPolicy", policy);
    draft
}

fn pool(draft: &mut Draft, service: &ServiceRow) -> Value {
    let effective = effective(service);
    let mut tcp = Map::new();
    tcp.insert(
        "connectTimeout".to_owned(),
        seconds(effective.connect.value).into(),
    );
    let at = "spec.trafficPolicy.connectionPool.tcp";
    draft.note(format!("{at}.connectTimeout"), &effective.connect.from);
    if service
        .ports
        .iter()
        .any(|port| port.protocol == Protocol::Tcp)
    {
        tcp.insert(
            "idleTimeout".to_owned(),
            seconds(effective.idle.value).into(),
        );
        draft.note(format!("{at}.idleTimeout"), &effective.idle.from);
    }
    json!({"tcp": tcp})
}

fn outliers(draft: &mut Draft, service: &ServiceRow) -> Value {
    let default = Sourced::default_of(Health::default());
    let failover = service.failover.as_ref();
    let health = failover.map_or(&default, |found| &found.health);
    let at = "spec.trafficPolicy.outlierDetection";
    draft.note(at, &health.from);
    let signals = &health.value.signals;
    // Zero switches a counter off.
    let mut counters = [0, 0];
    let mut found = Map::new();
    let mut set = |field: &str, value: Value| drop(found.insert(field.to_owned(), value));
    let failures = match &health.value.eject {
        Some(eject) => {
            if signals.contains(&Signal::GatewayError) {
                counters[0] = eject.consecutive;
            }
            if signals.contains(&Signal::ServerError) {
                counters[1] = eject.consecutive;
            }
            set("baseEjectionTime", seconds(eject.duration).into());
            set("interval", seconds(eject.duration.min(LOOK)).into());
            set("maxEjectionPercent", eject.max_percent.into());
            eject.consecutive
        }
        None => {
            set("maxEjectionPercent", 100.into());
            FAILURES
        }
    };
    set("consecutiveGatewayErrors", counters[0].into());
    set("consecutive5xxErrors", counters[1].into());
    // Failed connections and timeouts count by themselves, not as answers of the application.
    set("splitExternalLocalOriginErrors", true.into());
    set("consecutiveLocalOriginFailures", failures.into());
    let none_healthy = failover.map_or(WhenNoneHealthy::Any, |found| found.when_none_healthy.value);
    let from = failover.map(|found| &found.when_none_healthy.from);
    // Below this share of healthy endpoints Istio uses all of them; zero: never.
    set(
        "minHealthPercent",
        u32::from(none_healthy == WhenNoneHealthy::Any).into(),
    );
    match from {
        Some(from) => draft.note(format!("{at}.minHealthPercent"), from),
        None => draft.note(format!("{at}.minHealthPercent"), "default"),
    }
    Value::Object(found)
}
