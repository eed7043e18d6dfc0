#!/usr/bin/env bash
# What continuous integration checks, in the order in which it fails fastest.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/sbin"
step() {
  printf '\n== %s\n' "$*"
  local start=$SECONDS
  "$@"
  printf '== %s s\n' "$((SECONDS - start))"
}

step cargo fmt --all --check
step cargo xtask tidy
step cargo xtask gen --check
step cargo build --quiet --package tacit-cli
step target/debug/tacit check -f examples/hello
step cargo clippy --quiet --workspace --all-targets -- -D warnings
step cargo test --quiet --workspace
# The five acts assert every promised count; each zero has a control run beside it.
step target/debug/tacit demo --once --report target/demo.json
# What must hold when policies change, and when the control plane is away; about two minutes.
step target/debug/tacit demo --once --act changes,outage --report target/lifecycle.json
