"""The package's front: what it exports, what importing it costs, and that the README's words are true."""

import re
import subprocess
import sys
from pathlib import Path

import trueup

ROOT = Path(__file__).resolve().parents[1]


def test_everything_exported_exists():
    assert set(trueup.__all__) == set(trueup._PLACE_OF)
    assert all(getattr(trueup, name).__name__ == name for name in trueup.__all__)


def test_importing_is_cheap():
    code = "import sys, trueup; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_links_of_the_documentation_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_paths_of_a_machine_in_the_project():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".txt", ".json"} and path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"/(home|root|work|Users)/\w", text) or path == Path(__file__), name
