VENV := .venv
PYTHON := $(VENV)/bin/python

.PHONY: demo test lint bench clean

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
$(VENV)/%.stamp: setup.cfg pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.$(EXTRA)'
	@touch $@
