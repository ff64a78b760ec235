"""Coverage-guided fuzzing of all that reads what a stranger sends.

`targets.py` says what is fuzzed and what must hold, `python -m tests.fuzz TARGET` does it (with atheris, which `make
fuzz-bytes` installs), and `found/` keeps the inputs that once showed a defect: `tests/properties/test_fuzz_targets.py`
tries them again, without atheris.
"""
