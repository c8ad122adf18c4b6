VENV := .venv
PYTHON := $(VENV)/bin/python

.PHONY: demo test lint bench lock sbom clean

demo: $(VENV)/base.stamp
	@$(PYTHON) -m mooltiproxy demo

# as many workers as there are cores, to a bound: each collects all tests first. Compiled files are kept, whatever the
# environment says: the tests start many processes of ours
test: $(VENV)/test.stamp
	PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/lint.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(VENV)/base.stamp
	$(PYTHON) bench/run.py

# the versions and hashes that the base install is known to work with, and those of the container image; for all systems
# and Pythons, so that they may be renewed anywhere
LOCK = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" --upgrade
lock: $(VENV)/release.stamp
	$(LOCK) --output-file requirements.txt setup.cfg
	$(LOCK) --output-file deploy/requirements.txt --extra redis --constraints requirements.txt setup.cfg
	echo 'setuptools>=77' | $(LOCK) --output-file deploy/build-requirements.txt -

# a real base install of what is locked, nothing built and nothing unhashed, and what it consists of (CycloneDX)
SBOM = build/sbom
INSTALL = $(PYTHON) -m pip --python $(SBOM)/base install --quiet --disable-pip-version-check --no-deps
sbom: $(VENV)/release.stamp
	rm -rf $(SBOM)
	$(PYTHON) -m venv --without-pip $(SBOM)/base
	$(INSTALL) --require-hashes --only-binary :all: -r requirements.txt
	$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(SBOM) .
	$(INSTALL) --no-index --find-links $(SBOM) mooltiproxy
	rm -rf build/lib build/bdist.*
	$(VENV)/bin/cyclonedx-py environment --output-reproducible --output-format JSON \
		--output-file $(SBOM)/mooltiproxy.cdx.json $(SBOM)/base

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# Debian's python3 may come without venv; virtualenv then does the same
$(PYTHON):
	python3 -m venv $(VENV) || { rm -rf $(VENV); \
		python3 -m pip install --user virtualenv || python3 -m pip install --user --break-system-packages virtualenv; \
		python3 -m virtualenv $(VENV); }

# one rule for each set of packages, run again when setup.cfg has changed
$(VENV)/base.stamp: EXTRA =
$(VENV)/test.stamp: EXTRA = [test]
$(VENV)/lint.stamp: EXTRA = [test,lint]
$(VENV)/release.stamp: EXTRA = [release]
$(VENV)/%.stamp: setup.cfg pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.$(EXTRA)'
	@touch $@
