# make atlas   set everything up and build the demo atlas
# make test    set everything up and pass the tests
# make judge   have an independent network name the demo's classes; JUDGE_WEIGHTS=FILE says where its weights are
# make bench  ours against PyTorch and onnx-ad, in an environment of its own (half an hour)
# make soak    kill processes of a Prefect installation at random and see that nothing is lost (half an hour)
# make trt-check  build step graphs with TensorRT for RTX, no GPU needed (half an hour; goes on where it stopped)
# make ort-check  ask ONNX Runtime's CUDA provider which step graphs it runs wholly, no GPU needed (ten minutes)
# make gpu-check  on a machine with a GPU: tests, parity, capture, rebuild, speed, on one page (not yet run on one)
# make studies DATA=FOLDER   build the demo atlas and run all studies of it, see docs/findings.md
# make priors, make evolution, make matching   with DATA=FOLDER: further studies; the last trains two generators (an hour)
# make coverage  measure which networks can be differentiated; writes docs/gradient-coverage.md (an hour or two)
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RIVALS := build/bench/venv
ATLAS  ?= lite0
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet

# DATA: a folder with exemplars224.tar, train128.tar, tiny64_train40k.tar, tiny64_val2k.tar, synset_words.txt and
# weights/squeezenet1_0_imagenet.npz (make studies)
DATA   ?= data

.PHONY: atlas test lint bench bench-site soak coverage judge trt-check ort-check gpu-check studies priors evolution matching clean
.DEFAULT_GOAL := atlas

atlas: $(VENV)/.run
	@$(BIN)/neuron-atlas build deploy/atlases/$(ATLAS).toml

test: $(VENV)/.test
	@$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(RIVALS)/.done
	@$(RIVALS)/bin/python -m tests.bench.throughput

$(RIVALS)/.done: pyproject.toml | $(VENV)/bin/python
	@echo "Setting up $(RIVALS) with the rivals (once, a few minutes)"
	@$(PYTHON) -m venv $(RIVALS)
	@$(RIVALS)/bin/python -m pip --disable-pip-version-check install --quiet -e '.[bench]'
	@touch $@

soak: $(VENV)/.test
	$(BIN)/python -m pytest -m slow -s tests/pipeline/test_soak.py tests/pipeline/test_together.py tests/pipeline/test_speedup.py

bench-site: $(VENV)/.test
	$(BIN)/python tests/bench/site_scale.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say which with: make PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	@echo "Setting up $(VENV) (once, about a minute)"
	@$(PIP) -e '.[cpu]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	@echo "Setting up $(VENV) with PyTorch and the test tools (once, a few minutes)"
	@$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.run

coverage: $(VENV)/.test
	@$(BIN)/python -m export.coverage

judge: $(VENV)/.run
	@$(BIN)/python -m pipeline.judge

trt-check: $(VENV)/.test
	@$(PIP) 'tensorrt-rtx>=1.7'
	@$(BIN)/python -m tests.bench.trt_check --table

ort-check: $(VENV)/.test
	@test -d build/onnxruntime-gpu || $(PIP) --no-deps --target build/onnxruntime-gpu 'onnxruntime-gpu>=1.31'
	@$(BIN)/python -m tests.bench.ort_check

gpu-check: $(VENV)/.test
	@$(BIN)/python -m pip --disable-pip-version-check uninstall --quiet --yes onnxruntime
	@$(PIP) --force-reinstall --no-deps 'onnxruntime-gpu>=1.31'
	@$(PIP) -e '.[tensorrt,gpu]'
	@nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv
	@$(BIN)/python -m tests.bench.gpu_check

studies: $(VENV)/.run
	@$(PIP) -e '.[cpu,studies]'
	@$(BIN)/neuron-atlas build deploy/atlases/$(ATLAS).toml
	@$(BIN)/neuron-atlas dataset-pass $(ATLAS) --images $(DATA)/exemplars224.tar
	@$(BIN)/neuron-atlas study $(ATLAS) --images $(DATA)/exemplars224.tar --publish 'permissive/*' \
	  --judge $(DATA)/weights/squeezenet1_0_imagenet.npz --classes $(DATA)/synset_words.txt \
	  --training $(DATA)/train128.tar --training $(DATA)/tiny64_train40k.tar --training $(DATA)/exemplars224.tar \
	  --held-out $(DATA)/tiny64_val2k.tar
	@$(BIN)/neuron-atlas build deploy/atlases/$(ATLAS).toml

JUDGED = --images $(DATA)/exemplars224.tar --publish 'permissive/*' --judge $(DATA)/weights/squeezenet1_0_imagenet.npz
PRIORS = pixels-l2 pixels-tv fourier box gaussian free
PAIRS  = lite0-by-lite0 lite0-by-squeezenet squeezenet-by-lite0 squeezenet-by-squeezenet
TRAIN  = $(BIN)/neuron-atlas train-generator --images $(DATA)/tiny64_train40k.tar --resolution 64 --batch 16 \
  --steps 300 --spatial-dim 16 --style-dim 256 --trained-on 'Tiny ImageNet, 40,000 images (ImageNet terms)'

priors: $(VENV)/.run
	@$(PIP) -e '.[cpu,studies]'
	@for p in $(PRIORS); do $(BIN)/neuron-atlas build deploy/studies/priors-$$p.toml || exit; done
	@$(BIN)/neuron-atlas study $(ATLAS) priors $(JUDGED) $(PRIORS:%=--compare deploy/studies/priors-%.toml)
	@$(BIN)/neuron-atlas build deploy/atlases/$(ATLAS).toml

evolution: $(VENV)/.test
	@$(BIN)/python -m tests.bench.small_network --images $(DATA)/tiny64_train40k.tar --out build/small
	@$(BIN)/neuron-atlas build deploy/studies/evolution.toml
	@$(BIN)/neuron-atlas study deploy/studies/evolution.toml evolution $(JUDGED)
	@$(BIN)/neuron-atlas build deploy/studies/evolution.toml

matching: $(VENV)/.test
	@$(BIN)/neuron-atlas export squeezenet:128 --weights $(DATA)/weights/squeezenet1_0_imagenet.npz \
	  -o build/matching/squeezenet.onnx
	@$(TRAIN) bundled:lite0 --taps _blocks.0,_blocks.2,_blocks.4,_blocks.10,_blocks.15 --out build/matching/lite0
	@$(TRAIN) build/matching/squeezenet.onnx --taps fire2,fire4,fire6,fire8,fire9 --out build/matching/squeezenet
	@for p in $(PAIRS); do $(BIN)/neuron-atlas build deploy/studies/matching-$$p.toml || exit; done
	@$(BIN)/neuron-atlas study $(ATLAS) matching $(JUDGED) $(PAIRS:%=--compare deploy/studies/matching-%.toml)
	@$(BIN)/neuron-atlas build deploy/atlases/$(ATLAS).toml

clean:
	rm -rf build $(VENV)
