from setuptools import setup  # for tools that look for this file; pyproject.toml says it all

setup()
