"""The commands of gan-denoise, a file each: `add` tells cli.py its options, `run` does it.

corrupt.py  enhance.py  stream.py  export.py  explain.py  score.py    (serve: serve/command.py)
arguments.py   what options may be        files.py   IN and OUT: one file, several, a folder
report.py      what is said of each file: words, JSON, or nothing
pipes.py       standard input and output in place of a file
"""
