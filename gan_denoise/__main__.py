"""gan-denoise, and `python -m gan_denoise`: answers to signals before the program's parts are
imported, which takes a while.
"""

from gan_denoise.system.terminal import program


@program
def main() -> int:
    from gan_denoise.cli import main

    return main()


if __name__ == "__main__":
    main()
