"""egs/vctk/dvc.yaml: the stages of run.sh as DVC sees them."""

from __future__ import annotations

import os
import re
import shutil

import pytest

from conftest import ROOT, run

PIPELINE = ROOT / "egs/vctk/dvc.yaml"

if not shutil.which("dvc") and os.environ.get("CI"):
    pytest.fail("the test of dvc.yaml needs dvc, as .ci/run installs it")


@pytest.mark.skipif(not shutil.which("dvc"), reason="dvc is not installed (pip install dvc)")
def test_dvc_would_run_every_stage_in_its_order(tmp_path):
    here = tmp_path / "egs/vctk"
    unwanted = shutil.ignore_patterns(".*", "data", "exp", "results", "examples")
    for folder in ("egs/vctk", "recipes"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=unwanted)
    made = ["corpus/ann", *(f"data/{split}/noisy/x" for split in ("train", "dev", "test"))]
    made += ["data/corpus.yaml", *(f"data/{split}/wav.scp" for split in ("train", "dev", "test"))]
    for name in ("l1", "gan"):
        made += [f"exp/{name}/{file}" for file in ("model/x", "enhanced/x", "scores.csv")]
    for path in made:  # what a dry run asks for, though a real one would make it
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).touch()
    assert run("dvc", "init", "--no-scm", "--quiet", cwd=here).returncode == 0
    dry = run("dvc", "repro", "--dry", cwd=here, env={"DVC_NO_ANALYTICS": "1"})
    assert dry.returncode == 0, dry.stderr
    commands = re.findall(r"^> bash run\.sh (.*)$", dry.stdout, re.MULTILINE)
    stages = [int(re.search(r"--stage (\d)", command)[1]) for command in commands]
    assert stages == sorted(stages) and sorted(set(stages)) == [0, 1, 2, 3, 4, 5]
    for option in {word for command in commands for word in re.findall(r"--[a-z-]+", command)}:
        assert option in run("bash", here / "run.sh", "--help").stdout
