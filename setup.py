from setuptools import find_packages, setup

setup(
    name="gan_denoise",
    version="0.1.0",
    packages=find_packages(include=["gan_denoise", "gan_denoise.*"]),
    python_requires=">=3.11",
    install_requires=["torch","numpy"],
)
