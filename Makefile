# make demo: the whole job on an embedded corpus.  make test: the tests.  Both make .venv when it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# No run of ours asks the Hub for anything; `python run_ser.py` on your own machine does, for the backbone.
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: venv demo test test-fast test-slow test-browser stress lint types coverage pip-audit clean
venv: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[demo,excel,lora,onnx,ray,serve,tensorboard,dev]'
	touch $@

demo: venv
	rm -rf runs/demo
	$(BIN)/accelerate launch --quiet --cpu --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no run_ser.py configs/demo.yaml
	cd runs/demo/examples && $(CURDIR)/$(BIN)/python -c "$$ONE_CLIP"

define ONE_CLIP
from pathlib import Path
from transformers import pipeline
classify = pipeline("audio-classification", model=str(Path("..").resolve()), trust_remote_code=True)
clip = sorted(Path().glob("*.wav"))[0]
print(clip, *(f"{row['label']} {row['score']:.3f}" for row in classify(str(clip))), sep="  ")
endef
export ONE_CLIP

# Two workers with a thread each: many small models gain nothing from more threads.
test: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not browser and not heavy and not stress"

test-fast: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not browser and not heavy and not stress and not slow"

test-slow: venv
	$(BIN)/python -m pytest -m "heavy and not stress"

test-browser: venv
	$(BIN)/python -m pytest -m browser

# Faults by the thousand; prints the table of benchmarks/RESULTS.md, section "Faults". About 45 minutes on two cores.
stress: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m stress

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell .
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive ser run_ser.py data_prep.py ser_model.py
	$(BIN)/mypy

types: venv
	$(BIN)/mypy

# How much of the code `make test` runs, and every module below 100 %. Twice as long as `make test`.
coverage: venv
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -n 2 --dist worksteal -m "not browser and not heavy and not stress"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=90

# Known vulnerabilities of the pinned packages; asks pypi.org, so it needs a network. Its own packages stay out of .venv.
pip-audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit
	.venv-audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf runs .pytest_cache .ruff_cache
