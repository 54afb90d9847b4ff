"""What the stages of egs/vctk/run.sh are made of: the programs in egs/vctk/local import it."""
