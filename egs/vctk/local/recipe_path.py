"""Imported first by the programs here: they find recipes/kaldi from wherever they are started."""

import importlib.util
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[3] / "recipes"))
if importlib.util.find_spec("soundfile") is None:
    sys.exit("error: soundfile is not here: activate the environment: . egs/vctk/path.sh")
