# Every target builds .venv first when it is missing or older than what it is made from. Windows: plain commands in README.md.
PYTHON ?= python3
PROFILE ?= cpu
MINUTES ?= 30
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help venv lessons test lint lab claims bench gpu data badges release readme figure grade constraints site clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

venv: $(READY)  ## the virtual environment, with the versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e ".[dev]"
	@touch $@

lessons: $(READY)  ## execute every lesson, one page each in site/ (PROFILE=ci for seconds)
	$(BIN)/python tools/lessons.py --profile $(PROFILE)

site: lessons  ## the same

test: lint  ## everything CI runs
	COURSE_PROFILE=ci OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --nbmake tests notebooks

lint: $(READY)  ## formatting, spelling, notebooks without outputs, leaks
	$(BIN)/pre-commit run --all-files

lab: $(READY)  ## JupyterLab on the lessons
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

claims: $(READY)  ## measure claims anew (LESSON=01 SEEDS=3,4,5; all lessons and default seeds when not given)
	$(BIN)/python tools/claims.py $(if $(LESSON),--lesson $(LESSON)) $(if $(SEEDS),--seeds $(SEEDS))

bench: $(READY)  ## ratios of speed, measured side by side (ONLY="textbook fit": these again, the other rows are kept)
	$(BIN)/python benchmarks/bench.py $(if $(ONLY),--only $(ONLY))

gpu: $(READY)  ## on a GPU: lessons at profile gpu, then ResNet-18 (MINUTES=30, DATA=folder, CIFAR_JPEG=file; see README.md)
	$(BIN)/python benchmarks/gpu.py --check
	$(if $(DATA),COURSE_DATA="$(abspath $(DATA))") $(BIN)/python tools/claims.py --profile gpu; claims=$$?; \
	$(BIN)/python benchmarks/gpu.py --minutes $(MINUTES) $(if $(DATA),--data "$(DATA)") $(if $(CIFAR_JPEG),--cifar-jpeg "$(CIFAR_JPEG)") && exit $$claims

data: $(READY)  ## rebuild the bundled data from the packages they come from
	$(BIN)/python tools/build_data.py

badges: $(READY)  ## rewrite what lessons share: badges, set-up cell, link to the next lesson
	$(BIN)/python tools/badges.py

release: $(READY)  ## make the students' homework from the instructor's
	$(BIN)/python tools/homework.py

readme: $(READY)  ## rewrite the generated tables of README.md
	$(BIN)/python tools/readme.py

figure: $(READY)  ## draw the figure of README.md anew, by executing lesson 00
	$(BIN)/python tools/figure.py

grade: $(READY)  ## grade a folder of notebooks: INBOX=… OUT=… (more by ARGS=…, see homework/README.md)
	$(if $(and $(INBOX),$(OUT)),,$(error say what to grade: make grade INBOX=folder-of-notebooks OUT=folder-for-grades))
	$(BIN)/course-grade "$(INBOX)" --out "$(OUT)" $(ARGS)

constraints:  ## resolve all dependencies anew into constraints.txt
	$(PYTHON) tools/constraints.py

clean:  ## remove what was built
	rm -rf $(VENV) site build dist .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -not -path './.git/*' -exec rm -rf {} +
