# Every target sets up .venv first where it is missing or older than pyproject.toml; nothing else has to be done before.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test torture lint format wheel bench clients models page ray stores docs notebooks clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

demo: $(STAMP) ## draw, train, export, explain and check the maps of three tasks, and audit, in some minutes; results in out/demo
	$(BIN)/otx demo --work_dir out/demo

test: $(STAMP) ## run all tests, doctests and documented examples
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

torture: $(STAMP) ## kill, starve and mislead runs at every point, and feed in broken files: tables, in some ten minutes
	$(BIN)/python tests/torture/matrix.py --errors 3
	$(BIN)/python tests/torture/fuzzing.py --count 300
	$(BIN)/python tests/torture/memory.py

lint: $(STAMP) ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## rewrite to the format that lint wants
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: ## build the wheel, install it into a fresh environment without torch, and explain a first model there
	$(PYTHON) tests/wheel/check_wheel.py

bench: $(STAMP) ## measure the claims of speed, side by side in one run
	$(BIN)/python benchmarks/white_box.py
	$(BIN)/python benchmarks/white_box_detectors.py
	$(BIN)/python benchmarks/end_to_end.py
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/black_box.py
	$(BIN)/python benchmarks/detectors.py --out out/detectors

clients: $(STAMP) .venv-clients/.installed .peers/.installed ## Intel's Model API reads what is exported; maps equal Captum's
	$(BIN)/python tests/clients/export_model.py out/clients
	.venv-clients/bin/python tests/clients/read_with_model_api.py out/clients
	PYTHONPATH=.peers $(BIN)/python tests/clients/compare_gradients.py

models: .venv-models/.installed ## explain classifiers and detectors of other packages, and compare: out/models/table.md
	.venv-models/bin/python tests/models_zoo/processors.py
	.venv-models/bin/python tests/models_zoo/run.py out/models

page: $(STAMP) .browser/.installed ## open the page of an audit in Chromium: every view, keyboard, phone, print, 10 000 images
	OTX_XAI_BROWSER=1 PYTHONPATH=.browser $(BIN)/python -m pytest tests/page

stores: $(STAMP) .stores/.installed ## read from S3, Google and the Hub and write there: requests refused, runs killed, the same bytes
	OTX_XAI_STORES=1 PYTHONPATH=.stores $(BIN)/python -m pytest -s tests/object_stores

ray: $(STAMP) .stores/.installed ## spread runs over a cluster of Ray on this machine, and kill what can be killed; alone, for some minutes
	OTX_XAI_RAY=1 PYTHONPATH=.stores $(BIN)/python -m pytest tests/ray

docs: $(STAMP) ## build the pages in docs/ and the API reference into docs/_build
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build
	@echo "docs/_build/index.html"

notebooks: $(STAMP) .notebooks/.installed ## execute the notebooks in docs/notebooks anew, in some minutes, and keep what they show
	PYTHONPATH=.notebooks $(BIN)/python docs/notebooks/execute.py

clean: ## remove what the targets made, except environments
	rm -rf out docs/_build build dist .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.venv-clients/.installed:
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install --quiet openvino-model-api
	@touch $@

# Without what they depend on: torch and the rest are in .venv, and stay as they are.
.peers/.installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --target .peers captum grad-cam ttach
	@touch $@

# Playwright drives the browser that is there, and brings none.
.browser/.installed: $(STAMP)
	command -v chromium > /dev/null || command -v google-chrome > /dev/null || { echo "make page needs Chromium: apt-get install chromium"; exit 1; }
	$(BIN)/python -m pip install --quiet --target .browser playwright
	@touch $@

# Servers that follow the protocols of S3 and of Google, and what speaks to them: 210 MB that nothing else needs.
.stores/.installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --target .stores s3fs 'moto[s3]' flask flask-cors gcsfs gcp-storage-emulator huggingface-hub
	@touch $@

# What runs notebooks: 110 MB that nothing else needs.
.notebooks/.installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --target .notebooks nbclient nbformat ipykernel ipywidgets
	@touch $@

# Ultralytics, which is under the AGPL, is in this environment only. It brings an OpenCV that clashes with ours.
.venv-models/.installed: pyproject.toml
	test -x .venv-models/bin/python || $(PYTHON) -m venv .venv-models
	.venv-models/bin/python -m pip install --quiet --editable ".[train]" \
		ultralytics transformers timm onnx onnxscript safetensors nncf ai-edge-litert
	.venv-models/bin/python -m pip uninstall --quiet --yes opencv-python opencv-python-headless
	.venv-models/bin/python -m pip install --quiet opencv-python-headless
	@touch $@

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@
