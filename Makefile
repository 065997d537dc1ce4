# make setup   virtual environment with everything; make demo   the whole idea in minutes; make test   all tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint clean

setup: $(STAMP)

# torch first and pinned, so that pip takes the CPU build where one is offered instead of gigabytes of CUDA packages
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m datagen.backends.embedded.setup_gl
	touch $(STAMP)

DEMO := outputs/demo

demo: $(STAMP)
	@echo "Plan: draw a home; generate questions of each task, and block rooms for tiny models; make pages to look at."
	$(BIN)/python -m datagen.backends.embedded.show seed=9 output=$(DEMO)/home.png
	for task in pet pt mvc; do \
	  $(BIN)/python -m datagen backend=embedded task=$$task num_samples=8 seed=7 workers=2 output_dir=$(DEMO)/$$task && \
	  $(BIN)/python -m datagen.gallery source=$(DEMO)/$$task output=$(DEMO)/$$task.html || exit 1; \
	done
	$(BIN)/python -m datagen backend=blocks task=pet num_samples=64 seed=7 image_size=64 workers=2 output_dir=$(DEMO)/blocks
	$(BIN)/python -m datagen.gallery source=$(DEMO)/blocks output=$(DEMO)/blocks.html
	$(BIN)/python -m ipt.imagination.preview data=$(DEMO)/blocks mode=ipt output=$(DEMO)/mask.png
	@echo "Look at $(DEMO)/home.png, $(DEMO)/pet.html, pt.html, mvc.html, blocks.html and mask.png"

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
