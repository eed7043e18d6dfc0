//! Two haproxies with mutual TLS and HTTP/2 between them; the client's retries and times out.

use super::application;
use super::certificates::Certificates;
use super::cipher::SERVER_PORT;
use super::envoy::{CLIENT_PORT, start_pair};
use super::hosts::SERVER;
use super::sample::{Mesh, Stage};

pub(crate) fn start(stage: &Stage<'_>) -> Result<Mesh, String> {
    let files = Certificates::make(stage.order.work)?;
    let (ca, own) = (files.path("ca.pem"), files.path("client.both"));
    let tls = format!("ssl verify required ca-file {ca} crt {own} alpn h2");
    let client = config(
        "retries 2\n  retry-on all-retryable-errors\n  timeout server 600ms",
        &format!("bind :{CLIENT_PORT}"),
        &format!("server to {SERVER}:{SERVER_PORT} {tls}"),
    );
    let own = files.path("server.both");
    let server = config(
        "timeout server 10s",
        &format!("bind :{SERVER_PORT} ssl verify required ca-file {ca} crt {own} alpn h2"),
        &format!("server to 127.0.0.1:{}", application::HTTP_PORT),
    );
    let client = stage.write("client.cfg", &client)?;
    let server = stage.write("server.cfg", &server)?;
    let program = stage.order.program.display().to_string();
    let command = |config: &str| {
        [&program, "-db", "-q", "-f", config]
            .map(str::to_owned)
            .into()
    };
    start_pair(stage, command(&client), command(&server))
}

/// The suite is the one that Envoy chooses; haproxy would take the longer key.
fn config(defaults: &str, bind: &str, server: &str) -> String {
    let suite = "TLS_AES_128_GCM_SHA256";
    format!(
        "global
  nbthread 1
  maxconn 4096
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
  ssl-default-bind-ciphersuites {suite}
  ssl-default-server-ciphersuites {suite}
defaults
  mode http
  http-reuse always
  timeout connect 1s
  timeout client 10s
  {defaults}
frontend in
  {bind}
  default_backend out
backend out
  {server}
"
    )
}
