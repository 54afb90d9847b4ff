"""What the documents claim, and how they say it.

Tables come from committed scores, named files, anchors, options and defaults exist, the words are
few, and a word of ours is explained where a page first uses it.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import html
import re
import tomllib
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from setuptools._distutils.filelist import FileList

from conftest import CONF, ROOT
from gan_denoise.cli import parser
from gan_denoise.serve.limits import Limits
from kaldi.splits import read_split
from reporting import tables
from reporting.publication import collect
from reporting.statistics import Run
from training.experiment import Experiment

RESULTS = ROOT / "egs/vctk/results"
PAGES = sorted(
    path
    for folder in (ROOT, ROOT / "egs", ROOT / "gan_denoise", ROOT / "recipes", ROOT / "tests")
    for path in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
    if path.name != "RESULTS.md" and "/egs/vctk/exp/" not in str(path)
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
# At most so many words, as wc counts them
MOST_WORDS = {
    ("README.md",): 1200,
    tuple(f"egs/vctk/{n}.md" for n in ("FINDINGS", "BOX", "SPEED")): 4500,
}
# Words of ours. The block in which a page first uses one sets it in *italics* or bold, and explains
# it, or is a row of a table that begins with it.
OURS = {
    "mini corpus": r"mini corpus",
    "procedure": r"(?:fixed |default )?procedure",
    "coffee": r"(?:section )?coffee",
    "all": r"section all",
    "all elsewhere": r"all elsewhere",
    "box": r"box",
    "hop": r"hops?",
    "visit": r"visits?",
    "real-time factor": r"real-time factors?",
    "strength": r"strength",
}
# What the house does not say, and what it says
SHUNNED = {
    r"\bin the place of\b": "where ... has, or: not",
    r"\bstrangers\b": "test speakers and noise that no model was trained on",
    r"\butilis|\butiliz": "use",
    r"\bleverag": "use",
    r"\bsimply\b|\bjust\b|\bobviously\b": "nothing",
    r"\bwhereof\b|\bthereof\b|\bwherein\b": "of which, in which",
    r"\b(\w+) \1\b": "the word once",
    r"(?m:^(?-i:[A-Z]{3,})$)": "what the placeholder stands for",
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(text: str) -> str:
    """A page without blocks of code, comments, and targets of links."""
    blocks = r"^```.*?^```$|^    [^\n]*$|<!--.*?-->"
    text = re.sub(blocks, "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", text)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_below(page: str, heading: str) -> dict[str, list[str]]:
    """The rows of the first table below a heading, by the first cell without its quotes."""
    text = (ROOT / page).read_text(encoding="utf-8")
    _, _, below = text.partition(f"\n{heading}\n")
    rows = re.search(r"^\|.*?(?=\n\n|\Z)", below, re.MULTILINE | re.DOTALL)
    assert rows, heading
    return {row[0].strip("`"): row[1:] for row in cells(rows[0])[1:]}


def cells(text: str) -> list[list[str]]:
    """The cells of a Markdown table, without the rule below its heading."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [row for row in rows if not set("".join(row)) <= set("-:")]


def test_results_md_is_rendered_from_the_committed_scores() -> None:
    assert (ROOT / "egs/vctk/RESULTS.md").read_text(encoding="utf-8") == collect(RESULTS)


def test_the_readmes_table_is_rows_of_it() -> None:
    table = re.search(r"<!-- results: (\w+) -->\n(.*?)\n<!-- end -->", README, re.DOTALL)
    assert table
    name, shown = table.groups()
    whole = tables.systems(Run.read(RESULTS / name))
    heading, *rows = cells(shown)
    columns, by_name = [whole[0].index(title) for title in heading], {row[0]: row for row in whole}
    assert 5 <= len(rows) <= 7
    for row in rows:
        assert row == [by_name[row[0]][column] for column in columns]


@pytest.mark.parametrize(("names", "most"), MOST_WORDS.items(), ids=lambda value: str(value)[:20])
def test_documents_are_short(names: Any, most: Any) -> None:
    assert sum(len((ROOT / name).read_text(encoding="utf-8").split()) for name in names) <= most


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_of_prose_are_short(page: Any) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|")]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "egs/vctk/RESULTS.md"], ids=name_of)
def test_links_and_anchors_lead_somewhere(page: Any) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_word_of_ours_is_explained_where_it_is_first_used(page: Any) -> None:
    text = re.sub(r"`[^`]*`|\b[A-Z]+\.md\b", "", prose(page.read_text(encoding="utf-8")))
    text = re.sub(r"^#.*$|^- \[.*\]$", "", text, flags=re.MULTILINE)  # headings, contents
    blocks = [" ".join(block.split()) for block in re.split(r"\n\n|\n(?=\|)", text)]
    for word, pattern in OURS.items():
        used = [block for block in blocks if re.search(rf"\b{pattern}\b", block, re.IGNORECASE)]
        explained = rf"\*{pattern}\*|^\| *{pattern} *\|"
        assert not used or re.search(explained, used[0], re.IGNORECASE), (
            f'"{word}" is used before it is explained: {used[0][:200]}'
        )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_house_style(page: Any) -> None:
    text = re.sub(r"`[^`]*`|\|", " ", prose(page.read_text(encoding="utf-8")))
    for pattern, instead in SHUNNED.items():
        match = re.search(pattern, text, re.IGNORECASE)
        assert not match, f"{match[0]!r}: say {instead}"


def test_ci_runs_the_readmes_test_command() -> None:
    command = ". egs/vctk/path.sh && pytest"
    assert f"    {command}\n" in README and f"{command}\n" in (ROOT / ".ci/run").read_text()
    assert "    bash egs/vctk/run.sh --stage 0\n" in README


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_name_programs_and_options_that_exist(page: Any) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^    (.*)$|`([^`\n]+)`", text, re.MULTILINE):
        command = "".join(line).split("#")[0]
        script = re.search(r"\b((?:egs|recipes|tests)/[\w/]+\.(?:py|sh))\b", command)
        if script:
            source = ROOT / script[1]
            assert source.exists(), command
            text_of = source.read_text(encoding="utf-8")
        elif re.match(r"gan-denoise \w", command):
            sources = [*(ROOT / "gan_denoise/commands").glob("*.py"), ROOT / "gan_denoise/cli.py"]
            sources += [ROOT / f"gan_denoise/serve/{name}.py" for name in ("command", "limits")]
            text_of = "".join(source.read_text(encoding="utf-8") for source in sources)
            assert re.search(rf"\b{command.split()[1]}\b", text_of), command
        else:
            continue
        for option in re.findall(r" --([a-z][\w-]*)", command):
            assert re.search(rf"\b{option}\b|\b{option.replace('-', '_')}\b", text_of), (
                f"{command}: --{option}"
            )


def keys_of(settings: type, prefix: str = "") -> set[str]:
    """Every key of an experiment, those of parts as part.key."""
    keys = set()
    for name, kind in get_type_hints(settings).items():
        parts = [part for part in (kind, *getattr(kind, "__args__", ())) if _is_part(part)]
        keys |= keys_of(parts[0], f"{prefix}{name}.") if parts else {prefix + name}
    return keys - {"written"}


def _is_part(kind: object) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def flat(settings: dict, prefix: str = "") -> dict[str, Any]:
    flattened = {}
    for key, value in settings.items():
        flattened[prefix + key] = value
        if isinstance(value, dict):
            flattened |= flat(value, f"{prefix}{key}.")
    return flattened


def test_every_key_of_an_experiment_is_explained_with_its_default() -> None:
    rows = table_below("recipes/README.md", "## Every key")
    assert rows.keys() - {"compare_with", "summary"} == keys_of(Experiment)
    defaults = flat(yaml.safe_load((ROOT / "recipes/experiments/gan.yaml").read_text()))
    for key, (_, default, meaning) in rows.items():
        assert meaning, key
        if isinstance(defaults.get(key), dict):
            assert all(name in default for name in defaults[key] if name != "name"), key
        elif default != "none":
            assert yaml.safe_load(default) == defaults[key], key
        else:
            assert key not in defaults


def test_every_key_of_scenes_is_explained() -> None:
    boxed = yaml.safe_load((ROOT / "recipes/experiments/boxed.yaml").read_text())
    assert table_below("recipes/README.md", "### scenes").keys() == boxed["scenes"].keys()


def test_every_experiment_has_a_sentence() -> None:
    files = {path.stem for path in (ROOT / "recipes/experiments").glob("*.yaml")}
    assert table_below("recipes/README.md", "## The experiments").keys() == files


# A part's file is found by its name, and a table of all would name it a second time
LISTED_ELSEWHERE = {"commands", "discriminators", "generators", "losses", "metrics", "serve"}


@pytest.mark.parametrize("folder", ["gan_denoise", "gan_denoise/serve"])
def test_every_file_of_the_library_has_a_line(folder: str) -> None:
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / folder).iterdir():
        if path.suffix == ".py" and not path.name.startswith("__"):
            assert f"`{path.name}`" in text, path.name
        elif path.is_dir() and (path / "__init__.py").exists():
            assert f"`{path.name}/`" in text, path.name
            modules = [] if path.name in LISTED_ELSEWHERE else path.glob("[!_]*.py")
            for module in modules:
                assert f"| `{module.name}` |" in text, module


def test_every_test_file_is_named() -> None:
    text = (ROOT / "tests/README.md").read_text(encoding="utf-8")
    files = {path.stem for path in (ROOT / "tests").glob("test_*.py")}
    assert set(re.findall(r"\btest_\w+", text)) == files


def test_the_services_limits_have_their_defaults() -> None:
    rows = table_below("gan_denoise/serve/README.md", "## Limits")
    assert {name: int(row[0]) for name, row in rows.items()} == {
        f"--{limit.name.replace('_', '-')}": limit.default for limit in dataclasses.fields(Limits)
    }


def test_every_option_of_run_sh_is_explained() -> None:
    options = re.search(r'^options="(.*)"$', (ROOT / "egs/vctk/run.sh").read_text(), re.MULTILINE)
    rows = table_below("egs/vctk/README.md", "## Options")
    explained = {word.strip("`, -") for row in rows for word in row.split()}
    assert options and explained == set(options[1].split())


def test_every_option_of_a_program_has_a_help_text() -> None:
    folders = (ROOT / "recipes", ROOT / "egs/vctk/local", ROOT / "gan_denoise")
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument":
                named = {word.arg: ast.unparse(word.value) for word in call.keywords}
                assert named.get("action") == "'version'" or named.get("help"), (
                    f"{path}:{call.lineno}"
                )


def test_the_librarys_page_has_the_first_line_of_every_commands_help() -> None:
    page = (ROOT / "gan_denoise/README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^    gan-denoise (\w+) .*?  +(.*)$", page, re.MULTILINE))
    (commands,) = (one for one in parser()._actions if one.dest == "command")
    assert isinstance(commands, argparse._SubParsersAction)
    assert listed == {one.dest: one.help for one in commands._choices_actions}


def test_every_extra_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = table_below("README.md", "## Which extra is for what")
    named = {word.strip("`, ") for row in rows for word in row.split()}
    assert named == project["optional-dependencies"].keys()


@pytest.mark.parametrize("path", sorted(CONF.glob("split_*.yaml")), ids=lambda path: path.stem)
def test_split_files_can_be_read(path: Any) -> None:
    split = read_split(path)
    assert not set(split["dev"]) & set(split["test"])
    if path.stem == "split_vctk":
        assert {"p232", "p257"} <= set(split["test"])  # VoiceBank+DEMAND's test speakers


def test_every_page_is_in_the_sdist() -> None:
    sdist = FileList()
    sdist.allfiles = [name_of(page) for page in PAGES]
    for line in (ROOT / "MANIFEST.in").read_text().splitlines():
        if line and not line.startswith("#"):
            sdist.process_template_line(line)
    assert set(sdist.files) | {"README.md"} == set(sdist.allfiles)  # setuptools adds README.md


def test_examples_are_small_and_say_whose_they_are() -> None:
    folder = ROOT / "egs/vctk/examples"
    files = list(folder.iterdir())
    assert len(files) >= 5 and sum(path.stat().st_size for path in files) < 8e6
    page, note = ((folder / name).read_text() for name in ("index.html", "ATTRIBUTION.txt"))
    assert html.escape(note.strip()) in page
    for utt_id in re.findall(r'"utterance": "([^"]+)"', page):
        assert re.search(rf"\b{utt_id.split('_')[0]}\b", note), utt_id
