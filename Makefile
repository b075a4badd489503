# Every target sets up what it needs. Variables: PROFILE=mini|cifar10|qm9|paper  LIMIT=n  DEVICES=cpu:2  DATA=folder
PROFILE ?= mini
LIMIT   ?=
DEVICES ?=
DATA    ?=
BENCH   ?= quick

CARGO   := cargo
DFLOW   := target/release/dflow
OPTIONS := $(if $(LIMIT),--limit $(LIMIT)) $(if $(DEVICES),--devices '$(DEVICES)') $(if $(DATA),--data $(DATA))
# A table is printed also where some samples failed (exit code 3): it says how many.
RUN      = $(DFLOW) run $(1) $(OPTIONS) || [ $$? -eq 3 ]

.DEFAULT_GOAL := help
.PHONY: help build test lint schema table1 table2 table3 table4 table5 table6 table7 table8 table9 figure6 bench parity train-mini check-cuda clean-runs

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

figure6: build ## Figure 6: one molecule per target of the polarisability, drawn (PROFILE=mini|qm9)
	$(call RUN,pipelines/figure6-$(PROFILE).yaml)
	@$(DFLOW) report reports/figure6-$(PROFILE) $(if $(DATA),--data $(DATA))

table2 table3: build ## Tables of domains that are not built yet: says what is missing
	@$(DFLOW) table $(@:table%=%)

test: ## Run the tests (test data: DFLOW_TEST_DATA=folder, or DATA=folder)
	DFLOW_TEST_DATA="$(or $(DATA),$(DFLOW_TEST_DATA))" $(CARGO) $(if $(shell command -v cargo-nextest),nextest run --no-fail-fast,test) --release --locked

lint: ## rustfmt, clippy and rustdoc, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --no-deps --quiet

schema: build ## Write the generated files: JSON schema of pipelines, column table
	$(DFLOW) schema --write

bench: build ## Compare forward and forward+VJP with PyTorch in one run (≤ 25 min; BENCH=full for more)
	tools/bench/bench.sh $(BENCH)

parity: build ## Re-create golden files from pinned public packages in a venv, compare molecules with RDKit
	DFLOW_TEST_DATA="$(or $(DATA),$(DFLOW_TEST_DATA))" tools/reference/parity.sh

train-mini: build ## Re-create the shipped priors (PyTorch in a venv): mini, and with DATA=folder also cifar10
	DATA="$(DATA)" tools/train/train.sh

check-cuda: ## Type-check the CUDA build (needs a CUDA 13 toolkit or tools/cuda)
	tools/cuda/check.sh

clean-runs: ## Remove the results of the mini, cifar10 and qm9 profiles
	rm -rf reports/table*-mini reports/table*-cifar10 reports/*-qm9 reports/figure*-mini
