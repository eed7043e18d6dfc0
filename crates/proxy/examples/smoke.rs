//! A node or a run client by itself, to try the crate without the command line.
use std::path::PathBuf;
use tacit_proxy::run_protocol::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args[1].as_str() {
        "node" => {
            let dir = PathBuf::from(&args[2]);
            let settings = tacit_proxy::Settings {
                mesh: "default".try_into().unwrap(),
                node: args[3].as_str().try_into().unwrap(),
                zone: "z1".into(),
                region: "r1".into(),
                join_token: args.get(4).cloned(),
                host_addresses: vec![],
                administrator: 0,
                workers: 2,
                access_log: tacit_proxy::AccessLog::File(dir.join("access.log")),
                state_dir: dir.join("state"),
                run_socket: dir.join("node.sock"),
                metrics: tacit_proxy::METRICS,
                environment: std::env::vars_os().collect(),
                resolv_conf: "/etc/resolv.conf".into(),
            };
            if let Err(e) = tacit_proxy::run(settings) {
                eprintln!("node: {e}");
                std::process::exit(1)
            }
        }
        "run" => {
            let (ns, sa) = args[3].split_once('/').unwrap();
            let ports = match args[4].as_str() {
                "-" => vec![],
                p => p
                    .split(',')
                    .map(|p| {
                        let (n, p) = p.split_once(':').unwrap();
                        RunPort {
                            name: n.into(),
                            port: p.parse().unwrap(),
                        }
                    })
                    .collect(),
            };
            let request = RunRequest {
                namespace: ns.into(),
                service_account: sa.into(),
                name: None,
                labels: [("app".to_string(), sa.to_string())].into(),
                ports,
                zone: String::new(),
                region: String::new(),
                publish: vec![],
                command: args[5..].iter().map(Into::into).collect(),
                environment: std::env::vars_os().collect(),
            };
            let rt = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            match rt.block_on(tacit_proxy::run_client::run(
                args[2].as_ref(),
                &request,
                |n| eprintln!("note: {n}"),
            )) {
                Ok(status) => std::process::exit(status.exit_code()),
                Err(e) => {
                    eprintln!("run: {e}");
                    std::process::exit(125)
                }
            }
        }
        _ => {}
    }
}
