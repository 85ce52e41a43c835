"""Models x precisions x boards: every cell built, run and reported, with a journal that nothing is lost from.

`cells` says what a matrix is, `work` brings it about, `journal` is its memory, `retries` says when and how often
something is tried again, `standing` is how all cells stand.
"""
