"""Write the README's table of evidence from the pages in `docs/evidence`.

python benchmarks/readme_evidence.py
"""

from pathlib import Path

from trueup.report.evidence import update_readme

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    changed = update_readme(ROOT / "README.md", ROOT / "docs" / "evidence")
    print("README.md: table of evidence " + ("updated" if changed else "is up to date"))


if __name__ == "__main__":
    main()
