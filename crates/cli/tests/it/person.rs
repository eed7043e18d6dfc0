//! `tacit run` by a person who is not root, on a mesh that root runs.

use std::process::Output;

use crate::installed::{Installed, User};
use crate::support::{Mesh, text};

const FILES: [(&str, &str); 1] = [(
    "mesh.yaml",
    "apiVersion: tacit.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec:
  subjects: [{uid: 1234, user: dev}]
---
apiVersion: tacit.dev/v1alpha1
kind: Workspace
metadata: {name: shop}
spec:
  home: shop-platform
  members: [{namespaces: [shop]}]
  grants:
  - {to: [{user: dev}], verbs: [Run]}
",
)];

/// Runs a script on the machine in which `$RUN` is `tacit run` as user 1234.
fn person(mesh: &Mesh, script: &str) -> Output {
    let preface = format!(
        "export PATH=/usr/sbin:/usr/bin:/sbin:/bin
         mkdir -p -m 777 /run/person; cd /run/person
         RUN='setpriv --reuid=1234 --regid=1234 --clear-groups -- {} run'
         ",
        mesh.machine.binary().display()
    );
    let script = preface + script;
    let mut command = mesh.machine.command("bash", &["-c", &script]);
    command.output().unwrap()
}

#[test]
fn a_program_gets_who_started_it() {
    let Some((_installed, mesh)) = roots_mesh() else {
        return;
    };
    let done = person(
        &mesh,
        "echo input | COLOUR=green $RUN --as shop/web -- sh -c '
             id -u; id -g; pwd; echo $COLOUR; cat; echo error >&2; grep CapBnd /proc/self/status
             touch mine; stat -c %u mine; exit 7'",
    );
    let expected = "1234\n1234\n/run/person\ngreen\ninput\nCapBnd:\t0000000000000000\n1234\n";
    assert_eq!(text(&done.stdout), expected, "{done:?}");
    assert_eq!(text(&done.stderr), "error\n");
    assert_eq!(done.status.code(), Some(7));
}

#[test]
fn signals_and_ends_go_both_ways() {
    let Some((_installed, mesh)) = roots_mesh() else {
        return;
    };
    // The signal, and how `tacit run` ends when the program does something about it or not.
    for (signal, code) in [("TERM", 3), ("INT", 4), ("HUP", 5)] {
        let script = format!(
            "$RUN --as shop/web -- bash -c 'trap \"exit 3\" TERM; trap \"exit 4\" INT
                 trap \"exit 5\" HUP; echo ready; while :; do sleep 0.05; done' > {signal} &
             until grep -q ready {signal}; do sleep 0.05; done
             kill -s {signal} $!; wait $!"
        );
        // A shell in the background ignores INT, and so would what it starts.
        let script = format!("set -m\n{script}");
        let done = person(&mesh, &script);
        assert_eq!(done.status.code(), Some(code), "{signal}: {done:?}");
    }
    let killed = person(&mesh, "$RUN --as shop/web -- sh -c 'kill -KILL $$'");
    assert_eq!(killed.status.code(), Some(128 + 9), "{killed:?}");
    let absent = person(&mesh, "$RUN --as shop/web -- no-such-program");
    assert_eq!(absent.status.code(), Some(127), "{absent:?}");
    assert!(
        text(&absent.stderr).contains("no-such-program"),
        "{absent:?}"
    );

    // Nobody is left to end a program whose `tacit run` is gone, so it ends, too.
    let orphan = person(
        &mesh,
        "$RUN --as shop/web -- sh -c 'echo $$ > orphan; exec sleep 333' &
         until [ -s orphan ]; do sleep 0.05; done
         pgrep -fx 'sleep 333' > /dev/null || exit 8
         kill -KILL $!; sleep 1
         ! pgrep -fx 'sleep 333'",
    );
    assert_eq!(orphan.status.code(), Some(0), "{orphan:?}");
}

#[test]
fn without_a_grant_it_says_which_is_missing() {
    let Some((_installed, mesh)) = roots_mesh() else {
        return;
    };
    let refused = person(&mesh, "$RUN --as bank/web -- true");
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let said = text(&refused.stderr);
    for word in ["uid 1234", "bank/web", "Run grant"] {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    let may = person(&mesh, "$RUN --as shop/web -- true");
    assert_eq!(may.status.code(), Some(0), "{may:?}");
}

/// A mesh that root runs; `None` when the tests do not run as root.
fn roots_mesh() -> Option<(Installed, Mesh)> {
    if !tacit_lab::is_root() {
        eprintln!("not shown: only root can run a mesh and be somebody else on it");
        return None;
    }
    // At a path that the person may reach.
    let installed = Installed::for_user(User::Own);
    let mesh = Mesh::up_with(&installed.path(), &FILES);
    Some((installed, mesh))
}
