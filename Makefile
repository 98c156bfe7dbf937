# The commands of the project; `make` lists them. Everything is built in .venv and build/.
#
# .venv contains a normal install of the package, which is repeated when a source has changed, so that the tests run
# what users get. CONTRIBUTING.md explains why it is not an editable install.

PYTHON ?= python3
WERROR ?= 0
FUZZ_SECONDS ?= 600
HOSTILE_ACTS ?= 10000000
SOAK_SECONDS ?= 3600
KILLS ?= 10000
# Test programs that run at the same time.
AT_ONCE ?= $(if $(filter 1,$(shell nproc)),1,2)

BIN := $(CURDIR)/.venv/bin
# meson finds ninja and python in the environment.
export PATH := $(BIN):$(PATH)
STRICT := $(if $(filter 1,$(WERROR)),-Dwerror=true)

SOURCES := meson.build meson_options.txt pyproject.toml README.md tools/build_backend.py \
    $(shell find include src binding pyisolate -name '*.[ch]' -o -name '*.py' -o -name '*.pyi' -o -name meson.build)
C_FILES := $(shell find include src binding tests benchmarks -name '*.[ch]')
TESTS := $(shell find tests benchmarks -name '*.[ch]' -o -name meson.build)
FUZZERS := $(basename $(notdir $(wildcard tests/fuzz/fuzz_*.c)))
SANITIZE := -Dpython=false -Dlibrary=false -Dbenchmarks=false -Dtests=enabled -Db_lto=false -Doptimization=2 \
    -Db_lundef=false $(STRICT)

.PHONY: help packages build bench bench-all native-bench test test-asan test-tsan test-python test-first-half \
    test-second-half test-pythons test-oldest test-coverage test-packages test-fuzz test-model test-aarch64 \
    test-musl test-no-gpu test-asan-module check lint fuzz fuzz-coverage soak format clean

help:
	@echo 'make build         .venv with the package and its extension'
	@echo 'make check         lints, types and the quick tests, in under a minute'
	@echo 'make test          everything: C tests under sanitizers, pytest, other Pythons, fuzzers, model, lints'
	@echo 'make test-pythons  the quick tests with the oldest and the newest other installed Python'
	@echo 'make test-oldest   arrays and tensors with the oldest NumPy'
	@echo 'make test-packages popular packages in the sandbox, from PyPI'
	@echo 'make test-aarch64  the core for aarch64, under qemu'
	@echo 'make test-musl     the core with the C library of Alpine'
	@echo 'make test-no-gpu   a build without support for GPUs'
	@echo 'make test-asan-module  the extension module under the address sanitizer'
	@echo 'make bench         build, then the quick benchmark'
	@echo 'make bench-all     all benchmarks, into one file in results/'
	@echo 'make native-bench  the benchmark of the C core alone'
	@echo 'make fuzz          every fuzzer, FUZZ_SECONDS=$(FUZZ_SECONDS) in total, then a hostile peer, HOSTILE_ACTS=$(HOSTILE_ACTS)'
	@echo 'make fuzz-coverage lines of the decoders that the corpus reaches'
	@echo 'make soak          mixed load, SOAK_SECONDS=$(SOAK_SECONDS); then KILLS=$(KILLS), then a crash loop, then references'
	@echo 'make format        clang-format and ruff, in place'
	@echo 'make clean         removes build/ and .venv'

# ---- environment ---------------------------------------------------------------------------------

# Checked before anything is built. Targets not listed here also need the tools of the C tests.
ONLY_BUILD := build bench bench-all native-bench soak check lint format test-python test-first-half test-second-half \
    test-pythons test-oldest test-coverage test-packages test-no-gpu test-asan-module
NEEDS := $(if $(filter-out $(ONLY_BUILD) test-aarch64 test-musl,$(MAKECMDGOALS)),all,build) \
    $(patsubst test-%,%,$(filter test-aarch64 test-musl,$(MAKECMDGOALS)))

packages:
	@PYTHON='$(PYTHON)' tools/install-packages '$(strip $(NEEDS))' 'make $(MAKECMDGOALS)'

.venv/.made: | packages
	$(PYTHON) -m venv .venv
	touch $@

.venv/.tools: .venv/.made pyproject.toml tools/install_extras.py
	$(BIN)/python tools/install_extras.py dev test converters
	touch $@

.venv/.installed: .venv/.tools $(SOURCES)
	$(BIN)/pip install --quiet --no-build-isolation --force-reinstall --no-deps \
	    --config-settings=build-dir=build/wheel $(if $(STRICT),--config-settings=setup-args=$(STRICT)) .
	touch $@

# After the package: two runs of pip at once would interfere in one environment.
.venv/.bench: .venv/.tools | .venv/.installed
	$(BIN)/python tools/install_extras.py bench
	touch $@

build: .venv/.installed

bench: build .venv/.bench
	$(BIN)/python benchmarks/benchmark.py --quick

bench-all: build .venv/.bench
	PYTHON=$(BIN)/python benchmarks/run_benchmarks.sh

# ---- C -------------------------------------------------------------------------------------------

build/asan/build.ninja: .venv/.tools
	meson setup --reconfigure build/asan $(SANITIZE) -Db_sanitize=address,undefined

# With clang: gcc inlines small memcpys without reporting them to the sanitizer.
build/tsan/build.ninja: .venv/.tools
	CC=clang meson setup --reconfigure build/tsan $(SANITIZE) -Db_sanitize=thread

build/fuzz/build.ninja: .venv/.tools
	CC=clang meson setup --reconfigure build/fuzz $(SANITIZE) -Dtests=disabled -Dfuzzers=true \
	    -Db_sanitize=address,undefined

build/native/build.ninja: .venv/.tools
	meson setup --reconfigure build/native -Dpython=false -Dlibrary=true -Dtests=disabled -Db_ndebug=true $(STRICT)

# skipped(folder): prints the skipped tests of a build, with the reasons.
skipped = @grep -a '^skipped: ' $(1)/meson-logs/testlog.txt | sort | uniq -c || true

test-asan: build/asan/build.ninja
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 meson test -C build/asan --print-errorlogs
	$(call skipped,build/asan)

test-tsan: build/tsan/build.ninja
	TSAN_OPTIONS=halt_on_error=1 meson test -C build/tsan --suite threads --print-errorlogs
	$(call skipped,build/tsan)

# ---- other machines ------------------------------------------------------------------------------

OTHER := -Dpython=false -Db_lto=false -Doptimization=1 $(STRICT)

build/aarch64/build.ninja: .venv/.tools tools/aarch64.ini
	meson setup --reconfigure build/aarch64 --cross-file tools/aarch64.ini -Dtests=enabled $(OTHER)

# Tests take longer under emulation.
test-aarch64: build/aarch64/build.ninja
	meson test -C build/aarch64 --timeout-multiplier 5 --print-errorlogs
	$(call skipped,build/aarch64)

# Uses the kernel's headers without glibc's. CMOCKA=folder: where a cmocka built with musl is installed; without it only
# tests that do not need cmocka run.
build/musl/build.ninja: .venv/.tools
	mkdir -p build/musl-headers
	ln -sfn /usr/include/linux build/musl-headers/linux
	ln -sfn /usr/include/asm-generic build/musl-headers/asm-generic
	ln -sfn /usr/include/$$($(CC) -print-multiarch)/asm build/musl-headers/asm
	ln -sfn /usr/include/$$($(CC) -print-multiarch) build/musl-headers/ # Debian's headers of Python name it
	CC=musl-gcc PKG_CONFIG_LIBDIR=$(CMOCKA)/lib/pkgconfig meson setup --reconfigure build/musl $(OTHER) -Dfuzzers=true \
	    -Dtests=$(if $(CMOCKA),enabled,disabled) -Dc_args='-idirafter $(CURDIR)/build/musl-headers'

# The binding is only compiled: there is no Python with musl to link with.
test-musl: build/musl/build.ninja
	meson test -C build/musl --print-errorlogs
	headers=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))') && \
	    find binding -name '*.c' -print0 | xargs -0 -n 1 musl-gcc -fsyntax-only -std=gnu11 -D_GNU_SOURCE -Wall -Wextra \
	        -Werror -Iinclude -Ibinding -I"$$headers" -idirafter build/musl-headers
	$(call skipped,build/musl)

# ---- more of C -----------------------------------------------------------------------------------

native-bench: build/native/build.ninja
	meson compile -C build/native
	build/native/benchmarks/native_benchmark

# fuzz_all(seconds in total): runs each fuzzer in turn, from its corpus. New inputs are stored in build/.
define fuzz_all
	meson compile -C build/fuzz
	set -e; for name in $(FUZZERS); do \
	    mkdir -p build/corpus/$$name tests/fuzz/corpus/$$name; \
	    build/fuzz/tests/fuzz/$$name -max_total_time=$$(( $(1) / $(words $(FUZZERS)) )) -print_final_stats=0 \
	        -verbosity=0 -timeout=10 -artifact_prefix=build/ build/corpus/$$name tests/fuzz/corpus/$$name; \
	done
endef

test-fuzz: build/fuzz/build.ninja
	$(call fuzz_all,60)

fuzz: build/fuzz/build.ninja build/asan/build.ninja
	$(call fuzz_all,$(FUZZ_SECONDS))
	meson compile -C build/asan
	build/asan/tests/hostile/hostile_peer $(HOSTILE_ACTS) 1
	build/asan/tests/hostile/hostile_peer $(HOSTILE_ACTS) 2 threads

COVERAGE := -fprofile-instr-generate -fcoverage-mapping

build/coverage/build.ninja: .venv/.tools
	CC=clang meson setup --reconfigure build/coverage $(SANITIZE) -Dtests=disabled -Dfuzzers=true \
	    -Dc_args='$(COVERAGE)' -Dc_link_args='$(COVERAGE)'

# Replays the corpus in the tree and the inputs found by `make fuzz`. Needs llvm-cov and llvm-profdata (Debian: llvm).
fuzz-coverage: build/coverage/build.ninja
	meson compile -C build/coverage
	set -e; for name in $(FUZZERS); do \
	    mkdir -p build/corpus/$$name; \
	    cp -n tests/fuzz/corpus/$$name/* build/corpus/$$name/; \
	    LLVM_PROFILE_FILE=build/coverage/$$name.profraw \
	        build/coverage/tests/fuzz/replay_$$name build/corpus/$$name; \
	done
	llvm-profdata merge -o build/coverage/all.profdata $(FUZZERS:%=build/coverage/%.profraw)
	llvm-cov report build/coverage/tests/fuzz/replay_$(firstword $(FUZZERS)) \
	    $(FUZZERS:%=-object build/coverage/tests/fuzz/replay_%) \
	    -instr-profile build/coverage/all.profdata src/wire/frame.c src/wire/reader.c src/wire/writer.c

soak: build .venv/.bench
	$(BIN)/python tests/soak/soak.py load --seconds $(SOAK_SECONDS)
	$(BIN)/python tests/soak/soak.py kills --count $(KILLS)
	$(BIN)/python tests/soak/soak.py crashes
	$(BIN)/python tests/soak/soak.py references

# Checks the doorbell handshake of the ring over all interleavings.
test-model: packages
	mkdir -p build/model
	cd build/model && spin -a ../../tests/model/ring.pml && \
	    $(CC) -O2 -DSAFETY -o ring pan.c && ./ring -m100000 | tee ring.log && grep -q 'errors: 0' ring.log

# ---- Python and lints ----------------------------------------------------------------------------

# Two processes of pytest, each with about half of the work, then what needs the machine for itself. Not pytest-xdist:
# it has threads in the tests' processes, and beside threads that may use them tensors are not moved to shared memory.
SECOND_HALF := $(addprefix tests/,python/sandbox python/tensors python/values test_benchmark_programs.py \
    test_memory_benchmark.py)

test-python: build .venv/.bench
	$(MAKE) -j$(AT_ONCE) -O test-first-half test-second-half
	$(BIN)/pytest -m alone

test-first-half: build .venv/.bench
	$(BIN)/pytest -m 'not alone' $(addprefix --deselect=,$(SECOND_HALF))

test-second-half: build .venv/.bench
	$(BIN)/pytest -m 'not alone' $(SECOND_HALF)

# Other Pythons than that of .venv, as many as there is time for; tools/test-pythons tries each that is here.
test-pythons: build
	WERROR=$(WERROR) PYTHON=$(BIN)/python tools/test-pythons --ends

# Runs the tests of arrays and tensors with the oldest supported NumPy.
test-oldest: build
	WERROR=$(WERROR) PYTHON=$(BIN)/python tools/test-pythons --oldest-numpy

# A build without the part for GPUs, beside the other: what is left of tensors, and that it says what is not there.
NO_GPU := build/no-gpu
test-no-gpu: build
	rm -rf $(NO_GPU)/package
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --target $(NO_GPU)/package \
	    --config-settings=build-dir=$(NO_GPU)/wheel --config-settings=setup-args=-Dgpu=false \
	    $(if $(STRICT),--config-settings=setup-args=$(STRICT)) .
	PYTHONPATH=$(CURDIR)/$(NO_GPU)/package $(BIN)/pytest -q $(addprefix tests/python/,tensors/test_no_gpu.py \
	    tensors/test_tensors.py tensors/test_torch_values.py tensors/test_cuda_copies.py calls/test_calls.py)

# The extension module under the address sanitizer, against what a hostile peer can send. Leaks are not looked for: the
# interpreter has some of its own.
MODULE := build/asan-module
SANITIZERS = $(shell $(CC) -print-file-name=libasan.so) $(shell $(CC) -print-file-name=libubsan.so)
test-asan-module: build
	meson setup --reconfigure $(MODULE) -Dlibrary=false -Dbenchmarks=false -Dtests=disabled -Db_lto=false \
	    -Doptimization=1 -Db_lundef=false -Db_sanitize=address,undefined $(STRICT)
	meson compile -C $(MODULE)
	rm -rf $(MODULE)/package && mkdir $(MODULE)/package
	cp -r pyisolate $(MODULE)/package && cp $(MODULE)/binding/_core*.so $(MODULE)/package/pyisolate
	PYTHONPATH=$(CURDIR)/$(MODULE)/package LD_PRELOAD='$(SANITIZERS)' ASAN_OPTIONS=detect_leaks=0 \
	    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 $(BIN)/pytest -q $(addprefix tests/python/, \
	    converters/test_hostile_columns.py values/custom values/test_malformed.py calls/test_references.py)

# Runs popular packages in the sandbox. Not part of `make test`: it installs gigabytes.
test-packages: build
	$(BIN)/pytest tests/packages

# Lines of the package that run in extensions' processes, seen from within these (tests/python/helpers/child_coverage.py).
CHILD_TESTS := calls/plain_threads environments/interpreter environments/site lifecycle/fork_in_extension lifecycle/hidden_modules \
    lifecycle/manager lifecycle/output lifecycle/zygote sandbox/sandbox_hints usage/mistakes_classes usage/mistakes_errors \
    usage/singletons

test-coverage: build
	rm -rf build/child-coverage && mkdir -p build/child-coverage
	CHILD_COVERAGE=$(CURDIR)/build/child-coverage $(BIN)/pytest -q -k 'not memory and not hundred and not crash' \
	    $(foreach test,$(CHILD_TESTS),tests/python/$(dir $(test))test_$(notdir $(test)).py)
	$(BIN)/python tests/python/helpers/child_coverage.py build/child-coverage

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)

# The tests that find most mistakes soonest; `make test` runs all.
QUICK := calls/calls calls/gather calls/tasks usage/config \
    usage/singletons values/buffers values/collections values/exceptions values/values

check: build lint
	$(BIN)/pytest -q tests/lint $(foreach test,$(QUICK),tests/python/$(dir $(test))test_$(notdir $(test)).py)

format: .venv/.tools
	$(BIN)/clang-format -i $(C_FILES)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: packages
	$(MAKE) build
	$(MAKE) lint
	$(MAKE) test-asan test-tsan
	$(MAKE) test-python
	$(MAKE) test-pythons
	$(MAKE) -j$(AT_ONCE) -O test-coverage test-no-gpu test-asan-module test-model test-fuzz

clean:
	rm -rf build .venv pyisolate/_core.*.so
