#!/usr/bin/env bash
# Checks for what Tacit and its tests need, and installs missing Debian packages where it may.
set -euo pipefail

# command:package:why
needs=(
  "cc:gcc:the C part of the TLS library"
  "ip:iproute2:network namespaces and links"
  "nft:nftables:capture of traffic"
  "tcpdump:tcpdump:proof on the wire in the demo"
  "nginx:nginx-light:a stock application in the demo"
  "curl:curl:a stock client in the demo"
  "python3:python3:a stock application in the tests"
)

command -v cargo >/dev/null || {
  echo "setup: cargo is missing. Install Rust (the version is in rust-toolchain.toml) and try again." >&2
  exit 1
}

missing=()
for need in "${needs[@]}"; do
  IFS=: read -r command package why <<<"$need"
  PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null && continue
  echo "setup: $command is missing (Debian package $package): needed for $why" >&2
  missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "setup: installing ${missing[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "setup: please install them:  sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
