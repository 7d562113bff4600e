# make help | demo | test | lint | bench | screenshots | constraints | clean
PYTHON ?= python3
VENV   ?= .venv
OUT    ?= demo-output
BENCH  ?= benchmark-output
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# A display of its own where Xvfb is (recursive: asked only after `system` may have installed it).
XVFB    = $(if $(shell command -v xvfb-run),xvfb-run -a -n $(DISPLAY0) -s "-screen 0 1600x1200x24 +extension GLX")
DISPLAY0 := 99

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench screenshots constraints clean system gui-pyqt5 gui-pyqt6

help:  ## Say what each target does.
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):[^#]*## */  make \1\t/' | expand -t 22

# The stamps say what is installed; only a change of pyproject.toml or constraints.txt installs again.
$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e ".[pyqt5]"
	@touch $@

$(VENV)/.dev: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e ".[pyqt5,pyqt6,dev]"
	@touch $@ $(VENV)/.run

system:
	@bash .ci/system-packages

demo: $(VENV)/.run  ## Label, train and predict on a real image: in napari, or without a display into demo-output/.
	$(BIN)/napari-mtssl demo cells --out $(OUT)

lint: $(VENV)/.dev  ## ruff, mypy, import-linter, npe2.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/npe2 validate napari_mtssl --imports

test: $(VENV)/.dev system lint  ## Lint, then every test: under Xvfb on PyQt5, and what opens a window again on PyQt6.
	$(PYTEST) -m "not gui" -n 2
	$(MAKE) --no-print-directory -j2 -O gui-pyqt5 gui-pyqt6

# Each on a display of its own; the numbers keep two searches for a free one apart.
gui-pyqt6: DISPLAY0 := 199
gui-pyqt5 gui-pyqt6: gui-%: $(VENV)/.dev
	QT_API=$* PYTEST_QT_API=$* $(XVFB) $(PYTEST) -m gui

screenshots: $(VENV)/.dev system  ## Take the README's pictures anew.
	QT_API=pyqt6 $(XVFB) $(BIN)/python docs/make_screenshots.py

bench: $(VENV)/.dev system  ## Measure every row of docs/benchmarks.md into benchmark-output/ (hours).
	@mkdir -p $(BENCH)
	for script in benchmarks/*.py; do \
	  $(XVFB) $(BIN)/python $$script --json $(BENCH)/$$(basename $$script .py).json || exit 1; \
	done

constraints: $(VENV)/.dev  ## Pin what is installed now (after the tests passed on it).
	@{ sed -n '/^#/p' constraints.txt; $(PIP) freeze --exclude-editable \
	  | sed -E -e 's/\+[[:alnum:].]+$$//' -e '/^(PyQt5-Qt5)==/s/$$/; sys_platform == "linux"/'; } > constraints.new
	@mv constraints.new constraints.txt

clean:  ## Remove the environment and what was built.
	rm -rf $(VENV) build dist $(OUT) $(BENCH)
