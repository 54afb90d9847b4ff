"""The STFT, at once and in pieces, and its derivatives: torch's and the matrices'."""

from __future__ import annotations

import pytest
import torch

from gan_denoise.signal.stft import STFT, ExportedStreamingSTFT, StreamingSTFT


@pytest.mark.parametrize("length", [1, 100, 128, 129, 5000])
def test_stft_inverts(length: int) -> None:
    stft = STFT(512, 128)
    wave = torch.randn(2, length, dtype=torch.float64)
    spectrum = stft(wave)
    assert spectrum.shape == (2, 2, 1 - (-length // 128), 257)
    assert torch.allclose(stft.inverse(spectrum, length), wave, atol=1e-12)


@pytest.mark.parametrize("exported", [False, True])
@pytest.mark.parametrize(
    ("n_fft", "hop_length"), [(512, 256), (64, 16), (33, 11), (512, 384), (64, 20)]
)
def test_streaming_stft_is_the_dft_of_frames_and_inverts_piece_by_piece(
    n_fft: int, hop_length: int, exported: bool
) -> None:
    stft, window = StreamingSTFT(n_fft, hop_length), torch.hann_window(n_fft).sqrt()
    form = stft.exported() if exported else stft
    assert isinstance(form, StreamingSTFT | ExportedStreamingSTFT)
    wave = torch.randn(2, 7 * hop_length, generator=torch.Generator().manual_seed(0))
    past = tail = torch.zeros(2, stft.overlap, hop_length)
    spectra, pieces = [], []
    for hops in wave.unflatten(1, (-1, hop_length)).split([1, 4, 2], dim=1):
        spectrum, past = form.analyse(hops, past)
        finished, tail = form.synthesise(spectrum, tail)
        spectra.append(spectrum)
        pieces.append(finished.flatten(1))
    behind = n_fft - hop_length
    frames = torch.nn.functional.pad(wave, (behind, 0)).unfold(1, n_fft, hop_length)
    real, imaginary = torch.cat(spectra, dim=2).unbind(dim=1)
    expected = torch.fft.rfft(frames * window)
    assert torch.allclose(torch.complex(real, imaginary), expected, atol=1e-4)
    back = torch.cat(pieces, dim=1)
    assert torch.allclose(back[:, behind:], wave[:, :-behind], atol=1e-5)


@pytest.mark.parametrize(("n_fft", "hop_length"), [(8, 4), (12, 3), (9, 3), (8, 6), (12, 5)])
def test_derivatives_of_the_streaming_stft_are_those_of_its_matrices(
    n_fft: int, hop_length: int
) -> None:
    stft = StreamingSTFT(n_fft, hop_length)
    hops = torch.randn(2, 5, hop_length, requires_grad=True)
    state = torch.randn(2, stft.overlap, hop_length)
    spectrum = torch.randn(2, 2, 5, stft.bins, requires_grad=True)
    slopes = []
    for form in (stft, stft.exported()):
        assert isinstance(form, StreamingSTFT | ExportedStreamingSTFT)
        heard, _ = form.analyse(hops, state)
        finished, tail = form.synthesise(spectrum, state)
        total = heard.pow(3).sum() + finished.pow(3).sum() + tail.pow(3).sum()
        slopes.append(torch.autograd.grad(total, [hops, spectrum]))
    for ours, theirs in zip(*slopes, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


def test_stft_and_its_derivatives_are_torchs() -> None:
    stft, window = STFT(16, 4), torch.hann_window(16).double()
    wave = torch.randn(2, 40, dtype=torch.float64, requires_grad=True)
    ours = torch.complex(*stft(wave).unbind(dim=1)).transpose(1, 2)
    theirs = torch.stft(wave, 16, 4, window=window, pad_mode="constant", return_complex=True)
    assert torch.allclose(ours, theirs, atol=1e-12)
    # With a phase, the parts' slopes differ; torch's way through them is another one
    one, other = (
        torch.autograd.grad((x * (2 + 1j)).real.pow(3).sum(), wave)[0] for x in (ours, theirs)
    )
    assert torch.allclose(one, other, atol=1e-10)
    spectrum = torch.randn(2, 2, 11, 9, dtype=torch.float64, requires_grad=True)
    complex_bins = torch.complex(*spectrum.unbind(dim=1)).transpose(1, 2)
    back = torch.istft(complex_bins, 16, 4, window=window, length=40)
    assert torch.allclose(stft.inverse(spectrum, 40), back, atol=1e-12)
    assert torch.autograd.gradcheck(lambda spectrum: stft.inverse(spectrum, 37), [spectrum])
    assert torch.autograd.gradgradcheck(stft, (wave,))
