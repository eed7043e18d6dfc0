//! What holds for the whole mesh: mutual TLS, and access where no policy speaks.

use serde_json::json;
use tacit_api::{MeshSpec, Object};
use tacit_compiler::findings::{ISTIO_CANNOT, ISTIO_ELSEWHERE, ISTIO_PODS};
use tacit_model::ObjectRef;
use tacit_model::tables::DefaultAccess;

use crate::object::{Draft, Kind, Objects};
use crate::world::World;

/// Emits the objects of the root namespace, and says which fields of the Mesh have none.
pub(crate) fn translate(world: &mut World<'_>, objects: &mut Objects) {
    let mut mtls = Draft::new(Kind::PeerAuthentication, world.root, "default");
    mtls.set("mtls", json!({"mode": "STRICT"}));
    mtls.note(
        "spec.mtls.mode",
        "default: workloads of the mesh call each other by mutual TLS",
    );
    objects.add(mtls);
    let default = &world.s.mesh.default_access;
    if default.value == DefaultAccess::Deny {
        // Without rules it allows nothing; what other policies allow stays allowed.
        let mut nothing = Draft::new(
            Kind::AuthorizationPolicy,
            world.root,
            "tacit.default-access",
        );
        nothing.set("action", "ALLOW".into());
        nothing.note("spec.action", &default.from);
        objects.add(nothing);
    }
    tell(world);
}

fn tell(world: &mut World<'_>) {
    let first = |wanted: fn(&Object) -> bool| {
        let mut found = world
            .objects()
            .filter(|(_, located)| wanted(&located.value));
        found.next().map(|(object, _)| object.clone())
    };
    let pods = first(|object| matches!(object, Object::Workload(_)));
    let mesh = first(|object| matches!(object, Object::Mesh(_)));
    if let Some(object) = pods {
        let message = "Workloads are not translated: under Istio they are pods".to_owned();
        world.say(&object, ISTIO_PODS, "", message);
    }
    if let Some(object) = mesh {
        tell_mesh(world, &object);
    }
}

fn tell_mesh(world: &mut World<'_>, object: &ObjectRef) {
    let Some(Object::Mesh(mesh)) = world.object(object).map(|found| &found.value) else {
        return;
    };
    for (name, message) in elsewhere(&mesh.spec) {
        let field = format!("spec.{name}");
        world.say(object, ISTIO_ELSEWHERE, &field, message.to_owned());
    }
    if mesh.spec.max_offline.is_some() {
        let message = "Istio's proxies go on without istiod until their certificates end";
        world.say(object, ISTIO_CANNOT, "spec.maxOffline", message.to_owned());
    }
}

/// The fields that are written and that no object of Istio has, with where they are set.
fn elsewhere(spec: &MeshSpec) -> Vec<(&'static str, &'static str)> {
    let MeshSpec {
        trust_domain,
        cluster,
        network,
        root_namespace: _,
        localities,
        service_addresses,
        workload_addresses,
        default_access: _,
        certificates,
        max_offline: _,
        egress,
        jwt_providers,
        subjects,
        defaults: _,
    } = spec;
    let (addresses, named) = (
        "Kubernetes gives addresses",
        "the installation of istiod names it",
    );
    let egress_where = "meshConfig.outboundTrafficPolicy says what may leave the mesh";
    let lifetime = "SECRET_TTL of the proxies is the lifetime";
    let domain = "meshConfig.trustDomain must be the same";
    let fields = [
        (trust_domain.is_some(), "trustDomain", domain),
        (cluster.is_some(), "cluster", named),
        (network.is_some(), "network", named),
        (
            localities.is_some(),
            "localities",
            "the labels of Kubernetes' nodes say where",
        ),
        (service_addresses.is_some(), "serviceAddresses", addresses),
        (workload_addresses.is_some(), "workloadAddresses", addresses),
        (certificates.is_some(), "certificates", lifetime),
        (egress.is_some(), "egress", egress_where),
        (
            jwt_providers.is_some(),
            "jwtProviders",
            "a RequestAuthentication names issuers",
        ),
        (subjects.is_some(), "subjects", "Kubernetes says who is who"),
    ];
    let written = fields.into_iter().filter(|(written, _, _)| *written);
    written.map(|(_, name, message)| (name, message)).collect()
}
