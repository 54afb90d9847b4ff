"""The start of gan-denoise, which is also `python -m gan_denoise`.

It answers to signals before it imports the program's parts, since importing them takes a while.
"""

from gan_denoise.system.terminal import program


@program
def main() -> int:
    from gan_denoise.cli import main

    return main()


if __name__ == "__main__":
    main()
