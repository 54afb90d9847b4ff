"""What the documents claim: tables come from committed scores, named files exist, the test command
is CI's.
"""

from __future__ import annotations

import html
import re

import pytest

from conftest import CONF, ROOT
from kaldi.splits import read_split
from report import collect
from reporting import tables
from reporting.statistics import Run

README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "egs/vctk/results"


def test_results_md_is_rendered_from_the_committed_scores():
    assert (ROOT / "egs/vctk/RESULTS.md").read_text(encoding="utf-8") == collect(RESULTS)


def cells(text: str) -> list[list[str]]:
    """The cells of a Markdown table, without the rule below its heading."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [row for row in rows if not set("".join(row)) <= set("-:")]


def test_the_readmes_tables_are_rows_of_it():
    name, text = re.search(
        r"<!-- results: (\w+) -->\n(.*?)\n<!-- end -->", README, re.DOTALL
    ).groups()
    run = Run.read(RESULTS / name)
    rendered = tables.systems(run), tables.differences(run, ("pesq_wb", "si_sdr"))
    for shown, whole in zip(text.split("\n\n"), rendered, strict=True):
        heading, *rows = cells(shown)
        columns, by_name = (
            [whole[0].index(name) for name in heading],
            {row[0]: row for row in whole},
        )
        assert 5 <= len(rows) <= 7
        for row in rows:
            assert row == [by_name[row[0]][column] for column in columns]


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200


def test_what_the_readme_links_to_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 5
    for link in links:
        assert (ROOT / link).exists(), link


def test_ci_runs_the_readmes_test_command():
    command = ". egs/vctk/path.sh && pytest"
    assert f"    {command}\n" in README and f"{command}\n" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("path", sorted(CONF.glob("split_*.yaml")), ids=lambda path: path.stem)
def test_split_files_can_be_read(path):
    split = read_split(path)
    assert not set(split["dev"]) & set(split["test"])
    if path.stem == "split_vctk":
        assert {"p232", "p257"} <= set(split["test"])  # VoiceBank+DEMAND's test speakers


def test_examples_are_small_and_say_whose_they_are():
    folder = ROOT / "egs/vctk/examples"
    files = list(folder.iterdir())
    assert len(files) >= 5 and sum(path.stat().st_size for path in files) < 8e6
    page, note = ((folder / name).read_text() for name in ("index.html", "ATTRIBUTION.txt"))
    assert html.escape(note.strip()) in page
    for utt_id in re.findall(r'"utterance": "([^"]+)"', page):
        assert re.search(rf"\b{utt_id.split('_')[0]}\b", note), utt_id
