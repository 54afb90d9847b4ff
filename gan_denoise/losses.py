"""Losses by name. The same word stands in an experiment's `losses:`, here, in the log and in the
plots.

A reconstruction loss is a function (enhanced, clean, noisy) -> scalar, all waveforms (B, 1, T) in
float32, mean over the batch's items. An adversarial loss works on what a bank of discriminators
returns: a list over sub-discriminators of feature maps with the score map last. Its sums are
divided by the number of sub-discriminators, so that an ablation which removes one does not re-weigh
the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import torch
from auraloss.freq import MultiResolutionSTFTLoss, STFTLoss
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise.config import check_interval, check_keys, check_number
from gan_denoise.contract import BALANCED, Maps
from gan_denoise.errors import InputError
from gan_denoise.pmsqe import PerceptualDisturbance
from gan_denoise.stft import STFT, transform

_EPSILON = 1e-8
_FAINT = 0.01  # of the input's power: a target that has less is judged as if it had so much


def _reference_power(clean: Tensor, noisy: Tensor) -> Tensor:
    """Mean square by which an item's errors are judged, (B, 1, 1): the clean signal's, unless that
    is fainter than anything that noise would leave of it.
    """
    power, heard = (wave.square().mean(dim=(1, 2), keepdim=True) for wave in (clean, noisy))
    return torch.maximum(power, _FAINT * heard)


def l1(enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """Mean absolute error of the waveform."""
    return F.l1_loss(enhanced, clean)


def mse(enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """Mean squared error of the waveform."""
    return F.mse_loss(enhanced, clean)


def si_sdr(enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """Negative scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, eq. 3),
    finite for silence.
    """
    enhanced, clean = (
        wave.flatten(1) - wave.flatten(1).mean(dim=1, keepdim=True) for wave in (enhanced, clean)
    )
    scale = (enhanced * clean).sum(1, keepdim=True) / (
        clean.square().sum(1, keepdim=True) + _EPSILON
    )
    target = scale * clean
    ratio = (target.square().sum(1) + _EPSILON) / ((enhanced - target).square().sum(1) + _EPSILON)
    return -10.0 * torch.log10(ratio).mean()


def snr(enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """Negative signal-to-noise ratio in dB with a soft ceiling of 35 dB (Wisdom et al. 2020, eq.
    1), finite for silence.

    Unlike SI-SDR a wrong gain counts, and items that are all but perfect do not outweigh the
    others. Where nothing but noise is heard, this is by how many dB it is lowered, less 20.
    """
    error = (enhanced - clean).flatten(1).square().sum(1) + _EPSILON
    power = _reference_power(clean, noisy)[:, 0, 0] * clean.shape[-1] + _EPSILON
    return -10.0 * torch.log10(power / (error + 10.0**-3.5 * power)).mean()


def wsdr(enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """Weighted SDR (Choi et al. 2019, eq. 7): -1 is best, 1 worst."""
    enhanced, clean, noisy = (wave.flatten(1) for wave in (enhanced, clean, noisy))
    noise = noisy - clean
    speech_share = clean.square().sum(1) / (
        clean.square().sum(1) + noise.square().sum(1) + _EPSILON
    )
    on_speech = F.cosine_similarity(clean, enhanced, dim=1, eps=_EPSILON)
    on_noise = F.cosine_similarity(noise, noisy - enhanced, dim=1, eps=_EPSILON)
    return -(speech_share * on_speech + (1.0 - speech_share) * on_noise).mean()


class MultiResolutionSTFT(nn.Module):
    """Spectral convergence plus L1 of log magnitudes at three resolutions (Yamamoto et al. 2020,
    eqs. 4 to 6), by auraloss.

    Its spectral convergence is exchanged: one ratio for the whole batch, in which loud items hide
    quiet ones, which differs from one process to two, and which has no bound when the target is
    silent. Here it is a mean of ratios per item. A floor of FLOOR_DB below full scale is under
    every magnitude, and the phase, which has no weight, is not computed (a sixth of its time).
    """

    FLOOR_DB = -80.0  # of a signal whose RMS is 1
    LONGEST = 2048  # window, samples; a shorter signal is followed by zeros

    def __init__(self):
        super().__init__()
        self.resolutions = MultiResolutionSTFTLoss(
            fft_sizes=[512, 1024, 2048], hop_sizes=[128, 256, 512], win_lengths=[512, 1024, 2048]
        )
        for resolution in self.resolutions.stft_losses:
            # A magnitude's mean square is that of the samples times the window's energy
            floor = 10.0 ** (self.FLOOR_DB / 10.0) * float(resolution.window.square().sum())
            resolution.eps = floor
            resolution.spectralconv = SpectralConvergence()
            resolution.stft = partial(_magnitude, resolution)

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        missing = max(0, self.LONGEST - clean.shape[-1])
        return self.resolutions(F.pad(enhanced, (0, missing)), F.pad(clean, (0, missing)))


def _magnitude(resolution: STFTLoss, wave: Tensor) -> tuple[Tensor, None]:
    """auraloss's STFTLoss.stft without its phase: (B, T) -> (B, N, n_fft / 2 + 1)."""
    resolution.window = resolution.window.to(wave)
    half = resolution.fft_size // 2
    wave = F.pad(wave, (half, half), mode="reflect")
    real, imaginary = transform(wave, resolution.window, resolution.hop_size)
    power = real.square() + imaginary.square()
    return power.clamp_min(resolution.eps).sqrt(), None


class SpectralConvergence(nn.Module):
    """|| |Y| - |X| || / || |Y| || in the Frobenius norm, per item, mean over items: (B, N, F)
    magnitudes, clamped above 0.
    """

    def forward(self, magnitude: Tensor, target: Tensor) -> Tensor:
        squares = (target - magnitude).square().sum(dim=(-2, -1))
        # The root has no slope at 0, where a prediction is perfect (two silent items)
        distance = (squares + _EPSILON).sqrt() - _EPSILON**0.5
        return (distance / target.square().sum(dim=(-2, -1)).sqrt()).mean()


class CompressedSpectrum(nn.Module):
    """Squared error of spectra under power-law compression, of the magnitudes and of the complex
    bins (Braun and Tashev 2021, eq. 3).

    Each pair is divided by the clean signal's RMS first, so that quiet items count as much as loud
    ones. The exponent makes a bin 20 dB down half as large instead of a tenth: what is left of
    the noise between words counts too.
    """

    EXPONENT, COMPLEX_SHARE = 0.3, 0.3
    FLOOR = 1e-4  # of the power of a bin, under which compression stops; their mean is some 200

    def __init__(self):
        super().__init__()
        self.stft = STFT(512, 128)

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        return self.errors(enhanced, clean=clean, noisy=noisy)[0].mean()

    def errors(self, *waves: Tensor, clean: Tensor, noisy: Tensor) -> list[Tensor]:
        """Of each of the waves (B, 1, T), bin by bin: (B, F, N)."""
        self.stft.to(clean.device)
        scale = 1.0 / (_reference_power(clean, noisy).sqrt() + 1e-4)
        (target, target_parts), *pairs = (
            self._compress((wave * scale).flatten(0, 1)) for wave in (clean, *waves)
        )
        return [
            (1.0 - self.COMPLEX_SHARE) * (magnitude - target).square()
            + self.COMPLEX_SHARE * (parts - target_parts).square().sum(dim=0)
            for magnitude, parts in pairs
        ]

    def _compress(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        parts = torch.stack(self.stft(wave))
        power = parts.square().sum(dim=0) + self.FLOOR
        return power ** (self.EXPONENT / 2), parts * power ** ((self.EXPONENT - 1) / 2)


class Harm(CompressedSpectrum):
    """By how much the output is worse than the input, where it is: squared error of compressed
    spectra in tiles of 500 Hz by 32 ms, less that of the input.

    An average over all bins forgives a fricative that is taken for noise, if enough noise goes with
    its like elsewhere; here nothing makes up for it. Zero where noise outweighs what is lost.
    """

    TILE = 16, 4  # bins of 31 Hz, frames of 8 ms

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        return self.items(*self.errors(enhanced, noisy, clean=clean, noisy=noisy)).mean()

    def items(self, after: Tensor, before: Tensor) -> Tensor:
        """Of each item (B,), from the errors (B, F, N) of output and input."""
        bins, frames = self.TILE
        tile = bins, min(frames, after.shape[-1])  # of a shorter signal, all that there is
        return F.relu(F.avg_pool2d(after - before, tile)).mean(dim=(1, 2))


LOSSES: dict[str, Callable[[], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "l1": lambda: l1,
    "mse": lambda: mse,
    "si_sdr": lambda: si_sdr,
    "snr": lambda: snr,
    "wsdr": lambda: wsdr,
    "mrstft": MultiResolutionSTFT,
    "compressed": CompressedSpectrum,
    "harm": Harm,
    "pmsqe": PerceptualDisturbance,
}


def _sum(terms: Iterable[Tensor]) -> Tensor:
    """Of at least one term."""
    first, *others = terms
    return sum(others, start=first)


def lsgan(fake: Maps) -> Tensor:
    """Least squares (Mao et al. 2017), the generator's side: scores of fake shall be 1."""
    return _sum((maps[-1] - 1.0).square().mean() for maps in fake) / len(fake)


def hinge(fake: Maps) -> Tensor:
    """Hinge (Lim and Ye 2017), the generator's side: scores of fake shall be high."""
    return -_sum(maps[-1].mean() for maps in fake) / len(fake)


def lsgan_discriminator(real: Maps, fake: Maps) -> Tensor:
    """Least squares (Mao et al. 2017): scores of real shall be 1, of fake 0."""
    losses = (
        (r[-1] - 1.0).square().mean() + f[-1].square().mean()
        for r, f in zip(real, fake, strict=True)
    )
    return _sum(losses) / len(real)


def hinge_discriminator(real: Maps, fake: Maps) -> Tensor:
    """Hinge (Lim and Ye 2017): scores of real shall be above 1, of fake below -1."""
    losses = (
        F.relu(1.0 - r[-1]).mean() + F.relu(1.0 + f[-1]).mean()
        for r, f in zip(real, fake, strict=True)
    )
    return _sum(losses) / len(real)


def feature_matching(real: Maps, fake: Maps) -> Tensor:
    """L1 distance of feature maps, mean over each map, sum over a sub-discriminator's (Kumar et al.
    2019, section 2.3; Kong et al. 2020, eq. 5).
    """
    pairs = (
        (r, f)
        for reals, fakes in zip(real, fake, strict=True)
        for r, f in zip(reals[:-1], fakes[:-1], strict=True)
    )
    return _sum(F.l1_loss(f, r) for r, f in pairs) / len(real)


ADVERSARIAL = {"lsgan": (lsgan, lsgan_discriminator), "hinge": (hinge, hinge_discriminator)}


class Losses:
    """Reconstruction losses. weights: name -> weight. That of `harm` may be [gentle, strong]: its
    weights at a strength of 0 and of 1, with equal ratios between (a loss-conditional model:
    Dosovitskiy and Djolonga 2020). Raises InputError for an unknown name or a weight that is none.
    """

    def __init__(self, weights: Mapping[str, Any]):
        where = "losses"
        check_keys(weights, LOSSES, where)
        weights = dict(weights)
        self._harm: tuple[float, float] | None = None
        if isinstance(weights.get("harm"), list):
            gentle, strong = check_interval(weights["harm"][::-1], f"{where}: harm", low=1e-6)[::-1]
            self._harm, weights["harm"] = (gentle, strong), 1.0
        self.weights = check_weights(weights, LOSSES, where)
        self.functions = {name: LOSSES[name]() for name in self.weights}

    @property
    def take_strength(self) -> bool:
        """Whether a weight depends on the strength that the generator was told."""
        return self._harm is not None

    def __call__(
        self, enhanced: Tensor, clean: Tensor, noisy: Tensor, strength: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Waveforms (B, 1, T) -> {name: unweighted value}; `harm` by a strength (B,) is weighted
        already. strength: BALANCED where it is None.
        """
        enhanced = enhanced.to(clean.dtype)
        shared = self._spectral(enhanced, clean, noisy, strength) if "harm" in self.weights else {}
        return {
            name: shared[name] if name in shared else function(enhanced, clean, noisy)
            for name, function in self.functions.items()
        }

    def _spectral(
        self, enhanced: Tensor, clean: Tensor, noisy: Tensor, strength: Tensor | None
    ) -> dict[str, Tensor]:
        """`harm`, and `compressed` from the same spectra."""
        harm = cast(Harm, self.functions["harm"])
        after, before = harm.errors(enhanced, noisy, clean=clean, noisy=noisy)
        items = harm.items(after, before)
        if self._harm:
            gentle, strong = self._harm
            place = items.new_full(items.shape, BALANCED) if strength is None else strength
            items = items * gentle * (strong / gentle) ** place
        return {"harm": items.mean(), "compressed": after.mean()}


class AdversarialLosses:
    """Losses on feature maps. weights: `lsgan` or `hinge`, and `feature_matching` where wanted.
    Raises InputError.
    """

    def __init__(self, weights: Mapping[str, float]):
        where = "adversary: losses"
        self.weights = check_weights(weights, [*ADVERSARIAL, "feature_matching"], where)
        chosen = [name for name in ADVERSARIAL if name in self.weights]
        if len(chosen) != 1:
            raise InputError(f"{where}: expected a weight for one of {' and '.join(ADVERSARIAL)}")
        self.kind = chosen[0]
        self.matches_features = "feature_matching" in self.weights

    def discriminator(self, real: Maps, fake: Maps) -> Tensor:
        """What the discriminators minimise."""
        return ADVERSARIAL[self.kind][1](real, fake)

    def __call__(self, real: Maps, fake: Maps) -> dict[str, Tensor]:
        """What the generator minimises: {name: unweighted value}. real is read by feature matching
        alone.
        """
        terms = {self.kind: ADVERSARIAL[self.kind][0](fake)}
        if self.matches_features:
            terms["feature_matching"] = feature_matching(real, fake)
        return terms


def check_weights(
    weights: Mapping[str, float], known: Iterable[str], where: str
) -> dict[str, float]:
    """The weights above 0. Raises InputError for an unknown name, what is no number, and where none
    is above 0.
    """
    check_keys(weights, known, where)
    for name, weight in weights.items():
        check_number(weight, f"{where}: {name}", low=0.0)
    if not any(weights.values()):
        raise InputError(f"{where}: no loss has a weight above 0")
    return {name: float(weight) for name, weight in weights.items() if weight > 0}


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of weight x term. Raises ValueError unless exactly the weighted terms were computed."""
    if terms.keys() != weights.keys():
        raise ValueError(
            f"terms {sorted(terms)} were computed, terms {sorted(weights)} have weights"
        )
    return _sum(weights[name] * term for name, term in terms.items())
