# Every target sets up what it needs. Variables: PROFILE=mini|cifar10|qm9|paper  LIMIT=n  METHODS=a,b  DEVICES=cpu:2  DATA=folder
PROFILE ?= mini
LIMIT   ?=
METHODS ?=
DEVICES ?=
DATA    ?=
BENCH   ?= quick
FULL    ?=
SCENARIO ?=

CARGO   := cargo
DFLOW   := target/release/dflow
OPTIONS := $(if $(LIMIT),--limit $(LIMIT)) $(if $(DEVICES),--devices '$(DEVICES)') $(if $(DATA),--data $(DATA))
# A table is printed also where some samples failed (exit code 3): it says how many.
RUN      = $(DFLOW) run $(1) $(OPTIONS) $(if $(METHODS),--methods '$(METHODS)') || [ $$? -eq 3 ]

.DEFAULT_GOAL := help
.PHONY: help build test test-cluster lint schema table1 table2 table3 table4 table5 table6 table7 table8 table9 figure2 figure3 figure4 figure5 figure6 figure7 figure8 figure9 bench bench-workers parity train-mini check-cuda clean-runs

help: ## Show this list
	@grep -hE '^[a-z0-9% -]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([^:]*):.*## /\1\t/' | awk -F'\t' '{printf "  %-22s %s\n", $$1, $$2}'

build: ## Build the program
	@$(CARGO) build --release --locked --bin dflow

table1: build ## Table 1: image restoration (the main job); continues where it stopped
	$(call RUN,pipelines/table1-$(PROFILE).yaml)
	@$(DFLOW) table 1 reports/table1-$(PROFILE)

table9: build ## Table 9: denoising
	$(call RUN,pipelines/table9-$(PROFILE).yaml)
	@$(DFLOW) table 9 reports/table9-$(PROFILE)

table6: build ## Table 6: the settings, as resolved and as printed
	@$(DFLOW) table 6 pipelines/table1-$(PROFILE).yaml

table4 table5 table8: build ## Tables 4, 5, 8: molecules of a wanted property (one run; PROFILE=mini|qm9)
	$(call RUN,pipelines/table4-$(PROFILE).yaml)
	@$(DFLOW) table $(@:table%=%) reports/table4-$(PROFILE)

table7: build ## Table 7: unconditional molecules by solver (PROFILE=mini|qm9)
	$(call RUN,pipelines/table7-$(PROFILE).yaml)
	@$(DFLOW) table 7 reports/table7-$(PROFILE)

# A figure is drawn also where some samples failed: they stay grey.
FIGURE   = $(DFLOW) figure $(1) reports/figure$(1)-$(PROFILE) $(if $(DATA),--data $(DATA))

figure2: build ## Figure 2: x(1) along the optimisation (PROFILE=mini|cifar10)
figure3: build ## Figure 3: bits per dimension of images and their masked copies (PROFILE=mini|cifar10)
figure4: build ## Figure 4: raw against projected gradient on a mixture in the plane (PROFILE=mini)
figure5: build ## Figure 5: pictures of every method, no noise (PROFILE=mini|cifar10)
figure6: build ## Figure 6: one molecule per target of the polarisability, drawn (PROFILE=mini|qm9)
figure7: build ## Figure 7: the weight λ of the χ penalty (PROFILE=mini|cifar10|paper)
figure8: build ## Figure 8: pictures of every method, with noise (PROFILE=mini|cifar10)
figure9: build ## Figure 9: pictures of every method, denoising (PROFILE=mini|cifar10)
figure2 figure3 figure4 figure5 figure6 figure7 figure8 figure9: build
	$(call RUN,pipelines/$@-$(PROFILE).yaml)
	@$(call FIGURE,$(@:figure%=%))

table2 table3: build ## Tables of domains that are not built yet: says what is missing
	@$(DFLOW) table $(@:table%=%)

test: ## Run the tests (test data: DFLOW_TEST_DATA=folder, or DATA=folder)
	DFLOW_TEST_DATA="$(or $(DATA),$(DFLOW_TEST_DATA))" $(CARGO) $(if $(shell command -v cargo-nextest),nextest run --no-fail-fast,test) --release --locked

test-cluster: ## Run the scenarios on a Slurm that is started for them (root; FULL=1 for all; SCENARIO=words of names)
	@tools/cluster/install.sh
	FULL=$(FULL) $(CARGO) test --release --locked --test cluster -- $(SCENARIO)

lint: ## rustfmt, clippy and rustdoc, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings
	$(CARGO) clippy --release --locked --test cluster -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --no-deps --quiet

schema: build ## Write the generated files: JSON schema of pipelines, column table
	$(DFLOW) schema --write

bench: build ## Compare network calls and whole runs with PyTorch, into target/bench/bench.json (≤ 25 min; BENCH=full for more)
	DEVICES='$(DEVICES)' tools/bench/bench.sh $(BENCH)

bench-workers: build ## Compare one worker of one core with two, on an idle machine (a minute)
	tools/bench/workers.sh

parity: build ## Re-create golden files from pinned public packages in a venv, compare molecules with RDKit
	DFLOW_TEST_DATA="$(or $(DATA),$(DFLOW_TEST_DATA))" tools/reference/parity.sh

train-mini: build ## Re-create the shipped priors (PyTorch in a venv): mini, and with DATA=folder also cifar10
	DATA="$(DATA)" tools/train/train.sh

check-cuda: ## Type-check the CUDA build (needs a CUDA 13 toolkit or tools/cuda)
	tools/cuda/check.sh

clean-runs: ## Remove the results of the mini, cifar10 and qm9 profiles
	rm -rf reports/table*-mini reports/table*-cifar10 reports/*-qm9 reports/figure*-mini reports/figure*-cifar10
