//! The admin API over its Unix socket and over TLS.

use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use tacit_control::admin::types::{CertificateRequest, Change, Owner, ProblemKind};
use tacit_control::client::{AdminClient, ClientError};
use tacit_model::hosting::MayHost;
use tacit_transport::key::PrivateKey;

use crate::mesh::{Mesh, PATIENCE, SHOP, apply, refusal, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_come_and_go_over_the_socket() {
    let mesh = Mesh::start().await;
    let socket = mesh.settings.control_socket();
    assert_eq!(
        std::fs::metadata(socket).unwrap().permissions().mode() & 0o777,
        0o666
    );
    let client = mesh.client();
    let before = client.generation().await.unwrap().unwrap();
    let applied = mesh.apply(SHOP).await.unwrap();
    assert_eq!(applied.objects[0].change, Change::Created);
    assert!(applied.generation.unwrap() > before);

    let all = client.objects(None, None, None).await.unwrap();
    let services = client.objects(Some("services"), None, None).await.unwrap();
    let one = client
        .objects(Some("Service"), Some("shop"), Some("web"))
        .await
        .unwrap();
    assert_eq!((all.len(), services.len(), one.len()), (1, 1, 1));
    assert_eq!(one[0].owner, Owner::Api);
    assert_eq!(one[0].manifest["spec"]["ports"][0]["port"], 80);
    let none = client
        .objects(Some("service"), Some("shop"), Some("nothing"))
        .await;
    assert_eq!(refusal(none.unwrap_err()).kind, ProblemKind::NotFound);

    let object = &one[0].object;
    let met = client.wait("Programmed", object, PATIENCE).await.unwrap();
    assert!(met.met, "no node, so nobody lacks it");
    client.delete(object).await.unwrap();
    assert!(client.objects(None, None, None).await.unwrap().is_empty());
    assert_eq!(
        refusal(client.delete(object).await.unwrap_err()).kind,
        ProblemKind::NotFound
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_text_is_refused_with_its_place() {
    let mesh = Mesh::start().await;
    let bad = SHOP.replace("selector", "selektor");
    let problem = refusal(mesh.apply(&bad).await.unwrap_err());
    assert_eq!(problem.kind, ProblemKind::Invalid);
    let position = problem.findings[0].position.as_ref().unwrap();
    assert_eq!((&*position.file, position.line), ("test.yaml", 5));
    assert!(
        mesh.client()
            .objects(None, None, None)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    std::fs::create_dir(&config).unwrap();
    write(&config.join("shop.yaml"), SHOP);
    let mesh = Mesh::start_in(dir, Some(config.clone())).await;
    let client = mesh.client();
    let listed = client.objects(None, None, None).await.unwrap();
    assert_eq!(listed[0].owner, Owner::Directory);
    let problem = refusal(mesh.apply(SHOP).await.unwrap_err());
    assert_eq!(problem.kind, ProblemKind::Conflict);

    let before = client.generation().await.unwrap();
    write(
        &config.join("more.yaml"),
        &SHOP.replace("name: web", "name: api"),
    );
    let followed = async {
        while client.generation().await.unwrap() == before {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, followed).await.unwrap();
    assert_eq!(client.objects(None, None, None).await.unwrap().len(), 2);

    // A file that breaks keeps what it said, and the finding says where.
    write(&config.join("more.yaml"), "kind: [");
    let found = async {
        while client.findings().await.unwrap().findings.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap();
    assert_eq!(
        client
            .objects(Some("service"), None, None)
            .await
            .unwrap()
            .len(),
        2
    );
    let status = client.status().await.unwrap();
    assert_eq!(status.services.len(), 2, "both are still in force");
}

/// A person with a certificate for this name, as `tacit certificate` makes it.
async fn person(mesh: &Mesh, name: &str) -> AdminClient {
    let key = PrivateKey::generate().unwrap();
    let csr = key.request_for_name(name).unwrap();
    let csr = base64::engine::general_purpose::STANDARD.encode(csr);
    let request = CertificateRequest {
        common_name: name.into(),
        csr,
    };
    let made = mesh.client().certificate(&request).await.unwrap();
    let dir = mesh.path().join(name);
    std::fs::create_dir(&dir).unwrap();
    write(&dir.join("person.crt"), &made.chain);
    write(&dir.join("roots.crt"), &made.roots);
    let key = tacit_control::pem::encode("PRIVATE KEY", &[key.to_pkcs8()]);
    write(&dir.join("person.key"), &key);
    AdminClient::tls(&mesh.settings.admin_listen.to_string(), &dir).unwrap()
}

const TENANT: &str = "
apiVersion: tacit.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec:
  subjects: [{certificate: {commonName: dev}, user: dev, groups: [shop-developers]}]
---
apiVersion: tacit.dev/v1alpha1
kind: Workspace
metadata: {name: shop}
spec:
  home: shop-platform
  members: [{namespaces: [shop]}]
  grants:
  - to: [{group: shop-developers}]
    verbs: [Create, Update, Delete]
    kinds: [RetryTimeoutPolicy]
    limits: [{rule: 'spec.retry.attempts <= 3', message: at most 3 further tries}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

fn policy(attempts: u32) -> String {
    format!(
        "apiVersion: tacit.dev/v1alpha1\nkind: RetryTimeoutPolicy\n\
         metadata: {{name: web, namespace: shop}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: web}}]\n  \
         retry: {{attempts: {attempts}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_from_afar_may_what_their_grants_say() {
    let mesh = Mesh::start().await;
    mesh.apply(TENANT).await.unwrap();
    let dev = person(&mesh, "dev").await;
    let stranger = person(&mesh, "stranger").await;
    let problem = refusal(apply(&dev, &policy(50)).await.unwrap_err());
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    let told = format!("{} {:?}", problem.message, problem.findings);
    assert!(told.contains("at most 3 further tries"), "{told}");
    let problem = refusal(apply(&stranger, &policy(3)).await.unwrap_err());
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    let applied = apply(&dev, &policy(3)).await.unwrap();
    assert_eq!(applied.objects[0].change, Change::Created);
    let problem = refusal(apply(&dev, SHOP).await.unwrap_err());
    assert_eq!(
        problem.kind,
        ProblemKind::Forbidden,
        "a Service is not in the grant"
    );
    let problem = refusal(dev.join_token("b", MayHost::any()).await.unwrap_err());
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    let request = CertificateRequest {
        common_name: "root".into(),
        csr: String::new(),
    };
    let problem = refusal(dev.certificate(&request).await.unwrap_err());
    assert_eq!(problem.kind, ProblemKind::Forbidden);
}

#[tokio::test]
async fn a_control_plane_that_is_not_there_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let client = AdminClient::unix(dir.path().join("control.sock"));
    let error = client.generation().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable(_)), "{error}");
    assert!(
        AdminClient::tls("127.0.0.1:1", dir.path()).is_err(),
        "no identity there"
    );
}
