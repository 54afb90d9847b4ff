"""The batches of the updates, a function of (seed, update) alone.

The number of processes, workers and restarts does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset, default_collate

from gan_denoise.corruption.segments import Batches, Segments
from gan_denoise.errors import InputError
from gan_denoise.signal.rates import samples_at
from training.corpus import Corpus
from training.experiment import Experiment
from training.schedule import Schedule
from training.stopping import Ending, pass_signals_to_the_parent


class Draws:
    """The generator's segments, and those of the updates in which the discriminators learn alone.

    The worker processes of either start with its first batch and end with its last. Raises
    InputError for bad sizes.
    """

    def __init__(
        self, corpus: Corpus, experiment: Experiment, schedule: Schedule, accelerator: Accelerator
    ):
        self._corpus, self._experiment, self._schedule = corpus, experiment, schedule
        self._pin_memory = accelerator.device.type == "cuda"
        self._share = {"process": accelerator.process_index, "processes": accelerator.num_processes}
        self._ends = {"generator": schedule.steps, "discriminator": schedule.alone}
        self._running: dict[str, Iterator[dict | InputError]] = {}
        self._ending = {name: Ending() for name in self._ends}
        self._batches("generator", 0)  # raises InputError if the processes cannot share a batch

    def next(self, update: int) -> dict:
        """The batch of an update; successive calls must ask for successive updates."""
        draws, number = self._schedule.draw(update)
        if draws not in self._running:
            self._running[draws] = iter(self._loader(draws, number - 1))
        batch = self._received(draws)
        if number == self._ends[draws]:
            self._end(draws)
        return batch

    def close(self) -> None:
        """End all worker processes, even those that the traceback of an error still refers to."""
        for draws in list(self._running):
            self._end(draws)

    def _end(self, draws: str) -> None:
        self._ending[draws].set()
        del self._running[draws]

    def _received(self, draws: str) -> dict:
        """The next batch. Raises InputError, in one line, for an error in a data worker."""
        try:
            batch = next(self._running[draws])
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            reason = str(error).strip().splitlines()[-1]
            raise InputError(
                f"a data worker died ({reason}): the same command goes on from the last checkpoint"
            ) from error
        if isinstance(batch, InputError):
            raise batch
        return batch

    def _batches(self, draws: str, done: int) -> Batches:
        return Batches(
            done, self._ends[draws], batch_size=self._experiment.batch_size, **self._share
        )

    def _loader(self, draws: str, done: int) -> DataLoader:
        segments = Segments(
            self._corpus.train,
            length=round(self._experiment.segment_s * self._corpus.sample_rate),
            sample_rate=self._corpus.sample_rate,
            gain_db=self._experiment.gain_db,
            seed=self._experiment.seed,
            draws=draws,
            fresh_noise=self._corpus.fresh_noise,
            scenes=self._corpus.scenes,
            cut=samples_at(self._experiment.cut, self._corpus.sample_rate),
        )
        return DataLoader(
            _Answers(segments),
            batch_sampler=self._batches(draws, done),
            collate_fn=_batch,
            num_workers=self._experiment.workers,
            pin_memory=self._pin_memory,
            worker_init_fn=partial(pass_signals_to_the_parent, ending=self._ending[draws]),
        )


class _Answers(Dataset):
    """Segments, or the error instead: DataLoader would reduce an exception to its traceback."""

    def __init__(self, segments: Segments):
        self._segments = segments

    def __getitem__(self, position: int) -> dict | InputError:
        try:
            return self._segments[position]
        except InputError as error:
            return error


def _batch(answers: list[dict | InputError]) -> dict | InputError:
    errors = (one for one in answers if isinstance(one, InputError))
    return next(errors, None) or default_collate(answers)
