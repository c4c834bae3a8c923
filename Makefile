# Conveyor: `make demo` shows it, `make test` proves it, `make help` lists the rest.

SHELL := bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
CARGO := cargo
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo demo-on-servers build test fmt clippy unit power-cut power-cut-if-root test-clients doc interop counts deny bench bench-stores bench-projections bench-kafka fuzz sim sim-mutants

help: ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: ## A year of real orders through one node into read models (ARGS="--crash" kills the node half-way; STORES=postgres,redis on servers)
ifneq ($(STORES),)
	@$(MAKE) --no-print-directory demo-on-servers
else
	@.ci/packages build
	@echo "building conveyor (release; a few minutes the first time)"
	@start=$$SECONDS; $(CARGO) build --release --locked -p conveyor-cli --no-default-features && \
	  echo "built in $$((SECONDS - start)) s"
	@$(TARGET)/release/conveyor demo $(ARGS)
endif

# The projections in those stores that they are made for, as far as those are chosen; SQLite else.
comma := ,
chosen := $(subst $(comma), ,$(STORES))
store-of = $(if $(filter $(2),$(chosen)),$(foreach name,$(1),--store $(name)={$(2)}))
demo-on-servers:
	@.ci/packages test
	$(CARGO) build --release --locked -p conveyor-cli -p conveyor-test-servers
	@$(TARGET)/release/with_servers $(chosen) -- $(TARGET)/release/conveyor demo $(ARGS) \
	  $(call store-of,order_tracking wave_progress,mongodb) \
	  $(call store-of,inventory_movement,postgres) $(call store-of,atp,redis)

build: ## The release binary, target/release/conveyor
	@.ci/packages build
	$(CARGO) build --release --locked -p conveyor-cli

test: ## Everything that must pass: format, lints, unit, property, doc, system, interop and client tests
	@.ci/packages test
	@$(MAKE) --no-print-directory fmt clippy unit power-cut-if-root test-clients doc counts

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# A test that hangs fails: libtest says which one has been running for so long.
unit: interop
	$(CARGO) test --workspace --all-targets --locked --no-run
	timeout --kill-after 60 2400 $(CARGO) test --workspace --all-targets --locked

# The same command shape as `unit`: another choice of packages would build everything once more.
power-cut: ## Power cuts and full disks on a volume of its own (needs root, to mount)
	$(CARGO) test --workspace --all-targets --locked --no-run
	$(CARGO) test --workspace --locked --test durability --test standstill -- --ignored --test-threads 1

power-cut-if-root:
	@if [ "$$(id -u)" -eq 0 ]; then $(MAKE) --no-print-directory power-cut; \
	else echo "NOT RUN: power cuts need root to mount a volume; run: sudo make power-cut"; fi

test-clients: ## Kafka's clients in four languages against a broker (SUITES="java:group node", BOOTSTRAP=host:port, KAFKA=1)
	@.ci/packages clients
ifeq ($(BOOTSTRAP)$(KAFKA),)
	$(CARGO) test --workspace --all-targets --locked --no-run
	CARGO_TARGET_DIR=$(abspath $(TARGET)) tests/clients/run.sh $(SUITES)
else
	tests/clients/run.sh $(if $(BOOTSTRAP),--bootstrap $(BOOTSTRAP),--kafka) $(SUITES)
endif

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

sim: ## The simulated cluster, SEEDS=n of them (default 20000), from FIRST=n on; SEED=n replays one
	CONVEYOR_SIM_SEEDS=$(or $(SEEDS),20000) $(if $(FIRST),CONVEYOR_SIM_FIRST=$(FIRST)) $(if $(SEED),CONVEYOR_SIM_SEED=$(SEED)) \
	  $(CARGO) test --locked -p conveyor-sim --test simulation -- --nocapture

sim-mutants: ## Deliberate errors, each of which the simulated cluster must find (MUTANTS="name, name" for some)
	CONVEYOR_MUTANTS="$(MUTANTS)" $(CARGO) test --locked -p conveyor-sim --features mutants --test mutants -- --nocapture

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

bench-stores: ## Projections in each store beside the store's own client (ARGS="postgres --rounds 5")
	@.ci/packages test
	$(CARGO) run --release --locked -p conveyor-benches --bin stores -- $(ARGS)

bench-projections: ## Projections from end to end: latency, rebuild, millions of keys (ARGS="--parts keys")
	@.ci/packages test
	$(CARGO) build --release --locked -p conveyor-cli -p conveyor-test-servers
	CARGO_TARGET_DIR=$(abspath $(TARGET)) benches/projections.sh $(ARGS)

bench-kafka: ## Conveyor beside Apache Kafka, the same clients on both (ARGS="--help" tells more)
	@.ci/packages bench-kafka
	$(CARGO) build --release --locked -p conveyor-cli
	CARGO_TARGET_DIR=$(abspath $(TARGET)) benches/kafka/run.sh $(ARGS)

fuzz: ## Fuzz every parser for SECONDS each (default 60; needs cargo-fuzz)
	tests/fuzz/run.sh $(or $(SECONDS_EACH),60)
