# SPDX-License-Identifier: MIT
# A front to meson; `make help` lists what it does.

BUILD ?= build
MESON ?= meson
NINJA ?= ninja

.PHONY: all help setup demo check soak coverage tenants throughput static asan tsan gates format install clean

all: $(BUILD)/build.ninja
	@$(NINJA) -C $(BUILD)

help:
	@echo 'make          build everything into build/ (the command is build/berth)'
	@echo 'make demo     install what is missing, build, show what Berth does'
	@echo 'make check    install what is missing, build, test everything'
	@echo 'make soak     the long random tests, for SOAK_SECONDS (1800): model, pool, simulator, tenants, fuzzers, mutants'
	@echo 'make coverage lines and branches of core/ that the tests reach'
	@echo 'make tenants  install what is missing, build, run some 40 real programs bare and under Berth'
	@echo 'make throughput  what living in a pool costs sqlite3 and redis while nothing is claimed'
	@echo 'make setup    install what is missing, nothing else'
	@echo 'make static   build-static/berth: one static executable, without the preload library'
	@echo 'make asan     tests under the address and undefined-behaviour sanitizers'
	@echo 'make tsan     tests under the thread sanitizer'
	@echo 'make gates    layering and freestanding gates'
	@echo 'make format   format the sources'
	@echo 'make install  install build/ under PREFIX (/usr/local), DESTDIR is honoured'
	@echo 'make clean    remove all build folders'

# Only a look: what installs packages is `make setup`, `make demo` and `make check`.
$(BUILD)/build.ninja:
	@scripts/setup.sh -n build
	@$(MESON) setup $(BUILD) $(MESON_ARGS)

setup:
	@scripts/setup.sh check

demo:
	@scripts/setup.sh demo
	@$(MAKE) --no-print-directory -s $(BUILD)/build.ninja
	@$(NINJA) -C $(BUILD) berth libberth-preload.so
	@scripts/demo.sh

check:
	@scripts/setup.sh check
	@scripts/check.sh

# SOAK_SECONDS: about how long
soak:
	@scripts/setup.sh check
	@$(MAKE) --no-print-directory -s $(BUILD)/build.ninja
	@$(NINJA) -C $(BUILD)
	@scripts/soak.sh $(BUILD)

coverage:
	@scripts/setup.sh check
	@scripts/coverage.sh

# ROUNDS: pairs of runs of each program (9)
throughput:
	@scripts/setup.sh check
	@$(MAKE) --no-print-directory -s $(BUILD)/build.ninja
	@$(NINJA) -C $(BUILD) berth libberth-preload.so
	@BERTH=$(abspath $(BUILD))/berth scripts/throughput.sh

# TENANTS: options for tests/tenants/matrix.sh and names of programs, all of them without
tenants:
	@scripts/setup.sh tenants
	@$(MAKE) --no-print-directory -s $(BUILD)/build.ninja
	@$(NINJA) -C $(BUILD) berth libberth-preload.so
	@BERTH=$(BUILD)/berth tests/tenants/matrix.sh $(TENANTS)

static:
	@scripts/setup.sh -n build
	@test -f build-static/build.ninja || $(MESON) setup build-static -Dstatic_tool=true
	@$(NINJA) -C build-static

asan tsan gates:
	@scripts/check.sh $@

format:
	@git ls-files --cached --others --exclude-standard -- '*.c' '*.h' | xargs -r clang-format -i

install: all
ifdef PREFIX
	@$(MESON) configure $(BUILD) -Dprefix=$(PREFIX)
endif
	@$(MESON) install -C $(BUILD)

clean:
	rm -rf build build-*
