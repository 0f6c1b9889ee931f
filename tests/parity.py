"""Print one line for each golden of the authors' code: its worst relative error, beside what is allowed."""

import sys

from tests.references import every_comparison


def main() -> int:
    failed = 0
    for comparison in every_comparison():
        verdict = "ok" if comparison.passed else "FAILED"
        failed += not comparison.passed
        print(f"{comparison.error:9.2e} of {comparison.tolerance:8.1e}  {verdict:6}  {comparison.name}", flush=True)
    print(f"{failed} comparison(s) failed" if failed else "all within their tolerances")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
