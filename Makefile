# The commands of a day. `uv run tox` is every check; tox.ini says what each environment is.
.DEFAULT_GOAL := help
.PHONY: help setup check fast test e2e benchmark up down

help:       ## show these commands
	@grep -E '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup:      ## make the environment that editors and plain `pytest` use
	uv sync --group test

check:      ## style, format and types
	uv run tox -e lint,types

fast:       ## the tests that start no process: less than a minute
	uv run tox -e fast

test:       ## every check
	uv run tox

e2e:        ## the end-to-end suites, on embedded servers and in containers
	uv run tox -e e2e

benchmark:  ## the benchmarks at a size of minutes, and their report
	uv run --group bench pytest --benchmark

up:         ## the local stack, in the background
	uv run dagfusion up -d

down:       ## stop it
	uv run dagfusion down
