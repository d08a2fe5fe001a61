# The verbs. Each is one command; laptop, workflows and documentation use the same ones.
.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python
# Only what is said on the command line counts: other programs set such names for purposes of their own. Make would run what
# stands behind a dollar sign, and some values are typed into a workflow's form.
$(foreach name,VERSION ENVIRONMENT URL FIRST READ_ONLY ARGS NAME SCOPES SUBJECT PERMISSION BACKUP REPLACE UPGRADE,$(if $(filter command,$(origin $(name))),$(if $(findstring $$,$(value $(name))),$(error $(name) may hold no dollar sign)),$(eval $(name) :=)))
# A shell may have COLUMNS for the width of its terminal: that one stays as it is, and is no word of ours.
CHANGED := $(if $(filter command,$(origin COLUMNS)),$(if $(findstring $$,$(value COLUMNS)),$(error COLUMNS may hold no dollar sign),yes))
# Test files run side by side, on at most four cores: each has forks, servers and ports of its own.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Tests that ship nothing.
UNIT := tests/project tests/pipeline tests/repository tests/serving $(patsubst %,--ignore=tests/serving/%.py,log/test_service_log requests/test_service_mlflow http/test_service_page requests/test_service_schemathesis runtime/test_service_workers) tests/delivery/canary tests/delivery/load/test_latencies.py
# A machine that is thrown away after its job compiles what it imports, not all that is installed, unless it may not keep that.
COMPILE := $(if $(and $(CI),$(if $(PYTHONDONTWRITEBYTECODE),,may)),,--compile-bytecode)
export MLFLOW_DISABLE_TELEMETRY := true

help:  ## list the verbs
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

# --- the main job -----------------------------------------------------------------------------------------------------
ship: .venv/ready  ## data to a model in production: every stage below; FIRST=yes when production was deleted, COLUMNS=changed
	@$(PY) -m scripts.ship $(if $(filter yes,$(FIRST)),--first) $(if $(CHANGED),--columns "$$COLUMNS")

test: .venv/ready  ## run the tests
	@$(PY) -m pytest $(SIDE_BY_SIDE) $(ARGS)

status: .venv/ready  ## what runs where, and whether MLflow's aliases agree
	@$(PY) -m scripts.status

doctor: .venv/ready  ## what is configured, what is missing, what will be skipped
	@$(PY) -m scripts.doctor

stop: .venv/ready  ## end the services and the MLflow server that run here
	@$(PY) -m scripts.stop

clean:  ## remove all local state: environment, builds, MLflow, deployments
	@[ ! -e .venv/ready ] || $(PY) -m scripts.stop
	rm -rf .venv build .mlflow .slipway .coverage* htmlcov .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the stages, each through files in build/ -----------------------------------------------------------------------------
validate: .venv/ready  ## check the data -> build/data.json
	@$(PY) -m scripts.validate_data

checks: .venv/ready  ## write a first project/checks.py from the data; REPLACE=yes over one that is yours
	@$(PY) -m scripts.draft_checks $(if $(filter yes,$(REPLACE)),--replace)

validate-model: .venv/ready  ## check the model's code on a sample -> build/model_checks.json
	@$(PY) -m scripts.validate_model

train: .venv/ready  ## fit the model, log it in MLflow -> build/model, build/run.json
	@$(PY) train.py

evaluate: .venv/ready  ## compare with production -> build/evaluation.json, build/report.html
	@$(PY) evaluate.py $(if $(filter yes,$(FIRST)),--first) $(if $(CHANGED),--columns "$$COLUMNS")

gate: .venv/ready  ## turn the verdict into an exit status
	@$(PY) -m scripts.gate

register: .venv/ready  ## make an accepted candidate a version in MLflow -> build/bundle
	@$(PY) register_model.py

# --- delivery ---------------------------------------------------------------------------------------------------------
deploy: .venv/ready  ## put a version into ENVIRONMENT=staging or production; VERSION=n names one
	@$(PY) -m scripts.deploy --environment "$$ENVIRONMENT" $(if $(VERSION),--version "$$VERSION")

smoke: .venv/ready  ## replay the golden predictions against ENVIRONMENT=staging or production
	@$(PY) -m scripts.smoke_test --environment "$$ENVIRONMENT"

integration: .venv/ready  ## run the integration tests against ENVIRONMENT=staging or production
	@$(PY) -m scripts.integration_test --environment "$$ENVIRONMENT"

load: .venv/ready  ## measure what production (or ENVIRONMENT=staging, or URL=http://…) answers under load -> build/load.png
	@$(PY) -m scripts.load_test $(if $(ENVIRONMENT),--environment "$$ENVIRONMENT") $(if $(URL),--url "$$URL") $(ARGS)

promote: .venv/ready  ## move the alias production to what production serves
	@$(PY) -m scripts.promote

rehearse: .venv/ready  ## deploy a broken release to staging and see it undone
	@$(PY) -m scripts.rehearse

image: .venv/ready  ## build and push the image of the version registered last, or VERSION=n -> build/image.json
	@$(PY) -m scripts.build_image $(if $(VERSION),--version "$$VERSION")

rollback: .venv/ready  ## bring the version before (or VERSION=n) back: model, bundle and alias together
	@$(PY) -m scripts.rollback --environment "$${ENVIRONMENT:-production}" $(if $(VERSION),--version "$$VERSION")

key: .venv/ready  ## make an API key for NAME=billing, by default with SCOPES=predict, and its line for the service
	@$(PY) -m serving.access.keys --name "$$NAME" $(if $(SCOPES),--scopes "$$SCOPES")

forget: .venv/ready  ## delete what the prediction log of ENVIRONMENT (default: production) knows about SUBJECT=customer-17
	@$(PY) -m scripts.forget --environment "$${ENVIRONMENT:-production}" "--subject=$$SUBJECT"

# --- in workflows, and wherever else a machine starts with nothing ------------------------------------------------------
plan:  ## say what this repository's settings make of a delivery, before anything is installed
	@$(PYTHON) -m scripts.ci.plan

all-passed:  ## turn the results of the jobs before, in NEEDS, into an exit status
	@$(PYTHON) -m scripts.ci.all_passed

restore-mlflow: .venv/ready  ## fetch the embedded MLflow from the image registry and hold it; READ_ONLY=yes holds nothing
	@$(PY) -m scripts.ci.restore_mlflow $(if $(filter yes,$(READ_ONLY)),--read-only)

save-mlflow: .venv/ready  ## put the embedded MLflow back into the image registry and let go of it
	@$(PY) -m scripts.ci.save_mlflow

cluster: .venv/ready  ## write the kubeconfig that the environment carries, for the steps that follow
	@$(PY) -m scripts.ci.cluster --environment "$$ENVIRONMENT"

verify-image: .venv/ready  ## prove that the image of VERSION=n was made and attested by this repository
	@$(PY) -m scripts.ci.verify_image --version "$$VERSION"

relay: .venv/ready  ## have a promotion follow at once when an alias is moved in MLflow; ARGS=--reconcile: on this machine
	@$(PY) -m scripts.mlflow.webhook_relay $(ARGS)

webhook: .venv/ready  ## have MLflow tell the relay at URL=https://…/webhook, and see that it does
	@$(PY) -m scripts.mlflow.webhook --url "$$URL"

reconcile: .venv/ready  ## deploy what MLflow's aliases production and staging say, where that is not what serves
	@$(PY) -m scripts.reconcile $(if $(ENVIRONMENT),--environment "$$ENVIRONMENT") $(ARGS)

summary: .venv/ready  ## verdict, comparison and ages as Markdown, into the job summary of a workflow
	@$(PY) -m scripts.ci.summary

notify:  ## tell a chat how the jobs in NEEDS ended, where SLIPWAY_WEBHOOK is set
	@$(PYTHON) -m scripts.ci.notify

pr-report: .venv/ready  ## what a pull request would change -> build/pull_request.json
	@$(PY) -m scripts.ci.pr_report

pr-comment: .venv/ready  ## build/incoming/pull_request.json, trusted in nothing -> build/comment.md
	@$(PY) -m scripts.ci.pr_comment

mlflow: .venv/ready  ## start MLflow here unless it runs, and print its address
	@$(PY) -m scripts.mlflow.start_mlflow

ui: .venv/ready  ## open MLflow's pages, put back what is changed there and have it deployed; ARGS=--no-browser
	@$(PY) -m scripts.mlflow.ui $(ARGS)

up: .venv/ready  ## start MLflow with PostgreSQL, Prometheus and Grafana on this host, in containers
	@$(PY) -m scripts.host.up

down: .venv/ready  ## end them; what they stored stays
	@$(PY) -m scripts.host.up --down

mlflow-user: .venv/ready  ## give NAME=anna an account of the team's MLflow; with PERMISSION=EDIT they may move production
	@$(PY) -m scripts.mlflow.mlflow_user --name "$$NAME" $(if $(PERMISSION),--permission "$$PERMISSION")

backup: .venv/ready  ## copy all that MLflow of `make up` knows -> backups/, checked; the newest 7 are kept
	@$(PY) -m scripts.host.backup

restore-backup: .venv/ready  ## bring the newest copy (or BACKUP=name) back; REPLACE=yes where MLflow holds something
	@$(PY) -m scripts.host.restore_backup $(if $(BACKUP),--backup "$$BACKUP") $(if $(filter yes,$(REPLACE)),--replace)

# --- development ------------------------------------------------------------------------------------------------------
setup: .venv/ready  ## make .venv with the locked requirements
.venv/ready: requirements/dev.txt requirements/installer.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	@echo "making .venv with the locked requirements"
	@$(PYTHON) -m venv --clear .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/installer.txt
	@$(PY) -m uv pip install --quiet $(COMPILE) --require-hashes --python $(PY) -r requirements/dev.txt || $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

check: .venv/ready  ## lint, format and types, without changing anything
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy pipeline delivery serving scripts dev project train.py evaluate.py register_model.py

fix: .venv/ready  ## lint and format, changing files
	@$(PY) -m ruff check --fix . && $(PY) -m ruff format .

unit: .venv/ready  ## run the quick tests, those that ship nothing
	@$(PY) -m pytest $(SIDE_BY_SIDE) $(UNIT) $(ARGS)

coverage: .venv/ready  ## run the quick tests and show what of pipeline/ and serving/ they do not reach
	@$(PY) -m pytest $(SIDE_BY_SIDE) $(UNIT) --cov --cov-report=term-missing --cov-fail-under=75 $(ARGS)

fuzz: .venv/ready  ## send the service 100,000 random requests, thousands made from its document, and serve 300 random models
	@FUZZ=long $(PY) -m pytest -s tests/serving/requests/test_service_random_input.py tests/serving/requests/test_service_schemathesis.py tests/pipeline/formats/test_random_models.py $(ARGS)

audit: .venv/ready  ## look for weaknesses in the workflows, offline
	@.venv/bin/zizmor --no-progress --offline --strict-collection --persona pedantic .github

try-fork: .venv/ready  ## copy the repository as "Use this template" does, and run there what a fork runs first
	@$(PY) -m dev.try_fork

e2e: .venv/ready  ## run the Kubernetes and image tests on a real cluster, made by kind and removed after
	@$(PY) -m dev.e2e $(ARGS)

bench: .venv/ready  ## measure the pipeline, and the service beside its peers; ARGS="--only serving" measures one
	@$(PY) -m dev.bench $(ARGS)

soak: .venv/ready  ## ask the service a million times while it is restarted and replaced, and compare its log with the answers
	@$(PY) -m dev.soak $(ARGS)

simulate-gate: .venv/ready  ## measure the gate's error rates and power by simulation
	@$(PY) -m dev.simulate_gate
	@$(PY) -m dev.simulate_chains

simulate-canary: .venv/ready  ## measure the canary's error rates by simulation
	@$(PY) -m dev.simulate_canary

lock: .venv/ready  ## compile pyproject's dependency groups into requirements/*.txt; UPGRADE=all, or a package: newer versions
	@$(PY) -m dev.lock $(if $(UPGRADE),--upgrade "$$UPGRADE")

.PHONY: help checks relay webhook notify plan all-passed restore-mlflow save-mlflow cluster verify-image reconcile summary pr-report pr-comment unit audit try-fork ship test status doctor stop clean validate validate-model train evaluate gate register deploy smoke integration load promote rehearse image rollback mlflow ui up down setup check fix coverage e2e bench soak simulate-gate simulate-canary lock fuzz key forget mlflow-user backup restore-backup
