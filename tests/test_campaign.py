"""The campaign of kills in short: stages 0 and 1, with two strikes.

One process gets a SIGTERM, and the group gets a SIGKILL.
"""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import campaign

OPTIONS = ("--stop-stage", "1", "--nj", "2", "--conditions", "")


def test_killed_and_repeated_stages_end_as_if_nothing_had_been(
    plain_corpus: Path, tmp_path: Path
) -> None:
    terminate = campaign.Terminate()

    def strike(process: subprocess.Popen, draw: random.Random) -> str:
        return (terminate if terminate.counts.total() == 0 else campaign.kill_the_group)(
            process, draw
        )

    figures = campaign.campaign(
        tmp_path, (*OPTIONS, "--corpus", str(plain_corpus)), 2, 0, strike=strike
    )
    assert figures.bad == [] and figures.hits.total() == 2, figures.show()
    assert figures.compared > 40 and campaign.KILL in figures.done


def test_the_campaign_sees_what_differs_and_what_is_left_over(tmp_path: Path) -> None:
    one, other = (campaign.Recipe(tmp_path / name, ()) for name in ("one", "other"))
    for recipe in (one, other):
        (recipe.folder / "data").mkdir(parents=True)
        (recipe.folder / "data/wav.scp").write_text(f"a {recipe.folder}/a.wav\n")
    assert campaign.differences(other, campaign.results(one)) == []
    (other.folder / "data/wav.scp").write_text("a b.wav\n")
    (other.folder / ".x.part").write_text("")
    assert campaign.differences(other, campaign.results(one)) == [
        "data/wav.scp: differs",
        ".x.part: only in one of both",
        f"{other.folder}/.x.part: left over",
    ]
