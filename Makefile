# tests/lab/choose decides where these run: on an existing Docker engine, or in the test lab. LAB=1 and LAB=0
# override it. ARGS is passed on: make up ARGS="--name two".
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up down test test-long lint lab labs-site clean build
mdbook = 0.5.4
kindmesh = $(or $(CARGO_TARGET_DIR),target)/release/kindmesh

help: ## Print this help
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s%s\n", $$1, $$2}'
	@echo; echo 'Without any Docker, root on Debian amd64 gets a test lab: tests/lab/README.md.'
	@echo 'LAB=1 uses the test lab, LAB=0 never does. ARGS="…" is passed to kindmesh.'

up: build ## Build kindmesh and run `kindmesh up`
	@tests/lab/with $(kindmesh) up $(ARGS)

down: build ## Delete what `up` created
	@tests/lab/with --as-is $(kindmesh) down $(ARGS)

test: ## Run the tests, including those on real clusters
	@tests/lab/choose -q >/dev/null
	@tests/lab/compilers
	@tests/lab/browser
	@tests/lab/with tests/run

test-long: ## Run the long tests
	@tests/lab/choose -q >/dev/null
	@tests/lab/compilers
	@tests/lab/with --long tests/run long

lint: ## Check formatting, clippy, rustdoc, the scripts and the workflows
	@tests/lab/compilers
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo clippy --lib --no-default-features --locked -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --locked
	tests/lab/choose-test
	@linters=$$(tests/lab/linters) && export PATH="$$PATH:$$linters" && (set -x; actionlint) && (set -x; shellcheck -x -P SCRIPTDIR:SCRIPTDIR/.. .ci/run action.sh tests/action/{run,script-test} tests/offline/run tests/run tests/lab/{setup,engine,debs,node,mesh,long,closure,common,choose,choose-test,with,compilers,browser,linters,go/build})

lab: ## Build the test lab, without running anything in it
	@tests/lab/setup

# The site refers to no external files.
labs-site: ## Build a plain HTML site of the exercises, in target/labs-site (mdBook)
	@command -v mdbook >/dev/null || test -x target/tools/bin/mdbook || (tests/lab/compilers && set -x && cargo install --locked --root target/tools --no-default-features --features search mdbook@$(mdbook))
	PATH="$$PATH:$$PWD/target/tools/bin" mdbook build labs
	@! grep -rlE '(src|href)="(https?:)?//[^"]+\.(js|css|woff2?)"' target/labs-site || (echo 'error: the site refers to external files' >&2; exit 1)

clean: ## Delete compiled files; the test lab stays (tests/lab/setup --remove)
	cargo clean

build:
	@tests/lab/choose -q >/dev/null
	@tests/lab/compilers
	cargo build --release --locked
