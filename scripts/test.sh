#!/usr/bin/env bash
# Everything that continuous integration checks, in the order in which it fails fastest.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$*"; "$@"; }

step cargo fmt --all --check
step cargo xtask tidy
step cargo xtask gen --check
step cargo clippy --quiet --workspace --all-targets -- -D warnings
step cargo test --workspace --no-fail-fast
step target/debug/tacit demo --once --report target/demo-report.json
