//! What the tests of the binary share: a machine with a mesh on it.

use std::path::Path;
use std::process::Output;

use tacit_lab::{Machine, Running};

/// A machine on which a mesh is up.
pub(crate) struct Mesh {
    pub(crate) machine: Machine,
    pub(crate) up: Option<Running>,
    /// Of `up`, besides the directory.
    options: Vec<String>,
}

impl Mesh {
    /// `tacit up -f DIR` with these files in DIR, and its sockets answering.
    pub(crate) fn up(files: &[(&str, &str)]) -> Self {
        Self::up_with(binary(), files)
    }

    /// The same with the binary at another path.
    pub(crate) fn up_with(tacit: &Path, files: &[(&str, &str)]) -> Self {
        Self::up_on(Machine::start(tacit).unwrap(), files, Vec::new())
    }

    /// The same with further options, which may name files of the machine's directory.
    pub(crate) fn up_told(
        files: &[(&str, &str)],
        options: impl FnOnce(&Path) -> Vec<String>,
    ) -> Self {
        let machine = Machine::start(binary()).unwrap();
        let options = options(machine.directory());
        Self::up_on(machine, files, options)
    }

    /// The same on a machine that is there.
    pub(crate) fn up_on(machine: Machine, files: &[(&str, &str)], options: Vec<String>) -> Self {
        for (name, text) in files {
            machine.write(&format!("mesh/{name}"), text).unwrap();
        }
        std::fs::create_dir_all(machine.directory().join("mesh")).unwrap();
        let mut mesh = Self {
            machine,
            up: None,
            options,
        };
        mesh.up_again();
        mesh
    }

    /// Brings up a mesh that has been stopped.
    pub(crate) fn up_again(&mut self) {
        let mut up = self.machine.tacit(&["up", "-f", "mesh"]);
        up.args(&self.options);
        self.up = Some(self.machine.start_command(up).unwrap());
        let answers = || self.run(&["status"]).status.success() && self.node_answers();
        self.machine
            .wait_for("the mesh to answer", answers)
            .unwrap();
    }

    /// Runs `tacit` to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.machine.run(arguments).unwrap()
    }

    /// Starts `tacit run` with these arguments; it ends with the value.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut all = vec!["run"];
        all.extend(arguments);
        self.machine
            .start_command(self.machine.tacit(&all))
            .unwrap()
    }

    /// Runs a command as the workload of a service account and returns what it prints.
    pub(crate) fn call(&self, identity: &str, command: &[&str]) -> Output {
        let mut all = vec!["run", "--as", identity, "--"];
        all.extend(command);
        self.run(&all)
    }

    /// Waits until a URL answers to `curl` run as `shop/probe`.
    pub(crate) fn wait_for_url(&self, url: &str) {
        let answers = || {
            self.call("shop/probe", &["curl", "-sf", "-m", "3", url])
                .status
                .success()
        };
        self.machine.wait_for(url, answers).unwrap();
    }

    /// Writes a file of the mesh and waits until an object of it holds at every node.
    pub(crate) fn put(&self, file: &str, yaml: &str, (kind, name): (&str, &str)) {
        self.machine.write(&format!("mesh/{file}"), yaml).unwrap();
        let wait = [
            "wait",
            kind,
            name,
            "--for",
            "Programmed",
            "--timeout",
            "20s",
        ];
        let programmed = || self.run(&wait).status.success();
        self.machine.wait_for(name, programmed).unwrap();
    }

    /// What the node counts.
    pub(crate) fn metrics(&self) -> String {
        let url = "http://127.0.0.1:15020/metrics";
        let scraped = self.machine.command("curl", &["-s", url]).output().unwrap();
        text(&scraped.stdout)
    }

    fn node_answers(&self) -> bool {
        self.call("shop/probe", &["true"]).status.success()
    }
}

/// The binary under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tacit"))
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
