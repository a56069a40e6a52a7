"""Let a coverage-guided fuzzer (atheris, libFuzzer) look for bytes that a reader cannot bear.

    python tests/fuzzing/run.py messages -max_total_time=60

New inputs that reach new code go to tests/fuzzing/corpus/TARGET, and are replayed by the tests from then on;
an input that breaks something is written to the current directory. Options of libFuzzer follow the name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

CORPUS = Path(__file__).parent / "corpus"
MAX_INPUT_BYTES = 4096


def main() -> None:
    """Fuzz the target that the command line names."""
    name, *options = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).parents[1]))
    # Only code that is imported now tells the fuzzer which of its branches an input has reached.
    with atheris.instrument_imports(include=["gridnode.wire", "gridnode.core", "gridnode.net", "fuzzing"]):
        from fuzzing.targets import TARGETS
    directories = [option for option in options if not option.startswith("-")] or [str(CORPUS / name)]
    for directory in directories:
        Path(directory).mkdir(parents=True, exist_ok=True)
    settings = [option for option in options if option.startswith("-")]
    arguments = [sys.argv[0], f"-max_len={MAX_INPUT_BYTES}", *settings, *directories]
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
