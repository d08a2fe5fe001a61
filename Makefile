# The verbs. Each is one command; laptop, workflows and documentation use the same ones.
.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python
export MLFLOW_DISABLE_TELEMETRY := true

# The words that verbs take, as in `make deploy VERSION=3`. Only those of the command line count, because other programs have
# variables of these names too. Some are typed into a workflow's form: a dollar sign is refused, since make would run what follows
# it, and a program is given the quoted variable of the shell, never the text.
WORDS := PACKAGE SERVING VERSION ENVIRONMENT URL FIRST READ_ONLY ARGS NAME SCOPES SUBJECT PERMISSION BACKUP REPLACE UPGRADE REQUIREMENTS EXAMPLE COLUMNS FORCE FROM TO PER_DAY SHARE DEVIATION DAYS CHALLENGER MODE WINNER REASON
GIVEN := $(foreach word,$(WORDS),$(if $(filter command,$(origin $(word))),$(if $(value $(word)),$(word))))
$(foreach word,$(GIVEN),$(if $(findstring $$,$(value $(word))),$(error $(word) may hold no dollar sign)))
unexport $(filter-out $(GIVEN) COLUMNS,$(WORDS))  # a shell may have COLUMNS for the width of its terminal
option = $(if $(filter $1,$(GIVEN)),"$2=$$$1")
flag = $(if $(filter $1,$(GIVEN)),$(if $(filter yes,$($1)),$2))
text = $(if $(filter $1,$(GIVEN)),$($1))

# What a verb needs is installed when it is first asked for: .venv/NAME.ready says that requirements/NAME.txt is in .venv.
# The template's own tests need more than those of a project.
TESTS := $(if $(wildcard requirements/dev.txt),dev,test)
# The lock is whole. Without --no-deps pip asks anew for coverage[toml], to which no hash belongs.
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps
# A machine that is thrown away after its job compiles what it imports, not all that is installed, unless it may not keep that.
COMPILE := $(if $(and $(CI),$(if $(PYTHONDONTWRITEBYTECODE),,may)),,--compile-bytecode)
.DELETE_ON_ERROR:
.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	@echo "making .venv"
	@$(PYTHON) -m venv --clear .venv
.venv/installer.ready: requirements/installer.txt | .venv/pyvenv.cfg
	@$(PIP) -r $<
	@touch $@
.venv/%.ready: requirements/%.txt .venv/installer.ready
	@echo "installing requirements/$*.txt into .venv"
	@$(PY) -m uv pip install --quiet $(COMPILE) --require-hashes --python $(PY) -r $< || $(PIP) -r $<
	@touch $@
# Environments of their own: Evidently does not import beside the pandas of the others, and of `streams` only data is read.
.venv/evidently.ready .venv/streams.ready: .venv/%.ready: requirements/%.txt .venv/installer.ready
	@echo "installing requirements/$*.txt into .venv/$*"
	@$(PY) -m venv --clear .venv/$*
	@$(PY) -m uv pip install --quiet --require-hashes --no-deps --python .venv/$*/bin/python -r $< || $(PIP:$(PY)%=.venv/$*/bin/python%) -r $<
	@touch $@
# PyTorch, where a file of project/ imports it. The small build for the CPU is taken where pip finds it, by its own configuration or by
# PIP_EXTRA_INDEX_URL; the one for graphics cards says that it needs more (docs/networks.md).
.venv/torch.ready: requirements/torch.txt requirements/torch-cpu.txt requirements/torch-gpu.txt .venv/installer.ready
	@echo "installing requirements/torch.txt into .venv"
	@$(PIP) -r requirements/torch-cpu.txt 2>/dev/null || echo "PyTorch's build for the CPU alone is not in reach, so the large one is taken: docs/networks.md"
	@$(PIP) -r $<
	@$(PY) -c 'import sys; from importlib.metadata import requires; sys.exit(any(one.startswith(("nvidia", "cuda")) for one in requires("torch")))' || $(PIP) -r requirements/torch-gpu.txt
	@touch $@
ifneq ($(shell grep -rlE '^ *(import|from) +(torch|skorch)' --include=*.py project 2>/dev/null),)
.venv/pipeline.ready: .venv/torch.ready
endif
.venv/test.ready: .venv/pipeline.ready
.venv/dev.ready: .venv/test.ready .venv/torch.ready

# Test files run side by side, on at most four cores: each has forks, servers and ports of its own.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Tests that ship nothing; of those of the service, these files do.
SHIP := log/test_service_log requests/test_service_mlflow http/test_service_page requests/test_service_schemathesis runtime/test_service_workers
UNIT := $(wildcard tests/project tests/pipeline tests/repository tests/serving tests/delivery/canary tests/delivery/load/test_latencies.py) $(SHIP:%=--ignore=tests/serving/%.py)

# Headings and verbs, from the comments of this file.
LIST := awk -F ':.*\#\# ' '/^\# --- / {gsub(/^\# --- | -+$$/, ""); printf "\n%s\n", $$0} /^[a-z0-9-]+:.*\#\# / {printf "  make %-15s %s\n", $$1, $$2}'

.PHONY: help help-all
help:  ## list the verbs of every day
	@sed '/^# ===/,$$d' Makefile | $(LIST)
help-all:  ## list every verb, those of workflows and of the template too
	@$(LIST) Makefile

# --- Every day --------------------------------------------------------------------------------------------------------
.PHONY: ship test check fix status doctor stop clean adopt

ship: .venv/pipeline.ready  ## data to a model in production: every stage below; FIRST=yes when production was deleted, COLUMNS=changed
	@$(PY) -m scripts.ship $(call flag,FIRST,--first) $(call option,COLUMNS,--columns)

test: .venv/$(TESTS).ready  ## run the tests
	@$(PY) -m pytest $(SIDE_BY_SIDE) --ignore=tests/e2e $(call text,ARGS)

check: .venv/test.ready  ## lint, format and types, without changing anything
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy pipeline delivery serving scripts $(wildcard dev) project train.py evaluate.py register_model.py

fix: .venv/test.ready  ## lint and format, changing files
	@$(PY) -m ruff check --fix . && $(PY) -m ruff format .

status: .venv/pipeline.ready  ## what runs where, and whether MLflow's aliases agree
	@$(PY) -m scripts.status

doctor: .venv/pipeline.ready  ## what is configured, what is missing, what will be skipped
	@$(PY) -m scripts.doctor

stop: .venv/pipeline.ready  ## end the services and the MLflow server that run here
	@$(PY) -m scripts.stop

clean:  ## remove all local state: environment, builds, MLflow, deployments
	@[ ! -e .venv/pipeline.ready ] || $(PY) -m scripts.stop
	rm -rf .venv build .mlflow .slipway .coverage* htmlcov .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

adopt:  ## once: make this copy of the template your project NAME=churn, without what only the template needs; EXAMPLE=fraud or remove
	@$(if $(wildcard dev/adopt.py),$(PYTHON) -m dev.adopt $(call option,NAME,--name) $(call option,EXAMPLE,--example),echo "nothing to do: this is a project of its own (.github/template-version)")

# --- Your model, stage by stage, through files in build/ --------------------------------------------------------------
.PHONY: checks validate validate-model train evaluate register

checks: .venv/pipeline.ready  ## write a first project/checks.py from the data; REPLACE=yes over one that is yours
	@$(PY) -m scripts.draft_checks $(call flag,REPLACE,--replace)

validate: .venv/pipeline.ready  ## check the data -> build/data.json
	@$(PY) -m scripts.validate_data

validate-model: .venv/pipeline.ready  ## check the model's code on a sample -> build/model_checks.json
	@$(PY) -m scripts.validate_model

train: .venv/pipeline.ready  ## fit the model, log it in MLflow -> build/model, build/run.json
	@$(PY) train.py

evaluate: .venv/pipeline.ready  ## compare with production -> build/evaluation.json, build/report.html
	@$(PY) evaluate.py $(call flag,FIRST,--first) $(call option,COLUMNS,--columns)

register: .venv/pipeline.ready  ## make an accepted candidate a version in MLflow -> build/bundle; CHALLENGER=yes: one that only keeps its limits
	@$(PY) register_model.py $(call flag,CHALLENGER,--challenger)

# --- Production -------------------------------------------------------------------------------------------------------
.PHONY: deploy rollback monitor load key

deploy: .venv/pipeline.ready  ## put a version into ENVIRONMENT=staging or production; VERSION=n names one
	@$(PY) -m scripts.deploy --environment "$$ENVIRONMENT" $(call option,VERSION,--version)

rollback: .venv/pipeline.ready  ## bring the version before (or VERSION=n) back: model, bundle and alias together
	@$(PY) -m scripts.rollback --environment "$${ENVIRONMENT:-production}" $(call option,VERSION,--version)

monitor: .venv/pipeline.ready $(if $(findstring --evidently,$(call text,ARGS)),.venv/evidently.ready)  ## judge production (or ENVIRONMENT=staging) by its prediction log -> build/monitor.json, build/monitor.html
	@$(PY) -m scripts.monitor $(call option,ENVIRONMENT,--environment) $(call text,ARGS)

load: .venv/pipeline.ready  ## measure what production (or ENVIRONMENT=staging, or URL=http://…) answers under load -> build/load.png
	@$(PY) -m scripts.load_test $(call option,ENVIRONMENT,--environment) $(call option,URL,--url) $(call text,ARGS)

key: .venv/pipeline.ready  ## make an API key for NAME=billing, by default with SCOPES=predict, and its line for the service
	@$(PY) -m serving.access.keys --name "$$NAME" $(call option,SCOPES,--scopes)

# --- MLflow -----------------------------------------------------------------------------------------------------------
.PHONY: ui up down

ui: .venv/pipeline.ready  ## open MLflow's pages, put back what is changed there and have it deployed; ARGS=--no-browser
	@$(PY) -m scripts.mlflow.ui $(call text,ARGS)

up: .venv/pipeline.ready  ## start MLflow with PostgreSQL, Prometheus and Grafana on this host, in containers
	@$(PY) -m scripts.host.up

down: .venv/pipeline.ready  ## end them; what they stored stays
	@$(PY) -m scripts.host.up --down

# === What follows is listed by `make help-all` alone ==================================================================

# --- Your model, beside the stages ------------------------------------------------------------------------------------
.PHONY: try-models compare-formats

try-models: .venv/pipeline.ready  ## compare several models with build() by cross-validation, without the hold-out -> build/models.html; ARGS=--json
	@$(PY) -m scripts.try_models $(call text,ARGS)

compare-formats: .venv/pipeline.ready  ## the trained model as pickle, joblib, skops, ONNX, int8, TorchScript and .pt2: size, load, latency, difference -> build/formats.json
	@$(PY) -m scripts.compare_formats $(call text,ARGS)

# --- Delivery, piece by piece -----------------------------------------------------------------------------------------
.PHONY: image edge smoke integration promote rehearse drill traffic reconcile backfill replay snapshot forget relay webhook

image: .venv/pipeline.ready  ## build and push the image of the version registered last, or VERSION=n -> build/image.json
	@$(PY) -m scripts.build_image $(call option,VERSION,--version)

edge: .venv/pipeline.ready  ## a folder in which the model registered last (or VERSION=n) answers without a service or a network -> build/edge
	@$(PY) -m scripts.edge $(call option,VERSION,--version) $(call text,ARGS)

smoke: .venv/pipeline.ready  ## replay the golden predictions against ENVIRONMENT=staging or production
	@$(PY) -m scripts.smoke_test --environment "$$ENVIRONMENT"

integration: .venv/pipeline.ready  ## run the integration tests against ENVIRONMENT=staging or production
	@$(PY) -m scripts.integration_test --environment "$$ENVIRONMENT"

promote: .venv/pipeline.ready  ## move the alias production to what production serves
	@$(PY) -m scripts.promote

rehearse: .venv/pipeline.ready  ## deploy a broken release to staging and see it undone
	@$(PY) -m scripts.rehearse

drill: .venv/pipeline.ready  ## see the loop in minutes, in a copy: traffic, a change, the alarm, a retraining, the alarm closed
	@$(PY) -m scripts.drill $(call text,ARGS)

traffic: .venv/pipeline.ready  ## send production (or ENVIRONMENT=staging) made-up requests; ARGS="--shift COLUMN=0.5 --relation" changes them
	@$(PY) -m scripts.traffic $(call option,ENVIRONMENT,--environment) $(call text,ARGS)

reconcile: .venv/pipeline.ready  ## deploy what MLflow's aliases production and staging say, where that is not what serves
	@$(PY) -m scripts.reconcile $(call option,ENVIRONMENT,--environment) $(call text,ARGS)

backfill: .venv/pipeline.ready  ## make labelled rows of the prediction log and its outcomes -> data/production/rows.parquet
	@$(PY) -m scripts.backfill $(call option,ENVIRONMENT,--environment)

replay: .venv/pipeline.ready  ## ask VERSION=n what production answered in the last 7 days (or DAYS=n), and compare -> build/replay.html
	@$(PY) -m scripts.replay $(call option,VERSION,--version) $(call option,DAYS,--days) $(call option,ENVIRONMENT,--environment)

snapshot: .venv/pipeline.ready  ## fetch the rows that production (or VERSION=n) was trained on, to train on them again
	@$(PY) -m scripts.snapshot $(call option,VERSION,--version)

forget: .venv/pipeline.ready  ## delete what the prediction log of ENVIRONMENT (default: production) knows about SUBJECT=customer-17
	@$(PY) -m scripts.forget --environment "$${ENVIRONMENT:-production}" "--subject=$$SUBJECT"

relay: .venv/pipeline.ready  ## have a promotion follow at once when an alias is moved in MLflow; ARGS=--reconcile: on this machine
	@$(PY) -m scripts.mlflow.webhook_relay $(call text,ARGS)

webhook: .venv/pipeline.ready  ## have MLflow tell the relay at URL=https://…/webhook, and see that it does
	@$(PY) -m scripts.mlflow.webhook --url "$$URL"

# --- Experiments: two versions in production --------------------------------------------------------------------------
.PHONY: experiment experiment-start experiment-share experiment-stop experiment-plan

experiment-plan: .venv/pipeline.ready  ## how many subjects and days a test takes: FROM=0.10 TO=0.11 PER_DAY=2000 SHARE=0.5; DEVIATION=40 for a mean that is no share
	@$(PY) -m scripts.experiment_plan $(call option,FROM,--from) $(call option,TO,--to) $(call option,PER_DAY,--per-day) $(call option,SHARE,--share) $(call option,DEVIATION,--deviation) $(call text,ARGS)

experiment: .venv/pipeline.ready  ## judge the experiment that runs (or NAME=…): which of two versions is better -> build/experiment.html
	@$(PY) -m scripts.experiment $(call option,NAME,--name) $(call text,ARGS)

experiment-start: .venv/pipeline.ready  ## put CHALLENGER=8 beside production for SHARE=0.1 of the subjects, NAME=greener; MODE=shadow: no caller gets its answers
	@$(PY) -m scripts.experiment_start "--challenger=$$CHALLENGER" "--share=$$SHARE" "--name=$$NAME" $(call option,MODE,--mode)

experiment-share: .venv/pipeline.ready  ## raise the share of the experiment that runs to SHARE=0.5
	@$(PY) -m scripts.experiment_share "--share=$$SHARE"

experiment-stop: .venv/pipeline.ready  ## end it; WINNER=B promotes the challenger, REASON="…" is kept
	@$(PY) -m scripts.experiment_stop $(call option,WINNER,--winner) $(call option,REASON,--reason)

# --- MLflow, on this machine and on one host --------------------------------------------------------------------------
.PHONY: mlflow mlflow-user backup restore-backup

mlflow: .venv/pipeline.ready  ## start MLflow here unless it runs, and print its address
	@$(PY) -m scripts.mlflow.start_mlflow

mlflow-user: .venv/pipeline.ready  ## give NAME=anna an account of the team's MLflow; with PERMISSION=EDIT they may move production
	@$(PY) -m scripts.mlflow.mlflow_user --name "$$NAME" $(call option,PERMISSION,--permission)

backup: .venv/pipeline.ready  ## copy all that MLflow of `make up` knows -> backups/, checked; the newest 7 are kept
	@$(PY) -m scripts.host.backup

restore-backup: .venv/pipeline.ready  ## bring the newest copy (or BACKUP=name) back; REPLACE=yes where MLflow holds something
	@$(PY) -m scripts.host.restore_backup $(call option,BACKUP,--backup) $(call flag,REPLACE,--replace)

# --- In workflows, and wherever else a machine starts with nothing ----------------------------------------------------
.PHONY: plan all-passed gate restore-mlflow save-mlflow cluster verify-image summary notify fresh keep-alive alert retrain-if-needed watch replay-candidate pr-report pr-comment

plan:  ## say what this repository's settings make of a delivery, before anything is installed
	@$(PYTHON) -m scripts.ci.plan

all-passed:  ## turn the results of the jobs before, in NEEDS, into an exit status
	@$(PYTHON) -m scripts.ci.all_passed

gate: .venv/pipeline.ready  ## turn the verdict into an exit status
	@$(PY) -m scripts.gate

restore-mlflow: .venv/pipeline.ready  ## fetch the embedded MLflow from the image registry and hold it; READ_ONLY=yes holds nothing
	@$(PY) -m scripts.ci.restore_mlflow $(call flag,READ_ONLY,--read-only)

save-mlflow: .venv/pipeline.ready  ## put the embedded MLflow back into the image registry and let go of it
	@$(PY) -m scripts.ci.save_mlflow

cluster: .venv/pipeline.ready  ## write the kubeconfig that the environment carries, for the steps that follow
	@$(PY) -m scripts.ci.cluster --environment "$$ENVIRONMENT"

verify-image: .venv/pipeline.ready  ## prove that the image of VERSION=n was made and attested by this repository
	@$(PY) -m scripts.ci.verify_image --version "$$VERSION"

summary: .venv/pipeline.ready  ## verdict, comparison and ages as Markdown, into the job summary of a workflow
	@$(PY) -m scripts.ci.summary

notify:  ## tell a chat how the jobs in NEEDS ended, where SLIPWAY_WEBHOOK is set
	@$(PYTHON) -m scripts.ci.notify

fresh: .venv/pipeline.ready  ## say whether the data are others than production's, before a retraining; FORCE=yes: whatever they are
	@$(PY) -m scripts.ci.fresh $(call flag,FORCE,--force)

keep-alive: .venv/pipeline.ready  ## keep GitHub from switching off the workflows with a schedule
	@$(PY) -m scripts.ci.keep_alive

alert: .venv/pipeline.ready  ## tell people what the monitor found: an issue for each kind of incident, a chat, the job summary
	@$(PY) -m scripts.ci.alert

retrain-if-needed: .venv/pipeline.ready  ## start a retraining if the monitor found a reason and nothing stands against it
	@$(PY) -m scripts.ci.retrain_if_needed

watch: .venv/pipeline.ready  ## monitor, alert and retrain-if-needed in one, where no workflow can read the log; ARGS=--every-day: again and again
	@$(PY) -m scripts.ci.watch $(call option,ENVIRONMENT,--environment) $(call text,ARGS)

replay-candidate: .venv/pipeline.ready  ## ask the candidate what production answered, if [gate] replay_days says so and the log is in reach -> build/replay.html
	@$(PY) -m scripts.replay --candidate

pr-report: .venv/pipeline.ready  ## what a pull request would change -> build/pull_request.json
	@$(PY) -m scripts.ci.pr_report

pr-comment: .venv/pipeline.ready  ## build/incoming/pull_request.json, trusted in nothing -> build/comment.md
	@$(PY) -m scripts.ci.pr_comment

# --- Development ------------------------------------------------------------------------------------------------------
.PHONY: setup unit audit add lock

setup: .venv/$(or $(call text,REQUIREMENTS),$(TESTS)).ready  ## make .venv with what all verbs need, or REQUIREMENTS=pipeline, test or audit

unit: .venv/$(TESTS).ready  ## run the quick tests, those that ship nothing
	@$(PY) -m pytest $(SIDE_BY_SIDE) $(UNIT) $(call text,ARGS)

audit: .venv/audit.ready  ## look for weaknesses in the workflows, offline
	@.venv/bin/zizmor --no-progress --offline --strict-collection --persona pedantic .github

add: .venv/installer.ready  ## add PACKAGE=xgboost, which your model needs, to pyproject.toml, the locks and .venv; SERVING=yes: to images too
	@$(PY) -m scripts.add "$$PACKAGE" $(call flag,SERVING,--serving)

lock: .venv/installer.ready  ## compile pyproject's dependency groups into requirements/*.txt; UPGRADE=all, or a package: newer versions
	@$(PY) -m scripts.lock $(call option,UPGRADE,--upgrade)

# --- The template's own -----------------------------------------------------------------------------------------------
.PHONY: coverage fuzz try try-fork e2e kind bench bench-experiment soak soak-experiment simulate-gate simulate-canary simulate-monitor simulate-experiment pictures

coverage: .venv/dev.ready  ## run the quick tests and show what of pipeline/ and serving/ they do not reach
	@$(PY) -m pytest $(SIDE_BY_SIDE) $(UNIT) --cov --cov-report=term-missing --cov-fail-under=75 $(call text,ARGS)

fuzz: .venv/dev.ready  ## send the service 100,000 random requests, thousands made from its document, and serve 300 random models
	@FUZZ=long $(PY) -m pytest -s tests/serving/requests/test_service_random_input.py tests/serving/requests/test_service_schemathesis.py tests/pipeline/formats/test_random_models.py $(call text,ARGS)

try: .venv/pipeline.ready  ## ship EXAMPLE=fraud, a recipe of examples/, in a copy, and ask it; ARGS=--keep: it serves on
	@$(PY) -m dev.try_example "--example=$$EXAMPLE" $(call text,ARGS)

try-fork: .venv/pipeline.ready  ## copy the repository as "Use this template" does, and run there what a fork runs first
	@$(PY) -m dev.try_fork

e2e: .venv/dev.ready  ## run the tests of images, hosts and workflows, which need a Docker engine
	@$(PY) -m pytest $(SIDE_BY_SIDE) tests/e2e $(call text,ARGS)

kind: .venv/dev.ready  ## run the Kubernetes and image tests on a real cluster, made by kind and removed after
	@$(PY) -m dev.kind $(call text,ARGS)

bench: .venv/dev.ready  ## measure the pipeline, and the service beside its peers; ARGS="--only serving" measures one
	@$(PY) -m dev.bench $(call text,ARGS)

bench-experiment: .venv/dev.ready  ## measure the service alone, with an A/B experiment and with a shadow, side by side
	@$(PY) -m dev.bench_experiment $(call text,ARGS)

soak: .venv/dev.ready  ## ask the service a million times while it is restarted and replaced, and compare its log with the answers
	@$(PY) -m dev.soak $(call text,ARGS)

soak-experiment: .venv/dev.ready  ## ask what serves an experiment 100,000 times while it is killed, restarted and shared anew, and compare its log with the answers
	@$(PY) -m dev.soak_experiment $(call text,ARGS)

simulate-gate: .venv/dev.ready  ## measure the gate's error rates and power by simulation
	@$(PY) -m dev.simulate_gate
	@$(PY) -m dev.simulate_chains

simulate-canary: .venv/dev.ready  ## measure the canary's error rates by simulation
	@$(PY) -m dev.simulate_canary

simulate-monitor: .venv/dev.ready .venv/evidently.ready .venv/streams.ready  ## measure the monitor's false alarms and delays, by simulation and on public data
	@$(PY) -m dev.simulate_monitor

simulate-experiment: .venv/dev.ready  ## measure how often an experiment that is looked at each day decides wrongly, and how soon rightly, by simulation
	@$(PY) -m dev.simulate_experiment $(call text,ARGS)

pictures: .venv/dev.ready  ## make the pictures of README.md from real runs, seen by Chromium -> docs/pictures/
	@$(PY) -m dev.make_pictures
