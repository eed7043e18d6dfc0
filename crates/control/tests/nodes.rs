//! A node joins, is configured, and is given no more than it may have.

use tacit_control::admin::types::WhyRequest;
use tacit_model::hosting::MayHost;
use tacit_model::{ServiceName, WorkloadName};
use tacit_transport::identity::{Subject, read_certificate};
use tacit_wire::client::Subscription;
use tacit_wire::proto::control as p;
use tacit_wire::proto::mesh::{Label, Namespaced, WorkloadPort};

use crate::mesh::{Mesh, Node, PATIENCE, SHOP, refusal};

fn register() -> p::RegisterWorkloadRequest {
    p::RegisterWorkloadRequest {
        namespace: "shop".into(),
        service_account: "web".into(),
        labels: vec![Label {
            key: "app".into(),
            value: "web".into(),
        }],
        ports: vec![WorkloadPort {
            name: "http".into(),
            port: 8080,
            protocol: 1,
        }],
        uid: nix::unistd::Uid::effective().as_raw(),
        ..p::RegisterWorkloadRequest::default()
    }
}

fn name(workload: &Option<Namespaced>) -> WorkloadName {
    let workload = workload.as_ref().unwrap();
    WorkloadName::parse(&workload.namespace, &workload.name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_published_port_is_where_the_node_calls_from_and_nowhere_else() {
    let mesh = Mesh::start().await;
    let node = Node::join(&mesh.token("a").await, "a").await.unwrap();
    let mut discovery = node.discover(Subscription::new(node.id.clone())).await;
    drop(discovery.generation().await);
    let mut api = node.api().await;
    // Somebody else's address, which the node calls its own.
    let hello = p::HelloRequest {
        host_addresses: vec![vec![192, 0, 2, 1]],
        ..p::HelloRequest::default()
    };
    api.hello(hello).await.unwrap();
    let publish = vec![p::Publish {
        port: 443,
        target: 8080,
    }];
    let request = p::RegisterWorkloadRequest {
        publish,
        ..register()
    };
    let registered = api.register_workload(request).await.unwrap().into_inner();
    let snapshot = discovery.generation().await.snapshot;
    let at = |address: &str| {
        let found = snapshot.published_at(address.parse().unwrap());
        found.map(|(row, target)| (row.name.clone(), target))
    };
    let own = Some((name(&registered.workload), 8080));
    assert_eq!(at("127.0.0.1:443"), own);
    assert_eq!(at("192.0.2.1:443"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_and_has_each_change() {
    let mesh = Mesh::start().await;
    let token = mesh.token("a").await;
    let node = Node::join(&token, "a").await.unwrap();
    assert!(Node::join(&token, "a").await.is_err(), "a token works once");
    let (subject, _) = read_certificate(&node.chain[0]).unwrap();
    assert_eq!(subject, Subject::Node(node.id.clone()));
    // Where a mesh named `test` begins; one named `default` begins with the first.
    assert_eq!(node.subnet, "10.96.129.0/24");

    let mut discovery = node.discover(Subscription::new(node.id.clone())).await;
    let first = discovery.generation().await;
    let shop = ServiceName::parse("shop", "web").unwrap();
    assert!(!first.snapshot.services.contains_key(&shop));

    let applied = mesh.apply(SHOP).await.unwrap();
    let second = discovery.generation().await;
    assert_eq!(Some(second.generation), applied.generation);
    assert!(second.snapshot.services.contains_key(&shop));

    let mut api = node.api().await;
    let registered = api
        .register_workload(register())
        .await
        .unwrap()
        .into_inner();
    let third = discovery.generation().await;
    let workload = name(&registered.workload);
    assert!(third.snapshot.workloads.contains_key(&workload));
    assert_eq!(third.snapshot.endpoints(&shop).len(), 1);

    let readiness = p::Readiness {
        workload: registered.workload.clone(),
        ready: vec![8080],
    };
    let report = p::ReportRequest {
        readiness: vec![readiness],
        ..p::ReportRequest::default()
    };
    api.report(report).await.unwrap();
    let fourth = discovery.generation().await;
    assert_eq!(fourth.snapshot.workloads[&workload].ready, [8080].into());
    assert_eq!(mesh.client().status().await.unwrap().services[0].ready, 1);

    let gone = p::UnregisterWorkloadRequest {
        workload: registered.workload,
    };
    api.unregister_workload(gone).await.unwrap();
    assert!(
        !discovery
            .generation()
            .await
            .snapshot
            .workloads
            .contains_key(&workload)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_gets_only_certificates_of_what_it_hosts() {
    let mesh = Mesh::start().await;
    let node = Node::join(&mesh.token("a").await, "a").await.unwrap();
    let other = Node::join(&mesh.token("b").await, "b").await.unwrap();
    let registered = node
        .api()
        .await
        .register_workload(register())
        .await
        .unwrap()
        .into_inner();
    let chain = node.sign(&registered.identity).await.unwrap();
    let (subject, _) = read_certificate(&chain[0]).unwrap();
    assert_eq!(
        subject,
        Subject::Workload(registered.identity.as_str().try_into().unwrap())
    );
    let renewed = node.sign(&node.id.to_string()).await.unwrap();
    assert_eq!(
        read_certificate(&renewed[0]).unwrap().0,
        Subject::Node(node.id.clone())
    );

    let control = node.id.to_string().replace("/node/a", "/node/control");
    for foreign in [
        other.id.to_string(),
        control,
        "spiffe://x/ns/shop/sa/web".into(),
        "".into(),
    ] {
        let refused = node.sign(&foreign).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{foreign}");
    }
    let refused = other.sign(&registered.identity).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);

    // A node that was removed is a stranger, whatever its certificate says.
    other.hello().await;
    mesh.client().remove_node("b").await.unwrap();
    let refused = other.sign(&other.id.to_string()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_programmed_when_every_node_says_so() {
    let mesh = Mesh::start().await;
    let node = Node::join(&mesh.token("a").await, "a").await.unwrap();
    let silent = Node::join(&mesh.token("b").await, "b").await.unwrap();
    let mut discovery = node.discover(Subscription::new(node.id.clone())).await;
    discovery.generation().await;
    let applied = mesh.apply(SHOP).await.unwrap();
    discovery.generation().await;
    let object = &applied.objects[0].object;
    let client = mesh.client();
    let some = client
        .wait("Programmed", object, std::time::Duration::from_millis(300))
        .await;
    let some = some.unwrap();
    assert!(!some.met, "one of two nodes has never been heard of");
    let text = format!("{:?}", some.status);
    assert!(text.contains("1/2") && text.contains('b'), "{text}");

    let mut late = silent.discover(Subscription::new(silent.id.clone())).await;
    late.generation().await;
    let all = client.wait("programmed", object, PATIENCE).await.unwrap();
    assert!(all.met, "{:?}", all.status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_control_plane_moves_nothing() {
    let mesh = Mesh::start().await;
    mesh.apply(SHOP).await.unwrap();
    let node = Node::join(&mesh.token("a").await, "a").await.unwrap();
    let registered = node
        .api()
        .await
        .register_workload(register())
        .await
        .unwrap()
        .into_inner();
    let mut discovery = node.discover(Subscription::new(node.id.clone())).await;
    let before = discovery.generation().await;
    let _mesh = mesh.crash_and_restart().await;
    let mut again = node.discover(discovery.subscription).await;
    let after = again.generation().await;
    assert!(after.delta.is_empty(), "{:?}", after.delta);
    assert_eq!(after.generation.epoch, before.generation.epoch);
    assert!(after.generation >= before.generation);
    let mut living = register();
    living.name = registered.workload.as_ref().map(|name| name.name.clone());
    living.address = Some(registered.address.clone());
    let back = node
        .api()
        .await
        .register_workload(living)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(back, registered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_of_the_caller_answers_why() {
    let mesh = Mesh::start().await;
    mesh.apply(SHOP).await.unwrap();
    let node = Node::join(&mesh.token("a").await, "a").await.unwrap();
    let mut api = node.api().await;
    let registered = api
        .register_workload(register())
        .await
        .unwrap()
        .into_inner();
    let workload = name(&registered.workload);
    let ask = WhyRequest {
        source: workload.to_string(),
        url: "http://web.shop/".into(),
        method: "get".into(),
        headers: Vec::new(),
        zone: None,
    };
    let assumed = mesh.client().why(&ask).await.unwrap();
    assert_eq!(assumed.answered_by, None);

    let (answers, receiver) = tokio::sync::mpsc::channel(4);
    let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut questions = api.attend(receiver).await.unwrap().into_inner();
    let answering = tokio::spawn(async move {
        let asked = questions.message().await.unwrap().unwrap();
        let Some(p::question::Ask::Why(why)) = asked.ask else {
            panic!("not why")
        };
        let question: tacit_decide::why::Question = serde_json::from_slice(&why.json).unwrap();
        assert_eq!((question.host.as_str(), question.port), ("web.shop", 80));
        assert_eq!(
            (question.method.as_str(), question.path.as_str()),
            ("GET", "/")
        );
        let answer = tacit_decide::why::Answer {
            verdict: tacit_decide::why::Verdict::Allowed {
                served_by: None,
                locality: None,
            },
            trace: tacit_model::trace::Trace::default(),
            limits: None,
        };
        let json = serde_json::to_vec(&answer).unwrap();
        let is = Some(p::answer::Is::WhyJson(json));
        answers.send(p::Answer { id: asked.id, is }).await.unwrap();
        answers
    });
    let answered = mesh.client().why(&ask).await.unwrap();
    assert_eq!(answered.answered_by, Some("a".try_into().unwrap()));
    assert!(
        answered.allowed && answered.trace.0.is_empty(),
        "the node's words, not ours"
    );
    answering.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_learn_of_each_other() {
    let mesh = Mesh::start().await;
    let node = Node::join(&mesh.token("a").await, "a").await.unwrap();
    let mut peers = node
        .api()
        .await
        .peers(p::PeersRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(peers.message().await.unwrap().unwrap().peers, []);
    let other = Node::join(&mesh.token("b").await, "b").await.unwrap();
    let next = tokio::time::timeout(PATIENCE, peers.message())
        .await
        .unwrap();
    let expected = p::Peer {
        node: "b".into(),
        subnet: other.subnet.clone(),
        host_addresses: vec![vec![127, 0, 0, 1]],
    };
    assert_eq!(next.unwrap().unwrap().peers, [expected]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_hosts_only_what_its_token_allows() {
    let mesh = Mesh::start().await;
    let only = |text: &str| MayHost([text.try_into().unwrap()].into());
    let bound = mesh.token_for("a", only("edge/*")).await;
    assert_eq!(bound.identities, only("edge/*"));
    let bound = Node::join(&bound, "a").await.unwrap();
    let free = Node::join(&mesh.token("b").await, "b").await.unwrap();

    // The user id that it reports is the administrator's, and makes no difference.
    let refused = bound
        .api()
        .await
        .register_workload(register())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let fix = "tacit token --node a --may-host";
    for word in ["node a", "shop/web", "edge/*", fix] {
        assert!(refused.message().contains(word), "{}", refused.message());
    }
    // The control runs: the same call of a node that may, and another identity of this one.
    let registered = free
        .api()
        .await
        .register_workload(register())
        .await
        .unwrap()
        .into_inner();
    free.sign(&registered.identity).await.unwrap();
    let gateway = p::RegisterWorkloadRequest {
        namespace: "edge".into(),
        service_account: "gateway".into(),
        ..register()
    };
    let gateway = bound
        .api()
        .await
        .register_workload(gateway)
        .await
        .unwrap()
        .into_inner();
    bound.sign(&gateway.identity).await.unwrap();

    // Nor does it get a certificate by a workload that is declared for it.
    let declared = |account: &str| {
        format!(
            "apiVersion: tacit.dev/v1alpha1\nkind: Workload\n\
             metadata: {{name: w-{account}, namespace: edge-{account}}}\n\
             spec: {{serviceAccount: {account}, node: a}}\n"
        )
    };
    let refused = refusal(mesh.apply(&declared("web")).await.unwrap_err());
    let finding = refused.findings.first().unwrap();
    assert_eq!(&*finding.code, "TCT1507", "{finding}");
    let text = "node a may not host edge-web/web: its join token allows edge/*";
    assert_eq!(&*finding.message, text);
    let identity = gateway
        .identity
        .replace("/ns/edge/sa/gateway", "/ns/edge-web/sa/web");
    let refused = bound.sign(&identity).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert!(
        refused.message().contains("edge-web/web"),
        "{}",
        refused.message()
    );
    let inside = declared("gateway").replace("edge-gateway", "edge");
    mesh.apply(&inside).await.unwrap();
    bound.sign(&gateway.identity).await.unwrap();

    // A restart of the control plane forgets nothing of it.
    let _mesh = mesh.crash_and_restart().await;
    bound.hello().await;
    let refused = bound
        .api()
        .await
        .register_workload(register())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
}
