# Short names for what people do; the work is in scripts/ and xtask/.
.PHONY: demo test test-full bench bench-engine lint setup

demo: setup        ## the main job: a real mesh on this machine, and a zone dies without a lost request
	@cargo build --quiet --package tacit-cli
	@target/debug/tacit demo $(DEMO_ARGS)

test: setup        ## everything that continuous integration checks
	@scripts/test.sh

test-full: setup   ## the same with large random counts
	@TACIT_CASES=1000000 PROPTEST_CASES=20000 scripts/test.sh

bench: setup       ## Tacit beside stock ztunnel, Envoy and haproxy, where they are found
	@cargo build --quiet --profile dist --package tacit-cli
	@cargo xtask bench

bench-engine: setup  ## compiling and deciding in a mesh of 1,000,000 workloads; needs 16 GB
	@cargo run --quiet --release --package xtask -- bench-engine

lint:
	@cargo fmt --all --check
	@cargo clippy --quiet --workspace --all-targets -- -D warnings
	@cargo xtask tidy

setup:
	@scripts/setup.sh
