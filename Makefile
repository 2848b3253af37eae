# `make run` and `make test` are all that a fresh machine with a Rust toolchain needs.

CARGO   ?= cargo
BIN     := $(or $(CARGO_TARGET_DIR),target)/release/cistage
# Where the real data lie, for check-real.
DATA    ?= ../shared/data

.DEFAULT_GOAL := help
.PHONY: help build gpu nccl mpi run test kill-test test-cluster check-gpu check-mpi bench-gpu torture fuzz image check-container lint check-real check-standards check-tensorboard check-pages check-remote check-editor pictures book bench bench-data bench-train bench-mpi bench-orchestrators schema clean-cache

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the program, in target/release/cistage
	$(CARGO) build --release --locked

gpu: ## the same for NVIDIA GPUs, too: needs the CUDA toolkit (docs/gpu.md)
	$(CARGO) build --release --locked --features cuda

nccl: ## the same for trainings on several GPUs: needs the CUDA toolkit and NCCL (docs/gpu.md)
	$(CARGO) build --release --locked --features nccl

mpi: ## the same with MPI, for trainings on several processes: needs mpicc and libclang (docs/mpi.md)
	$(CARGO) build --release --locked --features mpi

run: build ## the flagship pipeline on made-up rows: no data needed, about three minutes on two cores
	$(BIN) run pipelines/dream2022.yaml --profile demo

test: ## all tests; those on real data say so where the data are absent
	$(CARGO) test --release --locked

check-gpu: ## what a GPU computes, against the processor and against transformers; needs a GPU and the CUDA toolkit
	$(CARGO) test --release --locked --features cuda --lib parity -- --nocapture

check-mpi: ## trainings on 2 and 4 ranks: digests, curves, killed ranks, with figures; needs mpirun, mpicc and libclang
	$(CARGO) test --release --locked --features mpi --test it -- ranks:: --nocapture --test-threads 1
	$(CARGO) bench --locked --features mpi --bench all_reduce --no-run

kill-test: ## one training, killed and interrupted at random moments, against the undisturbed one; some ten minutes
	$(CARGO) test --release --locked --test it -- --ignored --nocapture kill::

# Names of parts and more by TORTURE="--part power,crowd"; root, strace and mkfs.xfs let it try all of them.
torture: build ## kills, power cuts, failing disks, damage and crowds against the cache; some twenty minutes
	python3 tests/torture/run.py --bin $(BIN) $(TORTURE)

# Seconds for each target, and which of them; findings lie in fuzz/artifacts, and go with their target's name to cargo fuzz.
FUZZ_SECONDS ?= 120
FUZZ_TARGETS ?= pipeline record tsv canonical shell
CARGO_FUZZ   ?= target/tools/bin/cargo-fuzz

target/tools/bin/cargo-fuzz:
	CARGO_TARGET_DIR=target/tools/build $(CARGO) install -q --locked --root target/tools cargo-fuzz

# Coverage needs a flag of the compiler that is not stable. Sanitizers look for faults that Rust without `unsafe` does not have.
fuzz: $(CARGO_FUZZ) ## random bytes against what reads pipelines, records, tables and scripts; some ten minutes and a long build
	@for target in $(FUZZ_TARGETS); do mkdir -p fuzz/corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 $(CARGO_FUZZ) run --sanitizer none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 || exit 1; done

# Part of it by CLUSTER="--part failures", genuine rows by CLUSTER="--data ROWS.tsv.gz".
test-cluster: build ## stages on a real Slurm of virtual nodes: failures of every kind, 200 stages; needs slurm-wlm and munge
	python3 tests/cluster/check.py --bin $(BIN) $(CLUSTER)

# podman, buildah or docker.
BUILDER ?= $(or $(notdir $(firstword $(wildcard /usr/bin/podman /usr/bin/buildah /usr/bin/docker))),podman)

image: ## the program as a container image (docs/containers.md); needs podman, buildah or docker
	$(BUILDER) build -t cistage -f Containerfile $(IMAGE) .

check-container: build ## the image as the program of a real Slurm: the bytes of a run without it; needs buildah, slurm-wlm and munge
	python3 tests/cluster/container.py --bin $(BIN) $(CONTAINER)

lint: ## formatting, clippy, licences and sources of the dependencies
	$(CARGO) fmt --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings
	$(CARGO) deny check bans licenses sources

check-real: build ## the flagship pipeline on genuine rows in $(DATA)
	@test -e "$(DATA)/dream_train_rows.tsv.gz" || { echo "no $(DATA)/dream_train_rows.tsv.gz: say where with DATA=DIR" >&2; exit 2; }
	$(BIN) run pipelines/dream2022.yaml --profile sample --set data=$(DATA)/dream_train_rows.tsv.gz
	$(BIN) run pipelines/dream2022.yaml --profile sample --set data=$(DATA)/native_gpra_rows.tsv.gz

# Another Python with torch and transformers may be named by TORCH, the script that trains with them by TORCH_PEER.
TORCH      ?= target/torch/bin/python
TORCH_PEER ?= ../shared/peers/bench_torch_bert.py

target/torch/bin/python:
	python3 -m venv target/torch
	target/torch/bin/pip -q install torch transformers safetensors numpy

bench-train: $(TORCH) ## training and prediction beside PyTorch, f32 and bf16; a quarter of an hour, on a quiet machine
	@test -e "$(TORCH_PEER)" || { echo "no $(TORCH_PEER): say where with TORCH_PEER=FILE" >&2; exit 2; }
	TORCH=$(abspath $(TORCH)) python3 benches/train.py --peer $(TORCH_PEER) $(BENCH)

bench-gpu: ## training and prediction on a GPU beside PyTorch; $(TORCH) has to see the GPU, too
	$(CARGO) bench --locked --features cuda --bench train --no-run
	$(TORCH) benches/gpu.py "$$(ls -t $(dir $(BIN))deps/train-* | grep -v '[.]d$$' | head -n 1)" $(BENCH)

bench-orchestrators: build ## whole runs of stages that do nothing, against other tools where they are installed
	python3 benches/orchestrators.py --bin $(BIN)

bench-mpi: ## the sum of gradients of three sizes on 2 ranks, and on 4
	$(CARGO) bench --locked --features mpi --bench all_reduce --no-run
	for n in 2 4; do mpirun --oversubscribe --bind-to none -n $$n "$$(ls -t $(dir $(BIN))deps/all_reduce-* | grep -v '[.]d$$' | head -n 1)"; done

bench: ## the hot paths
	$(CARGO) bench --locked

# Another Python with polars, pandas, duckdb and pyarrow, and another b3sum, may be named by PEERS and B3SUM.
PEERS ?= target/peers/bin/python
B3SUM ?= target/tools/bin/b3sum

target/peers/bin/python:
	python3 -m venv target/peers
	target/peers/bin/pip -q install polars pandas pyarrow duckdb

target/tools/bin/b3sum:
	CARGO_TARGET_DIR=target/tools/build $(CARGO) install -q --locked --root target/tools b3sum

bench-data: build $(PEERS) $(B3SUM) ## the data stages on 6.7 million rows, beside polars, pandas, gzip, tokenizers and b3sum
	PEERS=$(abspath $(PEERS)) B3SUM=$(abspath $(B3SUM)) python3 benches/data.py $(BENCH)

# Another Python with prov, roc-validator, in-toto-attestation, securesystemslib and cryptography may be named by STANDARDS.
STANDARDS ?= target/standards/bin/python

target/standards/bin/python:
	python3 -m venv target/standards
	target/standards/bin/pip -q install prov roc-validator in-toto-attestation securesystemslib cryptography

check-standards: build $(STANDARDS) ## exported provenance and signatures, read by the tools that others use
	$(STANDARDS) tests/standards/check.py --bin $(BIN)

# Another Python with tensorboard may be named by TENSORBOARD.
TENSORBOARD ?= target/tensorboard/bin/python

target/tensorboard/bin/python:
	python3 -m venv target/tensorboard
	target/tensorboard/bin/pip -q install tensorboard setuptools

check-tensorboard: build $(TENSORBOARD) ## curves of a training, read by TensorBoard
	$(TENSORBOARD) tests/standards/curves.py --bin $(BIN)

# A Python with playwright and a Chromium may be named by BROWSER and CHROMIUM; pictures of the pages go to SHOTS where it is given.
BROWSER  ?= target/browser/bin/python
CHROMIUM ?= chromium

target/browser/bin/python:
	python3 -m venv target/browser
	target/browser/bin/pip install -q playwright

check-pages: build $(BROWSER) ## every page in a real browser: errors, hostile texts, narrow windows, a live run; needs a Chromium
	$(BROWSER) tests/browser/check.py --bin $(BIN) --chromium "$$(command -v $(CHROMIUM))" $(if $(SHOTS),--shots $(SHOTS))

# Another Python with moto[s3], flask, flask-cors, boto3 and awscli may be named by REMOTE; s3s-fs and Azurite by S3S_FS and AZURITE.
REMOTE  ?= target/remote/bin/python
S3S_FS  ?= target/tools/bin/s3s-fs
AZURITE ?= target/azurite/node_modules/.bin/azurite-blob

target/remote/bin/python:
	python3 -m venv target/remote
	target/remote/bin/pip -q install 'moto[s3]' flask flask-cors awscli boto3

# Later ones want a newer compiler.
target/tools/bin/s3s-fs:
	CARGO_TARGET_DIR=target/tools/build $(CARGO) install -q --locked --root target/tools --version 0.14.1 --features binary s3s-fs

target/azurite/node_modules/.bin/azurite-blob:
	npm install --silent --no-fund --no-audit --prefix target/azurite azurite

check-remote: build $(REMOTE) $(S3S_FS) $(AZURITE) ## shared caches on real servers: shared, tampered with, broken; with figures
	$(REMOTE) tests/cluster/remote.py --bin $(BIN) --s3s-fs $(S3S_FS) --azurite $(AZURITE)

# The YAML language server may be named by YAML_SERVER.
YAML_SERVER ?= target/editor/node_modules/.bin/yaml-language-server

target/editor/node_modules/.bin/yaml-language-server:
	npm install --silent --no-fund --no-audit --prefix target/editor yaml-language-server

pictures: build ## the terminal pictures in docs/, drawn anew; needs tmux
	python3 tests/pictures/terminal.py --bin $(BIN) --out docs/pictures

check-editor: $(YAML_SERVER) ## what editors say of pipeline files: hover texts, completions, complaints; needs Node.js
	python3 tests/editor/check.py --server $(YAML_SERVER)

MDBOOK ?= target/tools/bin/mdbook

target/tools/bin/mdbook:
	CARGO_TARGET_DIR=target/tools/build $(CARGO) install -q --locked --root target/tools mdbook

book: $(MDBOOK) ## the pages of docs/ as a site to read and search, in target/book
	$(MDBOOK) build docs --dest-dir $(abspath target/book)

schema: ## pipelines/schema.json, which editors read, and the stages in README.md and docs/
	CISTAGE_UPDATE=1 $(CARGO) test --release --locked is_current

clean-cache: ## throws the default cache away
	find cache -mindepth 1 -maxdepth 1 ! -name README.md ! -name .gitignore -exec rm -rf {} +
