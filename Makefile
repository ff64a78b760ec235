# Everything that is done with this repository, by name. Each target makes what it needs by itself: the virtual
# environment is built once and again only when pyproject.toml changes.

.DEFAULT_GOAL := help
.PHONY: help serve test test-slow test-examples lint format interop suites fuzz fuzz-bytes bench bench-compare wheel wheel-compiled man page browser codecs pictures cluster-torture clean

# The first Python on this machine that is new enough.
PYTHON ?= $(shell for candidate in python3.11 python3.12 python3.13 python3 python; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$candidate" && break; done)
VENV ?= .venv
RUN := $(VENV)/bin/python
PIP_INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check --no-input

# What Python and pytest make of a file is kept, also where the environment does not want it: a start of the tests is half that.
export PYTHONDONTWRITEBYTECODE :=

# Arguments for what is run: make serve ARGS="--port 5673", make test ARGS="-k floors".
ARGS ?=

# COMPILED=1 runs the build whose layers are compiled (hatch_build.py) instead of the sources as they stand. It is a wheel,
# unpacked where nothing but this looks; PYTHONSAFEPATH keeps the sources, which are in the working folder, behind it.
COMPILED ?=
COMPILED_BUILD := build/compiled
ifneq ($(filter-out 0,$(COMPILED)),)
ENVIRONMENT := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED_BUILD):$(CURDIR) AMQP_BROKER_UNDER_TEST=compiled
PYTEST := pytest -o pythonpath=
BUILT := $(COMPILED_BUILD)/.stamp
else
ENVIRONMENT :=
PYTEST := pytest
BUILT :=
endif

help:
	@echo 'make serve     run the broker; its data is in ~/.local/state/amqp-broker unless --data-dir names another folder'
	@echo '                                         ARGS="--port 5673 --log-level debug"'
	@echo 'make test      run the tests but the slow ones, on all cores; a few of them in one process: ARGS="-k hello"'
	@echo 'make test-slow   those that take seconds each: kills, full disks, a cluster'
	@echo 'make test-examples   the tests of examples/testing, from an installed wheel'
	@echo 'make lint      ruff, and mypy strict: all but the examples, and the package as on macOS and Windows'
	@echo 'make format    let ruff repair what it can'
	@echo 'make interop   the same behaviour asked of this broker and of RabbitMQ'
	@echo 'make suites    stock clients'"'"' own tests   ARGS="pika kombu"'
	@echo 'make fuzz      random programs on both brokers, until one differs'
	@echo 'make fuzz-bytes   bytes of strangers, guided by coverage   ARGS="session --seconds 600"'
	@echo 'make bench     this broker and RabbitMQ side by side'
	@echo 'make bench-compare   the hot path before and after a change   BEFORE=main (a commit, a branch, a tag)'
	@echo 'make wheel     the wheel, in dist/'
	@echo 'make man       the manual page, build/amqp-broker.1'
	@echo 'make page      the management page'"'"'s assets, from their sources (needs node 20 and npm)'
	@echo 'make browser   the page in a real browser: chromium, axe-core (needs node 20 and npm)'
	@echo 'make codecs    MQTT and STOMP against npm'"'"'s codecs, by random packets and frames (needs node 20 and npm)'
	@echo 'make pictures  pictures of the page, in docs/pictures/'
	@echo 'make wheel-compiled   the wheel with compiled layers, in dist/ (needs a C compiler)'
	@echo 'COMPILED=1     with serve, test, interop, suites, fuzz, bench-compare, cluster-torture: on that build; with bench: that as well'
	@echo 'make cluster-torture   three nodes and three members of etcd, killed, paused and cut off; two minutes a round: ROUNDS=10'
	@echo 'make clean     remove all that was built'

# Two stamps: serving needs four small packages, developing needs many.
$(RUN):
	@echo 'make: making a virtual environment in $(VENV), once' >&2
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed; name it with PYTHON=/path/to/python' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(VENV) install --quiet pip; } || { \
	  rm -rf $(VENV); echo 'Cannot make $(VENV): install your system'"'"'s venv package (Debian: python3-venv)' >&2; exit 1; }

$(VENV)/.serve-stamp: pyproject.toml | $(RUN)
	@echo 'make: installing the broker into $(VENV), once; it takes about half a minute' >&2
	@$(PIP_INSTALL) --editable .
	@$(RUN) -m compileall -q amqp_broker
	@touch $@

$(VENV)/.develop-stamp: pyproject.toml | $(RUN)
	@echo 'make: installing what the tests need into $(VENV), once; it takes about a minute and a half' >&2
	@$(PIP_INSTALL) --editable '.[dev]'
	@$(RUN) -m compileall -q amqp_broker
	@$(RUN) -m pytest --collect-only -q >/dev/null 2>&1 || true # else each process of the tests makes the same of their files
	@touch $(VENV)/.serve-stamp $@

# What the switch makes, built in an environment of its own: this one need not have mypy.
$(COMPILED_BUILD)/.stamp: hatch_build.py pyproject.toml $(shell find amqp_broker -name '*.py') | $(RUN)
	@echo 'compiling, which takes some minutes on all cores' >&2
	@rm -rf $(COMPILED_BUILD) $(COMPILED_BUILD)-wheel
	@mkdir -p $(COMPILED_BUILD)-wheel && touch $(COMPILED_BUILD)-wheel/.begun
	@AMQP_BROKER_COMPILE=1 $(RUN) -m pip wheel --quiet --disable-pip-version-check --no-input --no-deps \
	  --wheel-dir $(COMPILED_BUILD)-wheel .
	@$(RUN) -m zipfile -e $(COMPILED_BUILD)-wheel/*.whl $(COMPILED_BUILD)
	@$(RUN) -m compileall -q $(COMPILED_BUILD)
	@touch -r $(COMPILED_BUILD)-wheel/.begun $@ # what was changed while it compiled is newer

wheel: | $(RUN)
	@$(RUN) -m pip wheel --quiet --disable-pip-version-check --no-input --no-deps --wheel-dir dist .
	@ls dist/*-none-any.whl

wheel-compiled: $(COMPILED_BUILD)/.stamp
	@mkdir -p dist
	@cp $(COMPILED_BUILD)-wheel/*.whl dist/
	@ls dist/*.whl

man: $(VENV)/.serve-stamp
	@mkdir -p build
	@$(RUN) -m amqp_broker.cli.manual_page > build/amqp-broker.1

# What comes of it is committed: an install needs neither node nor the network. Packages of npm stay in build/.
PAGE := amqp_broker/management/page
page: build/page/.installed
	@node $(PAGE)/source/build.mjs build/page/node_modules $(PAGE)/built

build/page/.installed: $(PAGE)/source/package-lock.json
	@mkdir -p build/page && cp $(PAGE)/source/package.json $(PAGE)/source/package-lock.json build/page/
	@npm ci --prefix build/page --silent --no-audit --no-fund --ignore-scripts
	@touch $@

browser: $(VENV)/.develop-stamp build/browser/.installed
	@$(RUN) -m tests.browser --test --test-reporter=spec tests/browser/screens.mjs tests/browser/devices.mjs

codecs: $(VENV)/.develop-stamp $(BUILT) build/browser/.installed
	@$(ENVIRONMENT) $(RUN) -m $(PYTEST) tests/properties/test_mqtt_packets_in_node.py tests/properties/test_stomp_frames_in_node.py $(ARGS)

pictures: $(VENV)/.develop-stamp build/browser/.installed
	@HOSTILE_NAME=mail.bounced $(RUN) -m tests.browser tests/browser/pictures.mjs docs/pictures

build/browser/.installed: tests/browser/package-lock.json
	@mkdir -p build/browser && cp tests/browser/package.json tests/browser/package-lock.json build/browser/
	@npm ci --prefix build/browser --silent --no-audit --no-fund --ignore-scripts
	@touch $@

build/interop/.installed: interop/other_clients/package-lock.json
	@mkdir -p build/interop && cp interop/other_clients/package.json interop/other_clients/package-lock.json build/interop/
	@npm ci --prefix build/interop --silent --no-audit --no-fund --ignore-scripts
	@touch $@

serve: $(VENV)/.serve-stamp $(BUILT)
	@$(if $(BUILT),,echo 'make: plain Python; make serve COMPILED=1 is faster in streams (see README)' >&2)
	@$(ENVIRONMENT) exec $(RUN) -m amqp_broker serve $(ARGS)

# All but the slow ones, on every core there is; what ARGS chooses, slow or not, runs one after the other in one process, as
# -s and --pdb want.
EVERY_CORE := -n auto --maxprocesses 8 --dist worksteal
test: $(VENV)/.develop-stamp $(BUILT)
	@$(ENVIRONMENT) $(RUN) -m $(PYTEST) $(or $(ARGS),-m 'not slow' $(EVERY_CORE))

test-slow: $(VENV)/.develop-stamp $(BUILT)
	@$(ENVIRONMENT) $(RUN) -m $(PYTEST) -m slow $(or $(ARGS),$(EVERY_CORE))

test-examples: $(VENV)/.develop-stamp
	@AMQP_BROKER_TEST_EXAMPLES=1 $(RUN) -m pytest tests/testing/test_example_project.py $(ARGS)

lint: $(VENV)/.develop-stamp
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@for platform in linux darwin win32; do \
	  $(RUN) -m mypy --platform $$platform $$([ $$platform = linux ] || echo --no-warn-unreachable amqp_broker) || exit 1; done

format: $(VENV)/.develop-stamp
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

# Each broker has a worker of its own, and all are asked at once; RabbitMQ 4 is asked where interop/rabbitmq4.sh has made it. What docs/compatibility.md
# is made of stands in build/interop.json behind it.
interop: $(VENV)/.develop-stamp $(BUILT) $(if $(shell command -v npm),build/interop/.installed)
	@mkdir -p build
	@$(ENVIRONMENT) $(RUN) -m $(PYTEST) interop $(or $(ARGS),-n 5 --dist loadgroup --results build/interop.json)

suites: $(VENV)/.develop-stamp $(BUILT)
	@$(ENVIRONMENT) $(RUN) -m interop.suites $(ARGS)

fuzz: $(VENV)/.develop-stamp $(BUILT)
	@$(ENVIRONMENT) $(RUN) -m interop.fuzz $(ARGS)

fuzz-bytes: $(VENV)/.develop-stamp
	@$(PIP_INSTALL) --editable '.[fuzz]'
	@$(RUN) -m tests.fuzz $(ARGS)

bench: $(VENV)/.develop-stamp $(BUILT)
	@$(RUN) -m benchmarks $(if $(BUILT),--compiled) $(ARGS)

# The commit before is unpacked, and with COMPILED=1 compiled, once.
BEFORE ?= main
BEFORE_TREE = build/before/$(shell git rev-parse --short '$(BEFORE)^{commit}')
bench-compare: $(VENV)/.develop-stamp $(BUILT)
	@test -d $(BEFORE_TREE) || { mkdir -p $(BEFORE_TREE) && git archive $(notdir $(BEFORE_TREE)) | tar -x -C $(BEFORE_TREE); }
	@$(if $(BUILT),$(MAKE) -C $(BEFORE_TREE) VENV=$(abspath $(VENV)) $(BUILT))
	@$(RUN) -m benchmarks.before_after $(BEFORE_TREE)$(if $(BUILT),/$(COMPILED_BUILD)) $(if $(BUILT),$(COMPILED_BUILD),.) $(ARGS)

cluster-torture: $(VENV)/.develop-stamp $(BUILT)
	@$(ENVIRONMENT) CLUSTER_ROUNDS=$(or $(ROUNDS),10) $(RUN) -m $(PYTEST) -s --log-level=CRITICAL tests/cluster/test_etcd_member.py tests/cluster/test_torture.py $(ARGS)

clean:
	@rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
