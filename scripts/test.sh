#!/usr/bin/env bash
# What continuous integration checks, in the order in which it fails fastest.
# Not in it yet: lints, and the tests of the crates that need namespaces; see docs/status.md.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$*"; "$@"; }

step cargo build --package tacit-cli
step target/debug/tacit check -f examples/hello
step cargo test --package tacit-api --package tacit-model --package tacit-http
