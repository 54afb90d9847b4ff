"""What an experiment learns from: the splits of a data folder, and what makes their noise anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_denoise import datadir
from gan_denoise.corruption.conditions import Corruption, build_scenes, fresh_noise
from gan_denoise.corruption.scenes import Scenes
from gan_denoise.datadir import DataDir
from training.experiment import Experiment


@dataclass(frozen=True)
class Corpus:
    """The data of a run.

    folder: where train and dev lie, as stages 0 and 1 made them. noise: the record of the fixed
    procedure. fresh_noise, scenes: what corrupts training segments at every visit, if anything.
    """

    folder: Path
    train: DataDir
    dev: DataDir
    noise: dict[str, Any]
    fresh_noise: Corruption | None
    scenes: Scenes | None

    @classmethod
    def read(cls, folder: Path, experiment: Experiment, procedures: Path) -> Corpus:
        """Read what an experiment needs from a folder.

        procedures: folder of the procedures that `fresh_noise` may name. Raises InputError.
        """
        train, dev = (datadir.read(folder / split, noisy=True) for split in ("train", "dev"))
        noise, train_folder = datadir.read_noise(folder / "train"), folder / "train"
        return cls(
            folder,
            train,
            dev,
            noise,
            fresh_noise(experiment.fresh_noise, noise, train_folder, procedures),
            build_scenes(experiment.scenes, noise, train_folder),
        )

    @property
    def sample_rate(self) -> int:
        """The rate of all recordings, in Hz."""
        return self.noise["sample_rate"]
