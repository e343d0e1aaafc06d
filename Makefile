# Where these run (the Docker engine that is there, or the lab) is decided by tests/lab/choose; LAB=1 and LAB=0
# decide otherwise. ARGS is handed on: make up ARGS="--name two".
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up down test test-long lint lab labs-site clean build
mdbook = 0.5.4
kindmesh = $(or $(CARGO_TARGET_DIR),target)/release/kindmesh

help: ## Prints this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s%s\n", $$1, $$2}'
	@echo; echo 'On a machine without any Docker, root on Debian amd64 gets a lab of its own: tests/lab/README.md.'
	@echo 'LAB=1 uses the lab, LAB=0 never does. ARGS="…" is handed to kindmesh.'

up: build ## Builds kindmesh and runs `kindmesh up`
	@tests/lab/with $(kindmesh) up $(ARGS)

down: build ## Deletes what `up` made
	@tests/lab/with --as-is $(kindmesh) down $(ARGS)

test: ## Runs the tests, real clusters included
	@tests/lab/choose -q >/dev/null
	@tests/lab/compilers
	@tests/lab/browser
	@tests/lab/with tests/run

test-long: ## Runs the long tests
	@tests/lab/choose -q >/dev/null
	@tests/lab/compilers
	@tests/lab/with tests/run long

lint: ## Checks formatting, clippy, rustdoc, the scripts and the workflows
	@tests/lab/compilers
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo clippy --lib --no-default-features --locked -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --locked
	tests/lab/choose-test
	@linters=$$(tests/lab/linters) && export PATH="$$PATH:$$linters" && (set -x; actionlint) && (set -x; shellcheck -x -P SCRIPTDIR:SCRIPTDIR/.. .ci/run action.sh tests/action/{run,script-test} tests/offline/run tests/run tests/lab/{setup,engine,debs,node,mesh,closure,common,choose,choose-test,with,compilers,browser,linters,go/build})

lab: ## Makes the lab, without running anything in it
	@tests/lab/setup

# Its output refers to nothing outside of itself.
labs-site: ## Makes a site of plain HTML of the exercises, in target/labs-site (mdBook)
	@command -v mdbook >/dev/null || test -x target/tools/bin/mdbook || (tests/lab/compilers && set -x && cargo install --locked --root target/tools --no-default-features --features search mdbook@$(mdbook))
	PATH="$$PATH:$$PWD/target/tools/bin" mdbook build labs
	@! grep -rlE '(src|href)="(https?:)?//[^"]+\.(js|css|woff2?)"' target/labs-site || (echo 'error: the site needs files from elsewhere' >&2; exit 1)

clean: ## Deletes what was compiled; the lab stays (tests/lab/setup --remove)
	cargo clean

build:
	@tests/lab/choose -q >/dev/null
	@tests/lab/compilers
	cargo build --release --locked
