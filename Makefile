# Everything a person does here. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: run cluster test build lint fuzz bench mutations soak help

# Where `make run` keeps its orders; below it `make cluster`.
DATA ?= ./data
# The commit that reports name, marked if the tree has changes.
REVISION = $(shell git rev-parse --short=12 HEAD 2>/dev/null)$(shell test -z "$$(git status --porcelain 2>/dev/null)" || echo +changes)

run: build ## serve the embedded default with demo offers; prints the console, a token and lines to paste
	./bin/sluice serve -c configs/embedded.yaml --set data_dir=$(DATA) --demo $(ARGS)

cluster: build ## as root on Debian: Redis, RocketMQ, MariaDB shards, two gateways, two persisters and a lifecycle on this machine
	deploy/local/cluster $(DATA)/cluster $(ARGS)

test: ## every test, on real servers that it starts itself
	.ci/test

build: ## bin/sluice
	go build -ldflags "-X main.revision=$(REVISION)" -o bin/sluice ./cmd/sluice

lint: ## format, vet, staticcheck, and our own rules
	gofmt -l -w $$(git ls-files -co --exclude-standard -- '*.go')
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...
	go test -count=1 ./internal/style

fuzz: ## one fuzz target for as long as it takes: make fuzz PKG=./engine/order FUZZ=FuzzDecodeMessage
	go test $(PKG) -run '^$$' -fuzz '^$(FUZZ)$$'

bench: build ## the figures of docs/benchmarks.md, half an hour; or one of them: make bench ARGS="flash --orders 500000"
ifdef ARGS
	./bin/sluice bench $(ARGS)
else
	./bin/sluice bench flash --orders 600000 --connections 256,64 --limit 0,1 --rounds 3 --rate-share 0.5
	./bin/sluice bench flash --orders 1000000 --duration 12s --generator wrk --connections 256,64 --limit 0,1 --rounds 3
	./bin/sluice bench soldout --orders 1500000 --connections 256,64 --rounds 3
	./bin/sluice bench soldout --orders 1500000 --duration 10s --generator wrk --connections 256,64 --rounds 3
	./bin/sluice bench flash --minute
	./bin/sluice bench retry --orders 200000
	go test ./cmd/sluice -run '^$$' -bench BenchmarkStart -benchtime 5x
	go test ./cmd/sluice -run '^$$' -bench BenchmarkRebuild -benchtime 5x
	go test ./engine/stock/memstock -run '^$$' -bench IdemMemory -benchtime 1x
endif

mutations: ## every planted bug: each must be noticed by its test, a quarter of an hour (make test plants a quarter of them)
	mutations/run

soak: ## crashes and faults at length: 500 random kills, then every fault of one process and of a cluster on real servers, and upgrades, ten times
	SLUICE_SOAK=500 go test ./cmd/sluice -run '^TestCrash' -count=1 -timeout 6h -v
	servers=$$(mktemp -d) && trap "deploy/local/down $$servers" EXIT && deploy/local/up $$servers mariadb redis rocketmq && set -a && . $$servers/env && \
		SLUICE_SOAK=10 go test ./cmd/sluice -run '^Test(Faults|ClusterFaults|Upgrade)$$' -parallel 1 -count=1 -timeout 6h -v

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | awk -F '\t' '{ printf "  make %-8s %s\n", $$1, $$2 }'
