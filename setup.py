"""Ranges of what the library needs; requirements.lock pins the exact versions that the recipe and
its tests use.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
setup(
    name="gan_denoise",
    version=re.search(r'__version__ = "(.+)"', (ROOT / "gan_denoise/__init__.py").read_text())[1],
    description=(
        "Does a GAN help a speech denoiser? Waveform denoisers trained with and without an"
        " adversary"
    ),
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["gan_denoise", "gan_denoise.*"]),
    package_data={"gan_denoise": ["boxed/*"], "gan_denoise.serve": ["web/*"]},
    install_requires=[
        "auraloss>=0.4.0",
        "av>=14.0",
        "einops>=0.8",
        "mir_eval>=0.7,<0.9",
        "numpy>=1.26",
        "pebble>=5.0",
        "pesq>=0.0.4",
        "pystoi>=0.4.1",
        "pyyaml>=6.0",
        "safetensors>=0.4",
        "scipy>=1.11",
        "soundfile>=0.12.1",
        "soxr>=0.3.7",
        "torch>=2.4",
        "torchaudio>=2.4",
        "tqdm>=4.66",
    ],
    extras_require={
        "recipe": [
            "accelerate>=1.0",
            "espeakng-loader>=0.2.4",
            "matplotlib>=3.8",
            "pillow>=10.0",
            "scikit-learn>=1.4",
            "tensorboard>=2.16",
        ],
        "onnx": ["onnx>=1.16", "onnxruntime>=1.17", "onnxscript>=0.5"],
        "dnsmos": ["librosa>=0.10", "onnxruntime>=1.17", "requests>=2.31", "speechmos>=0.0.1"],
        "serve": [
            "fastapi>=0.115",
            "fastapi-offline>=1.7",
            "prometheus-client>=0.20",
            "python-multipart>=0.0.20",
            "uvicorn>=0.34",
            "uvloop>=0.21; sys_platform != 'win32'",
            "websockets>=14.0",
        ],
        "test": [
            "httpx2>=2.0",
            "hypothesis>=6.100",
            "playwright>=1.49",
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "schemathesis>=4.0",
        ],
    },
    entry_points={"console_scripts": ["gan-denoise = gan_denoise.__main__:main"]},
)
