"""A study killed again and again ends as one that nobody disturbed; `python tests/chaos.py --kills 100` is longer."""

import chaos
import pytest


@pytest.mark.slow
def test_a_study_killed_twenty_times_over_its_stages_ends_the_same(tmp_path, capsys):
    assert chaos.chaos(tmp_path, kills=20, seed=0, cores=2)
    said = capsys.readouterr().out
    assert "\n20 kills in " in said
    assert said.endswith("identical: true\n")
