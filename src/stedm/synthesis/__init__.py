"""Synthesis: a plan says what to make; its shards can be made anywhere, and are the same each time.

A *source* makes images with layouts. `generate`, `recolour` and `pseudo_labels` are functions of rows of the plan
and of the patch files named there; they yield `stedm.shards.Generated`.
"""
