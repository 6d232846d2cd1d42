# Every target builds .venv first when it is missing, half built, or older than what it is made from. Windows: plain
# commands in docs/running.md.
PYTHON ?= python3
PROFILE ?= cpu
MINUTES ?= 30
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The weekly job of CI gives an empty file here: then pip takes the newest versions.
CONSTRAINTS := $(or $(COURSE_CONSTRAINTS),constraints.txt)
# Hooks bring their own tools, so any pre-commit will do; a .venv is made for one only where there is none.
PRE_COMMIT := $(if $(wildcard $(READY)),,$(shell command -v pre-commit 2>/dev/null))
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Paths that users give may hold spaces and any other character; make's own functions for paths would split them.
quoted = '$(subst ','\'',$(1))'
absolute = $(if $(filter /%,$(firstword $(1))),$(1),$(CURDIR)/$(1))

.DEFAULT_GOAL := help
.PHONY: help venv lessons test lint coverage lab claims bench gpu data badges release readme korean figure grade constraints site pages clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(READY)  ## the virtual environment, with the versions of constraints.txt

$(READY): pyproject.toml homework/pyproject.toml constraints.txt
	@echo 'Making .venv. On Linux about 3.3 GB come in, most of it torch with its CUDA libraries, and fill 6.4 GB of disk;'
	@echo 'with the small CPU build of torch (see docs/running.md) about 0.5 GB. When it is interrupted, the same command goes on.'
	$(PYTHON) -m venv $(VENV)
	[ -t 1 ] || export PIP_PROGRESS_BAR=$${PIP_PROGRESS_BAR:-off}; \
	$(BIN)/python -m pip install --disable-pip-version-check -c $(call quoted,$(CONSTRAINTS)) -e ".[dev]" -e ./homework
	-[ ! -e .git ] || $(BIN)/pre-commit install-hooks
	@touch $@

lessons: $(READY)  ## execute every lesson, and make the site: open site/index.html (PROFILE=ci: tiny, in a minute or two)
	$(BIN)/python tools/lessons.py --profile $(PROFILE)

site: $(READY)  ## the same; a warning is an error
	$(BIN)/python tools/lessons.py --profile $(PROFILE) --strict

pages: $(READY)  ## the site anew from the lessons that were executed last: after a change of docs/ or of a docstring
	$(BIN)/python tools/pages.py --strict

test: $(READY) lint  ## lint, then all tests: code, lessons, claims, documents, grading
	COURSE_PROFILE=ci OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --nbmake tests notebooks

lint: $(if $(PRE_COMMIT),,$(READY))  ## formatting, spelling, types, how lessons read, notebooks without outputs, leaks
	$(if $(PRE_COMMIT),$(call quoted,$(PRE_COMMIT)),$(BIN)/pre-commit) run --all-files

coverage: $(READY)  ## which lines the tests of the package and of grading reach (shown, no gate)
	COURSE_PROFILE=ci OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --cov tests/unit tests/homework

lab: $(READY)  ## JupyterLab on the lessons
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

claims: $(READY)  ## measure claims anew (LESSON=01 SEEDS=3,4,5; all lessons and ten seeds when not given)
	$(BIN)/python tools/claims.py $(if $(LESSON),--lesson $(LESSON)) $(if $(SEEDS),--seeds $(SEEDS))

bench: $(READY)  ## ratios of speed, measured side by side (ONLY="textbook fit": these again, the other rows are kept)
	$(BIN)/python benchmarks/bench.py $(if $(ONLY),--only $(ONLY))

gpu: $(READY)  ## on a GPU: lessons at profile gpu, then ResNet-18 (MINUTES=30, DATA=folder, CIFAR_JPEG=file; see docs/running.md)
	$(BIN)/python benchmarks/gpu.py --check
	$(if $(DATA),COURSE_DATA=$(call quoted,$(call absolute,$(DATA)))) $(BIN)/python tools/claims.py --profile gpu; claims=$$?; \
	$(BIN)/python benchmarks/gpu.py --minutes $(MINUTES) $(if $(DATA),--data $(call quoted,$(DATA))) \
	$(if $(CIFAR_JPEG),--cifar-jpeg $(call quoted,$(CIFAR_JPEG))) && exit $$claims

data: $(READY)  ## rebuild the bundled data from the packages they come from
	$(BIN)/python tools/build_data.py

badges: $(READY)  ## rewrite what lessons share: badges, set-up cell, link to the next lesson
	$(BIN)/python tools/badges.py

release: $(READY)  ## make the students' homework from the instructor's
	$(BIN)/python tools/release.py

readme: $(READY)  ## rewrite the generated parts of README.md
	$(BIN)/python tools/readme.py

korean: $(READY)  ## bring the Korean catalogues up to date, and derive notebooks/ko/ from them
	$(BIN)/python tools/korean.py

figure: $(READY)  ## draw the figure of README.md anew, by executing lesson 00
	$(BIN)/python tools/figure.py

grade: $(READY)  ## grade a folder of notebooks: INBOX=… OUT=… (more by ARGS=…, see homework/README.md)
	$(if $(and $(INBOX),$(OUT)),,$(error say what to grade: make grade INBOX=folder-of-notebooks OUT=folder-for-grades))
	$(BIN)/course-grade $(call quoted,$(INBOX)) --out $(call quoted,$(OUT)) $(ARGS)

constraints:  ## resolve all dependencies anew into constraints.txt
	$(PYTHON) tools/constraints.py

clean:  ## remove what was built
	rm -rf $(VENV) site build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -not -path './.git/*' -exec rm -rf {} +
