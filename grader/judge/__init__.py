"""The trusted side: it loads answer keys, runs their suites and decides."""
