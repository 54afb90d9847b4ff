"""egs/vctk/dvc.yaml: the stages of run.sh as DVC sees them."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from conftest import ROOT, run

PIPELINE = ROOT / "egs/vctk/dvc.yaml"
# What run.sh leaves; the tables of stage 1 name the same files whatever those hold
FAKE = """
echo "$*" >>asked
while [ $# -gt 0 ]; do
    case $1 in --stage) stage=$2 ;; --experiments) exp=exp/$2 ;; esac
    shift
done
case $stage in
    0) mkdir -p data/local data/{train,dev,test}; touch data/corpus.yaml
        cat corpus/* >data/local/prepared.made ;;
    1) for split in train dev test; do echo files >data/$split/noisy.scp; done ;;
    2) mkdir -p $exp/model; cat data/local/prepared.made data/code.cksum >$exp/model/weights ;;
    3) mkdir -p $exp/enhanced; cp $exp/model/weights $exp/enhanced ;;
    4) cp $exp/enhanced/weights $exp/scores.csv ;;
    5) cat exp/*/scores.csv | tee exp/RESULTS.md >exp/report.html ;;
esac
"""

if not shutil.which("dvc") and os.environ.get("CI"):
    pytest.fail("the test of dvc.yaml needs dvc, as .ci/run installs it")


@pytest.mark.skipif(not shutil.which("dvc"), reason="dvc is not installed (pip install dvc)")
def test_dvc_runs_what_has_changed_and_nothing_else(tmp_path: Path) -> None:
    here = tmp_path / "egs/vctk"
    texts = {
        "egs/vctk/run.sh": FAKE,
        "egs/vctk/dvc.yaml": PIPELINE.read_text(),
        "egs/vctk/conf/noise.yaml": "seed: 0\n",
        "egs/vctk/corpus/ann_1.wav": "said",
        "egs/vctk/local/corrupt.py": "",
        "recipes/train.py": "",
        "gan_denoise/corruption/noise.py": "",
        "requirements.lock": "pesq==0.0.4\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert run("dvc", "init", "--no-scm", "--quiet", cwd=here).returncode == 0

    def repro() -> list[str]:
        (here / "asked").write_text("")
        done = run("dvc", "repro", cwd=here, env={"DVC_NO_ANALYTICS": "1"})
        assert done.returncode == 0, done.stderr
        return (here / "asked").read_text().splitlines()

    commands = repro()
    stages = [int(command.split("--stage ")[1][0]) for command in commands]
    assert stages == sorted(stages) and [stages.count(stage) for stage in range(6)] == [
        *(1, 1, 2, 2, 2, 1)
    ]
    for option in {word for command in commands for word in re.findall(r"--[a-z-]+", command)}:
        assert option in run("bash", ROOT / "egs/vctk/run.sh", "--help").stdout
    assert repro() == []
    for changed in ("egs/vctk/corpus/ann_1.wav", "gan_denoise/corruption/noise.py"):
        with (tmp_path / changed).open("a") as file:
            file.write("# anew\n")
        assert repro() == commands, changed
