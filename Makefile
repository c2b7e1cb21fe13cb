# libasap: reliable server pooling. `make` builds, `make demo` shows it, `make test` tests it.

CARGO ?= cargo
SEEDS ?= 1000

.PHONY: all demo test lint sim model endurance registrars soak lab interop header python python-test examples docs deb packages clean help

all: ## build library, daemon, tools (target/release)
	$(CARGO) build --release --workspace
	ln -sf libasap.so target/release/libasap.so.0
	mkdir -p target/release/rsplib && ln -sf ../librsplib.so target/release/rsplib/librsplib.so.3

examples: all ## build the C programs of c-examples (build/)
	$(MAKE) -C c-examples LIBDIR=$(CURDIR)/target/release OUT=$(CURDIR)/build

demo: examples ## a pool of three C servers, one C client, servers killed again and again
	target/release/asapctl demo --programs build

test: lint docs ## everything; says what this machine has no tools for
	CARGO="$(CARGO)" tests/run

lint: ## formatting, clippy with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings

docs: ## API documentation without warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --workspace --no-deps

sim: ## long simulator runs: make sim SEEDS=1000 (100 is what a test run does)
	SIM_SEEDS=$(SEEDS) $(CARGO) test --release --test sim -- --nocapture

endurance: examples ## 10^6 requests of a C client while its servers are killed (half a minute)
	RUST_LOG=error $(CARGO) test --test endurance -- --ignored --nocapture

registrars: ## registrars killed and stopped, 1,000 elements; a table of 100,000 (some minutes)
	RUST_LOG=error $(CARGO) test --release --package asap-registrar --test cluster -- --ignored --nocapture --test-threads=1 --skip lab_

model: ## the takeover arbitration in larger scopes than CI's
	MODEL_SCOPE=large $(CARGO) test --release --test model -- --nocapture

soak: SEEDS = 10000
soak: endurance registrars sim model ## what takes too long for CI
	$(CARGO) test --release --test sim a_hundred_thousand -- --ignored --nocapture
	LAB_REQUESTS=100000 tests/lab/run stateful
	LAB_MEMORY=3G tests/lab/run soak-rsplib
	LAB_SECONDS=600 LAB_TIMEOUT=900 tests/lab/run interop-dropin-kills

lab: examples deb ## kernel SCTP in User-Mode Linux guests (tests/lab/README.md)
	CARGO="$(CARGO)" tests/lab/all

interop: examples ## our programs and RSPLIB's in one world, in the same guests
	CARGO="$(CARGO)" tests/lab/all --with-rsplib

header: ## generate include/asap.h anew, and what Python declares of it
	UPDATE_HEADER=1 $(CARGO) test --test header
	python3 python/declare.py

python: ## a wheel with the library in it (build/python/)
	CARGO="$(CARGO)" python/wheel build/python

python-test: ## the Python package: its wheel in a virtual environment, mypy, tests against a registrar
	CARGO="$(CARGO)" python/tests/run

include packaging/install.mk

deb: all ## Debian packages, in build/deb (needs debhelper)
	rm -rf build/deb
	mkdir -p build/deb
	debian/rules binary DEBS=$(CURDIR)/build/deb >build/deb.log 2>&1 || { cat build/deb.log >&2; exit 1; }
	dh_clean

packages: deb ## what `make install` places and what the Debian packages hold, and programs built against it
	CARGO="$(CARGO)" tests/packages/run

clean:
	$(CARGO) clean
	rm -rf build

help:
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile packaging/install.mk | expand -t 16
