# make run     build and start a server on ./data
# make test    everything that must be green: source checks, Go tests, end-to-end suites
# make bench   the load program; URI=mongodb://… for another server, BENCH="--rows ping --duration 5s" for its flags
# make lint    gofmt, vet, the house rules (test/lint), staticcheck
# make check   lint, and the Go tests with the race detector and invariant checks

SHELL   := /bin/bash
GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
SUDO    := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
PYTHON  ?= /usr/bin/python3
# Google's storage over HTTP only: gRPC's xDS modules would be 13 MB of the binary.
TAGS    := disable_grpc_modules
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The end-to-end suites begin with the program they drive.
E2E := $(if $(wildcard cmd/cairn/main.go),true,false)

.PHONY: all run build test test-deps test-stores e2e bench lint check docs clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags "$(LDFLAGS)" -o bin/cairn ./cmd/cairn

run: build
	@echo "connect with: mongosh mongodb://127.0.0.1:27017 (Ctrl-C stops the server; its data stays in ./data)"
	@exec bin/cairn serve --dbpath ./data

test: test-deps
	$(GO) run ./test/runner -e2e=$(E2E)

# Only the end-to-end suites; E2E_URI=mongodb://… runs the scripts against another server.
e2e: test-deps
	CAIRN_E2E_URI=$(E2E_URI) $(GO) run ./test/runner -unit=false

# What the end-to-end suites need besides Go: mongosh and the Node driver (pinned by
# package-lock.json) and Debian's pymongo; and what the backup repository's suite needs, Azure's emulator.
ifeq ($(E2E),true)
test-deps: build test/e2e/node_modules/.package-lock.json test/s3/azurite/node_modules/.package-lock.json
	@$(PYTHON) -c 'import pymongo' 2>/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq python3-pymongo; }
else
test-deps:
endif

test/e2e/node_modules/.package-lock.json: test/e2e/package-lock.json
	cd test/e2e && npm ci --no-audit --no-fund
	@touch $@

# Only the backup repository's suite, against servers of S3, Google and Azure; the last is 360 MB of npm packages.
test-stores: test/s3/azurite/node_modules/.package-lock.json
	$(GO) test -C test/s3 -mod=mod -count=1 ./...

test/s3/azurite/node_modules/.package-lock.json: test/s3/azurite/package-lock.json
	cd test/s3/azurite && npm ci --no-audit --no-fund
	@touch $@

# Without URI the program starts bin/cairn on a temporary directory.
ifdef URI
bench:
	$(GO) run ./test/bench --uri '$(URI)' $(BENCH)
else
bench: build
	$(GO) run ./test/bench --start 'bin/cairn serve --quiet --port {port} --dbpath {dir}' $(BENCH)
endif

lint:
	@bad=$$(gofmt -l . | grep -v node_modules); [ -z "$$bad" ] || { echo "gofmt -w $$bad"; exit 1; }
	$(GO) vet ./... && $(GO) vet -tags e2e ./test/e2e/
	$(GO) test -count=1 ./test/lint/
	$(GO) run $(STATICCHECK) ./...

check: lint
	$(GO) run ./test/runner -e2e=false -race -tags invariants

docs:
	$(GO) run ./test/compat > docs/COMPATIBILITY.md.new && mv docs/COMPATIBILITY.md.new docs/COMPATIBILITY.md

clean:
	rm -rf bin test/e2e/node_modules test/s3/azurite/node_modules
