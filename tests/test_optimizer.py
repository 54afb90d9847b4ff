"""The learning rate, Muon beside AdamW, phases and random numbers: functions of the update."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gan_denoise.errors import InputError
from training.experiment import OptimizerSettings
from training.optimizer import build_optimizer, learning_rate
from training.schedule import Schedule, random_number


def test_learning_rate_is_a_function_of_the_step() -> None:
    settings = OptimizerSettings(
        lr=1.0, warmup_steps=10, lr_final=0.1, weight_decay=0.0, betas=[0.8, 0.99]
    )
    rates = [learning_rate(step, 110, settings) for step in range(1, 111)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0)
    assert rates[59] == pytest.approx(0.55) and rates[-1] == pytest.approx(0.1)


SETTINGS = OptimizerSettings(
    lr=0.01, warmup_steps=0, lr_final=0.01, weight_decay=0.1, betas=[0.9, 0.99]
)


def test_muon_moves_matrices_by_orthogonal_steps_and_the_rest_as_adamw_does() -> None:
    def moved(saved: bool = True, **choice: Any) -> dict[str, torch.Tensor]:
        """By two updates, and a third, after a save and a load or without."""
        torch.manual_seed(0)
        module = torch.nn.ModuleDict(
            {
                name: torch.nn.Linear(*shape)
                for name, shape in {"embed": (8, 24), "tall": (24, 96), "wide": (96, 24)}.items()
            }
        )
        before = {name: each.detach().clone() for name, each in module.named_parameters()}
        optimizer = build_optimizer(module, replace(SETTINGS, **choice))
        for update in range(3):
            if update == 2 and saved:
                state = optimizer.state_dict()
                optimizer = build_optimizer(module, replace(SETTINGS, **choice))
                optimizer.load_state_dict(state)
            draw = torch.Generator().manual_seed(update)
            for each in module.parameters():
                each.grad = torch.randn(each.shape, generator=draw)
            optimizer.step()
            if update == 1:
                second = {name: each.detach().clone() for name, each in module.named_parameters()}
        after = {name: each.detach() for name, each in module.named_parameters()}
        return {
            name: torch.stack([second[name] - before[name], each - second[name]])
            for name, each in after.items()
        }

    adamw, muon, at_once = moved(), moved(muon=0.95), moved(saved=False, muon=0.95)
    for name, movement in muon.items():
        torch.testing.assert_close(movement, at_once[name], rtol=0.0, atol=0.0)
        if name not in ("tall.weight", "wide.weight"):
            torch.testing.assert_close(movement, adamw[name], rtol=0.0, atol=0.0)
            continue
        decay = SETTINGS.lr * SETTINGS.weight_decay / np.sqrt(3 * min(movement.shape[1:]))
        size = SETTINGS.lr * 0.2 * np.sqrt(96)
        values = torch.linalg.svdvals(movement[1]) / size
        assert values.min() > 0.6 and values.max() < 1.25 + decay / size
    with pytest.raises(InputError, match="muon: there are no weight matrices"):
        build_optimizer(torch.nn.Conv1d(1, 1, 3), replace(SETTINGS, muon=0.95))


def test_muon_moves_as_torchs_own() -> None:
    """Which multiplies in bf16."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(96, 24))
    module = torch.nn.ParameterDict({"weight": weight})
    start, steps = weight.detach().clone(), []
    for theirs in (False, True):
        weight.data.copy_(start)
        optimizer = (
            torch.optim.Muon([weight], lr=0.01, adjust_lr_fn="match_rms_adamw")
            if theirs
            else build_optimizer(module, replace(SETTINGS, muon=0.95))
        )
        for update in range(3):
            weight.grad = torch.randn(96, 24, generator=torch.Generator().manual_seed(update))
            optimizer.step()
        steps.append((weight.detach() - start).flatten())
    ours, torchs = steps
    assert torch.nn.functional.cosine_similarity(ours, torchs, dim=0) > 0.995
    assert ours.norm() == pytest.approx(float(torchs.norm()), rel=0.02)


def test_phases_are_a_function_of_the_update() -> None:
    schedule = Schedule(steps=10, warm_start=4, alone=3, adversarial=True)
    assert schedule.updates == 13 and schedule.borders == {4, 7}
    assert [schedule.phase(update)[0] for update in range(1, 14)] == list("rrrrdddgggggg")
    steps = [1, 2, 3, 4, 4, 4, 4, 5, 6, 7, 8, 9, 10]
    assert [schedule.step(update) for update in range(1, 14)] == steps
    assert [schedule.discriminator_only(update) for update in (0, 4, 5, 7, 13)] == [0, 0, 1, 3, 3]
    without = Schedule(steps=10, warm_start=4, alone=0, adversarial=False)
    assert without.updates == 10 and {without.phase(update) for update in range(1, 11)} == {
        "reconstruction"
    }


def test_random_numbers_are_a_function_of_their_key() -> None:
    keys: list[tuple[int | str, ...]]
    keys = [(0, 1, 0), (0, 1, 1), (1, 1, 0), (0, 11, 0), (0, "excerpt", 1)]
    numbers = [random_number(*key) for key in keys]
    assert len(set(numbers)) == len(keys) and numbers == [random_number(*key) for key in keys]
    assert all(0 <= number < 2**63 for number in numbers)
    assert random_number(0, 1, 0) == 3582676679848224305  # on every machine
