//! What answers: stock nginx with 12 bytes, and an iperf3 server.

use std::fs;
use std::path::Path;

/// Where nginx listens.
pub(crate) const HTTP_PORT: u16 = 8080;
/// Where iperf3 listens.
pub(crate) const BULK_PORT: u16 = 5201;

/// The command of an nginx that keeps its files in `dir`.
///
/// One process without a master: it must also start where it may not become another user.
pub(crate) fn nginx(dir: &Path) -> Result<Vec<String>, String> {
    let files = dir.join("nginx");
    fs::create_dir_all(&files).map_err(|e| format!("{}: {e}", files.display()))?;
    let config = files.join("nginx.conf");
    let at = files.display();
    let text = format!(
        "user root;
daemon off;
master_process off;
pid {at}/pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {at}/body;
  proxy_temp_path {at}/proxy;
  fastcgi_temp_path {at}/fastcgi;
  uwsgi_temp_path {at}/uwsgi;
  scgi_temp_path {at}/scgi;
  server {{ listen {HTTP_PORT}; location / {{ return 200 \"hello world\\n\"; }} }}
}}
"
    );
    fs::write(&config, text).map_err(|e| format!("{}: {e}", config.display()))?;
    Ok(
        ["nginx", "-e", "stderr", "-c", &config.display().to_string()]
            .map(str::to_owned)
            .into(),
    )
}

/// The command of an iperf3 server.
pub(crate) fn iperf3() -> Vec<String> {
    ["iperf3", "--server", "--port", &BULK_PORT.to_string()]
        .map(str::to_owned)
        .into()
}
