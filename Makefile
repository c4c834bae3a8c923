# Conveyor: `make demo` shows it, `make test` proves it, `make help` lists the rest.

SHELL := bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
CARGO := cargo
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo build test fmt clippy unit power-cut power-cut-if-root doc interop counts deny bench fuzz

help: ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: ## A year of real orders through one node into read models (ARGS="--crash" kills the node half-way)
	@.ci/packages build
	@echo "building conveyor (release; a few minutes the first time)"
	@start=$$SECONDS; $(CARGO) build --release --locked -p conveyor-cli && \
	  echo "built in $$((SECONDS - start)) s"
	@$(TARGET)/release/conveyor demo $(ARGS)

build: ## The release binary, target/release/conveyor
	@.ci/packages build
	$(CARGO) build --release --locked -p conveyor-cli

test: ## Everything that must pass: format, lints, unit, property, doc, system and interop tests
	@.ci/packages test
	@$(MAKE) --no-print-directory fmt clippy unit power-cut-if-root doc counts

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

unit: interop
	$(CARGO) test --workspace --all-targets --locked

# The same command shape as `unit`: another choice of packages would build everything once more.
power-cut: ## Power cuts and full disks on a volume of its own (needs root, to mount)
	$(CARGO) test --workspace --all-targets --locked --no-run
	$(CARGO) test --workspace --locked --test durability -- --ignored --test-threads 1

power-cut-if-root:
	@if [ "$$(id -u)" -eq 0 ]; then $(MAKE) --no-print-directory power-cut; \
	else echo "NOT RUN: power cuts need root to mount a volume; run: sudo make power-cut"; fi

doc:
	$(CARGO) test --workspace --doc --locked
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --locked

interop: tests/interop/target/classpath.txt

# Apache Kafka's own jars, for the tests that read our files with Kafka's code and the reverse.
tests/interop/target/classpath.txt: tests/interop/pom.xml
	@.ci/packages test
	@mkdir -p $(dir $@)
	mvn -q -B -f $< dependency:build-classpath -Dmdep.outputFile=target/classpath.txt
	@touch $@

counts: ## Instruction counts of append, fetch and decode against the committed figures
	@.ci/packages bench
	benches/counts.sh

deny: ## Licences, sources and banned crates (needs cargo-deny)
	$(CARGO) deny --all-features check bans licenses sources

bench: ## The engine beside the raw limits of this machine
	@.ci/packages bench
	$(CARGO) run --release --locked -p conveyor-benches --bin engine
	$(CARGO) run --release --locked -p conveyor-benches --bin grpc -- compare
	$(CARGO) bench --locked -p conveyor-benches

fuzz: ## Fuzz every parser for SECONDS each (default 60; needs cargo-fuzz)
	tests/fuzz/run.sh $(or $(SECONDS_EACH),60)
