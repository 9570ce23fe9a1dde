"""What the rows of the paper's tables take, as ``docs/scaling.md``.

python -m benchmarks.scaling [--utilisation 0.4] > docs/scaling.md
"""

import argparse

from benchmarks.scaling.document import document

ASSUMED = 0.4


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--utilisation", type=float, default=ASSUMED, help="model-FLOP, 0 to 1")
    utilisation = parser.parse_args().utilisation
    if not 0 < utilisation <= 1:
        parser.error(f"--utilisation {utilisation} must be above 0 and at most 1")
    print(document(utilisation), end="")


if __name__ == "__main__":
    main()
