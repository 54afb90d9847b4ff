"""Rejected attempts to make the GAN update faster, as changes of an `Update`.

NOTES.md has the result of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch.nn import functional as F

from benchmarks.textbook import SAMPLE_RATE, Update, difference
from gan_denoise.discriminators.mpd import PeriodStack
from gan_denoise.discriminators.msd import ScaleStack
from training.experiment import Experiment


def unfuse(update: Update) -> None:
    for holder, module in (
        (update, update.generator),
        (update.adversary, update.adversary.bare_bank),
    ):
        holder.optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, foreach=True)


def halve(update: Update) -> None:
    bank = update.adversary.bare_bank
    bank.forward = torch.autocast(next(bank.parameters()).device.type, torch.bfloat16)(bank.forward)


def unfold(update: Update) -> None:
    """MPD as the paper writes it: kernels of (5, 1) on (B, C, T / p, p)."""

    def forward(stack: PeriodStack, wave: torch.Tensor, period: int) -> list[torch.Tensor]:
        hidden = F.pad(wave, (0, -wave.shape[-1] % period), mode="reflect")
        hidden, maps = hidden.unflatten(-1, (-1, period)), []
        for layer in (*stack.convolutions, stack.score):
            weight, stride, padding = (
                layer.weight[..., None],
                (layer.stride[0], 1),
                (layer.padding[0], 0),
            )
            hidden = F.conv2d(hidden, weight, layer.bias, stride=stride, padding=padding)
            hidden = hidden if layer is stack.score else F.leaky_relu(hidden, 0.1)
            maps.append(hidden)
        return maps

    for stack in update.adversary.bare_bank.members["mpd"].stacks:
        stack.forward = partial(forward, stack)


def unfold_channels_last(update: Update) -> None:
    unfold(update)
    for stack in update.adversary.bare_bank.members["mpd"].stacks:
        forward = stack.forward
        stack.forward = lambda wave, period, forward=forward: forward(
            wave.unsqueeze(-1).to(memory_format=torch.channels_last).squeeze(-1), period
        )


def stack_scales(update: Update) -> None:
    """Compute MSD's scales as one grouped convolution per layer.

    The shorter scales are padded, and after each layer the padded places are set to zero.
    """

    def forward(stacks: Sequence[ScaleStack], wave: torch.Tensor) -> list[list[torch.Tensor]]:
        waves = [wave]
        for _ in stacks[1:]:
            waves.append(F.avg_pool1d(waves[-1], 4, 2, padding=2))
        lengths, scales = [wave.shape[-1] for wave in waves], len(stacks)
        hidden = torch.cat([F.pad(wave, (0, lengths[0] - wave.shape[-1])) for wave in waves], dim=1)
        outputs: list[list[torch.Tensor]] = [[] for _ in stacks]
        for layers in zip(*((*stack.convolutions, stack.score) for stack in stacks), strict=True):
            one = layers[0]
            weight, bias = (
                torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias")
            )
            hidden = F.conv1d(
                hidden, weight, bias, one.stride, one.padding, groups=one.groups * scales
            )
            hidden = hidden if one is stacks[0].score else F.leaky_relu(hidden, 0.1)
            lengths = [
                (length + 2 * one.padding[0] - one.kernel_size[0]) // one.stride[0] + 1
                for length in lengths
            ]
            apart = hidden.unflatten(1, (scales, -1))
            for number, length in enumerate(lengths):
                outputs[number].append(apart[:, number, :, :length])
            places = torch.arange(hidden.shape[-1], device=hidden.device)
            inside = places < torch.tensor(lengths, device=hidden.device)[:, None]
            hidden = (apart * inside[:, None]).flatten(1, 2)
        return outputs

    msd = update.adversary.bare_bank.members["msd"]
    msd.forward = partial(forward, msd.stacks)


def moved(
    experiment: Experiment, device: torch.device, variants: dict, changes: dict
) -> dict[str, float]:
    """How far the weights of each variant are from the textbook's after three updates.

    The updates are in float64, where rounding cannot turn the sign of a gradient near zero, and
    with it a whole step of Adam.
    """
    experiment = replace(experiment, precision="float64")
    draw = torch.Generator().manual_seed(1)
    shape = (2, 1, round(experiment.segment_s * SAMPLE_RATE))
    batches = [
        0.05 * torch.randn(2, *shape, generator=draw, dtype=torch.float64).to(device)
        for _ in range(3)
    ]

    def updated(settings: dict, change: Callable[[Update], None] | None = None) -> Update:
        update = Update(experiment, device, **settings)
        if change:
            change(update)
        for noise, clean in batches:
            update(clean + 0.4 * noise, clean)
        return update

    textbook = updated({})
    gaps = {name: difference(textbook, updated(settings)) for name, settings in variants.items()}
    return gaps | {
        name: difference(textbook, updated({"ours": True}, change))
        for name, change in changes.items()
    }
