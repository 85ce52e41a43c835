"""Faults on purpose, to see that hwkit calls them by their name and loses nothing: a tool for tests, and for you.

    proxy   between this machine and a board: drops, stalls, slows, truncates, corrupts
    onboard on a board over ssh: full disk, killed programs, clocks and temperatures of a virtual board
    guest   a virtual board itself: its plug pulled, frozen, reset
"""
