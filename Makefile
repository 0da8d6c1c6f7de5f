.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup demo demo-docker build test quick lint bench simulate simulate-scale scaling-report fuzz fire api-check monitoring-pictures web-pictures dashboards-check static images deny sbom reproducible

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

demo: ## from a bare machine to a rendered animation and its video
	@samples/demo.sh

demo-docker: ## a job in containers, from zero to some and back, on this machine's Docker engine
	@samples/demo-docker.sh

setup: ## everything that the tests need
	@samples/setup.sh test

build:
	cargo build --workspace --bins

quick: ## the rules alone, in seconds
	cargo test -p framewake-core -p framewake-proto -p framewake-simulate

test: setup ## everything that tests need, then all tests
	@samples/test.sh

lint: ## format, clippy, direction of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@samples/directions.sh

fire: setup ## a farm under random faults for FIRE_MINUTES=30, with FIRE_FRAMES=20000 at least; FIRE_SEED does a run again
	cargo build --workspace --bins --quiet
	./target/debug/fire

bench: setup ## figures beside yardsticks of the same run (PARTS="submit chunks" for some)
	cargo build --release --workspace --bins
	./target/release/bench $(PARTS)

monitoring-pictures: setup ## a farm at work for two minutes, as the dashboards show it, into docs/monitoring/
	cargo build --workspace --bins --quiet
	./target/debug/pictures

web-pictures: setup ## each web page of a farm at work, light and dark, into docs/web/
	cargo build --workspace --bins --quiet
	./target/debug/screens

dashboards-check: ## the dashboards held against Grafana's own types (fetches them with npm)
	@tests/dashboards/check.sh

simulate: ## the rules in small hostile worlds (SEEDS=n new ones, FROM=n for the same again)
	cargo run --release --quiet -p framewake-simulate -- $(if $(SEEDS),--seeds $(SEEDS)) $(if $(FROM),--from $(FROM))

simulate-scale: ## 10,000 GPUs, 1,000 jobs, 10 million frames, with everything that goes wrong
	cargo run --release --quiet -p framewake-simulate -- scale

scaling-report: ## policies of scaling compared over thirty seeds, into docs/scaling.md, its picture and table
	cargo run --release --quiet -p framewake-simulate -- scaling --into docs

fuzz: ## hostile bytes for every part that reads some (MINUTES=60 over all targets)
	@tests/fuzz/run.sh $(TARGETS)

api-check: setup ## a running scheduler held against its OpenAPI (EXAMPLES=20, SEED=1)
	@tests/fuzz/api.sh

deny: setup ## licenses, sources and bans of dependencies, and advisories where their database can be had
	@samples/deny.sh

sbom: ## bills of materials (CycloneDX) of what is in dist/, and of images of ours in a Docker engine
	@samples/sbom.sh

reproducible: ## what is handed out, built twice in two places and compared, byte by byte (REPRODUCE=all: the scheduler too)
	@samples/reproducible.sh

static: ## the worker as one static file, and what else images carry, into dist/ (WITH=all: the scheduler too)
	@samples/static.sh $(WITH)

images: setup ## the images of dockerfiles/, built, measured and run: by DOCKER_HOST, or an engine of its own
	cargo build --workspace --bins --quiet
	@samples/static.sh
	FRAMEWAKE_IMAGES=1 cargo nextest run --workspace --locked --test images --no-capture
