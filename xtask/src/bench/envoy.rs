//! Two Envoys with mutual TLS and HTTP/2 between them; the client's retries and times out.

use super::application;
use super::certificates::{CLIENT_ID, Certificates, SERVER_ID};
use super::cipher::SERVER_PORT;
use super::hosts::{Pods, SERVER, use_cubic};
use super::sample::{Client, Mesh, Stage};

/// The address of the service, captured in the client's pod.
pub(crate) const SERVICE: &str = "10.98.0.1";
/// Where the client's proxy listens.
pub(crate) const CLIENT_PORT: u16 = 15001;

pub(crate) fn start(stage: &Stage<'_>) -> Result<Mesh, String> {
    let files = Certificates::make(stage.order.work)?;
    let client = stage.write("client.yaml", &client(&files))?;
    let server = stage.write("server.yaml", &server(&files))?;
    let program = stage.order.program.display().to_string();
    let command = |config: &str| {
        let options = [
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "error",
        ];
        let words = [program.as_str(), "--config-path", config]
            .into_iter()
            .chain(options);
        words.map(str::to_owned).collect()
    };
    start_pair(stage, command(&client), command(&server))
}

/// Starts the application and a proxy on each side of it; calls of the service are redirected.
pub(crate) fn start_pair(
    stage: &Stage<'_>,
    client: Vec<String>,
    server: Vec<String>,
) -> Result<Mesh, String> {
    let pods = stage.hosts.pods()?;
    let capture = format!(
        "table inet capture {{
  chain output {{ type nat hook output priority -100;
    ip daddr {SERVICE} tcp dport 80 redirect to :{CLIENT_PORT}; }}
}}
"
    );
    tacit_sys::nft::load(Some(&pods.client), &capture).map_err(|e| e.to_string())?;
    let Pods {
        client: client_pod,
        server: server_pod,
    } = pods;
    for netns in [&client_pod, &server_pod, &stage.hosts.a, &stage.hosts.b] {
        use_cubic(netns)?;
    }
    let accounts = &stage.accounts;
    let jobs = vec![
        stage.start_application("nginx", application::nginx(&stage.dir)?, &server_pod)?,
        stage
            .job("proxy-server", server, &server_pod, &accounts.server_proxy)
            .start()?,
        stage
            .job("proxy-client", client, &client_pod, &accounts.client_proxy)
            .start()?,
    ];
    Ok(Mesh {
        client: Client::Namespace(client_pod),
        url: format!("http://{SERVICE}/"),
        bulk: (SERVICE.to_owned(), application::BULK_PORT),
        jobs,
    })
}

fn client(files: &Certificates) -> String {
    let route = "cluster: to, timeout: 2s, retry_policy: {retry_on: \"5xx,reset,connect-failure\", \
                 num_retries: 2, per_try_timeout: 0.6s}";
    let listener = listener(CLIENT_PORT, route);
    let tls = context("UpstreamTlsContext", &tls(files, "client", SERVER_ID), "");
    format!(
        "static_resources:
  listeners:
  - {listener}
  clusters:
  - {}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    transport_socket: {tls}
",
        cluster(&SERVER.to_string(), SERVER_PORT)
    )
}

fn server(files: &Certificates) -> String {
    let mutual = ", require_client_certificate: true";
    let tls = context(
        "DownstreamTlsContext",
        &tls(files, "server", CLIENT_ID),
        mutual,
    );
    format!(
        "static_resources:
  listeners:
  - {}
      transport_socket: {tls}
  clusters:
  - {}
",
        listener(SERVER_PORT, "cluster: to, timeout: 0s"),
        cluster("127.0.0.1", application::HTTP_PORT)
    )
}

fn listener(port: u16, route: &str) -> String {
    let network = "type.googleapis.com/envoy.extensions.filters.network";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    format!(
        "address: {{socket_address: {{address: 0.0.0.0, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          \"@type\": {network}.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes: [{{match: {{prefix: /}}, route: {{{route}}}}}]
          http_filters: [{{name: router, typed_config: {{\"@type\": {router}}}}}]"
    )
}

fn cluster(address: &str, port: u16) -> String {
    let socket = format!("{{address: {address}, port_value: {port}}}");
    let endpoint = format!("{{endpoint: {{address: {{socket_address: {socket}}}}}}}");
    format!(
        "name: to
    type: STATIC
    connect_timeout: 1s
    load_assignment: {{cluster_name: to, endpoints: [{{lb_endpoints: [{endpoint}]}}]}}"
    )
}

fn context(kind: &str, tls: &str, more: &str) -> String {
    let sockets = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
    format!(
        "{{name: tls, typed_config: {{\"@type\": {sockets}.{kind}, \
         common_tls_context: {tls}{more}}}}}"
    )
}

fn tls(files: &Certificates, who: &str, peer: &str) -> String {
    let file = |name: String| format!("{{filename: {}}}", files.path(&name));
    let own = format!(
        "{{certificate_chain: {}, private_key: {}}}",
        file(format!("{who}.pem")),
        file(format!("{who}.key"))
    );
    let names = format!("[{{san_type: URI, matcher: {{exact: {peer:?}}}}}]");
    let ca = file("ca.pem".to_owned());
    format!(
        "{{alpn_protocols: [h2], tls_params: {{tls_minimum_protocol_version: TLSv1_3, \
         tls_maximum_protocol_version: TLSv1_3}}, tls_certificates: [{own}], \
         validation_context: {{trusted_ca: {ca}, match_typed_subject_alt_names: {names}}}}}"
    )
}
